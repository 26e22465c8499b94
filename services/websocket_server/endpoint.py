"""The port: WebSocket on /ws/scanner, and the few plain HTTP answers beside it."""

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from google.rpc import code_pb2
from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

from services.kit.rpc.key_streams import RequestKey
from services.kit.runtime.errors import (
    DOMAIN,
    GOING_AWAY,
    INVALID_REQUEST,
    ORIGIN_NOT_ALLOWED,
    TOO_MANY_STREAMS,
    Reason,
    StartError,
)
from services.kit.runtime.origins import OriginCheck
from services.kit.runtime.settings import Address
from services.websocket_server import metrics
from services.websocket_server.client import Client
from services.websocket_server.client_hub import ClientHub
from services.websocket_server.deflate import accepted_extensions

PATH: Final = "/ws/scanner"
BACKLOG: Final = 1024
# Clients send little; a buffer grows when a request's headers are longer.
READ_BUFFER_BYTES: Final = 2048
ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"
# RFC 6455, 4.1.
KEY: Final = re.compile("[A-Za-z0-9+/]{22}==")
JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}

Answer = WSListener | WSUpgradeResponseWithListener | None


class _QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """Keeps every connection and every client's mistake, which are counted, out of the log; defects stay in it."""

    def info(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.debug(msg, *args, **kwargs)

    def error(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.debug(msg, *args, **kwargs)


class Endpoint:
    """Routes requests by their path.

    `condition` returns "running" when this process can do its work, else why not; `warning` what is degraded.
    """

    def __init__(
        self, hub: ClientHub, origins: OriginCheck, condition: Callable[[], str], warning: Callable[[], str | None]
    ) -> None:
        self._hub = hub
        self._origins = origins
        self._condition = condition
        self._warning = warning

    def admit(self, request: WSUpgradeRequest) -> Answer:
        """The answer to a request, for picows; None is 404."""
        path = request.path.partition(b"?")[0].decode("ascii", "replace")
        if path == PATH:
            return self._admit_client(request)
        if path == "/readyz":
            condition = self._condition()
            warning = self._warning()
            return _json(
                condition == "running", {"websocket_server": condition, **({"warning": warning} if warning else {})}
            )
        if path == "/health":
            condition = self._condition()
            is_well = condition == "running"
            body = {"status": "healthy" if is_well else "unhealthy", "websocket_server": condition}
            return _json(is_well, {**body, "clients": len(self._hub.clients)})
        metrics.rejected("unknown_path")
        return None

    def _admit_client(self, request: WSUpgradeRequest) -> Answer:
        headers = request.headers
        if headers.get("Upgrade", "").lower() != "websocket":
            metrics.rejected("no_upgrade")
            return _refusal(426, INVALID_REQUEST, f"expected a WebSocket upgrade at {PATH}", {"Upgrade": "websocket"})
        if not self._origins.allows(headers.get("Origin"), headers.get("Host", "")):
            # CORS does not hold a WebSocket back: the server has to.
            metrics.rejected("origin_not_allowed")
            message = f"expected a page of TRADEUL_CORS_ORIGINS, was one of {headers['Origin'][:200]}"
            return _refusal(403, ORIGIN_NOT_ALLOWED, message)
        if KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")) is None:
            metrics.rejected("no_websocket_key")
            return _refusal(400, INVALID_REQUEST, "expected a Sec-WebSocket-Key of 16 bytes in base64")
        if self._hub.is_closing:
            metrics.rejected("stopping")
            return _refusal(503, GOING_AWAY, "the server is about to stop", {"Retry-After": "1"})
        if self._hub.is_full:
            metrics.rejected("too_many_clients")
            return _refusal(503, TOO_MANY_STREAMS, f"limit reached: {self._hub.limits.clients} clients")
        key = RequestKey.of(headers)
        if key is not None and (refusal := self._hub.refusal(key)) is not None:
            metrics.rejected(refusal.reason.name.lower())
            is_limit, reason = refusal.reason.retryable, refusal.reason
            added = {"Retry-After": "1"} if is_limit else {}
            return _refusal(429 if is_limit else 401, reason, refusal.message, added, refusal.metadata)
        # Firefox sends "keep-alive, Upgrade", which RFC 6455 allows and picows does not.
        if "upgrade" in [token.strip().lower() for token in headers.get("Connection", "").split(",")]:
            headers["Connection"] = "Upgrade"
        extensions = accepted_extensions(", ".join(headers.getall("Sec-WebSocket-Extensions", ())))
        if extensions is None:
            return Client(self._hub, key)
        response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Extensions": extensions})
        return WSUpgradeResponseWithListener(response, Client(self._hub, key, deflates=True))


async def listen(
    address: Address,
    hub: ClientHub,
    origins: OriginCheck,
    condition: Callable[[], str],
    warning: Callable[[], str | None],
    tls: ssl.SSLContext | None = None,
) -> asyncio.Server:
    """The listening server, in plain text without `tls`; raises StartError when the address cannot be had."""
    try:
        return await ws_create_server(
            Endpoint(hub, origins, condition, warning).admit,
            address.host,
            address.port,
            ssl=tls,
            websocket_handshake_timeout=hub.limits.handshake_seconds,
            # The hub does this for all clients at once.
            enable_auto_ping=False,
            # Pings count in the rate of messages.
            enable_auto_pong=False,
            max_frame_size=hub.limits.message_bytes,
            read_buffer_init_size=READ_BUFFER_BYTES,
            # uvloop's own transports, which take 5 KB less per client.
            use_aiofastnet=False,
            logger_name=_QuietLogger(logging.getLogger(__name__), {}),
            backlog=BACKLOG,
        )
    except OSError as error:
        raise StartError(f"websocket_server: cannot listen on {address}: {error.strerror or error}") from error


def _json(is_well: bool, body: dict[str, Any]) -> WSUpgradeResponseWithListener:
    data = msgspec.json.encode(body)
    if is_well:
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(data, JSON), None)
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(503, data, JSON), None)


def _refusal(
    status: int,
    reason: Reason,
    message: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> WSUpgradeResponseWithListener:
    """A refusal in the form of all REST errors; `error` is what older clients read."""
    info = {"@type": ERROR_INFO, "reason": reason.name, "domain": DOMAIN, "metadata": dict(metadata)}
    content = {"code": code_pb2.Code.Value(reason.code), "message": message, "details": [info], "error": message}
    body = msgspec.json.encode(content)
    return WSUpgradeResponseWithListener(
        WSUpgradeResponse.create_error_response(status, body, {**JSON, **headers}), None
    )
