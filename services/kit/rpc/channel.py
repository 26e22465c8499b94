"""How a service reaches another one: a channel, a stream as one connection, and coming back when that has ended."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, NoReturn, TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.kit.rpc.tls import MeshChannel, authority_channel
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.certificates import usual_authorities
from services.kit.runtime.mesh_certificates import certificates_of
from services.kit.runtime.setting_groups import MeshTlsSettings, TlsSettings
from services.kit.runtime.settings import Address, ServiceAddress

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

# The same request would fail again.
FINAL_CODES: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)

ResponseT = TypeVar("ResponseT")


def open_channel(target: Address | str, mesh_tls: MeshTlsSettings | None = None) -> grpc.aio.Channel:
    """A channel to `target`; it connects when first used and again whenever the peer is back. Close it.

    With the certificates of the service's address, or with `mesh_tls`; by default in plain text.
    """
    tls = target.tls if isinstance(target, ServiceAddress) else mesh_tls
    if tls is None or not tls.is_on:
        return grpc.aio.insecure_channel(str(target), options=CHANNEL_OPTIONS)
    return MeshChannel(str(target), CHANNEL_OPTIONS, certificates_of(tls))


def open_gateway_channel(target: Address | str, tls: TlsSettings) -> grpc.aio.Channel:
    """A channel to a gateway with TLS, signed for by TRADEUL_TLS_CA_FILE or a usual authority. Close it."""
    return authority_channel(str(target), CHANNEL_OPTIONS, tls.ca_file or usual_authorities())


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The error's reason (services/kit/runtime/errors.py) and metadata; empty when the peer itself gave none."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three methods that are used
    if status is not None:
        any(detail.Unpack(info) for detail in status.details)
    return info


def reason_name(error: grpc.aio.AioRpcError) -> str:
    """The name of the error's reason; "" when the peer itself gave none."""
    reason: str = error_info(error).reason
    return reason


class StreamEnded(Exception):
    """The connection has ended, for the reason that the message says."""

    def __init__(self, reason: str, error: grpc.aio.AioRpcError | None = None, *, is_silence: bool = False) -> None:
        # Where gRPC cannot open a socket, its text goes on with the bytes of an address.
        super().__init__(reason.partition("\0")[0].rstrip())
        # What the server ended it with, if that was an error.
        self.error = error
        # True if nothing was received for too long.
        self.is_silence = is_silence

    @property
    def is_refusal(self) -> bool:
        """True if the same request would fail again."""
        return self.error is not None and self.error.code() in FINAL_CODES


class Connection(Generic[ResponseT]):
    """One streaming call, which is cancelled when the context is left.

    It has ended when nothing was received for `silence_seconds`, None for any time; before the first response
    `first_seconds`, if given.
    """

    def __init__(self, call: Any, silence_seconds: float | None, first_seconds: float | None = None) -> None:
        self._call = call
        self._responses = aiter(call)
        self._silence_seconds = silence_seconds
        self._patience = first_seconds or silence_seconds

    def __enter__(self) -> "Connection[ResponseT]":
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()

    async def read(self) -> ResponseT:
        """The next response; raises StreamEnded."""
        try:
            async with asyncio.timeout(self._patience):
                response: ResponseT = await anext(self._responses)
        except StopAsyncIteration:
            raise StreamEnded(f"ended by the server: {await self._call.details() or 'no details'}") from None
        except TimeoutError:
            raise self._silence() from None
        except grpc.aio.AioRpcError as error:
            raise _ended_by(error) from error
        self._patience = self._silence_seconds
        return response

    async def write(self, request: Any) -> None:
        """Sends a request; raises StreamEnded."""
        try:
            # A peer that stands still accepts connections, and no call comes to it.
            async with asyncio.timeout(self._patience):
                await self._call.write(request)
        except TimeoutError:
            raise self._silence() from None
        except grpc.aio.AioRpcError as error:
            raise _ended_by(error) from error
        except asyncio.InvalidStateError:
            # The call had ended before.
            code, details = await self._call.code(), await self._call.details()
            raise StreamEnded(f"ended with {code.name}: {details or 'no details'}") from None

    def _silence(self) -> StreamEnded:
        return StreamEnded(f"nothing was received for {self._patience:g} s", is_silence=True)


async def reconnecting(
    follow: Callable[[], Awaitable[str]], on_end: Callable[[str, float], None], backoff: Backoff
) -> NoReturn:
    """Calls `follow` again and again, which returns why its connection ended; `on_end` gets that and the pause.

    `follow` resets the backoff when the connection came to something.
    """
    while True:
        reason = await follow()
        pause = backoff.next()
        on_end(reason, pause)
        await asyncio.sleep(pause)


def _ended_by(error: grpc.aio.AioRpcError) -> StreamEnded:
    return StreamEnded(f"{error.code().name}: {error.details()}", error)
