"""The reference loader against a scripted vendor and real stores: what comes out is what the plain twin says."""

import asyncio
import functools
import json
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import asyncpg
import numpy as np
import pytest
from redis.asyncio import Redis
from tradeul.v1 import frame_pb2

from services.data_ingest.reference.batch import NUMBER_FIELDS, TEXT_FIELDS, ReferenceBatch
from services.data_ingest.reference.load import HistoryDays, ReferenceSource
from services.data_ingest.reference.loader import ReferenceLoader
from services.data_ingest.reference.process import WORKER, ReferenceProcess
from services.data_ingest.reference.stored_load import DailyBars, StoredLoader
from services.historical.slots import pack
from services.kit.runtime import patient_starts
from services.kit.runtime.patient_starts import FAILED_STARTS
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient
from services.market.volume_slots import LEAST_DAYS, SLOTS, SlotGrid, bar_columns
from tests.support.few_files import out_of_files
from tests.support.scripted_day import DAY, ScriptedDay, baselines, reference_numbers
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

Rest = Callable[[str, dict[str, str]], Any]


@dataclass
class Loaded:
    """Everything that came out, the later values winning."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    slots: dict[str, tuple[int, list[float], list[float], list[float]]] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)

    def take(self, batch: ReferenceBatch) -> None:
        self.kinds += [kind for kind in batch.kinds if kind not in self.kinds]
        assert 0 < len(batch.symbols) <= 2000
        if (columns := batch.baselines) is not None:
            assert len(batch.symbols) <= 24
            for i, symbol in enumerate(batch.symbols):
                means = (columns.avg_volume, columns.avg_trades, columns.sd_trades)
                volume, trades, sd = (each[i].tolist() for each in means)
                self.slots[symbol] = (int(columns.days[i]), volume, trades, sd)
        for name, values in batch.numbers.items():
            for symbol, value in zip(batch.symbols, values.tolist(), strict=True):
                self.numbers.setdefault(symbol, {})[name.upper()] = value
        for name, texts in batch.texts.items():
            for symbol, text in zip(batch.symbols, texts, strict=True):
                self.texts.setdefault(symbol, {})[name] = text

    def comparable(self) -> tuple[object, ...]:
        """All of it: unknown values are equal, and the order of the vendor's answers does not matter."""
        numbers, texts = (
            {symbol: repr(sorted(fields.items())) for symbol, fields in each.items()}
            for each in (self.numbers, self.texts)
        )
        return numbers, texts, {symbol: repr(slots) for symbol, slots in self.slots.items()}, sorted(self.kinds)

    def present(self, symbol: str) -> dict[str, float]:
        return {name: value for name, value in self.numbers[symbol].items() if not math.isnan(value)}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@asynccontextmanager
async def open_stores(stores: Stores) -> AsyncIterator[tuple[asyncpg.Pool, Redis]]:
    """Both of them, empty at first."""
    pool, redis = await open_pool(stores.database_url), await open_redis(stores.redis_url)
    try:
        await pool.execute("TRUNCATE ticker_metadata, daily_ohlc, ticker_atr, volume_slots")
        await redis.flushall()
        yield pool, redis
    finally:
        await redis.aclose()
        await pool.close()


def vendor_of(server: VendorServer) -> VendorClient:
    return VendorClient(server.rest_url, "KEY", attempts=2, retry_base_s=0.001, retry_max_s=0.01)


def loader_of(vendor: VendorClient, pool: asyncpg.Pool | None = None, redis: Redis | None = None) -> ReferenceLoader:
    return ReferenceLoader(Settings.load({}), pool, redis, vendor, retry_pause_s=0.01)


@functools.cache
def calendar(count: int = 34) -> HistoryDays:
    """The newest `count` days, so that not every test asks for a year."""
    days = HistoryDays.of_nyse(DAY)
    return HistoryDays(days.before[-count:], days.early_closes)


