"""Runs as messages."""

from tradeul.v1 import data_maintenance_pb2

from services.data_maintenance.run_store import Run

Message = data_maintenance_pb2.MaintenanceRun


def message_of(run: Run) -> Message:
    """The run as clients see it."""
    message = Message(
        id=run.id,
        task=run.task,
        trading_date=run.trading_date.isoformat(),
        state=Message.State.Value(run.state),
        attempt=run.attempt,
        holder=run.holder,
        step=run.step,
        done=run.done,
        total=run.total,
        counts=run.counts,
        failed_count=run.failed_count,
        failed_symbols=run.failed_symbols,
        error=run.error,
        cancel_requested=run.cancel_requested,
    )
    message.started_at.FromDatetime(run.started_at)
    if run.scheduled_at is not None:
        message.scheduled_at.FromDatetime(run.scheduled_at)
    if run.ended_at is not None:
        message.ended_at.FromDatetime(run.ended_at)
    return message
