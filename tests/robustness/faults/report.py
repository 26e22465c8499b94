"""The outcomes as a table."""

from collections.abc import Sequence

from tests.robustness.faults.run import Outcome

HEADINGS = ("fault", "held s", "recovery s", "wrong, s", "holes", "repeats", "false highs", "bars", "differences")


def text_of(outcomes: Sequence[Outcome], *, is_whole: bool = True) -> str:
    """A line for each fault, then what was broken; not `is_whole` of a run that was ended by an error."""
    rows = [HEADINGS, *(_cells(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    broken = [f"{outcome.fault}: {problem}" for outcome in outcomes for problem in outcome.problems]
    if is_whole and not broken:
        broken = ["No promise was broken."]
    return "\n".join([*lines, "", *broken])


def _cells(outcome: Outcome) -> tuple[str, ...]:
    wrong = ", ".join(f"{kind} {seconds}" for kind, seconds in outcome.wrong.items()) or "-"
    counts = (outcome.holes, outcome.repeats, outcome.false_highs, outcome.bars, outcome.differences)
    return (outcome.fault, f"{outcome.held:g}", f"{outcome.recovery:g}", wrong, *map(str, counts))
