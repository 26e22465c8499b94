"""Where a reader that comes back goes on."""

from typing import NamedTuple

from services.kit.rpc.ring import Position


class ResumePlan(NamedTuple):
    """`next_sequence` is the reader's next message. With a reason its position is gone: a snapshot comes first."""

    next_sequence: int
    reset_reason: str | None


def plan_resume(asked: Position, epoch: int, oldest: int, newest: int) -> ResumePlan:
    """The plan for a reader whose last message was `asked`, of a stream that holds `oldest` to `newest` of `epoch`.

    An empty stream has `oldest` = `newest` + 1. After a reset the next message is
    the one after the newest, that is after a snapshot of now.
    """
    if asked.epoch != epoch:
        return ResumePlan(newest + 1, f"position {asked} is of another epoch, this one is {epoch}")
    if asked.sequence > newest:
        return ResumePlan(newest + 1, f"position {asked} is ahead of the newest, {newest}")
    if asked.sequence + 1 < oldest:
        return ResumePlan(newest + 1, f"position {asked} is older than the oldest held, {oldest}")
    return ResumePlan(asked.sequence + 1, None)
