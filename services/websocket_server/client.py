"""One WebSocket connection: its requests are checked and bounded, and it is sent no more than it takes."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from multidict import CIMultiDict
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from services.kit.lists.list_json import text_json
from services.kit.rpc.key_streams import RequestKey
from services.websocket_server import client_messages, metrics
from services.websocket_server.client_messages import Request, RequestError, Subject, parse
from services.websocket_server.incoming import MESSAGE_TOO_BIG, BadMessage, Incoming
from services.websocket_server.limits import Limits, MessageAllowance
from services.websocket_server.list_broadcast import ListBroadcast
from services.websocket_server.sources import Source
from services.websocket_server.subscription import Refusal, Subscription

# Close codes of RFC 6455; picows' enumeration has them too, but not those above 3000.
OK: Final = 1000
UNSUPPORTED_DATA: Final = 1003
NO_CODE: Final = 1005
CUT_OFF: Final = 1006
POLICY_VIOLATION: Final = 1008
# For a client that does not read: the older system's code.
NOT_READING: Final = 3008
NO_HEADERS: Final[CIMultiDict[str]] = CIMultiDict()
LONGEST_REASON: Final = 120
FLOOD_CLOSE_SECONDS: Final = 1.0
# The weight, in the rate of messages, of a request that may be answered with a whole list.
WHOLE_LIST: Final = 5
LIGHT: Final = 1


class ClientHost(Protocol):
    """All clients and lists together, as one client sees them."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    lists: Sequence[str]
    # Clients whose closing handshake is under way.
    closing: "set[Client]"

    def broadcast_of(self, source: Source) -> ListBroadcast | None:
        """The broadcast of a list or scan; None when there are too many."""

    def scan_refusal(self, client: "Client") -> str:
        """Why it may open no more scans; "" while it may."""

    def follow_alerts(self, client: "Client", request: Request | None) -> None:
        """Sends it the alerts of a request in place of those before; None for none."""

    def joined(self, client: "Client") -> None:
        """The connection is open."""

    def left(self, client: "Client") -> None:
        """The connection is closing or gone."""

    def blocked(self, client: "Client") -> None:
        """The client's buffer is full."""

    def unblocked(self, client: "Client") -> None:
        """The client's buffer has drained."""


