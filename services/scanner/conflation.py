"""Conflation: several deltas of a list as one, for a subscriber that is behind, or wants updates at intervals."""

from collections.abc import Sequence
from typing import NamedTuple

from fastcore.list_conflation import conflated


class ListStep(NamedTuple):
    """An encoded ListDelta, and the record of each of its updates (fastcore.changed_fields); b"" without any."""

    delta: bytes | memoryview
    changed: bytes


def conflate(steps: Sequence[ListStep]) -> ListStep:
    """Returns one step with the effect of these consecutive ones, oldest first; see fastcore.list_conflation."""
    return steps[0] if len(steps) == 1 else ListStep(*conflated(steps))
