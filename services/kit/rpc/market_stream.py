"""SubscribeMarket's server: one consumer, the sequencer, whose newest process is served (polygon_ws.proto).

Two sequencers that took turns would acknowledge to us what the other one never gets.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from prometheus_client import Gauge
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import Context, first_request, requested_position, serve
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import ANOTHER_CONSUMER, SUPERSEDED, ServiceError
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# A consumer that restarts is back within seconds.
CLAIM_SECONDS: Final = 15.0


class Consumer(NamedTuple):
    """Who subscribes: the sequencer's name, and the number of its process.

    `is_leased`: the name is a lease's, which several sequencers share, and so is the number.
    """

    name: str
    fencing_number: int
    is_leased: bool = False


UNNAMED: Final = Consumer("", 0)


class MarketSubscription(Protocol):
    """Where the subscriber is; see cursor.Subscription."""

    def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeMarketResponses."""

    def acknowledge(self, position: Position) -> None:
        """Batches up to `position` are in the sequencer's stream; raises INVALID_POSITION."""

    def wake(self) -> None: ...
    def end(self, error: Exception | None = None) -> None: ...
    def go_away(self, reason: str) -> None: ...


SubscriptionT = TypeVar("SubscriptionT", bound=MarketSubscription)


class MarketStream(Generic[SubscriptionT]):
    """Gives the one subscriber its messages.

    Args:
        subscribe: makes the subscription of a sequencer that continues after a position, or has none.
        subscribed: 1 while there is a subscriber.
        on_change: is called when a subscriber has come or gone.
        now: monotonic seconds, in which the consumer's claim ends after its subscriber has gone.
    """

    def __init__(
        self,
        subscribe: Callable[[Position | None], SubscriptionT],
        subscribed: Gauge,
        on_change: Callable[[], None] = lambda: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.subscription: SubscriptionT | None = None
        self._subscribe = subscribe
        self._subscribed = subscribed
        self._on_change = on_change
        self._closing: str | None = None
        self._now = now
        self._consumer: Consumer | None = None
        self._gone_at = 0.0
        # Of these one line is enough.
        self._refused: set[str] = set()
        # By lease, the greatest number.
        self._leased: dict[str, int] = {}

    @property
    def has_subscriber(self) -> bool:
        return self.subscription is not None

    def wake(self) -> None:
        """There is a new batch."""
        if self.subscription is not None:
            self.subscription.wake()

    def go_away(self, reason: str) -> None:
        """Ends every stream with going_away, those to come included."""
        self._closing = reason
        if self.subscription is not None:
            self.subscription.go_away(reason)

    async def serve(self, requests: AsyncIterator[polygon_ws_pb2.SubscribeMarketRequest], context: Context) -> None:
        """Writes the messages; ends the subscriber before with SUPERSEDED.

        Raises ANOTHER_CONSUMER while another consumer has the stream, SUPERSEDED when a newer process of this one has.
        """
        opening = (await first_request(requests)).open
        self._claim(Consumer(opening.consumer, opening.fencing_number, opening.is_leased))
        subscription = self._subscribe(requested_position(opening))
        if self._closing is not None:
            subscription.go_away(self._closing)
        if self.subscription is not None:
            self.subscription.end(SUPERSEDED.error("a newer subscriber took this one's place"))
        self._change(subscription)

        def acknowledge(position: Position) -> None:
            # One that comes late, of a subscriber whose place was taken, would drop what the newer one needs.
            if self.subscription is subscription:
                subscription.acknowledge(position)

        try:
            await serve(subscription.messages(), requests, context, acknowledge)
        finally:
            if self.subscription is subscription:
                self._change(None)

    def _claim(self, consumer: Consumer) -> None:
        """Makes `consumer` the one that is served; raises ANOTHER_CONSUMER, SUPERSEDED."""
        served = self._consumer
        if consumer.is_leased:
            self._check_lease(consumer)
        if served is not None and (self.has_subscriber or self._now() - self._gone_at < CLAIM_SECONDS):
            if consumer.name != served.name:
                if consumer.name not in self._refused:
                    self._refused.add(consumer.name)
                    log.error("a second sequencer is refused", refused=consumer.name, served=served.name)
                raise ANOTHER_CONSUMER.error(f"expected the sequencer {served.name!r}, was {consumer.name!r}")
            if consumer.fencing_number < served.fencing_number:
                raise _superseded(served.fencing_number, consumer)
        if consumer.is_leased:
            self._leased[consumer.name] = consumer.fencing_number
        self._consumer = consumer
        self._refused.discard(consumer.name)

    def _check_lease(self, consumer: Consumer) -> None:
        """Raises SUPERSEDED for a sequencer that led earlier, however long that is ago."""
        newest = self._leased.get(consumer.name, 0)
        if consumer.fencing_number >= newest:
            return
        if (refused := f"{consumer.name} {consumer.fencing_number}") not in self._refused:
            self._refused.add(refused)
            log.error("a sequencer that led earlier is refused", number=consumer.fencing_number, newest=newest)
        raise _superseded(newest, consumer)

    def _change(self, subscription: SubscriptionT | None) -> None:
        self.subscription = subscription
        self._gone_at = self._now()
        self._subscribed.set(subscription is not None)
        self._on_change()


def _superseded(newest: int, consumer: Consumer) -> ServiceError:
    return SUPERSEDED.error(f"expected a fencing number of at least {newest}, was {consumer.fencing_number}")
