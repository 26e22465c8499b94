"""Plots as SVG: lines over a logarithmic axis of growth, or over time."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

WIDTH: Final = 300
HEIGHT: Final = 200
LEFT: Final = 52
RIGHT: Final = 12
TOP: Final = 34
BOTTOM: Final = 34
COLORS: Final = ("#2a6fb0", "#c2571a", "#3b8a3e", "#7b4fa3")
# Readable on a light and on a dark page.
TEXT: Final = "#7a7a7a"
TICKS: Final = 4
# Of plots over time, which may have more lines.
WIDE: Final = 900
HIGH: Final = 300
LEGEND: Final = 240
MANY_COLORS: Final = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#17becf")


class Plot(NamedTuple):
    """Values over growth, a line for each name; both axes are numbers above 0 on the growth's."""

    title: str
    growth: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def short(number: float) -> str:
    """A number as an axis shows it: 12k, 1.5M, 0.25."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 8 and 10 times a power of ten, so that a quarter of it is short, too."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value * 0.999)


def drawn(plot: Plot, left: float, top: float) -> list[str]:
    """The elements of a plot whose corner is at `left`, `top`."""
    xs = sorted({x for line in plot.lines.values() for x, _ in line})
    most = round_up(max(y for line in plot.lines.values() for _, y in line))
    # 0 has no logarithm: it stands one step before the smallest.
    smallest = min((x for x in xs if x > 0), default=1.0)
    begin = math.log(smallest) - (0.0 if xs[0] > 0 else math.log(4))
    span = max(math.log(xs[-1] or 1.0) - begin, 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        place = (math.log(x) - begin) / span if x > 0 else 0.0
        return left + LEFT + place * (WIDTH - LEFT - RIGHT), top + HEIGHT - BOTTOM - y / most * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<text x="{left + 4:.0f}" y="{top + 14:.0f}" font-weight="bold" fill="{TEXT}">{escape(plot.title)}</text>'
    ]
    for tick in range(TICKS + 1):
        x, y = at(xs[-1], most * tick / TICKS)
        parts.append(f'<path d="M{left + LEFT:.0f} {y:.1f}H{x:.1f}" stroke="{TEXT}" stroke-opacity="0.3"/>')
        label = short(most * tick / TICKS)
        parts.append(f'<text x="{left + LEFT - 5:.0f}" y="{y + 4:.1f}" text-anchor="end" fill="{TEXT}">{label}</text>')
    for value in xs:
        x, y = at(value, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 14:.1f}" text-anchor="middle" fill="{TEXT}">{short(value)}</text>')
    parts.append(
        f'<text x="{left + WIDTH - RIGHT:.0f}" y="{top + HEIGHT - 4:.0f}" text-anchor="end" fill="{TEXT}">'
        f"{escape(plot.growth)}</text>"
    )
    for index, (name, line) in enumerate(plot.lines.items()):
        color, points = COLORS[index % len(COLORS)], [at(*point) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points]
        if name:
            parts.append(
                f'<text x="{left + LEFT + 4 + 110 * index:.0f}" y="{top + 28:.0f}" fill="{color}">{escape(name)}</text>'
            )
    return parts


def svg(plots: Sequence[Plot], columns: int = 3) -> str:
    """One image of all plots, in rows."""
    rows = -(-len(plots) // columns)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * min(columns, len(plots))}" height="{HEIGHT * rows}"'
        ' font-family="sans-serif" font-size="11">'
    )
    parts = [head]
    for index, plot in enumerate(plots):
        parts += drawn(plot, index % columns * WIDTH, index // columns * HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def over_time(samples: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> str:
    """Columns of samples, which have "seconds", one panel below the other: by its unit, the columns in it."""
    longest = max(samples[-1]["seconds"], 1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE + LEGEND}" height="{len(panels) * HIGH}" font-size="12">'
    ]
    for number, (unit, names) in enumerate(panels.items()):
        top = number * HIGH
        most = max(1e-9, *(each.get(name, 0.0) for name in names for each in samples))
        parts.append(
            f'<text x="4" y="{top + 12}" fill="{TEXT}">{most:.0f} {escape(unit)}, {longest / 3600:.2f} h</text>'
        )
        for index, (name, color) in enumerate(zip(names, MANY_COLORS, strict=False)):
            points = " ".join(
                f"{each['seconds'] / longest * WIDE:.1f},{top + HIGH - each.get(name, 0.0) / most * (HIGH - 20):.1f}"
                for each in samples
            )
            parts.append(f'<polyline fill="none" stroke="{color}" points="{points}"/>')
            parts.append(f'<text x="{WIDE + 8}" y="{top + 20 + 16 * index}" fill="{color}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
