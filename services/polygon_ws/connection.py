"""The one connection to the vendor's WebSocket: log in, subscribe, stay, come back.

    CONNECTING -> AUTHENTICATING -> SUBSCRIBED --> (lost) BACKING_OFF -> CONNECTING
         |               |              |
         +---------------+--------------+--> REFUSED: waits for retry()

The vendor takes one connection per key and evicts the older one, so after
`max_connections`, as after a refused key, trying again would only fight.
"""

import asyncio
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
from services.kit.runtime.redaction import reason_of
from services.polygon_ws.notices import Notices
from services.polygon_ws.subscriptions import Subscriptions, mentioned, parameters

log = get_logger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
# The vendor answers log-in and subscription within a moment.
ANSWER_SECONDS: Final = 10.0
# A connection that lasted so long was a good one: the next failure is the first.
STEADY_SECONDS: Final = 10.0
FIRST_BACKOFF_SECONDS: Final = 0.25
LONGEST_BACKOFF_SECONDS: Final = 30.0
PING_AFTER_SECONDS: Final = 10.0
PONG_WITHIN_SECONDS: Final = 10.0
# The vendor's messages are below 1 MB; this bounds what one may make us allocate.
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
READ_BUFFER_BYTES: Final = 256 * 1024

# What the vendor says when it will not have us, and trying again will not help.
REFUSALS: Final = ("auth_failed", "max_connections")
# What it says when all is well.
GOOD_NEWS: Final = ("connected", "auth_success", "success")


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
    steady: float = STEADY_SECONDS
    ping_after: float = PING_AFTER_SECONDS
    pong_within: float = PONG_WITHIN_SECONDS
    rng: random.Random = field(default_factory=random.Random)

    def backoff(self) -> Backoff:
        """The pauses between connections."""
        return Backoff(self.first_backoff, self.longest_backoff, self.rng)


class FeedRefused(Exception):
    """The vendor will not have us; the message says why."""


class FeedLost(Exception):
    """The connection ended or never came about; the message says why."""


