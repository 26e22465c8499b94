"""The rows of encoded alerts, as filters read them."""

from functools import lru_cache
from typing import Any

from tradeul.v1 import alerts_pb2

from fastcore.fields import BY_NAME

Row = dict[str, Any]


@lru_cache(256)
def row_of(encoded: bytes) -> Row:
    """The symbol's row at the moment of an encoded Alert, as row_filter() takes it."""
    row: Row = {}
    for field, value in alerts_pb2.Alert.FromString(encoded).row.ListFields():
        known = BY_NAME.get(field.name)
        if known is None:
            continue
        if known.kind == "enum":
            row[field.name] = known.values[value - 1]
        else:
            row[field.name] = value.ToNanoseconds() if known.kind == "time" else value
    return row
