"""One client's subscription to one list or custom scan."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from services.kit.lists.list_json import text_json
from services.kit.rpc.ring import Position
from services.websocket_server.client_messages import Subject
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.sources import Source
from services.websocket_server.whole_lists import Cause

NOTHING_SENT: Final = -1


class Reader(Protocol):
    """A client, as a list sees it. `write` never waits; it may set `is_blocked`, calling `Subscription.block`."""

    is_blocked: bool
    # True if it takes compressed frames.
    deflates: bool
    write: Callable[[bytes], None]

    def refuse(self, subject: Subject, refusal: "Refusal") -> None:
        """Ends the subscription, with an error for the client."""


class Refusal(NamedTuple):
    """Why the scanner does not have a list; `reason` and `metadata` are those of the catalogue of errors."""

    message: str
    reason: str = ""
    metadata: Mapping[str, str] = {}


class Broadcast(Protocol):
    """A list, as its subscriptions and their clients see it; see ListBroadcast."""

    source: Source
    feed: ListFeed

    def suspend(self, subscription: "Subscription") -> None:
        """Writes nothing more to it until it catches up from where it is now."""

    def catch_up(self, subscription: "Subscription") -> None:
        """Writes what it misses, after which it gets what comes."""

    def restart(
        self, subscription: "Subscription", requested_position: Position | None, interval: float | None = None
    ) -> None:
        """Begins the subscription again: after a position, or with a snapshot; with the same interval for None."""

    def unsubscribe(self, subscription: "Subscription") -> None:
        """Ends the subscription."""


class Subscription:
    """One reader of one list, which is `subject` for the client."""

    __slots__ = (
        "broadcast",
        "cause",
        "generation",
        "greeting",
        "interval",
        "name_json",
        "phase",
        "reader",
        "requested_position",
        "sequence",
        "subject",
        "wants_aggregates",
    )

    def __init__(
        self, broadcast: Broadcast, reader: Reader, subject: Subject, requested_position: Position | None
    ) -> None:
        self.broadcast = broadcast
        self.reader = reader
        self.subject = subject
        # The name in its messages; and what is written before the first of them.
        self.name_json = text_json(subject.name)
        self.greeting = b""
        self.wants_aggregates = True
        # The least number of seconds between two updates, 0 for every change by itself; and when in these they come.
        self.interval = 0.0
        self.phase = 0.0
        # The position that the client has; None once that was answered.
        self.requested_position = requested_position
        # The last change written, and its generation; meaningful while it is not live, or in a group.
        self.sequence = NOTHING_SENT
        self.generation = -1
        # While nothing is written: why it is sent the whole list, with details.
        self.cause = (Cause.NO_POSITION, "")

    def block(self) -> None:
        """Writes nothing more while the reader's buffer is full."""
        self.broadcast.suspend(self)

    def unblock(self) -> None:
        """Continues when the reader's buffer has drained."""
        self.broadcast.catch_up(self)
