"""One child process: tied to us so that it dies with us, its output line by line."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.cli.local.forked import Fork, Forked
from services.kit.runtime.environment import without_settings
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.workers import SAME, dying_with_us

log = get_logger(__name__)

LONGEST_LINE: Final = 16_384

Ready = Callable[[], Awaitable[bool]]
LineSink = Callable[[str, str], None]


async def always_ready() -> bool:
    return True


@dataclass(frozen=True)
class ProcessSpec:
    """A program to run. `once`: it is done when it has ended with status 0, and ready by that.

    `environment` has those of our settings that it gets. `prepare` runs before each start, `clean_up` once it has been
    stopped for good. `identity` is child.py's. With `log_file` the program writes there instead of to us. With
    `has_watchdog` it shows that it lives (watchdog.py). With `fork` it comes from a fork server, and from its command
    line only while there is none.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Ready = always_ready
    prepare: Callable[[], None] | None = None
    clean_up: Callable[[], None] | None = None
    identity: str = SAME
    # Added to ours, of nice(2).
    niceness: int = 0
    once: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    # What ends it when we are gone: a service is just killed, a store closes its files.
    death_signal: signal.Signals = signal.SIGKILL
    log_file: Path | None = None
    has_watchdog: bool = False
    fork: Fork | None = None

    def argv(self) -> list[str]:
        """The command line that ties the program to this process."""
        return dying_with_us(
            *self.command, identity=self.identity, death_signal=self.death_signal, niceness=self.niceness
        )

    def environ(self) -> dict[str, str]:
        """Returns our environment, with its own settings in place of ours."""
        return {**without_settings(os.environ), **self.environment}


def rotate(path: Path) -> None:
    """Keeps the log of the run before as NAME.1, so that logs do not grow from run to run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))


class ChildProcess:
    """A running child. Its lines go to `sink(name, line)`."""

    def __init__(
        self,
        spec: ProcessSpec,
        process: asyncio.subprocess.Process | Forked,
        sink: LineSink,
    ) -> None:
        self.spec = spec
        self.pid = process.pid
        self._process = process
        self._reader = asyncio.create_task(self._read(process.stdout, sink)) if process.stdout is not None else None

    @classmethod
    async def start(cls, spec: ProcessSpec, sink: LineSink, further: Mapping[str, str] | None = None) -> "ChildProcess":
        """Starts it in a session of its own, so that a Ctrl-C in the terminal reaches only us.

        `further` variables are for its environment.
        """
        if spec.prepare is not None:
            await asyncio.to_thread(spec.prepare)
        environment = {**spec.environ(), **(further or {})}
        if spec.fork is not None:
            try:
                return cls(spec, await spec.fork.start(environment), sink)
            except (OSError, TimeoutError) as error:
                log.warning("not forked: started by itself", child=spec.name, problem=reason_of(error))
        output = None if spec.log_file is None else await asyncio.to_thread(spec.log_file.open, "ab")
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv(),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output or asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()
        return cls(spec, process, sink)

    async def wait(self) -> int:
        """Its exit status, after all its lines; negative for a signal."""
        status = await self._process.wait()
        if self._reader is not None:
            await self._reader
        return status

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def stop(self, seconds: float | None = None) -> int:
        """Asks it to stop, and kills it with all it started when it has not after `seconds`."""
        if self.running:
            self._signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(self.spec.stop_seconds if seconds is None else seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()
        return await self.wait()

    def kill(self) -> None:
        """Kills it and everything in its session."""
        if self.running:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    async def _read(self, lines: asyncio.StreamReader, sink: LineSink) -> None:
        rest = b""
        while chunk := await lines.read(65_536):
            *whole, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                whole.append(rest)
                rest = b""
            for line in whole:
                sink(self.spec.name, line.decode(errors="replace").rstrip("\r"))
        if rest:
            sink(self.spec.name, rest.decode(errors="replace"))
