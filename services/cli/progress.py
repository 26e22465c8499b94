"""Progress of long commands on the standard error: a bar in a terminal, a line now and then where there is none."""

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from services.kit.runtime.clock import monotonic

# Without a terminal a step that goes on is reported so often.
LINE_SECONDS: Final = 10.0
BAR_WIDTH: Final = 20
ERASE_LINE: Final = "\r\x1b[K"


class Report:
    """Takes the progress of a command; the plain one prints lines."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._step = ""
        self._printed_at = float("-inf")

    def update(self, step: str, done: int = 0, total: int | None = None, detail: str = "") -> None:
        """Shows how far the command has come: its step, and how much of what there is to do."""
        now = monotonic()
        if step == self._step and now - self._printed_at < LINE_SECONDS:
            return
        self._step, self._printed_at = step, now
        parts = [step, f"{done:,} of {total:,}" if total else "", detail]
        click.echo(f"{self._name}: {', '.join(part for part in parts if part)}", err=True)


class _Bar(Report):
    def __init__(self, name: str, bars: Any) -> None:
        super().__init__(name)
        self._bars = bars
        self._task = bars.add_task(name, total=None, detail="")

    def update(self, step: str, done: int = 0, total: int | None = None, detail: str = "") -> None:
        description = f"{self._name}: {step}"
        self._bars.update(self._task, description=description, completed=done, total=total or None, detail=detail)


@contextlib.contextmanager
def progress(name: str) -> Iterator[Report]:
    """A report of the command's progress; the bar disappears at the end."""
    if not sys.stderr.isatty():
        yield Report(name)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(name, bars)


class LineBelow(io.TextIOBase):
    """A terminal's stream whose last line stays below what is written to it, until it is emptied."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._line = ""

    def write(self, text: str) -> int:
        if self._line:
            self._stream.write(ERASE_LINE)
        self._stream.write(text)
        if self._line and text.endswith("\n"):
            self._stream.write(self._line)
        self._stream.flush()
        return len(text)

    def show(self, line: str) -> None:
        """Replaces the last line; "" for none."""
        width = shutil.get_terminal_size().columns
        self._line = line[: width - 1]
        self._stream.write(ERASE_LINE + self._line)
        self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())


def start_line(ready: int, total: int, waiting: Sequence[str]) -> str:
    """Returns a bar of the parts that are ready, with those that are started now."""
    filled = BAR_WIDTH * ready // max(total, 1)
    names = f"; starting {', '.join(waiting)}" if waiting else ""
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {ready} of {total} ready{names}"
