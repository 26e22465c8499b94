"""SubscribeMarket's server: one subscriber, the sequencer; the newest that comes takes its place (polygon_ws.proto)."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar

from prometheus_client import Gauge
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import Context, first_request, requested_position, serve
from services.kit.runtime.errors import SUPERSEDED


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
    """

    def __init__(
        self,
        subscribe: Callable[[Position | None], SubscriptionT],
        subscribed: Gauge,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.subscription: SubscriptionT | None = None
        self._subscribe = subscribe
        self._subscribed = subscribed
        self._on_change = on_change
        self._closing: str | None = None

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
        """Writes the messages; ends the subscriber before with ABORTED."""
        subscription = self._subscribe(requested_position((await first_request(requests)).open))
        if self._closing is not None:
            subscription.go_away(self._closing)
        if self.subscription is not None:
            self.subscription.end(SUPERSEDED.error("a newer subscriber took this one's place"))
        self._change(subscription)
        try:
            await serve(subscription.messages(), requests, context, subscription.acknowledge)
        finally:
            if self.subscription is subscription:
                self._change(None)

    def _change(self, subscription: SubscriptionT | None) -> None:
        self.subscription = subscription
        self._subscribed.set(subscription is not None)
        self._on_change()
