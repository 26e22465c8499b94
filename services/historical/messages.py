"""Loads as messages."""

from collections.abc import Iterable
from typing import Any, Final

from tradeul.v1 import historical_pb2

from services.historical.core import Progress
from services.kit.rpc.envelope import Envelope

Record = Any
LoadJob = historical_pb2.LoadJob
ENVELOPE: Final = Envelope(historical_pb2.WatchLoadResponse)
RUNNING: Final = historical_pb2.LOAD_STATE_RUNNING
_COUNTS: Final = ("total", "done", "skipped", "failed")


def job(record: Record, progress: Progress | None, problems: Iterable[Record]) -> historical_pb2.LoadJob:
    """A row of load_jobs, with the progress of the moment when that is known here."""
    now = progress or Progress(*(record[name] for name in Progress._fields))
    message = historical_pb2.LoadJob(
        job_id=record["job_id"],
        kind=record["kind"],
        source=record["source"],
        to=str(record["last_date"]),
        state=historical_pb2.LoadState.Value(f"LOAD_STATE_{record['state']}"),
        step=now.step,
        rows=now.rows,
        rows_set_aside=now.set_aside,
        error=record["error"] or "",
        problems=[
            historical_pb2.LoadProblem(place=row["place"], line=row["line"], reason=row["reason"]) for row in problems
        ],
        **{name: getattr(now, name) for name in _COUNTS},
    )
    # A keyword of Python.
    setattr(message, "from", str(record["first_date"]))
    message.started_at.FromDatetime(record["started_at"])
    if record["ended_at"] is not None:
        message.ended_at.FromDatetime(record["ended_at"])
    elif (left := now.seconds_left(record["seconds"])) is not None:
        message.units_per_second, message.seconds_left = now.rate(record["seconds"]), left
    return message


def counted(message: historical_pb2.LoadJob) -> tuple[object, ...]:
    """What a watcher is told of when it changes."""
    return (message.step, message.rows, message.rows_set_aside, *(getattr(message, name) for name in _COUNTS))
