"""What has to be equal once all has arrived: copies and the list, rows and the vendor's truth, lists and the twin."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg
import grpc.aio
import httpx
from tradeul.v1 import frame_pb2, scanner_pb2

from fastcore.reference.lists_twin import ListsTwin
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import load_lists
from services.kit.runtime.clock import monotonic, ns_of
from services.kit.stores.database import DATABASE_ERRORS
from tests.robustness.faults.alerts import compare_alerts
from tests.robustness.faults.rig import SPEED, TOLERANCE, Rig
from tests.support.compare_rows import differences
from tests.support.known_market import MINUTE_MS, KnownMarket
from tests.support.mesh_view import MeshView, mesh_view
from tests.support.scripted_day import FLUSH
from tests.support.twin_frames import MS, TwinFeed, default_filters, row_values
from tests.support.watchers import Watcher

# Together less than the 15 s after which silence is a gap of the line.
SHOWN_SECONDS: Final = 6.0
EQUAL_SECONDS: Final = 6.0
STORED_SECONDS: Final = 30.0
# The last minute of a gap has to end.
HEALED_SECONDS: Final = 40.0
# Of the market's time: so long after its end a minute's bar has to be stored.
STORED_WITHIN_MS: Final = 8 * 1000 * SPEED


class NotShown(Exception):
    """Lists do not come to stand where the vendor has stopped."""


class Twin:
    """The slow twin of the lists, which gets what the vendor sent."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._feed = TwinFeed(rig.day)
        self._lists = ListsTwin(load_lists(), MarketTwin())
        for frame in self._feed.opening(default_filters()):
            self._lists.apply(frame)

    async def catch_up(self) -> None:
        """Applies what was sent since, and ranks at the market's time."""
        bodies, self._rig.feed.unchecked = self._rig.feed.unchecked, []
        await asyncio.to_thread(self._apply, bodies, self._rig.market.now_ms)

    def _apply(self, bodies: list[dict[str, Any]], time_ms: int) -> None:
        for body in bodies:
            self._lists.apply(self._feed.event(body))
        self._lists.apply(self._feed.frame(watermark=frame_pb2.Watermark(event_time_ns=time_ms * MS)))

    async def compare(self, view: MeshView) -> list[str]:
        """How the mesh's lists differ, every field of every row."""
        found = []
        for definition in self._lists.definitions:
            rows = [row_values(row) for row in (await view.rows(definition.name)).rows]
            expected = self._lists.rows(definition.name)
            if [row["symbol"] for row in rows] != [row["symbol"] for row in expected]:
                found.append(f"{definition.name}: other rows than the twin's")
                continue
            for row, twins in zip(rows, expected, strict=True):
                if differing := differences(row, twins):
                    found.append(f"{definition.name} {row['symbol']}: {differing}")
        return found


