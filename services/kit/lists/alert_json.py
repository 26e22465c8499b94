"""An alert as JSON, made of the scanner's encoded message."""

import math
from typing import Final

import msgspec
from tradeul.v1 import alerts_pb2

from fastcore.row_json import instant_json
from fastcore.wire import fields
from services.kit.lists.list_json import unranked_rows_json

_ROW: Final = alerts_pb2.Alert.DESCRIPTOR.fields_by_name["row"].number
_Optional = float | str | msgspec.UnsetType


class _Members(msgspec.Struct):
    """All that an alert has beside its row."""

    epoch: int
    sequence: int
    rule: str
    symbol: str
    time: msgspec.Raw | msgspec.UnsetType
    quality: _Optional
    quality_rank: _Optional
    level: _Optional
    text: str


def alert_json(encoded: bytes) -> bytes:
    """An encoded Alert as one JSON object, as in REST; its row's numbers are numbers, as in lists."""
    alert = alerts_pb2.Alert.FromString(encoded)
    rows = [encoded[start:end] for number, _, start, end in fields(encoded) if number == _ROW]
    members = _Members(
        alert.epoch,
        alert.sequence,
        alert.rule,
        alert.symbol,
        msgspec.Raw(instant_json(alert.time.ToNanoseconds())) if alert.HasField("time") else msgspec.UNSET,
        _shown(alert.quality) if alert.HasField("quality") else msgspec.UNSET,
        _shown(alert.quality_rank) if alert.HasField("quality_rank") else msgspec.UNSET,
        _shown(alert.level) if alert.HasField("level") else msgspec.UNSET,
        alert.text,
    )
    return b'%b,"row":%b}' % (msgspec.json.encode(members)[:-1], unranked_rows_json([b"".join(rows)])[1:-1])


def _shown(value: float) -> float | str:
    """As protobuf's JSON has it: what is no number as text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