class _Listener(WSListener):
    """One connection's frames; the callbacks run inside the event loop's read."""

    def __init__(self, connection: "FeedConnection") -> None:
        self._connection = connection
        self._parts: bytearray | None = None
        self.ended = asyncio.get_running_loop().create_future()
        # Events of the log-in, in order.
        self.said: asyncio.Queue[Status] = asyncio.Queue()
        self.refusal = ""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport.disconnect()
        elif transport.is_close_frame_sent:
            # picows goes on for some milliseconds, and then hands out even the frame it found too large.
            return
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY):
            if frame.fin:
                self._connection.receive(frame.get_payload_as_memoryview(), self)
            else:
                self._parts = bytearray(frame.get_payload_as_memoryview())
        elif kind == WSMsgType.CONTINUATION and self._parts is not None:
            limit = self._connection.max_message_bytes
            if len(self._parts) + frame.payload_size > limit:
                self._parts = None
                raise WSProtocolError(
                    WSCloseCode.MESSAGE_TOO_BIG, f"expected messages of at most {limit} bytes, was larger"
                )
            self._parts += frame.get_payload_as_memoryview()
            if frame.fin:
                parts, self._parts = self._parts, None
                self._connection.receive(memoryview(parts), self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class FeedConnection:
    """Keeps the feed up; run() until cancelled.

    Args:
        on_message: takes each message's bytes (valid during the call only) and
            returns what it said about the connection.
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
        # The vendor's answers to what this connection asked for: what it sends, and why it does not.
        self.accepted: set[str] = set()
        self.refused: dict[str, str] = {}
        self._url = url
        self._api_key = api_key
        self._on_message = on_message
        self._on_state = on_state
        self._timing = timing or Timing()
        self._transport: WSTransport | None = None
        self._is_logged_in = False
        self._is_paused = False
        self._retry = asyncio.Event()

    async def run(self) -> None:
        """Connects again and again; never returns."""
        backoff = self._timing.backoff()
        while True:
            began = monotonic()
            try:
                await self._attend()
            except FeedRefused as refused:
                self._enter(FeedState.REFUSED, str(refused))
                log.error("feed refused: waiting for an operator", url=self._url, reason=reason_of(refused))
                self._retry.clear()
                await self._retry.wait()
                backoff.reset()
            except FeedLost as lost:
                if monotonic() - began > self._timing.steady:
                    backoff.reset()
                pause = backoff.next()
                self._enter(FeedState.BACKING_OFF, str(lost))
                log.warning("feed lost", url=self._url, reason=reason_of(lost), retry_in_s=pause)
                await asyncio.sleep(pause)
            self.reconnects += 1

    def retry(self) -> bool:
        """An operator's word that a refused feed may try again; whether it was refused."""
        self._retry.set()
        return self.state is FeedState.REFUSED

    def update(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> None:
        """Changes what is subscribed, at once when connected; raises INVALID_SUBSCRIPTION."""
        added, removed = self.subscriptions.update(subscribe, unsubscribe)
        for name in removed:
            self.accepted.discard(name)
            self.refused.pop(name, None)
        if self._is_logged_in:
            self._ask("subscribe", added)
            self._ask("unsubscribe", removed)

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    def pause_reading(self, is_paused: bool) -> None:
        """Leaves what the vendor sends in the socket, or takes it again."""
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        if self._transport is not None:
            underlying = self._transport.underlying_transport
            if is_paused:
                underlying.pause_reading()
            else:
                underlying.resume_reading()

    def receive(self, message: memoryview, listener: _Listener) -> None:
        """One message of the vendor's."""
        self.messages += 1
        self.last_message_ns = wall_ns()
        for status in self._on_message(message):
            text = self.notices.clean(status.message)
            kind = self.notices.clean(status.status)
            self.detail = f"{kind}: {text}" if text else kind
            if kind in REFUSALS:
                listener.refusal = self.detail
                if not listener.ended.done():
                    listener.ended.set_result(None)
            if kind not in GOOD_NEWS:
                self._note(kind, text)
            self._take_answer(kind, text)
            if not self._is_logged_in or self.state is not FeedState.SUBSCRIBED:
                listener.said.put_nowait(Status(kind, text))

    @property
    def unanswered(self) -> list[str]:
        """The subscriptions that the vendor has neither accepted nor refused."""
        return [name for name in self.subscriptions.names if name not in self.accepted and name not in self.refused]

    def _note(self, kind: str, text: str) -> None:
        if self.notices.add(kind, text, wall_ns()):
            log.warning("vendor says", status=kind, message=text)

    def _take_answer(self, kind: str, text: str) -> None:
        """Which subscriptions a status accepts or refuses, by the names in it."""
        if kind not in ("success", "error") or text.lower().startswith("unsubscribed"):
            return
        had = len(self.refused)
        for name in mentioned(text, self.subscriptions):
            if kind == "success":
                self.accepted.add(name)
                self.refused.pop(name, None)
            elif self.refused.get(name) != text:
                self.refused[name] = text
                log.warning("the vendor refuses a subscription: the rest goes on", subscription=name, reason=text)
        if len(self.refused) != had:
            self._on_state(self.state, self.detail)

    async def _attend(self) -> None:
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
            self._note("connect", reason)
            raise FeedLost(f"cannot connect: {reason}") from error
        assert isinstance(listener, _Listener)
        self._transport = transport
        try:
            if self._is_paused:
                transport.underlying_transport.pause_reading()
            await self._log_in(listener)
            await listener.ended
        finally:
            self._transport = None
            self._is_logged_in = False
            transport.disconnect(graceful=False)
        raise await self._why_ended(transport, listener)

    async def _log_in(self, listener: _Listener) -> None:
        """Returns once subscribed, or when the connection ended meanwhile."""
        self.accepted.clear()
        self.refused.clear()
        self._enter(FeedState.AUTHENTICATING, "logging in")
        self._send({"action": "auth", "params": self._api_key})
        if not await self._heard(listener, "auth_success", "log-in"):
            return
        self._is_logged_in = True
        if self.subscriptions.names:
            self._ask("subscribe", self.subscriptions.names)
            if not await self._heard(listener, "success", "subscription"):
                return
        self._enter(FeedState.SUBSCRIBED, self.detail)
        log.info(
            "feed subscribed",
            url=self._url,
            subscriptions=len(self.subscriptions.names),
            refused=", ".join(self.refused) or None,
        )

    async def _heard(self, listener: _Listener, expected: str, what: str) -> bool:
        """Whether the vendor said `expected` before the connection ended.

        Raises FeedLost when it said nothing for long, FeedRefused when it will have none of the subscriptions.
        """
        hearing: asyncio.Task[None] = asyncio.ensure_future(self._until(listener, expected))
        try:
            await asyncio.wait(
                (hearing, listener.ended), timeout=self._timing.answer, return_when=asyncio.FIRST_COMPLETED
            )
            if listener.ended.done():
                return False
            if hearing.done():
                hearing.result()
                return True
            raise FeedLost(f"no answer to the {what} within {self._timing.answer:g} s (last heard: {self.detail})")
        finally:
            hearing.cancel()

    async def _until(self, listener: _Listener, expected: str) -> None:
        names = self.subscriptions.names
        while (await listener.said.get()).status != expected:
            if names and len(self.refused) == len(names):
                raise FeedRefused(f"the vendor refuses every subscription: {next(iter(self.refused.values()))}")

    async def _why_ended(self, transport: WSTransport, listener: _Listener) -> FeedLost | FeedRefused:
        try:
            await transport.wait_disconnected()
        except WSError as error:
            if isinstance(error, WSProtocolError) and error.code == WSCloseCode.MESSAGE_TOO_BIG:
                self.oversize += 1
            reason = self.notices.clean(str(error))
            self._note("protocol", reason)
            return FeedLost(f"the vendor broke the protocol: {reason}")
        if listener.refusal:
            return FeedRefused(listener.refusal)
        close = transport.close_handshake
        problem = "the connection was cut"
        if close is not None and close.recv is not None:
            reason = f"{close.recv.code:d} {self.notices.clean(close.recv.reason or '')}".rstrip()
            self._note("close", reason)
            problem = f"the vendor closed the connection: {reason}"
        return FeedLost(problem)

    def _ask(self, action: str, names: Iterable[str]) -> None:
        for params in parameters(names):
            self._send({"action": action, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(message))

    def _enter(self, state: FeedState, detail: str) -> None:
        self.state = state
        self.detail = detail
        self._on_state(state, detail)