async def loaded(source: ReferenceSource, symbols: list[str] | None = None, days: int = 34) -> Loaded:
    found = Loaded()
    async for batch in source.load(DAY, symbols, calendar(days)):
        found.take(batch)
    return found


async def from_vendor(rest: Rest, symbols: list[str] | None = None) -> tuple[Loaded, ReferenceLoader, list[str]]:
    async with VendorServer(rest) as server, vendor_of(server) as vendor:
        loader = loader_of(vendor)
        return await loaded(loader, symbols), loader, server.requests


def assert_is_twins(found: Loaded, day: ScriptedDay, symbols: list[str] | None = None, is_year: bool = False) -> None:
    for symbol in day.symbols:
        if symbols is not None and symbol.name not in symbols:
            assert symbol.name not in found.numbers and symbol.name not in found.slots
            continue
        expected = {**reference_numbers(symbol, day.history, is_year), "IS_ETF": 0.0}
        assert found.present(symbol.name) == pytest.approx(expected, rel=1e-12), symbol.name
        assert found.texts[symbol.name]["company_name"] == f"{symbol.name} Inc."
        assert found.texts[symbol.name]["exchange"] == "XNAS"
        slots = baselines(symbol, day.history)
        assert found.slots[symbol.name][0] == slots[0]
        for mine, twins in zip(found.slots[symbol.name][1:], slots[1:], strict=True):
            assert mine == pytest.approx(twins, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
async def test_an_empty_store_leaves_all_to_the_vendor(seed: int, stores: Stores) -> None:
    day = ScriptedDay(seed, 9)
    async with open_stores(stores) as (pool, redis), VendorServer(day.rest) as server, vendor_of(server) as vendor:
        loader = loader_of(vendor, pool, redis)
        found = await loaded(loader)
    assert_is_twins(found, day)
    assert found.kinds[:2] == ["prev_close", "prev_volume"]
    assert found.kinds[2:5] == ["avg_volume_10d", "avg_volume_30d", "avg_price_30d"]
    assert found.kinds.index("company_name") < found.kinds.index("baseline")
    assert not +loader.failed and not +loader.set_aside


def most_places_early(arrived: list[str], amounts: dict[str, float]) -> int:
    """How far before its place by amount, the largest first, a symbol came at most."""
    order = sorted(arrived, key=amounts.__getitem__, reverse=True)
    return max(order.index(symbol) - arrived.index(symbol) for symbol in arrived)


# Two requests are on the way at a time: while one is slow, any number may overtake it, but each overtakes no other.
MOST_PLACES_EARLY = 1


def newest_bars(day: ScriptedDay) -> dict[str, Any]:
    """The bar of the last day before, of each symbol that has one."""
    return {s.name: bar for s in day.symbols for bar in s.daily if bar.day == day.history[-1]}


async def test_those_that_traded_most_come_first() -> None:
    day = ScriptedDay(5, 9)
    _, _, requests = await from_vendor(day.rest)
    volumes = {name: bar.volume for name, bar in newest_bars(day).items()}
    minutes = [path.split("/")[4] for path in requests if "/range/5/minute/" in path]
    assert set(volumes) <= set(minutes)
    assert most_places_early([symbol for symbol in minutes if symbol in volumes], volumes) <= MOST_PLACES_EARLY


async def test_details_of_the_largest_companies_come_first() -> None:
    day = ScriptedDay(5, 30)
    _, _, requests = await from_vendor(day.rest)
    newest = newest_bars(day)
    details = [path.rpartition("/")[2] for path in requests if path.startswith("/v3/reference/tickers/")]
    first = [symbol for symbol in details if symbol in newest]
    traded = {name: bar.close * bar.volume for name, bar in newest.items()}
    assert most_places_early(first, traded) <= MOST_PLACES_EARLY
    assert most_places_early(first, {name: bar.volume for name, bar in newest.items()}) > MOST_PLACES_EARLY


async def test_batches_are_the_messages_of_the_stream() -> None:
    day = ScriptedDay(1, 9)
    ids: dict[str, int] = {}
    found = Loaded()
    encoded: dict[str, dict[str, Any]] = {}
    async with VendorServer(day.rest) as server, vendor_of(server) as vendor:
        async for batch in loader_of(vendor).load(DAY, None, calendar()):
            found.take(batch)
            mine = [ids.setdefault(symbol, len(ids)) for symbol in batch.symbols]
            if batch.baselines is not None:
                message = frame_pb2.VolumeBaselines.FromString(batch.encode(mine))
                assert list(message.symbol_id) == mine
                for i, symbol in enumerate(batch.symbols):
                    part = slice(SLOTS * i, SLOTS * (i + 1))
                    slots = (message.avg_volume[part], message.avg_trades[part], message.sd_trades[part])
                    # Compared as texts, since NaN is not equal to itself.
                    assert repr(found.slots[symbol]) == repr((message.days[i], *map(list, slots)))
                continue
            columns = frame_pb2.ReferenceColumns.FromString(batch.encode(mine))
            assert list(columns.symbol_id) == mine
            told: list[tuple[Any, Any]] = [(column.field, column.values) for column in columns.numbers]
            told += [(column.field, column.values) for column in columns.texts]
            for code, values in told:
                for symbol, value in zip(batch.symbols, values, strict=True):
                    encoded.setdefault(symbol, {})[frame_pb2.ReferenceField.Name(code)] = value
    for symbol in found.numbers:
        texts = {name.upper(): text for name, text in found.texts[symbol].items()}
        assert repr(sorted(encoded[symbol].items())) == repr(sorted({**found.numbers[symbol], **texts}.items()))
    assert {*NUMBER_FIELDS.values(), *TEXT_FIELDS.values()} == set(frame_pb2.ReferenceField.values()) - {0}


@pytest.mark.parametrize("wanted", [["S" + "AA", "BRK.B", "NONE"], None])
async def test_a_few_symbols_are_asked_for_one_by_one(wanted: list[str] | None) -> None:
    day = ScriptedDay(2, 9)
    found, _, requests = await from_vendor(day.rest, wanted)
    assert_is_twins(found, day, wanted)
    assert any("grouped" in path for path in requests) is (wanted is None)
    assert "NONE" not in found.numbers or found.present("NONE").keys() <= {"IS_ETF"}


class Flawed:
    """Answers as the day does, but for paths that hold `part`, the first `times` times."""

    def __init__(self, day: ScriptedDay, part: str, answer: Any = None, times: int = 10**9) -> None:
        self.day, self.part, self.answer, self.left = day, part, answer, times

    def __call__(self, path: str, query: dict[str, str]) -> Any:
        if self.part in path and self.left > 0:
            self.left -= 1
            return self.answer
        return self.day.rest(path, query)


@pytest.mark.parametrize("back", [0, 1, 15])
async def test_a_day_that_comes_late_is_filled_in(back: int) -> None:
    day = ScriptedDay(3, 9)
    flawed = Flawed(day, f"grouped/locale/us/market/stocks/{day.history[-1 - back]}", times=1)
    found, loader, _ = await from_vendor(flawed)
    assert_is_twins(found, day)
    assert not +loader.failed


@pytest.mark.parametrize("back", [0, 12])
async def test_a_day_that_never_comes_leaves_absent_what_needs_it(back: int) -> None:
    day = ScriptedDay(3, 9)
    hole = day.history[-1 - back]
    found, loader, _ = await from_vendor(Flawed(day, f"stocks/{hole}"))
    assert loader.failed == {"days": 1}
    for symbol in day.symbols:
        values = found.present(symbol.name)
        assert "AVG_VOLUME_30D" not in values and "ATR" not in values
        if back == 0:
            assert "PREV_CLOSE" not in values and "AVG_VOLUME_10D" not in values
        elif symbol.daily[-1].day > hole:
            assert values["PREV_CLOSE"] == symbol.daily[-1].close and "AVG_VOLUME_10D" in values
        slots = baselines(symbol, day.history)
        assert (slots is None) == (symbol.name not in found.slots)


async def test_one_bad_symbol_never_fails_the_load() -> None:
    day = ScriptedDay(4, 9)
    found, loader, _ = await from_vendor(Flawed(day, "/ticker/SAA/range/5/"))
    assert loader.failed == {"baselines": 1}
    assert "SAA" not in found.slots and "SAB" in found.slots
    assert found.present("SAA") == pytest.approx({**reference_numbers(day.by_name["SAA"], day.history), "IS_ETF": 0.0})


async def test_a_symbol_that_fails_is_asked_for_again_at_the_end() -> None:
    day = ScriptedDay(4, 9)
    found, loader, _ = await from_vendor(Flawed(day, "/range/5/", times=7))
    assert_is_twins(found, day)
    assert not +loader.failed


async def test_nothing_at_all_ends_with_what_failed() -> None:
    found, loader, _ = await from_vendor(lambda path, query: None)
    assert found == Loaded()
    assert loader.failed["days"] == 30 and loader.failed["tickers"] == 1


async def test_bad_rows_are_set_aside_and_the_others_kept() -> None:
    day = ScriptedDay(6, 9)
    good = {"o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 10}
    bad_bars: list[Any] = [
        {"T": "ZZA", **good, "h": 0.9}, {"T": "ZZB", **good, "l": -1}, {"T": "ZZC", **good, "v": -5},
        {"T": "ZZD", **good, "c": 1e9}, {"T": "ZZE", **good, "o": "x"}, {"T": "ZZF"}, 7, None,
        {"T": "no symbol", **good}, {"T": "ZZG", **good, "v": 1e300},
    ]  # fmt: skip
    bad_slots: list[Any] = [{"t": 10**30, **good}, {"t": 1, **good, "n": 10**400}, {"t": 1_772_000_000_000, "v": "x"}]

    def rest(path: str, query: dict[str, str]) -> Any:
        answer = day.rest(path, query)
        if "grouped" in path:
            answer["results"] = [*bad_bars, *answer["results"]]
        elif "/range/5/" in path:
            answer["results"] = [*bad_slots, *answer["results"]]
        elif path == "/v3/reference/tickers":
            answer["results"] += [{"ticker": "a b"}, {"ticker": 5}, {"ticker": "ZZH", "name": "\x00\u00a0"}]
        return answer

    found, loader, _ = await from_vendor(rest)
    assert_is_twins(found, day)
    assert not any("PREV_CLOSE" in values for symbol, values in found.numbers.items() if symbol.startswith("ZZ"))
    assert not +loader.failed
    assert loader.set_aside["daily_bar"] == 5 * 34
    assert loader.set_aside["metadata"] == 1 and loader.set_aside["symbol"] == 34 + 1
    assert loader.set_aside["GroupedBar"] == 4 * 34 and loader.set_aside["VolumeBar"] > 0


# --- the stores -----------------------------------------------------------------------


async def test_what_the_stores_hold_comes_from_them(stores: Stores) -> None:
    day = ScriptedDay(7, 9)
    days = calendar()
    curve = [float(10 * (slot + 1)) for slot in range(SLOTS)]
    async with open_stores(stores) as (pool, redis), VendorServer(day.rest) as server, vendor_of(server) as vendor:
        await pool.executemany(
            "INSERT INTO ticker_metadata (symbol, company_name, sector, market_cap, float_shares, beta, is_etf)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            [
                ("SAA", "Stored Corp", "Energy", 5e9, 1e6, 1.5, True),
                ("SAB", "Only Stored", None, -1.0, math.inf, -0.5, None),
                ("ONLYDB", "Nobody trades it", None, None, None, None, None),
            ],
        )
        await redis.set(
            "ticker:metadata:SAA", json.dumps({"company_name": "From Redis", "market_cap": "6e9", "beta": None})
        )
        await redis.set("ticker:metadata:SAC", "{no json")
        await redis.set("ticker:metadata:ONLYDB", json.dumps({"avg_volume_30d": 123.0, "avg_price_30d": "x"}))
        bars = [(bar.day, 100.0, 110.0, 90.0, 105.0, 1000.0) for bar in day.by_name["SAA"].daily]
        await pool.executemany(
            "INSERT INTO daily_ohlc VALUES ($1, 'SAA', $2, $3, $4, $5, $6)",
            bars,
        )
        await pool.executemany(
            "INSERT INTO ticker_atr (symbol, date, atr) VALUES ($1, $2, $3)",
            # That of the day itself, if it is there already, has seen the day's bar.
            [
                ("SAA", days.before[-1], 3.25),
                ("SAA", DAY, 7.5),
                ("SAB", days.before[0], 99.0),
                ("SAC", days.before[-1], math.nan),
            ],
        )
        rows: list[tuple[Any, ...]] = []
        rows += [("SAA", slot, value, value / 10, 2.0, 28, DAY) for slot, value in enumerate(curve)]
        rows += [("SAB", slot, value, None, None, 28, days.before[-1]) for slot, value in enumerate(curve)]
        rows += [("SAC", slot, value, None, None, 28, DAY) for slot, value in enumerate(curve[:-1])]
        await pool.executemany("INSERT INTO volume_slots VALUES ($1, $2, $3, $4, $5, $6, $7)", rows)
        await redis.mset({f"volume_slot:ONLYDB:{slot}": value for slot, value in enumerate(curve)})
        await redis.mset({f"volume_slot:SAD:{slot}": value for slot, value in enumerate(curve)})
        loader = loader_of(vendor, pool, redis)
        found = await loaded(loader)
        asked = [path for path in server.requests if "/ticker/SAA/range/5" in path]
    saa = found.present("SAA")
    assert (saa["PREV_CLOSE"], saa["AVG_VOLUME_10D"], saa["AVG_PRICE_30D"], saa["ATR"]) == (105.0, 1000.0, 105.0, 3.25)
    assert (saa["MARKET_CAP"], saa["FLOAT_SHARES"], saa["BETA"], saa["IS_ETF"]) == (6e9, 1e6, 1.5, 1.0)
    assert found.texts["SAA"] == {"company_name": "From Redis", "exchange": "XNAS", "sector": "Energy", "industry": "",
                                   "security_type": "CS", "list_date": ""}  # fmt: skip
    assert found.slots["SAA"] == (28, curve, [value / 10 for value in curve], [2.0] * SLOTS)
    assert not asked, "expected no request for what PostgreSQL holds"
    # Those of another day are not of this one, and half of them are none.
    for name in ("SAB", "SAC", "SAD"):
        expected = baselines(day.by_name[name], day.history)
        assert expected is not None and found.slots[name][1] == pytest.approx(expected[1])
    sab, twin = found.present("SAB"), reference_numbers(day.by_name["SAB"], day.history)
    assert sab == pytest.approx({**twin, "IS_ETF": 0.0, "BETA": -0.5})
    assert found.texts["SAB"]["company_name"] == "Only Stored"
    assert found.present("ONLYDB") == {"AVG_VOLUME_30D": 123.0, "IS_ETF": 0.0}
    assert found.slots["ONLYDB"][:2] == (3, curve)
    assert all(math.isnan(value) for value in found.slots["ONLYDB"][2])
    assert loader.set_aside["ticker_atr"] == 1 and loader.set_aside["volume_slots"] == 1
    assert loader.set_aside["redis_metadata"] == 1 and loader.set_aside["metadata"] == 3
    assert not +loader.failed


@pytest.mark.parametrize("plan", ["all", "without floats", "down"])
@pytest.mark.parametrize("symbols", [None, ["SAA", "SAB", "SAC"]])
async def test_companies_in_one_spelling_with_their_floats(plan: str, symbols: list[str] | None) -> None:
    """Names from every source are printable, sectors one of the eleven; a plan without floats goes on without."""
    day = ScriptedDay(13, 9)

    def rest(path: str, query: dict[str, str]) -> Any:
        if path == "/stocks/vX/float":
            if plan != "all":
                return HTTPStatus.FORBIDDEN if plan == "without floats" else HTTPStatus.SERVICE_UNAVAILABLE
            assert query.get("ticker.any_of") == (",".join(symbols) if symbols else None)
            rows = {"SAA": 1e6, "SAB": 0.0, "SAC": 2e20, "NOBODY": 5.0}
            return {"results": [{"ticker": ticker, "free_float": shares} for ticker, shares in rows.items()]}
        answer = day.rest(path, query)
        if path == "/v3/reference/tickers":
            for row in answer["results"]:
                row["name"] = f"{row['ticker']}\u00a0Inc.\u2028"
        if path.startswith("/v3/reference/tickers/"):
            answer["results"] |= {"name": "SAA\tInc.", "sic_code": "3674", "list_date": "1999-01-22"}
            answer["results"]["name"] = f"{answer['results']['ticker']}\tInc."
        return answer

    found, loader, _ = await from_vendor(rest, symbols)
    for name in symbols or day.by_name:
        expected = {
            "company_name": f"{name} Inc.", "exchange": "XNAS", "sector": "Technology", "security_type": "CS",
            "list_date": "1999-01-22",
        }  # fmt: skip
        # Nothing is said to be absent while a source is missing.
        assert found.texts[name] == (expected if plan == "down" else {**expected, "industry": ""})
    floats = {name: found.present(name).get("FLOAT_SHARES") for name in found.texts}
    assert floats == {**dict.fromkeys(found.texts), **({"SAA": 1e6} if plan == "all" else {})}
    assert +loader.failed == (Counter({"floats": 1}) if plan == "down" else {})


@pytest.mark.parametrize("flaw", ["nothing", "/grouped/", "/v3/reference/tickers", "/stocks/vX/float"])
async def test_nothing_is_told_as_absent_that_the_same_load_knows_later(flaw: str, stores: Stores) -> None:
    """Whoever holds yesterday's values keeps each until its new one is there; what is gone is told in the end."""
    day = ScriptedDay(17, 9)
    rest = Flawed(day, flaw, times=3 if flaw != "nothing" else 0)
    told: list[tuple[str, str, bool]] = []
    async with open_stores(stores) as (pool, redis), VendorServer(rest) as server, vendor_of(server) as vendor:
        await pool.execute(
            "INSERT INTO ticker_metadata (symbol, sector, beta) VALUES ('SAA', 'Energy', 1.5), ('GONE', NULL, 2)"
        )
        loader = loader_of(vendor, pool, redis)
        async for batch in loader.load(DAY, None, calendar()):
            columns = {**batch.texts, **{name: values.tolist() for name, values in batch.numbers.items()}}
            for name, values in columns.items():
                told += [(s, name, v == "" or v != v) for s, v in zip(batch.symbols, values, strict=True)]
    known = {(symbol, name) for symbol, name, is_absent in told if not is_absent}
    absent = {(symbol, name) for symbol, name, is_absent in told if is_absent}
    assert not known & absent
    if not +loader.failed:
        fields = {*NUMBER_FIELDS, *TEXT_FIELDS} - {"prev_close", "prev_volume"}
        assert {name for symbol, name in known | absent if symbol == "GONE"} == fields


@pytest.mark.parametrize("failures", [0, 1, 10**9])
async def test_splits_adjust_what_the_stores_hold(failures: int, stores: Stores) -> None:
    day = ScriptedDay(8, 9)
    days = calendar()
    splits = [
        {"ticker": "SAA", "execution_date": str(DAY), "split_from": 1, "split_to": 4},
        {"ticker": "SAA", "execution_date": str(days.before[-5]), "split_from": 10, "split_to": 1},
        {"ticker": "SAA", "execution_date": "2026-03-11", "split_from": 1, "split_to": 7},
    ]
    base = Flawed(day, "/v3/reference/splits", times=failures)

    def rest(path: str, query: dict[str, str]) -> Any:
        answer = base(path, query)
        if answer is not None and path == "/v3/reference/splits":
            return {"status": "OK", "results": splits}
        return answer

    async with open_stores(stores) as (pool, redis), VendorServer(rest) as server, vendor_of(server) as vendor:
        bars = [(date, 100.0 if date >= days.before[-5] else 10.0) for date in days.before[-30:]]
        await pool.executemany("INSERT INTO daily_ohlc VALUES ($1, 'SAA', $2, $2, $2, $2, 1000)", bars)
        await pool.execute("INSERT INTO ticker_atr VALUES ('SAA', $1, 14, 8.0)", days.before[-1])
        slots = [("SAA", slot, 100.0 * slot, 5.0 * slot, 1.0, 30, DAY) for slot in range(SLOTS)]
        await pool.executemany("INSERT INTO volume_slots VALUES ($1, $2, $3, $4, $5, $6, $7)", slots)
        loader = loader_of(vendor, pool, redis)
        values = (await loaded(loader)).present("SAA")
    if failures > 1:
        assert loader.failed["splits"] == 1 and values["PREV_CLOSE"] == 100.0
        return
    assert (values["PREV_CLOSE"], values["PREV_VOLUME"], values["ATR"]) == (25.0, 4000.0, 2.0)
    # 10 USD before a 1-for-10 reverse split are 100 after it.
    assert values["AVG_PRICE_30D"] == pytest.approx(25.0)
    assert values["AVG_VOLUME_30D"] == pytest.approx((5 * 4000 + 25 * 400) / 30)
    assert not +loader.failed


# --- in a process of its own ----------------------------------------------------------


async def test_a_process_of_its_own_gives_the_same(stores: Stores) -> None:
    day = ScriptedDay(9, 9)
    async with open_stores(stores) as (pool, redis), VendorServer(day.rest) as server:
        await pool.execute("INSERT INTO ticker_metadata (symbol, sector) VALUES ('SAA', 'Energy')")
        settings = Settings.load({**stores.environment(), **server.environment})
        process = ReferenceProcess(settings, retry_pause_s=0.01)
        found = Loaded()
        # With a calendar of its own.
        async for batch in process.load(DAY):
            found.take(batch)
        async with vendor_of(server) as vendor:
            loader = loader_of(vendor, pool, redis)
            assert found.comparable() == (await loaded(loader, days=250)).comparable()
    assert_is_twins(found, day, is_year=True)
    assert (process.failed, process.set_aside, process.pid) == (+loader.failed, +loader.set_aside, None)


async def test_a_process_that_dies_is_started_again() -> None:
    day = ScriptedDay(10, 9)
    async with VendorServer(day.rest) as server:
        process = ReferenceProcess(Settings.load(server.environment), retry_pause_s=0.01)
        found = Loaded()
        killed = False
        async for batch in process.load(DAY, None, calendar()):
            found.take(batch)
            if not killed and process.pid is not None:
                os.kill(process.pid, 9)
                killed = True
    assert_is_twins(found, day)
    assert process.failed == {"process": 1}


async def test_a_process_that_cannot_be_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_starts, "RETRY_SECONDS", 0.01)
    failures = FAILED_STARTS.labels(WORKER)._value
    before = failures.get()
    day, days = ScriptedDay(12, 9), calendar()
    found = Loaded()

    async def load() -> None:
        async for batch in process.load(DAY, None, days):
            found.take(batch)

    async with VendorServer(day.rest) as server:
        process = ReferenceProcess(Settings.load(server.environment), retry_pause_s=0.01)
        with out_of_files():
            loading = asyncio.create_task(load())
            while failures.get() < before + 3:
                assert not loading.done()
                await asyncio.sleep(0.01)
        await loading
    assert_is_twins(found, day)
    assert not process.failed


