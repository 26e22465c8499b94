"""What the feed decoder makes of the vendor's events: fields, units, conditions, what it sets aside."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tradeul.v1 import polygon_ws_pb2

from fastcore.columns import condition_mask
from fastcore.dedup import trade_key
from fastcore.feed_decoder import FeedDecoder
from fastcore.feed_elements import Rejected, Status, to_nanoseconds

TIME_NS = 1_763_994_600_123_000_000
TRADE = {"ev": "T", "sym": "AAPL", "x": 4, "i": "17", "z": 3, "p": 187.25, "s": 100, "t": 1_763_994_600_123, "q": 9}
BAR = {
    **{"ev": "A", "sym": "AAPL", "v": 200, "av": 8_642_007, "op": 25.66, "vw": 25.3981, "o": 25.39, "c": 25.4},
    **{"h": 25.41, "l": 25.38, "a": 25.3714, "z": 50, "s": 1_763_994_600_000, "e": 1_763_994_601_000},
}


def decode(*elements: Any, decoder: FeedDecoder | None = None) -> polygon_ws_pb2.MarketBatch:
    decoder = decoder or FeedDecoder()
    decoder.decode(json.dumps(elements).encode())
    return polygon_ws_pb2.MarketBatch.FromString(decoder.take())


def rejected(*elements: Any) -> dict[str, int]:
    decoder = FeedDecoder()
    decoder.decode(json.dumps(elements).encode())
    assert decoder.rows == 0
    return decoder.rejected


def test_trade() -> None:
    batch = decode({**TRADE, "c": [12, 37], "trfi": 201, "trft": 1, "ds": "100.5"})
    trades = batch.trades
    assert list(batch.new_symbols) == ["AAPL"]
    assert list(trades.symbol_id) == [0]
    assert list(trades.time_ns) == [TIME_NS]
    assert list(trades.price) == [187.25]
    # The decimal text carries the fraction.
    assert list(trades.size) == [100.5]
    assert list(trades.conditions) == [1 << 12 | 1 << 37]
    assert list(trades.trade_key) == [trade_key(4, 201, "17")]


IN_GERMAN = """
import locale
from fastcore.feed_decoder import FeedDecoder
from tradeul.v1 import polygon_ws_pb2

locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
assert locale.localeconv()["decimal_point"] == ","
decoder = FeedDecoder()
for price in ("187.12345678901234567", "0.1234567890123456789", "1234567.12345678912"):
    decoder.decode(b'[{"ev":"T","sym":"A","p":%b,"s":1,"t":1763994600123}]' % price.encode())
