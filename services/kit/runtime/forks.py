"""Programs that a process starts while gRPC's threads run in it."""

import functools
import gc
import os


@functools.cache
def prepare_for_forks() -> None:
    """Lets uvloop start programs, whatever gRPC does meanwhile; to be called before gRPC is imported.

    uvloop forks, and runs Python in the child until that becomes the program. Two things may go wrong there, without
    gRPC's threads. Its own handlers of a fork can end the child: they are switched off, since none uses gRPC after a
    fork. And a collection of garbage may find a channel or a server, whose end waits for one of those threads for ever.
    The parent waits for the program to begin, and nothing can interrupt it. So a child collects nothing; one that is to
    run on in Python has to call gc.enable().
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    is_collecting: list[bool] = []

    def pause() -> None:
        is_collecting.append(gc.isenabled())
        gc.disable()

    def go_on() -> None:
        if is_collecting.pop():
            gc.enable()

    os.register_at_fork(before=pause, after_in_parent=go_on)