class Epoch:
    """The stream's epoch and the clients' resets of now; `problems()`: of those that have come since."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._epochs = {watcher: watcher.position[0] for watcher in rig.watchers}
        self._resets = {watcher: len(watcher.resets) for watcher in rig.watchers}
        self._alert_resets = len(rig.alerts.resets)

    def problems(self) -> list[str]:
        """The clients that had to begin anew."""
        found = []
        for watcher, epoch in self._epochs.items():
            where = f"{watcher.protocol} {watcher.name}"
            if watcher.position[0] != epoch:
                found.append(f"{where}: epoch {watcher.position[0]}, expected {epoch}")
            found += [f"{where}: reset {reset}" for reset in watcher.resets[self._resets[watcher] :]]
        return found + [f"alerts: reset: {reason}" for reason in self._rig.alerts.resets[self._alert_resets :]]


async def health_warnings(rig: Rig) -> list[str]:
    """What /health warns of; the error in its place where it does not answer."""
    try:
        warnings: list[str] = (await rig.http.get("/health")).json().get("warnings", [])
    except (httpx.HTTPError, ValueError) as error:
        return [f"no answer: {type(error).__name__}"]
    return warnings


async def stop_at_full(rig: Rig, view: MeshView) -> None:
    """Stops the vendor at a full ten seconds and waits until lists stand there; raises NotShown."""
    time_ms = await rig.feed.flush()
    deadline = monotonic() + SHOWN_SECONDS
    while True:
        try:
            if (await view.rows("filtered")).timestamp.ToNanoseconds() >= time_ms * MS:
                return
        except grpc.aio.AioRpcError:
            pass
        if monotonic() > deadline:
            raise NotShown(f"lists did not come to stand at the vendor's {time_ms}")
        await asyncio.sleep(0.05)


async def compare_copies(rig: Rig, view: MeshView) -> list[str]:
    """Waits until every watcher stands where its list does, then compares all rows."""
    different = ["not compared"]
    deadline = monotonic() + EQUAL_SECONDS
    while different and monotonic() < deadline:
        different = []
        lists = {name: await _lists(rig, view, name) for name in {watcher.name for watcher in rig.watchers}}
        for watcher in rig.watchers:
            if (problem := _copy_problem(watcher, *lists[watcher.name])) is not None:
                different.append(f"{watcher.protocol} {watcher.name}: {problem}")
        await asyncio.sleep(0.1)
    return different


async def _lists(rig: Rig, view: MeshView, name: str) -> tuple[scanner_pb2.RankedList, dict[str, Any]]:
    """A list over gRPC and over REST."""
    ranked = await view.rows(name)
    try:
        answer = await rig.http.get(f"/api/v1/scanner/lists/{name}")
        return ranked, answer.json()
    except httpx.HTTPError:
        return ranked, {}


def _copy_problem(watcher: Watcher, ranked: scanner_pb2.RankedList, body: dict[str, Any]) -> str | None:
    expected = (ranked.epoch, ranked.sequence)
    if expected != (body.get("epoch"), body.get("sequence")):
        return "the list moves"
    if watcher.position != expected:
        return f"at {watcher.position}, expected {expected}"
    rows: Sequence[Any] = list(ranked.rows)
    if not hasattr(watcher, "copy"):
        rows = body.get("rows", [])
    return None if list(watcher.rows) == rows else "other rows"


def compare_truth(rig: Rig, rows: Sequence[Any], *, is_regular: bool = True) -> list[str]:
    """How rows of the scanner's differ from what the vendor's trades come to."""
    found = {row.symbol: row for row in rows}
    problems = []
    for symbol, truth in rig.market.truth.items():
        if symbol == FLUSH or not truth.trades:
            continue
        row = found.get(symbol)
        if row is None:
            problems.append(f"{symbol} is missing")
            continue
        expected = {
            "volume_today": truth.volume,
            "price": truth.price,
            "intraday_high": truth.high,
            "intraday_low": truth.low,
            "open": truth.open,
            **({"high": truth.high, "low": truth.low} if is_regular else {}),
            **({"trades_today": truth.trades} if rig.is_exact else {}),
        }
        for name, value in expected.items():
            if abs(getattr(row, name) - value) > TOLERANCE:
                problems.append(f"{symbol}: {name} {getattr(row, name)}, expected {value}")
    return problems


async def compare_bars(rig: Rig) -> list[str]:
    """Waits until the stored minute bars are the vendor's, each once; returns what is missing or different."""
    problems = ["not compared"]
    deadline = monotonic() + STORED_SECONDS
    while problems and monotonic() < deadline:
        try:
            connection = await asyncpg.connect(rig.database_url, timeout=2)
            try:
                records = await connection.fetch(
                    "SELECT symbol, time, open, high, low, close, volume, is_made FROM aggregates_1min", timeout=5
                )
            finally:
                await connection.close(timeout=2)
        except DATABASE_ERRORS as error:
            problems = [f"the database does not answer: {type(error).__name__}"]
        else:
            bars = [{**record, "start_ms": ns_of(record["time"]) // 1_000_000} for record in records]
            problems = bar_problems(rig.market, bars, rig.market.now_ms - STORED_WITHIN_MS)
        await asyncio.sleep(0.5)
    return problems


def bar_problems(market: KnownMarket, bars: Iterable[Mapping[str, Any]], ended_ms: int) -> list[str]:
    """How stored minute bars differ from the vendor's of the minutes that had ended at that time."""
    stored: dict[tuple[str, int], Mapping[str, Any]] = {}
    problems = []
    for bar in bars:
        key = (bar["symbol"], bar["start_ms"])
        if key in stored:
            problems.append(f"bar {bar['symbol']} {bar['start_ms']} is stored twice")
        stored[key] = bar
    for symbol, truth in market.truth.items():
        for minute in truth.minutes.values():
            if symbol == FLUSH or not minute.open or minute.start_ms + MINUTE_MS > ended_ms:
                continue
            where = f"bar {symbol} {minute.start_ms}"
            found = stored.get((symbol, minute.start_ms))
            if found is None:
                problems.append(f"{where} is missing")
                continue
            where += ", made of trades" if found["is_made"] else ""
            for name in ("open", "high", "low", "close", "volume"):
                expected = getattr(minute, name)
                if abs(float(found[name]) - expected) > TOLERANCE:
                    problems.append(f"{where}: {name} {found[name]}, expected {expected}")
    return problems


async def compare_gaps(rig: Rig) -> list[str]:
    """Waits until every gap of the vendor's line is healed; returns those that are not."""
    problems = ["not compared"]
    deadline = monotonic() + HEALED_SECONDS
    while problems and monotonic() < deadline:
        try:
            status = (await rig.http.get("/api/v1/scanner/status")).json()
            problems = [str(gap) for gap in status.get("gaps", ()) if gap["state"] != "HEALED"]
        except (httpx.HTTPError, ValueError) as error:
            problems = [f"no status: {type(error).__name__}"]
        await asyncio.sleep(0.5)
    return problems


async def compare_all(rig: Rig, twin: Twin) -> dict[str, list[str]]:
    """Everything at a moment at which the vendor stands still, and the stored bars while it goes on; by what it was."""
    async with mesh_view(rig.mesh) as view:
        await stop_at_full(rig, view)
        found = {"copies": await compare_copies(rig, view)}
        found["rows"] = compare_truth(rig, (await view.rows("filtered")).rows)
        if rig.is_exact:
            await twin.catch_up()
            found["twin"] = await twin.compare(view)
        else:
            rig.feed.unchecked.clear()
    rig.feed.is_paused = False
    found["bars"] = await compare_bars(rig)
    found["gaps"] = await compare_gaps(rig)
    found["alerts"] = await compare_alerts(rig.http, rig.database_url, rig.redis_url, rig.alerts.seen)
    return found