print(list(polygon_ws_pb2.MarketBatch.FromString(decoder.take()).trades.price))
"""


@pytest.mark.skipif(shutil.which("localedef") is None, reason="needs localedef and its sources")
def test_decimals_do_not_follow_the_locale(tmp_path: Path) -> None:
    built = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")], capture_output=True
    )
    if built.returncode:
        pytest.skip("localedef cannot make de_DE.UTF-8")
    answer = subprocess.run(
        [sys.executable, "-c", IN_GERMAN],
        env={**os.environ, "LOCPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == [187.12345678901234567, 0.1234567890123456789, 1234567.12345678912]


def test_trade_without_what_may_be_missing() -> None:
    trades = decode({"ev": "T", "sym": "AAPL", "p": 1, "s": 2, "t": 1_763_994_600_123}).trades
    assert (list(trades.conditions), list(trades.trade_key), list(trades.size)) == ([0], [0], [2.0])


def test_unknown_condition() -> None:
    trades = decode({**TRADE, "c": [99, -1]}, {**TRADE, "c": [63]}).trades
    assert list(trades.conditions) == [1 << 63, condition_mask([63])]


def test_bars() -> None:
    batch = decode(BAR, {**BAR, "ev": "AM", "dv": "200.25", "dav": "8642007.75", "e": 1_763_994_660_000})
    second, minute = batch.second_bars, batch.minute_bars
    assert (second.span, minute.span) == (1, 2)
    assert list(second.start_ns) == [1_763_994_600_000_000_000]
    assert list(minute.end_ns) == [1_763_994_660_000_000_000]
    for column, name in (("open", "o"), ("high", "h"), ("low", "l"), ("close", "c"), ("day_vwap", "a"), ("vwap", "vw")):
        assert list(getattr(second, column)) == [BAR[name]]
    assert (list(second.volume), list(minute.volume)) == ([200.0], [200.25])
    assert (list(second.accumulated_volume), list(minute.accumulated_volume)) == ([8642007.0], [8642007.75])
    assert (list(second.official_open), list(second.average_size)) == ([25.66], [50.0])


def test_bar_with_absent_values() -> None:
    bar = {name: value for name, value in BAR.items() if name not in ("av", "op", "a", "vw", "z")}
    bars = decode(bar).second_bars
    for column in ("accumulated_volume", "day_vwap", "official_open", "vwap", "average_size"):
        assert math.isnan(getattr(bars, column)[0])


def test_quote_and_limit() -> None:
    quote = {"ev": "Q", "sym": "MSFT", "bx": 4, "bp": 114.125, "bs": 100, "ax": 7, "ap": 114.128, "as": 160, "c": 0}
    limit = {"ev": "LULD", "T": "MSFT", "h": 218.94, "l": 198.1, "i": [17], "z": 3, "t": 1_763_994_600_123_000_000}
    batch = decode({**quote, "i": [604], "t": 1_763_994_600_123, "q": 50385480, "z": 3}, limit)
    assert (list(batch.quotes.bid), list(batch.quotes.ask)) == ([114.125], [114.128])
    assert (list(batch.quotes.bid_size), list(batch.quotes.ask_size)) == ([100.0], [160.0])
    assert (list(batch.limits.upper), list(batch.limits.lower)) == ([218.94], [198.1])
    assert list(batch.limits.indicators) == [1 << 17]
    # Both units mean the same moment.
    assert list(batch.limits.time_ns) == list(batch.quotes.time_ns) == [TIME_NS]
    assert list(batch.new_symbols) == ["MSFT"]


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_units_of_time(factor: int) -> None:
    assert to_nanoseconds(1_763_994_600 * factor) == 1_763_994_600 * 10**9
    assert list(decode({**TRADE, "t": 1_763_994_600 * factor}).trades.time_ns) == [1_763_994_600 * 10**9]


@pytest.mark.parametrize("value", [0, -1, 2**63, 10**11 - 1, 10**14 - 1, 10**17 - 1, 10**30])
def test_times_that_are_none(value: int) -> None:
    with pytest.raises(Rejected, match="time"):
        to_nanoseconds(value)
    assert rejected({**TRADE, "t": value}) == {"time": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sym": "1ABC"}, "symbol"),
        ({"sym": ""}, "symbol"),
        ({"sym": "ABCDEFGHIJKLM"}, "symbol"),
        ({"sym": "AA PL"}, "symbol"),
        ({"sym": "ÄPFEL"}, "symbol"),
        ({"sym": 5}, "wrong_type"),
        ({"sym": None}, "missing_field"),
        ({"p": "187.25"}, "wrong_type"),
        ({"p": None}, "missing_field"),
        ({"p": True}, "wrong_type"),
        ({"p": 10**400}, "wrong_type"),
        ({"s": None}, "missing_field"),
        ({"ds": "1,5"}, "wrong_type"),
        ({"ds": 1.5}, "wrong_type"),
        ({"t": 1.5}, "wrong_type"),
        ({"t": None}, "missing_field"),
        ({"c": 12}, "wrong_type"),
        ({"c": ["12"]}, "wrong_type"),
        ({"c": [True]}, "wrong_type"),
        ({"i": 17}, "wrong_type"),
        ({"x": "4"}, "wrong_type"),
        ({"x": -1}, "wrong_type"),
        ({"ev": "XYZ"}, "unknown_event"),
        ({"ev": None}, "missing_field"),
        ({"ev": 1}, "wrong_type"),
    ],
)
def test_malformed_events(change: dict[str, Any], reason: str) -> None:
    assert rejected({**TRADE, **change}) == {reason: 1}


def test_only_the_malformed_is_set_aside() -> None:
    decoder = FeedDecoder()
    batch = decode(TRADE, 17, {**TRADE, "p": []}, {**TRADE, "sym": "MSFT"}, [], None, "T", decoder=decoder)
    assert list(batch.new_symbols) == ["AAPL", "MSFT"]
    assert decoder.rejected == {"wrong_type": 5}


@pytest.mark.parametrize("text", ["", "[", "[{]", "nul", '[{"ev":"T"},]', "[1]]", '["\n"]', '[{"a":1}{"b":2}]', "\xff"])
def test_what_is_no_json_adds_nothing(text: str) -> None:
    decoder = FeedDecoder()
    good = json.dumps(TRADE)
    assert decoder.decode(text.encode("latin-1")) == []
    assert decoder.decode(f"[{good},{text.removeprefix('[') or '{'}".encode("latin-1")) == []
    assert decoder.rejected == {"malformed_json": 2}
    assert (decoder.rows, decoder.symbols, decoder.take()) == (0, [], b"")


@pytest.mark.parametrize("text", ["{}", "null", "17", '"text"', json.dumps(TRADE)])
def test_what_is_no_array_adds_nothing(text: str) -> None:
    decoder = FeedDecoder()
    decoder.decode(text.encode())
    assert decoder.rejected == {"not_an_array": 1}
    assert decoder.rows == 0


def test_statuses_come_in_order_with_the_data() -> None:
    decoder = FeedDecoder()
    connected = {"ev": "status", "status": "connected", "message": "Connected Successfully"}
    message = json.dumps([connected, TRADE, {"ev": "status", "status": "auth_success"}, {"ev": "status"}])
    assert decoder.decode(message.encode()) == [
        Status("connected", "Connected Successfully"),
        Status("auth_success", ""),
    ]
    assert decoder.rows == 1
    assert decoder.rejected == {"missing_field": 1}


def test_symbol_table() -> None:
    decoder = FeedDecoder(max_symbols=2000)
    names = [f"S{number}" for number in range(3000)]
    first = decode(*({**TRADE, "sym": name} for name in names[:1500]), decoder=decoder)
    second = decode(*({**TRADE, "sym": name} for name in names), decoder=decoder)
    assert (first.first_symbol_id, list(first.new_symbols)) == (0, names[:1500])
    assert (second.first_symbol_id, list(second.new_symbols)) == (1500, names[1500:2000])
    assert list(second.trades.symbol_id) == list(range(2000))
    assert decoder.symbols == names[:2000]
    assert decoder.rejected == {"symbol_table_full": 1000}
    assert decoder.take() == b""


def test_a_batch_is_the_same_however_its_events_arrive() -> None:
    together, one_by_one = FeedDecoder(), FeedDecoder()
    events = [TRADE, BAR, {**TRADE, "sym": "MSFT"}, {**BAR, "ev": "AM"}]
    together.decode(json.dumps(events).encode())
    for event in events:
        one_by_one.decode(bytearray(json.dumps([event], indent=1).encode()))
    assert together.take() == one_by_one.take()
    assert together.totals == {"limits": 0, "quotes": 0, "minute_bars": 1, "second_bars": 1, "trades": 2}
    assert together.last_trade_ns == TIME_NS


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="max_symbols"):
        FeedDecoder(max_symbols=0)
    with pytest.raises(TypeError):
        FeedDecoder().decode("text")  # type: ignore[arg-type]
