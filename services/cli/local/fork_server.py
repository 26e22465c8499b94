"""Starts services by forking: a process that has imported what all of them need, and runs none of it.

    python -P -m services.cli.local.fork_server SOCKET NAME...

A service that comes from it starts without the second or more that imports take, and shares their memory with the
others: a page is copied when one of them writes to it. Android's zygote and the start method "forkserver" of
multiprocessing work in this way; that one would keep our environment, with its secrets, in every child.

Each connection to SOCKET is for one child (forked.py). It sends a line of JSON with the child's `arguments` of the
`tradeul` command and its `environment`, and with it a file descriptor for its output. It is answered with {"pid": N}
when the child runs, then with {"status": N} when it has ended (negative for a signal), or with {"error": "..."}.
Children die with this process, and it with its parent.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import setproctitle

from services.kit.runtime.child import PR_SET_PDEATHSIG
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.modules import MODULES, REPLAY

# What every service imports beside its own code.
COMMON: Final = ("services.cli.main", "services.cli.serve", "services.kit.rpc.server", "uvloop", "grpc.aio")
LONGEST_REQUEST: Final = 1 << 22
CHUNK: Final = 1 << 16
PAUSE_SECONDS: Final = 0.1


class Request(NamedTuple):
    """A child to start. `output` is a file descriptor."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    output: int


class ForkServer:
    """`run()` serves until the process is ended; in each child it returns what that child is to do."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        # SIGCHLD writes a byte, which ends the wait for connections.
        self._ends, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ends, selectors.EVENT_READ)
        self._children: dict[int, socket.socket] = {}
        # For who connects when no more files can be opened.
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> Request:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ends:
                    self._ends.recv(CHUNK)
                    self._reap()
                elif (request := self._fork()) is not None:
                    return request

    def _fork(self) -> Request | None:
        """Starts the child of a new connection; returns its request in the child, and None here."""
        connection = self._accepted()
        if connection is None:
            return None
        try:
            request = received(connection)
        except ValueError as error:
            answer(connection, error=reason_of(error))
            connection.close()
            return None
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            answer(connection, error=f"cannot fork: {reason_of(error)}")
            connection.close()
            pid = -1
        if pid == 0:
            self._leave(connection, parent)
            return request
        os.close(request.output)
        if pid > 0:
            self._children[pid] = connection
        return None

    def _accepted(self) -> socket.socket | None:
        """Returns the new connection; None where there can be none, which who connects is told."""
        try:
            return self._listener.accept()[0]
        except OSError as error:
            problem = error
        if self._spare < 0:
            # It cannot even be refused, and stays in the queue.
            time.sleep(PAUSE_SECONDS)
        else:
            os.close(self._spare)
            with contextlib.suppress(OSError), self._listener.accept()[0] as refused:
                answer(refused, error=f"it cannot take a connection: {reason_of(problem)}")
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = -1
        return None

    def _leave(self, connection: socket.socket, parent: int) -> None:
        """In a child: lets go of everything of the server, and dies with it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            # It died before the signal was set.
            os.kill(os.getpid(), signal.SIGKILL)
        # Before its number is known, so that the whole session can be killed by it.
        os.setsid()
        answer(connection, pid=os.getpid())
        self._selector.close()
        for each in (self._listener, self._ends, self._wakeup, connection, *self._children.values()):
            each.close()
        if self._spare >= 0:
            os.close(self._spare)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._children.pop(pid)
            answer(connection, status=os.waitstatus_to_exitcode(status))
            connection.close()


def received(connection: socket.socket) -> Request:
    """Reads a request; raises ValueError when it is none."""
    data, descriptors, _, _ = socket.recv_fds(connection, CHUNK, 1)
    while not data.endswith(b"\n") and len(data) < LONGEST_REQUEST and (chunk := connection.recv(CHUNK)):
        data += chunk
    try:
        if len(descriptors) != 1:
            raise ValueError(f"expected one file descriptor, were {len(descriptors)}")
        message = json.loads(data)
        return Request(tuple(message["arguments"]), dict(message["environment"]), descriptors[0])
    except (KeyError, TypeError, ValueError) as error:
        for each in descriptors:
            os.close(each)
        raise ValueError(
            f"expected arguments and environment as a line of JSON, was {len(data)} bytes: {error}"
        ) from None


def answer(connection: socket.socket, **message: int | str) -> None:
    """Sends an answer, if there is still somebody to read it."""
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return


def preload(names: Sequence[str]) -> None:
    """Imports the code of these services; raises StartError when that has started a thread, which forks would lack."""
    factories = {module.name: module.factory for module in (*MODULES, REPLAY)}
    for module in (*COMMON, *(factories[name].partition(":")[0] for name in names)):
        importlib.import_module(module)
    if (count := len(os.listdir("/proc/self/task"))) > 1:
        raise StartError(f"expected imports to start no thread, were {count} ({threading.enumerate()})")
    # A collection would write to all that is shared.
    gc.collect()
    gc.freeze()


def main(arguments: Sequence[str]) -> None:
    path, *names = arguments
    # Finds where the title is kept, next to the environment, before that moves.
    setproctitle.setproctitle("tradeul fork server")
    preload(names)
    request = ForkServer(Path(path)).run()
    # From here on in a child.
    os.dup2(request.output, 1)
    os.dup2(request.output, 2)
    os.close(request.output)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = ["tradeul", *request.arguments]
    setproctitle.setproctitle(" ".join(sys.argv))
    importlib.import_module("services.cli.main").main()


if __name__ == "__main__":
    main(sys.argv[1:])
