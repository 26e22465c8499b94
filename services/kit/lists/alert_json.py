"""An alert as JSON, made of the scanner's encoded message."""

import math

import msgspec
from tradeul.v1 import alerts_pb2

from services.kit.lists.list_json import unranked_rows_json

_Optional = float | str | msgspec.UnsetType


class _Members(msgspec.Struct):
    """All that an alert has beside its row."""

    epoch: int
    sequence: int
    rule: str
    symbol: str
    time: str | msgspec.UnsetType
    quality: _Optional
    quality_rank: _Optional
    level: _Optional
    text: str


def alert_json(encoded: bytes) -> bytes:
    """An encoded Alert as one JSON object, as in REST; its row's numbers are numbers, as in lists."""
    alert = alerts_pb2.Alert.FromString(encoded)
    row = unranked_rows_json([alert.row.SerializeToString()])[1:-1]
    members = _Members(
        alert.epoch,
        alert.sequence,
        alert.rule,
        alert.symbol,
        alert.time.ToJsonString() if alert.HasField("time") else msgspec.UNSET,
        _shown(alert.quality) if alert.HasField("quality") else msgspec.UNSET,
        _shown(alert.quality_rank) if alert.HasField("quality_rank") else msgspec.UNSET,
        _shown(alert.level) if alert.HasField("level") else msgspec.UNSET,
        alert.text,
    )
    return b'%b,"row":%b}' % (msgspec.json.encode(members)[:-1], row)


def _shown(value: float) -> float | str:
    """As protobuf's JSON has it: what is no number as text."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