async def test_ending_early_leaves_no_process() -> None:
    day = ScriptedDay(11, 9)
    async with VendorServer(day.rest) as server:
        process = ReferenceProcess(Settings.load(server.environment))
        async with aclosing(process.load(DAY, None, calendar())) as batches:  # type: ignore[type-var]
            await anext(batches)
            pid = process.pid
            assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def store_history(vendor: VendorClient, pool: asyncpg.Pool, day: ScriptedDay) -> None:
    """The daily bars and slots of the days before, as `tradeul load` stores them."""
    days = calendar(20).before
    for date in days:
        bars = [(date, bar.symbol, bar.o, bar.h, bar.l, bar.c, bar.v) for bar in await vendor.grouped_daily(date)]
        await pool.executemany("INSERT INTO daily_ohlc VALUES ($1, $2, $3, $4, $5, $6, $7)", bars)
    grid = SlotGrid([date for date in days[-30:] if date not in calendar(20).early_closes])
    for symbol in (each.name for each in day.symbols):
        minutes = await vendor.volume_bars(symbol, 5, "minute", days[0], days[-1], adjusted=False)
        has_bar, values, _ = grid.fill(*bar_columns(minutes)[:3])
        for number, date in enumerate(grid.days):
            one = slice(number, number + 1)
            packed = pack([symbol], has_bar[one], values[0][one], values[1][one].astype(np.uint32))
            await pool.executemany(
                "INSERT INTO slot_days VALUES ($1, $2, $3, $4, $5)", [(date, *row) for row in packed]
            )


