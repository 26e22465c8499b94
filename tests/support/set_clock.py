"""A wall clock for processes of a test's own, which can be set while they run; needs a C compiler."""

import subprocess
from pathlib import Path
from typing import Final

from services.kit.runtime.clock import monotonic, wall_ns

SOURCE: Final = Path(__file__).with_suffix(".c")


class SetClock:
    """Processes that are started with `environment` have the time `begin_ms` now, and what set_by() adds.

    Milliseconds since 1970 UTC. `right_ms` is the time without what was added.
    """

    def __init__(self, folder: Path, begin_ms: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "set_clock.so"
        subprocess.run(("cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"), check=True)
        self._file = folder / "clock"
        self._base_ns = begin_ms * 1_000_000 - wall_ns()
        self._begin_ms = begin_ms
        self._began = monotonic()
        self.environment = {"LD_PRELOAD": str(library), "TEST_CLOCK_FILE": str(self._file)}
        self._file.write_bytes(self._bytes(0))

    def set_by(self, seconds: float) -> None:
        """The clock is so much ahead, or behind, from now on."""
        with self._file.open("r+b") as file:
            file.write(self._bytes(seconds))

    def right_ms(self) -> float:
        """The time that it is, in milliseconds."""
        return self._begin_ms + 1000 * (monotonic() - self._began)

    def _bytes(self, seconds: float) -> bytes:
        return (self._base_ns + round(seconds * 1e9)).to_bytes(8, "little", signed=True)
