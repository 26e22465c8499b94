"""An alert of the core as the message that clients get."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from tradeul.v1 import alerts_pb2

from fastcore.alert_book import AlertEvent
from fastcore.alert_rules import AlertRule
from fastcore.alert_text import AlertText
from fastcore.wire import wrap

_ROW: Final = alerts_pb2.Alert.DESCRIPTOR.fields_by_name["row"].number


class Rows(Protocol):
    """The part of a MarketState that an alert shows."""

    def row(self, symbol: str, names: Iterable[str]) -> dict[str, float | str | bool | int]: ...
    def encode_row(self, symbol_id: int) -> bytes: ...


class AlertMarket(Protocol):
    """The part of fastcore's Market that alerts come from."""

    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> Rows: ...
    @property
    def alert_events(self) -> list[AlertEvent]: ...
    @property
    def alert_rules(self) -> list[AlertRule]: ...
    @property
    def alert_rules_message(self) -> bytes: ...


class EncodedAlert(NamedTuple):
    """`encoded`: the Alert of `event`."""

    event: AlertEvent
    encoded: bytes


class AlertEncoder:
    """Encodes a market's alerts."""

    def __init__(self) -> None:
        self._rules = b""
        self._texts: dict[str, AlertText] = {}

    def encode(self, market: AlertMarket) -> Iterator[EncodedAlert]:
        """Yields the alerts of the last watermark; to be called before the next frame."""
        if not market.alert_events:
            return
        if (rules := market.alert_rules_message) != self._rules:
            self._rules, self._texts = rules, {rule.name: AlertText(rule.text) for rule in market.alert_rules}
        for event in market.alert_events:
            yield EncodedAlert(event, encoded_alert(event, market.state, self._texts[event.rule], market.epoch))


def encoded_alert(event: AlertEvent, state: Rows, text: AlertText, epoch: int = 0) -> bytes:
    """The encoded Alert of an event of the last watermark; `state` is the market's, just as it found the event.

    Without an `epoch` the alert has no position.
    """
    values = state.row(event.symbol, text.fields) | {"quality": event.quality, "level": event.level}
    alert = alerts_pb2.Alert(
        epoch=epoch,
        sequence=event.sequence if epoch else 0,
        rule=event.rule,
        symbol=event.symbol,
        quality=event.quality,
        quality_rank=event.quality_rank,
        level=event.level,
        text=text.of(values),
    )
    alert.time.FromNanoseconds(event.time_ns)
    return alert.SerializeToString() + wrap(_ROW, state.encode_row(event.symbol_id))
