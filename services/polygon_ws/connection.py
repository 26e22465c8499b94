"""The one connection to the vendor's WebSocket: log in, subscribe, stay, come back.

    CONNECTING -> AUTHENTICATING -> SUBSCRIBED --> (lost) BACKING_OFF -> CONNECTING
         |               |              |
         +---------------+--------------+--> REFUSED: waits for retry()

The vendor takes one connection per key and evicts the older one, so after
`max_connections` trying again would only fight. After a refused key it tries
again once a minute.
"""

import asyncio
import contextlib
import enum
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSProtocolError, WSTransport, ws_connect

from fastcore.feed_elements import Status
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic, wall_ns
from services.kit.runtime.logging import get_logger
from services.kit.runtime.open_files import is_out_of_files
from services.kit.runtime.redaction import reason_of
from services.polygon_ws.vendor_answers import Notices, Subscriptions, parameters

log = get_logger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
# The vendor answers log-in and subscription at once.
ANSWER_SECONDS: Final = 10.0
FIRST_BACKOFF_SECONDS: Final = 0.25
LONGEST_BACKOFF_SECONDS: Final = 30.0
# Every pause after a connection that worked is a hole in the data: it stays short even when the line flaps.
LONGEST_FLAP_SECONDS: Final = 2.0
# A subscription that lasted so long is no sign of a vendor that accepts and closes at once.
STEADY_SECONDS: Final = 1.0
# A refused key may be accepted later (the log-in service fails, a bill is paid), and such a log-in evicts nobody.
LOG_IN_AGAIN_SECONDS: Final = 60.0
# After no file was left for a connection, which costs the vendor nothing.
WITHOUT_FILES_SECONDS: Final = 2.0
# A peer that vanished silently is noticed after both.
PING_AFTER_SECONDS: Final = 8.0
PONG_WITHIN_SECONDS: Final = 5.0
# The vendor's messages are below 1 MB; this bounds what one may make us allocate.
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
READ_BUFFER_BYTES: Final = 256 * 1024

LOG_IN_REFUSED: Final = "auth_failed"
# Statuses after which trying again at once will not help.
REFUSALS: Final = (LOG_IN_REFUSED, "max_connections")
# Statuses when all is well.
ROUTINE: Final = ("connected", "auth_success", "success")


class FeedState(enum.IntEnum):
    """As FeedStatus.State."""

    CONNECTING = 1
    AUTHENTICATING = 2
    SUBSCRIBED = 3
    BACKING_OFF = 4
    REFUSED = 5


@dataclass(frozen=True)
class Timing:
    """Seconds, and the source of jitter; tests shorten them."""

    answer: float = ANSWER_SECONDS
    first_backoff: float = FIRST_BACKOFF_SECONDS
    longest_backoff: float = LONGEST_BACKOFF_SECONDS
    longest_flap: float = LONGEST_FLAP_SECONDS
    steady: float = STEADY_SECONDS
    log_in_again: float = LOG_IN_AGAIN_SECONDS
    without_files: float = WITHOUT_FILES_SECONDS
    ping_after: float = PING_AFTER_SECONDS
    pong_within: float = PONG_WITHIN_SECONDS
    rng: random.Random = field(default_factory=random.Random)


class Pauses:
    """The pauses between connections: they grow until one gets as far as its subscriptions, and then stay short."""

    def __init__(self, timing: Timing) -> None:
        self._steady = timing.steady
        self._failing = Backoff(timing.first_backoff, timing.longest_backoff, timing.rng)
        self._flapping = Backoff(timing.first_backoff, timing.longest_flap, timing.rng)

    def reset(self) -> None:
        self._failing.reset()
        self._flapping.reset()

    def next(self, subscribed_seconds: float | None) -> float:
        """The seconds to wait after a connection that was subscribed for so long; None if it never was."""
        if subscribed_seconds is None:
            return self._failing.next()
        self._failing.reset()
        if subscribed_seconds >= self._steady:
            self._flapping.reset()
        return self._flapping.next()


class FeedRefused(Exception):
    """The vendor will not have us; the message says why, and `again_after` in how many seconds it may have changed."""

    def __init__(self, reason: str, again_after: float | None = None) -> None:
        super().__init__(reason)
        self.again_after = again_after


class FeedLost(Exception):
    """The connection ended or never came about; the message says why."""