class Client(WSListener):
    """The callbacks run inside the event loop's read and may not wait."""

    __slots__ = (
        "_abort_timer",
        "_allowance",
        "_hub",
        "_incoming",
        "_loop",
        "_pinged_at",
        "_stalled_at",
        "_stalled_bytes",
        "_transport",
        "close_code",
        "connection_id",
        "deflates",
        "is_blocked",
        "key",
        "received_at",
        "subscriptions",
        "write",
    )

    def __init__(self, hub: ClientHost, key: RequestKey | None, *, deflates: bool = False) -> None:
        self.connection_id = secrets.token_hex(8)
        self.key = key
        # True if messages may be compressed (deflate.py).
        self.deflates = deflates
        # By the names of lists, and the client's names of scans: no scan has the name of a list.
        self.subscriptions: dict[str, Subscription] = {}
        # True while its buffer is full.
        self.is_blocked = False
        # The code that the server closed it with; 0 while it is open.
        self.close_code = 0
        self._hub = hub
        self._loop = hub.loop
        now = self._loop.time()
        self.received_at = now
        # The time of a ping without an answer; 0 when there is none.
        self._pinged_at = 0.0
        self._incoming = Incoming(hub.limits.message_bytes, deflates)
        self._allowance = MessageAllowance(hub.limits, now)
        self._stalled_at = 0.0
        self._stalled_bytes = 0
        self._abort_timer: asyncio.TimerHandle | None = None
        self._transport: WSTransport | None = None
        # Writes whole frames; the transport keeps what the socket does not take at once.
        self.write: Callable[[bytes], None] = _nowhere

    # --- the connection

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        limits = self._hub.limits
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(high=limits.unsent_bytes)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock = underlying.get_extra_info("socket")
            # Fails for a peer that is gone already: the next callback says so.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, limits.kernel_unsent_bytes)
        self.write = underlying.write
        # Nobody reads them again, and they stay as long as the connection.
        transport.request.headers = transport.response.headers = NO_HEADERS
        self._hub.joined(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
        self.write = _nowhere
        self._hub.left(self)
        self._hub.closing.discard(self)
        metrics.CLOSES.labels(str(self._ended_with(transport))).inc()
        self._transport = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            if not self.close_code:
                _send_close(transport, _number(frame.get_close_code()) or OK, b"")
            transport.disconnect()
            return
        if self.close_code or transport.is_close_frame_sent:
            return
        self.received_at = self._loop.time()
        self._pinged_at = 0.0
        if kind == WSMsgType.PONG:
            return
        if kind == WSMsgType.PING:
            if self._may_send(LIGHT) and not self.is_blocked:
                transport.send_pong(frame.get_payload_as_bytes())
            return
        if kind == WSMsgType.BINARY:
            self._reject("binary_message", "expected JSON as a text message, was a binary message")
            self.close(UNSUPPORTED_DATA, "expected text messages")
            return
        try:
            message = self._incoming.take(frame)
        except BadMessage as error:
            self.close(error.code, str(error))
            return
        if message is not None:
            self._take(message)

    def pause_writing(self) -> None:
        if self.is_blocked:
            return
        self.is_blocked = True
        self._stalled_at = self._loop.time()
        self._stalled_bytes = self._unsent()
        for subscription in self.subscriptions.values():
            subscription.block()
        self._hub.blocked(self)

    def resume_writing(self) -> None:
        # Not from inside the transport's write.
        self._loop.call_soon(self._drained)

    def close(self, code: int, reason: str, seconds: float | None = None) -> None:
        """Ends the connection with a close code; it is cut when the client has not answered within `seconds`."""
        transport = self._transport
        if self.close_code or transport is None:
            return
        self.close_code = code
        self.write = _nowhere
        self._hub.left(self)
        self._hub.closing.add(self)
        _send_close(transport, code, reason.encode()[:LONGEST_REASON])
        self._abort_timer = self._loop.call_later(
            self._hub.limits.close_seconds if seconds is None else seconds, self.cut
        )

    def cut(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # --- for the hub and the lists

    def check(self, now: float) -> None:
        """Closes a client that does not read, and pings one that has been quiet for a while."""
        limits = self._hub.limits
        if self.is_blocked:
            unsent = self._unsent()
            if unsent < self._stalled_bytes:
                self._stalled_at = now
            self._stalled_bytes = unsent
            if now - self._stalled_at >= limits.stall_seconds:
                self.close(NOT_READING, f"nothing was read for {limits.stall_seconds:g} s")
        elif self._pinged_at:
            if now - self._pinged_at >= limits.pong_within_seconds:
                self.close(NOT_READING, f"no sign of life for {now - self.received_at:.0f} s")
        elif now - self.received_at >= limits.ping_after_seconds:
            self._pinged_at = now
            assert self._transport is not None, "checked while it is open"
            self._transport.send_ping()

    def refuse(self, subject: Subject, refusal: Refusal) -> None:
        self.subscriptions.pop(subject.name, None)
        self._send("error", client_messages.error(refusal.message, subject, refusal.reason, refusal.metadata))

    # --- requests

    def _take(self, payload: bytes) -> None:
        try:
            request = parse(payload, self._hub.lists)
        except RequestError as error:
            if self._may_send(LIGHT):
                self._reject(error.reason, str(error), error.subject)
            return
        is_whole = request.source is not None or request.action in ("resync", "subscribe_alerts")
        if self._may_send(WHOLE_LIST if is_whole else LIGHT):
            self._do(request)

    def _do(self, request: Request) -> None:
        subject = request.subject
        if subject is None:
            if request.action == "ping":
                self._send("pong", client_messages.pong())
            else:
                self._hub.follow_alerts(self, request if request.action == "subscribe_alerts" else None)
            return
        subscription = self.subscriptions.get(subject.name)
        if request.source is not None:
            self._subscribe(subject, subscription, request.source.of_key(self.key), request)
        elif subscription is None:
            self._reject(
                "not_subscribed",
                f"expected a {subject.key} that you are subscribed to, was {subject.name!r}",
                subject,
            )
        elif request.action == "resync":
            subscription.broadcast.restart(subscription, request.position)
        else:
            self._unsubscribe(subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        del self.subscriptions[subscription.subject.name]
        subscription.broadcast.unsubscribe(subscription)

    def _subscribe(self, subject: Subject, subscription: Subscription | None, source: Source, request: Request) -> None:
        if subscription is not None and subscription.broadcast.source != source:
            self._unsubscribe(subscription)
            subscription = None
        if subscription is None and subject.is_scan and (refusal := self._hub.scan_refusal(self)):
            self._reject("too_many_scans", refusal, subject)
            return
        broadcast = self._hub.broadcast_of(source)
        if broadcast is None:
            limit = self._hub.limits.custom_sources
            self._reject("too_many_sources", f"limit reached: {limit} different scans and field selections", subject)
            return
        interval = request.min_interval_ms / 1000
        # A scan is confirmed when the scanner has accepted it.
        name_json = text_json(subject.name)
        greeting = client_messages.subscribed_scan(name_json) if subject.is_scan else b""
        if subscription is not None:
            # Nothing of the list may come between this answer and what it begins with.
            broadcast.suspend(subscription)
        if not subject.is_scan:
            self.write(client_messages.subscribed(name_json))
        if subscription is not None:
            subscription.greeting, subscription.wants_aggregates = greeting, request.wants_aggregates
            broadcast.restart(subscription, request.position, interval)
        else:
            new = broadcast.subscribe(self, subject, request.position, greeting, request.wants_aggregates, interval)
            self.subscriptions[subject.name] = new

    def _may_send(self, weight: int) -> bool:
        """Counts a message; False if it is one too many. The first such is answered, and many end the connection."""
        allowance, limits = self._allowance, self._hub.limits
        if allowance.take(weight, self.received_at):
            return True
        if allowance.excess == 1:
            self._reject("too_many_messages", f"expected at most {limits.messages_per_second:g} messages per second")
        elif allowance.excess > limits.excess_messages:
            # Nothing more of this flood is read; the close code needs a little time to get there.
            self.close(POLICY_VIOLATION, "too many messages", FLOOD_CLOSE_SECONDS)
            if self._transport is not None:
                self._transport.underlying_transport.pause_reading()
        return False

    # --- sending

    def _reject(self, reason: str, message: str, subject: Subject | None = None) -> None:
        metrics.rejected(reason)
        self._send("error", client_messages.error(message, subject))

    def _send(self, kind: str, frames: bytes) -> None:
        """Sends a message unless the buffer is full."""
        if not self.is_blocked:
            metrics.sent(kind, 1, len(frames))
            self.write(frames)

    def notify(self, frames: bytes) -> None:
        """Sends a message that is no answer."""
        self._send("notice", frames)

    def _drained(self) -> None:
        if not self.is_blocked or self.close_code or self._transport is None:
            return
        self.is_blocked = False
        # A reader that takes data is alive, even if its pong was stuck behind them.
        self.received_at = self._loop.time()
        self._pinged_at = 0.0
        self._hub.unblocked(self)
        for subscription in list(self.subscriptions.values()):
            subscription.unblock()

    def _unsent(self) -> int:
        assert self._transport is not None, "its buffer is read while it is open"
        size: int = self._transport.underlying_transport.get_write_buffer_size()
        return size

    def _ended_with(self, transport: WSTransport) -> int:
        if self.close_code:
            return self.close_code
        handshake = transport.close_handshake
        if handshake is None:
            return CUT_OFF
        # The code of picows' own close, else the client's.
        info = handshake.sent if not handshake.recv_then_sent else handshake.recv
        code = _number(info.code) if info is not None else 0
        if code == MESSAGE_TOO_BIG and not handshake.recv_then_sent:
            metrics.rejected("message_too_big")
        return code if OK <= code < 5000 else NO_CODE


def _send_close(transport: WSTransport, code: int, reason: bytes) -> None:
    # Any number will do, whatever the enumeration names.
    transport.send_close(code, reason)  # type: ignore[arg-type]


def _number(code: WSCloseCode) -> int:
    # An IntEnum, unlike its stub; 0 without a code.
    return int(code)  # type: ignore[call-overload, no-any-return]


def _nowhere(_: bytes) -> None:
    """Frames for a connection that is not open."""
