"""Runs as messages, and the messages of WatchTask, encoded; see stream.proto for what each says."""

from tradeul.v1 import data_maintenance_pb2, stream_pb2

from services.data_maintenance.run_store import Run

Response = data_maintenance_pb2.WatchTaskResponse
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


def opened(position: tuple[int, int]) -> bytes:
    return Response(opened=data_maintenance_pb2.TaskOpened(position=_position(position))).SerializeToString()


def progress(run: Run) -> bytes:
    body = data_maintenance_pb2.TaskProgress(position=_position((run.id, run.revision)), run=message_of(run))
    return Response(progress=body).SerializeToString()


def current(position: tuple[int, int]) -> bytes:
    return Response(current=stream_pb2.StreamCurrent(position=_position(position))).SerializeToString()


def heartbeat(position: tuple[int, int]) -> bytes:
    return Response(heartbeat=stream_pb2.StreamHeartbeat(position=_position(position))).SerializeToString()


def going_away(position: tuple[int, int], reason: str) -> bytes:
    return Response(
        going_away=stream_pb2.StreamGoingAway(position=_position(position), reason=reason)
    ).SerializeToString()


def _position(position: tuple[int, int]) -> stream_pb2.StreamPosition:
    return stream_pb2.StreamPosition(epoch=position[0], sequence=position[1])
