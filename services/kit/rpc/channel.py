"""How a service reaches another one."""

import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.kit.runtime.settings import Address

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Notice a peer that vanished without a word within 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A peer that restarts is found again quickly.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(target: Address | str) -> grpc.aio.Channel:
    """A channel to `target`; it connects when first used and again whenever the peer is back. Close it."""
    return grpc.aio.insecure_channel(str(target), options=CHANNEL_OPTIONS)


def reason_name(error: grpc.aio.AioRpcError) -> str:
    """The name of the error's Reason (services/kit/runtime/errors.py); "" when the peer itself gave none."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three methods that are used
    return info.reason if status is not None and any(detail.Unpack(info) for detail in status.details) else ""
