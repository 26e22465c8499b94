"""A run's output while it works: the part, the current step, and each figure as soon as it is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from services.kit.runtime.clock import monotonic

Figures = dict[str, dict[str, Any]]


class Report:
    """Gathers `figures`; figures go to standard output, steps to standard error."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.seconds: dict[str, float] = {}
        self._began = monotonic()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures one part of the run and prints its time at its end."""
        began = monotonic()
        self.step(f"{name} begins")
        yield
        self.seconds[name] = monotonic() - began
        self.step(f"{name} took {self.seconds[name]:.0f} s")

    def step(self, text: str) -> None:
        """Prints the step that begins now."""
        click.echo(f"[{monotonic() - self._began:5.0f} s] {text}", err=True)

    def add(self, figures: Figures) -> None:
        self.figures |= figures
        for name, figure in figures.items():
            peers = "".join(f"; {peer} {value:,}" for peer, value in figure["peers"].items())
            click.echo(f"{name:<22} {figure['value']:>12,}{peers}   {figure['unit']}")
