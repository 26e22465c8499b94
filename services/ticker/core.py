"""Stored records as messages, and one answer made of a live row and stored values. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message
from tradeul.v1 import session_pb2, ticker_pb2, ticker_row_pb2

from fastcore.measures import shown
from services.kit.vendor.companies import metadata_columns
from services.kit.vendor.models import TickerDetails
from services.market.companies import FURTHER_FIELDS, METADATA_COLUMNS
from services.ticker.requests import PageMark, page_token

_ROW_FIELDS: Final = ticker_row_pb2.TickerRow.DESCRIPTOR.fields_by_name
_BAR_SUMS: Final = ("volume", "vwap")
_SHARED: Final = tuple(name for name in METADATA_COLUMNS if name in _ROW_FIELDS)


def is_set(message: Message, name: str) -> bool:
    """True if the optional field is set."""
    return message.HasField(name)


def metadata_from_vendor(details: TickerDetails) -> ticker_pb2.TickerMetadata:
    """The vendor's description as a message."""
    columns = metadata_columns(details)
    message = ticker_pb2.TickerMetadata(symbol=columns["symbol"])
    for name in METADATA_COLUMNS:
        if (value := columns.get(name)) is not None:
            setattr(message, name, value)
    further = {name: value for name, value in columns["details"].items() if name in FURTHER_FIELDS}
    return json_format.ParseDict(further, message)


def metadata_from_row(row: ticker_row_pb2.TickerRow) -> ticker_pb2.TickerMetadata:
    """The metadata that a live row contains."""
    message = ticker_pb2.TickerMetadata(symbol=row.symbol)
    for name in _SHARED:
        if is_set(row, name):
            setattr(message, name, getattr(row, name))
    return message


def fill(known: ticker_pb2.TickerMetadata | None, more: ticker_pb2.TickerMetadata) -> ticker_pb2.TickerMetadata:
    """`more`, with the values of `known` taking precedence."""
    filled = ticker_pb2.TickerMetadata()
    filled.CopyFrom(more)
    if known is not None:
        for name in ("address", "branding"):
            if getattr(known, name):
                filled.ClearField(name)
        filled.MergeFrom(known)
    return filled


def further_fields(message: ticker_pb2.TickerMetadata) -> str:
    """The vendor's further fields as the JSON that `details` holds."""
    values = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps({name: value for name, value in values.items() if name in FURTHER_FIELDS})


def has_further_fields(message: ticker_pb2.TickerMetadata) -> bool:
    """True if the message contains fields that only the vendor's description has."""
    return any(field.name in FURTHER_FIELDS for field, _ in message.ListFields())


def complete_row(
    symbol: str,
    row: ticker_row_pb2.TickerRow | None,
    metadata: ticker_pb2.TickerMetadata | None,
    last_day: Mapping[str, Any] | None,
) -> ticker_row_pb2.TickerRow:
    """The answer for a symbol that has not traded today: the live row, completed with stored values."""
    answer = ticker_row_pb2.TickerRow(symbol=symbol)
    if metadata is not None:
        for name in _SHARED:
            if is_set(metadata, name):
                setattr(answer, name, getattr(metadata, name))
    if row is not None:
        answer.MergeFrom(row)
    if last_day is not None:
        day = answer.last_day
        day.date = last_day["date"].isoformat()
        for name in ("open", "high", "low", "close", "volume", "vwap", "trades"):
            if last_day[name] is not None:
                setattr(day, name, shown(last_day[name]) if name in _BAR_SUMS else last_day[name])
        answer.price = last_day["close"]
    return answer


def _shown(value: float | None) -> float | None:
    return None if value is None else shown(value)


def bars_of(records: Sequence[Mapping[str, Any]]) -> list[ticker_pb2.Bar]:
    """Stored or aggregated bars as messages."""
    bars = []
    for record in records:
        bar = ticker_pb2.Bar(
            open=record["open"],
            high=record["high"],
            low=record["low"],
            close=record["close"],
            volume=shown(record["volume"]),
            vwap=_shown(record["vwap"]),
            trades=record["trades"],
        )
        bar.time.FromDatetime(record["time"])
        bars.append(bar)
    return bars


def scan_results_of(records: Sequence[Mapping[str, Any]], limit: int) -> ticker_pb2.ListScanResultsResponse:
    """A page of stored results; `records` holds one more than `limit` when there are more."""
    answer = ticker_pb2.ListScanResultsResponse()
    for record in records[:limit]:
        result = answer.results.add(
            symbol=record["symbol"],
            list=record["list"],
            session=session_pb2.Session.Value(record["session"]),
            rank=record["rank"],
            is_entry=record["is_entry"],
            price=record["price"],
            volume_today=_shown(record["volume_today"]),
            change_percent=record["change_percent"],
            gap_percent=record["gap_percent"],
            rvol=record["rvol"],
            score=record["score"],
        )
        result.time.FromDatetime(record["time"])
    answer.count = len(answer.results)
    if len(records) > limit:
        last = records[limit - 1]
        answer.next_page_token = page_token(PageMark(last["time"], last["list"], last["rank"], last["symbol"]))
    return answer
