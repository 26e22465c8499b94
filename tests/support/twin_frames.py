"""The vendor's JSON as frames, converted the obvious way: the naive twin's own feed, sharing nothing with the mesh."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tradeul.v1 import frame_pb2, market_data_pb2, session_pb2, stream_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import FIELDS
from tests.support.scripted_day import DAY, FLUSH, ScriptedDay, baselines, ms_at, reference_numbers

MS = 1_000_000
NAN = float("nan")


class TwinFeed:
    """Makes the frames of a scripted day, one after the other."""

    def __init__(self, day: ScriptedDay) -> None:
        self._day = day
        self._sequence = 0
        self.symbols = [*day.by_name, FLUSH]
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}

    def frame(self, **body: Any) -> bytes:
        self._sequence += 1
        position = stream_pb2.StreamPosition(epoch=1, sequence=self._sequence)
        return frame_pb2.Frame(position=position, **body).SerializeToString()

    def opening(self, filters: Sequence[frame_pb2.ListFilter]) -> Iterable[bytes]:
        """Everything before the first event."""
        yield self.frame(
            trading_day=frame_pb2.TradingDay(
                trading_date=str(DAY),
                pre_market_start_ns=ms_at("04:00:00") * MS,
                market_open_ns=ms_at("09:30:00") * MS,
                market_close_ns=ms_at("16:00:00") * MS,
                post_market_end_ns=ms_at("20:00:00") * MS,
            )
        )
        yield self.frame(trade_rules=fallback_rules())
        yield self.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.symbols))
        yield self.frame(list_filters=frame_pb2.ListFilters(filters=filters))
        ids = list(range(len(self.symbols)))
        texts = [
            frame_pb2.TextColumn(field=frame_pb2.COMPANY_NAME, values=[f"{name} Inc." for name in self.symbols]),
            frame_pb2.TextColumn(field=frame_pb2.EXCHANGE, values=["XNAS"] * len(ids)),
            frame_pb2.TextColumn(field=frame_pb2.SECURITY_TYPE, values=["CS"] * len(ids)),
        ]
        etf = frame_pb2.NumberColumn(field=frame_pb2.IS_ETF, values=[0.0] * len(ids))
        yield self.frame(reference=frame_pb2.ReferenceColumns(symbol_id=ids, numbers=[etf], texts=texts))
        for symbol in self._day.symbols:
            numbers = [
                frame_pb2.NumberColumn(field=frame_pb2.ReferenceField.Value(name), values=[value])
                for name, value in reference_numbers(symbol, self._day.history, is_year=True).items()
            ]
            symbol_id = [self._ids[symbol.name]]
            yield self.frame(reference=frame_pb2.ReferenceColumns(symbol_id=symbol_id, numbers=numbers))
            if (slots := baselines(symbol, self._day.history)) is not None:
                days, volumes, trades, spreads = slots
                yield self.frame(
                    baselines=frame_pb2.VolumeBaselines(
                        symbol_id=symbol_id, days=[days], avg_volume=volumes, avg_trades=trades, sd_trades=spreads
                    )
                )

    def event(self, body: dict[str, Any]) -> bytes:
        """One good element of the vendor's arrays as a frame of its own."""
        return self.frame(**event_body(body, self._ids))

    def watermark(self, clock: str) -> bytes:
        return self.frame(watermark=frame_pb2.Watermark(event_time_ns=ms_at(clock) * MS))


def event_body(body: dict[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """One good trade, bar or LULD message of the vendor's arrays as a frame's body."""
    kind = body["ev"]
    if kind == "T":
        return {
            "trades": market_data_pb2.TradeBatch(
                symbol_id=[ids[body["sym"]]],
                time_ns=[body["t"] * MS],
                price=[body["p"]],
                size=[float(body.get("ds", body["s"]))],
                conditions=[mask(body.get("c", ()))],
            )
        }
    if kind == "LULD":
        return {
            "limits": market_data_pb2.LimitBatch(
                symbol_id=[ids[body["T"]]],
                # Of these the vendor tells nanoseconds.
                time_ns=[body["t"] if body["t"] > 10**17 else body["t"] * MS],
                upper=[body["h"]],
                lower=[body["l"]],
                indicators=[mask(body["i"])],
            )
        }
    return {
        "bars": market_data_pb2.BarBatch(
            span=market_data_pb2.SECOND if kind == "A" else market_data_pb2.MINUTE,
            symbol_id=[ids[body["sym"]]],
            start_ns=[body["s"] * MS],
            end_ns=[body["e"] * MS],
            open=[body["o"]],
            high=[body["h"]],
            low=[body["l"]],
            close=[body["c"]],
            volume=[float(body.get("dv", body["v"]))],
            accumulated_volume=[float(body.get("dav", body["av"]))],
            day_vwap=[body["a"]],
            official_open=[body.get("op", NAN)],
            vwap=[body["vw"]],
            average_size=[body["z"]],
        )
    }


def mask(conditions: Iterable[int]) -> int:
    return sum(1 << condition for condition in set(conditions))


def fallback_rules() -> frame_pb2.TradeRules:
    """Section 3 of the contract: what holds when the vendor gives no conditions."""
    high_low_but_not_last = (5, 10, 22, 32, 33)
    volume_only = (2, 7, 12, 13, 20, 21, 29, 37, 52, 53)
    nothing = (15, 16)
    return frame_pb2.TradeRules(
        known=(1 << 62) - 1,
        forbids_last=mask((*high_low_but_not_last, *volume_only, *nothing)),
        forbids_high_low=mask((*volume_only, *nothing)),
        forbids_volume=mask((*nothing, 38)),
    )


def default_filters() -> list[frame_pb2.ListFilter]:
    """The scanner_filters that are enabled from the start, in words of the filter language."""
    return [
        frame_pb2.ListFilter(name="price_range", expression="price >= 1"),
        frame_pb2.ListFilter(
            name="volume_min",
            expression="volume_today >= 100000",
            sessions=[session_pb2.MARKET_OPEN, session_pb2.POST_MARKET],
        ),
        frame_pb2.ListFilter(
            name="volume_min_premarket", expression="volume_today >= 5000", sessions=[session_pb2.PRE_MARKET]
        ),
    ]


def row_values(row: TickerRow) -> dict[str, Any]:
    """A row as the twin has it: absent fields left out, enums by name, times in ns."""
    values: dict[str, Any] = {}
    for field in FIELDS:
        if field.kind == "text":
            if value := getattr(row, field.name):
                values[field.name] = value
        elif field.kind == "enum":
            if code := getattr(row, field.name):
                values[field.name] = field.values[code - 1]
        elif row.HasField(field.name):  # type: ignore[arg-type]
            value = getattr(row, field.name)
            values[field.name] = value.ToNanoseconds() if field.kind == "time" else value
    return values