class _Listener(WSListener):
    """One connection's frames; the callbacks run inside the event loop's read."""

    def __init__(self, connection: "FeedConnection") -> None:
        self._connection = connection
        self._fragments: bytearray | None = None
        self.ended = asyncio.get_running_loop().create_future()
        # Statuses of the log-in, in order.
        self.statuses: asyncio.Queue[Status] = asyncio.Queue()
        self.refusal = ""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport.disconnect()
        elif transport.is_close_frame_sent:
            # picows continues for some milliseconds, and then hands out even the frame it found too large.
            return
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY):
            if frame.fin:
                self._connection.receive(frame.get_payload_as_memoryview(), self)
            else:
                self._fragments = bytearray(frame.get_payload_as_memoryview())
        elif kind == WSMsgType.CONTINUATION and self._fragments is not None:
            limit = self._connection.max_message_bytes
            if len(self._fragments) + frame.payload_size > limit:
                self._fragments = None
                raise WSProtocolError(
                    WSCloseCode.MESSAGE_TOO_BIG, f"expected messages of at most {limit} bytes, was larger"
                )
            self._fragments += frame.get_payload_as_memoryview()
            if frame.fin:
                message, self._fragments = self._fragments, None
                self._connection.receive(memoryview(message), self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.end()

    def refuse(self, reason: str) -> None:
        """The vendor will not have us: ends the connection."""
        self.refusal = reason
        self.end()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class FeedConnection:
    """Keeps the feed up; run() until cancelled.

    Args:
        on_message: takes each message's bytes (valid during the call only) and returns the statuses in it.
        on_state: is called at every change of `state`, and when subscriptions were refused or accepted after all.
        max_message_bytes: a larger message costs the connection.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        subscriptions: Subscriptions,
        on_message: Callable[[memoryview], list[Status]],
        on_state: Callable[[FeedState, str], None] = lambda state, detail: None,
        timing: Timing | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.subscriptions = subscriptions
        self.state = FeedState.CONNECTING
        self.detail = ""
        self.messages = 0
        self.reconnects = 0
        # Messages beyond max_message_bytes.
        self.oversize = 0
        self.last_message_ns = 0
        self.notices = Notices(api_key)
        self.is_paused = False
        self._url = url
        self._api_key = api_key
        self._on_message = on_message
        self._on_state = on_state
        self._timing = timing or Timing()
        self._transport: WSTransport | None = None
        self._is_logged_in = False
        # When this connection's subscriptions were accepted; None before.
        self._subscribed_at: float | None = None
        self._retry = asyncio.Event()

    async def run(self) -> None:
        """Connects again and again; never returns."""
        pauses = Pauses(self._timing)
        while True:
            self._subscribed_at = None
            try:
                await self._connect_once()
            except FeedRefused as refused:
                self._enter(FeedState.REFUSED, str(refused))
                log.error(
                    "feed refused", url=self._url, reason=reason_of(refused), log_in_again_after=refused.again_after
                )
                self._retry.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(refused.again_after):
                        await self._retry.wait()
                pauses.reset()
            except FeedLost as lost:
                if is_out_of_files(lost.__cause__):
                    pause = self._timing.without_files
                else:
                    pause = pauses.next(None if self._subscribed_at is None else monotonic() - self._subscribed_at)
                self._enter(FeedState.BACKING_OFF, str(lost))
                log.warning("feed lost", url=self._url, reason=reason_of(lost), retry_in_s=pause)
                await asyncio.sleep(pause)
            self.reconnects += 1

    def retry(self) -> None:
        """Lets a refused feed try again, as an operator wants it."""
        self._retry.set()

    def update(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> None:
        """Changes what is subscribed, at once when connected; raises INVALID_SUBSCRIPTION."""
        added, removed = self.subscriptions.update(subscribe, unsubscribe)
        if self._is_logged_in:
            self._request("subscribe", added)
            self._request("unsubscribe", removed)

    def pause_reading(self, is_paused: bool) -> None:
        """Leaves what the vendor sends in the socket, or reads it again."""
        if is_paused == self.is_paused:
            return
        self.is_paused = is_paused
        if self._transport is not None:
            if is_paused:
                self._transport.underlying_transport.pause_reading()
            else:
                self._transport.underlying_transport.resume_reading()

    def receive(self, message: memoryview, listener: _Listener) -> None:
        """Takes one message of the vendor's."""
        self.messages += 1
        self.last_message_ns = wall_ns()
        for status in self._on_message(message):
            text = self.notices.clean(status.message)
            kind = self.notices.clean(status.status)
            self.detail = f"{kind}: {text}" if text else kind
            if kind in REFUSALS:
                listener.refuse(self.detail)
            if kind not in ROUTINE:
                self._add_notice(kind, text)
            if self.subscriptions.answer(kind, text):
                self._on_state(self.state, self.detail)
            if not self._is_logged_in or self.state is not FeedState.SUBSCRIBED:
                listener.statuses.put_nowait(Status(kind, text))

    async def _connect_once(self) -> None:
        """One connection from beginning to end; raises FeedLost or FeedRefused."""
        self._enter(FeedState.CONNECTING, f"connecting to {self._url}")
        try:
            transport, listener = await ws_connect(
                lambda: _Listener(self),
                self._url,
                websocket_handshake_timeout=HANDSHAKE_SECONDS,
                enable_auto_ping=True,
                auto_ping_idle_timeout=self._timing.ping_after,
                auto_ping_reply_timeout=self._timing.pong_within,
                max_frame_size=self.max_message_bytes,
                read_buffer_init_size=READ_BUFFER_BYTES,
            )
        except (OSError, TimeoutError, WSError) as error:
            reason = self.notices.clean(str(error)) or type(error).__name__
            self._add_notice("connect", reason)
            raise FeedLost(f"cannot connect: {reason}") from error
        if not isinstance(listener, _Listener):
            # picows has none, and raises nothing, where a connection ends before its handshake does.
            reason = "the connection ended before the WebSocket was open"
            self._add_notice("connect", reason)
            raise FeedLost(f"cannot connect: {reason}")
        self._transport = transport
        try:
            if self.is_paused:
                transport.underlying_transport.pause_reading()
            await self._log_in(listener)
            await listener.ended
        finally:
            self._transport = None
            self._is_logged_in = False
            transport.disconnect(graceful=False)
        raise await self._end_of(transport, listener)

    async def _log_in(self, listener: _Listener) -> None:
        """Returns once subscribed, or when the connection has ended."""
        self.subscriptions.forget_answers()
        self._enter(FeedState.AUTHENTICATING, "logging in")
        self._send({"action": "auth", "params": self._api_key})
        if not await self._is_answered(listener, "auth_success", "log-in"):
            return
        self._is_logged_in = True
        if self.subscriptions.names:
            self._request("subscribe", self.subscriptions.names)
            if not await self._is_answered(listener, "success", "subscription"):
                return
        self._subscribed_at = monotonic()
        self._enter(FeedState.SUBSCRIBED, self.detail)
        log.info(
            "feed subscribed",
            url=self._url,
            subscriptions=len(self.subscriptions.names),
            refused=", ".join(self.subscriptions.refused) or None,
        )

    async def _is_answered(self, listener: _Listener, expected: str, request: str) -> bool:
        """Waits for the status `expected`; False when the connection ended before.

        Raises FeedLost when none comes in time, FeedRefused when the vendor refuses all subscriptions.
        """
        answer: asyncio.Task[None] = asyncio.ensure_future(self._until(listener, expected))
        try:
            await asyncio.wait(
                (answer, listener.ended), timeout=self._timing.answer, return_when=asyncio.FIRST_COMPLETED
            )
            if listener.ended.done():
                return False
            if answer.done():
                answer.result()
                return True
            raise FeedLost(f"no answer to the {request} within {self._timing.answer:g} s (last status: {self.detail})")
        finally:
            answer.cancel()

    async def _until(self, listener: _Listener, expected: str) -> None:
        names, refused = self.subscriptions.names, self.subscriptions.refused
        while (await listener.statuses.get()).status != expected:
            if names and len(refused) == len(names):
                raise FeedRefused(f"the vendor refuses every subscription: {next(iter(refused.values()))}")

    async def _end_of(self, transport: WSTransport, listener: _Listener) -> FeedLost | FeedRefused:
        """Returns why a connection ended."""
        try:
            await transport.wait_disconnected()
        except WSError as error:
            if isinstance(error, WSProtocolError) and error.code == WSCloseCode.MESSAGE_TOO_BIG:
                self.oversize += 1
            reason = self.notices.clean(str(error))
            self._add_notice("protocol", reason)
            return FeedLost(f"the vendor broke the protocol: {reason}")
        if listener.refusal:
            is_of_log_in = listener.refusal.startswith(LOG_IN_REFUSED)
            return FeedRefused(listener.refusal, self._timing.log_in_again if is_of_log_in else None)
        close = transport.close_handshake
        if close is None or close.recv is None:
            return FeedLost("the connection was cut")
        reason = f"{close.recv.code:d} {self.notices.clean(close.recv.reason or '')}".rstrip()
        self._add_notice("close", reason)
        return FeedLost(f"the vendor closed the connection: {reason}")

    def _request(self, action: str, names: Iterable[str]) -> None:
        for params in parameters(names):
            self._send({"action": action, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(message))

    def _add_notice(self, kind: str, text: str) -> None:
        if self.notices.add(kind, text, wall_ns()):
            log.warning("notice of the vendor", status=kind, message=text)

    def _enter(self, state: FeedState, detail: str) -> None:
        self.state = state
        self.detail = detail
        self._on_state(state, detail)
