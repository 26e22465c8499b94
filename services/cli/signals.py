"""Signals of a command: a stop that is waited for, and Ctrl-C while a library works."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ctrl_c_is_an_interrupt() -> Iterator[None]:
    """Raises KeyboardInterrupt instead of any error that a Ctrl-C within led to; for the main thread.

    DuckDB answers one with "Query interrupted", or, while it imports something, with another error.
    Where Ctrl-C is ignored, or has another handler, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def stop_event() -> asyncio.Event:
    """Set at the first SIGINT or SIGTERM; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def request_stop() -> None:
        event.set()
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    for each in STOP_SIGNALS:
        loop.add_signal_handler(each, request_stop)
    return event