async def test_a_past_day_comes_from_the_stores_alone(stores: Stores) -> None:
    day = ScriptedDay(9)
    settings = Settings.load({"TRADEUL_REPLAY_DATE": str(DAY)})
    async with VendorServer(day.rest) as server, vendor_of(server) as vendor, open_stores(stores) as (pool, _):
        await pool.execute("TRUNCATE slot_days")
        expected = await loaded(ReferenceLoader(settings, None, None, vendor, retry_pause_s=0.01), None, 20)
        await store_history(vendor, pool, day)
        server.requests.clear()
        bars = DailyBars()
        loader = StoredLoader(settings, pool, vendor, bars)
        found = await loaded(loader, None, 20)
        # Nothing but the splits is asked for.
        assert {request.partition("?")[0] for request in server.requests} == {"/v3/reference/splits"}
        assert not loader.lacks and not loader.failed
        names = ("PREV_CLOSE", "PREV_VOLUME", "AVG_VOLUME_10D", "AVG_VOLUME_30D", "AVG_PRICE_30D", "ATR", "HIGH_20D")
        for symbol in (each.name for each in day.symbols):
            assert [repr(found.numbers[symbol][name]) for name in names] == [
                repr(expected.numbers[symbol][name]) for name in names
            ]
        held = {symbol: repr(slots) for symbol, slots in expected.slots.items() if slots[0] >= LEAST_DAYS}
        assert len(held) > 20
        assert {symbol: repr(slots) for symbol, slots in found.slots.items()} == held
        # A replay takes the same baselines, without asking for them symbol by symbol.
        server.requests.clear()
        replayed = await loaded(ReferenceLoader(settings, pool, None, vendor, retry_pause_s=0.01), None, 20)
        assert {symbol: repr(slots) for symbol, slots in replayed.slots.items()} == held
        assert not [request for request in server.requests if "/range/5/minute" in request]
        # What is not stored is absent, and named.
        await pool.execute("DELETE FROM daily_ohlc WHERE date = $1", calendar(20).before[0])
        await pool.execute("DELETE FROM slot_days WHERE date = $1", calendar(20).before[-2])
        late = StoredLoader(settings, pool, vendor, DailyBars())
        await loaded(late, None, 20)
        assert late.lacks == [
            "daily bars of 1 of the 20 days before it are not stored",
            "volume by time of day of 1 of the 20 days before it is not stored",
        ]
