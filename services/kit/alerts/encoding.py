"""An alert of the core as the message that clients get."""

from typing import Final

from tradeul.v1 import alerts_pb2

from fastcore.alert_book import AlertEvent
from fastcore.alert_text import AlertText
from fastcore.market_state import MarketState
from services.kit.rpc.wire import wrap

_ROW: Final = alerts_pb2.Alert.DESCRIPTOR.fields_by_name["row"].number


def encoded_alert(event: AlertEvent, state: MarketState, text: AlertText, epoch: int = 0) -> bytes:
    """The encoded Alert of an event of the last watermark; `state` is the market's, just as it found the event.

    Without an `epoch` the alert has no position.
    """
    values = state.row(event.symbol) | {"quality": event.quality, "level": event.level}
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
