"""Dry runs over gRPC: days, counts and limits; what is refused; processes that are ended, and that end."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tradeul.v1 import alerts_pb2, dry_run_pb2

from services.kit.alerts.dry_run import WORKER
from services.kit.runtime.environment import without_settings
from services.kit.runtime.settings import Settings
from services.market.flat_files import MINUTE_BARS_KIND, TRADES_KIND, file_name
from services.ticker.dry_runs import MOST_RUNS
from tests.support.flat_trades import BAR_COLUMNS, TRADE_COLUMNS, ns_at, trade_row, write_rows
from tests.support.refusals import refusal
from tests.support.running_ticker import RunningTicker, running_ticker, vendor_details
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

pytestmark = pytest.mark.timeout(240)

FRIDAY, MONDAY = date(2025, 11, 21), date(2025, 11, 24)
GROWS: dict[str, Any] = {"name": "grown", "title": "Grown", "when": "grows(intraday_high)", "quality": "volume_today"}
Responses = list[dry_run_pb2.DryRunAlertRuleResponse]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    async with VendorServer(vendor_details) as running:
        yield running


@pytest.fixture
async def ticker(stores: Stores, vendor: VendorServer, tmp_path: Path) -> AsyncIterator[RunningTicker]:
    environment = {
        **vendor.environment,
        **stores.environment(),
        "TRADEUL_DATA_DIR": str(tmp_path / "data"),
        "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
        "TRADEUL_METRICS_PORT_OFFSET": "0",
    }
    async with running_ticker(stores, Settings.load(environment)) as running:
        await running.database.execute("TRUNCATE alert_rules, aggregates_1min, daily_ohlc")
        yield running


class Bars:
    """Minute bars of a day: each symbol's highs rise now and then. `rises` counts them, the first bar included."""

    def __init__(self, day: date, symbols: int = 5, minutes: int = 40) -> None:
        chance = random.Random(day.toordinal())
        self.day = day
        self.rows: list[str] = []
        self.records: list[tuple[Any, ...]] = []
        self.rises: dict[str, int] = {}
        for number in range(symbols):
            symbol, price, high = f"S{number:03d}", 20.0, 0.0
            for minute in range(minutes):
                start = ns_at("10:00:00", day) + minute * 60 * 10**9
                price = round(price + chance.choice((-0.5, 0.25, 0.5)), 2)
                bar = (price, price + 0.1, price - 0.1, price)
                # The first look only remembers.
                self.rises[symbol] = self.rises.get(symbol, 0) + (high > 0 and price + 0.1 > high)
                high = max(high, price + 0.1)
                open_, top, low, close = bar
                self.rows.append(f"{symbol},1000,{open_},{close},{top},{low},{start},10")
                self.records.append((start // 10**9, symbol, *bar))

    def write(self, folder: Path) -> None:
        write_rows(folder / file_name(MINUTE_BARS_KIND, self.day), BAR_COLUMNS, self.rows)

    async def store(self, ticker: RunningTicker) -> None:
        insert = "INSERT INTO aggregates_1min VALUES (to_timestamp($1), $2, $3, $4, $5, $6, 1000, NULL, 10)"
        await ticker.database.executemany(insert, self.records)
        await ticker.database.execute(
            "INSERT INTO ticker_metadata (symbol, company_name) SELECT 'S' || lpad(n::text, 3, '0'), 'Company'"
            " FROM generate_series(0, 9) AS n ON CONFLICT DO NOTHING"
        )


def request(**body: Any) -> dry_run_pb2.DryRunAlertRuleRequest:
    return json_format.ParseDict(body, dry_run_pb2.DryRunAlertRuleRequest())


async def dry_run(ticker: RunningTicker, **body: Any) -> Responses:
    return [response async for response in ticker.alert_rules.DryRunAlertRule(request(**body))]


async def refused(ticker: RunningTicker, **body: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await dry_run(ticker, **body)
    return refusal(caught.value)


def days_of(responses: Responses) -> dict[str, dry_run_pb2.DryRunDay]:
    return {each.day.date: each.day for each in responses if each.HasField("day")}


def alerts_of(responses: Responses, day: date) -> list[alerts_pb2.Alert]:
    alerts = [each.alert for each in responses if each.HasField("alert")]
    return [each for each in alerts if each.time.ToDatetime().date() == day]


def workers() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if WORKER.encode() in (path / "cmdline").read_bytes() and str(os.getpid()) in (
                (path / "stat").read_text().split()
            ):
                found.add(int(path.name))
    return found


async def until_no_worker() -> None:
    async with asyncio.timeout(60):
        while workers():
            await asyncio.sleep(0.05)


def scratch_of(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data").glob("*/dry_run/*"))


async def test_days_are_run_with_every_alert_counted(ticker: RunningTicker, tmp_path: Path) -> None:
    days = [Bars(FRIDAY), Bars(MONDAY)]
    for bars in days:
        bars.write(tmp_path / "files")
    found = await dry_run(ticker, rule=GROWS, days=20, source=str(tmp_path / "files"))
    assert found[0].opened.days == [str(FRIDAY), str(MONDAY)]
    assert found[0].opened.rule.name == "grown"
    for bars in days:
        day, alerts = days_of(found)[str(bars.day)], alerts_of(found, bars.day)
        assert not day.problem
        assert dry_run_pb2.DryRunDay.Source.Name(day.source) == "MINUTE_BARS_FILE"
        assert {each.symbol: each.alerts for each in day.symbols} == {s: n for s, n in bars.rises.items() if n}
        assert day.alerts == day.returned == len(alerts) == sum(bars.rises.values())
        assert [(-each.alerts, each.symbol) for each in day.symbols] == sorted(
            (-each.alerts, each.symbol) for each in day.symbols
        )
        assert all(not each.epoch and not each.sequence and each.row.symbol == each.symbol for each in alerts)
        assert day.until.ToNanoseconds() == ns_at("10:40:00", bars.day)
    progress = [each.progress for each in found if each.HasField("progress")]
    assert {each.step for each in progress} >= {"reading", "reference data"}
    total = sum(sum(bars.rises.values()) for bars in days)
    assert (found[-1].ended.alerts, found[-1].ended.days, found[-1].ended.failed_days) == (total, 2, 0)
    await until_no_worker()
    assert not scratch_of(tmp_path)


async def test_limits_and_symbols_choose_what_is_returned(ticker: RunningTicker, tmp_path: Path) -> None:
    bars = Bars(MONDAY)
    bars.write(tmp_path / "files")
    source = str(tmp_path / "files")
    all_alerts = alerts_of(await dry_run(ticker, rule=GROWS, source=source), MONDAY)
    few = await dry_run(ticker, rule=GROWS, source=source, limit=3)
    assert alerts_of(few, MONDAY) == all_alerts[:3]
    assert days_of(few)[str(MONDAY)].alerts == len(all_alerts)
    ours = await dry_run(ticker, rule=GROWS, source=source, symbols="s001, S004")
    # The percentages are those among all alerts of the rule.
    assert alerts_of(ours, MONDAY) == [each for each in all_alerts if each.symbol in ("S001", "S004")]


async def test_stored_minute_bars_have_the_alerts_of_their_file(ticker: RunningTicker, tmp_path: Path) -> None:
    days = [Bars(FRIDAY), Bars(MONDAY)]
    for bars in days:
        await bars.store(ticker)
        bars.write(tmp_path / "files")
    stored = await dry_run(ticker, rule=GROWS, days=2)
    from_files = await dry_run(ticker, rule=GROWS, days=2, source=str(tmp_path / "files"))
    for bars in days:
        day = days_of(stored)[str(bars.day)]
        assert dry_run_pb2.DryRunDay.Source.Name(day.source) == "STORED_MINUTE_BARS"
        assert day.alerts == sum(bars.rises.values())
        assert alerts_of(stored, bars.day) == alerts_of(from_files, bars.day)
        assert [each.partition(" of ")[0] for each in day.lacks] == ["daily bars", "companies are not stored"]


async def test_a_rule_that_exists_is_run_by_name(ticker: RunningTicker, tmp_path: Path) -> None:
    rows = [trade_row("S001", ns_at("10:00:00") + 10**9 * each, 10 + each / 10, trade_id=each) for each in range(9)]
    write_rows(tmp_path / "files" / file_name(TRADES_KIND, MONDAY), TRADE_COLUMNS, rows)
    found = await dry_run(ticker, name="extended_high", source=str(tmp_path / "files"))
    day = days_of(found)[str(MONDAY)]
    assert dry_run_pb2.DryRunDay.Source.Name(day.source) == "TRADES"
    assert (day.events, found[0].opened.rule.when) == (9, "grows(intraday_high)")


async def test_days_without_data_are_named(ticker: RunningTicker, tmp_path: Path) -> None:
    Bars(FRIDAY).write(tmp_path / "files")
    body = {"from": "2025-11-20", "to": "2025-11-27", "rule": GROWS, "source": str(tmp_path / "files")}
    found = await dry_run(ticker, **body)
    problems = {day: each.problem for day, each in days_of(found).items()}
    # Not the weekend.
    assert sorted(problems) == [f"2025-11-{day}" for day in (20, 21, 24, 25, 26, 27)]
    assert problems["2025-11-21"] == ""
    assert problems["2025-11-24"].startswith("there are no data of 2025-11-24: no recording and no file of trades")
    # Thanksgiving.
    assert problems["2025-11-27"] == "2025-11-27 is not a trading day"
    assert (found[-1].ended.days, found[-1].ended.failed_days) == (1, 5)
    none = await refused(ticker, rule=GROWS, source=str(tmp_path / "empty"))
    assert (none.code, none.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_PAST_DAYS")


async def test_a_file_that_cannot_be_read_is_a_problem_of_its_day(ticker: RunningTicker, tmp_path: Path) -> None:
    write_rows(tmp_path / "files" / file_name(MINUTE_BARS_KIND, MONDAY), "not,a,file", ["1,2,3"])
    Bars(FRIDAY).write(tmp_path / "files")
    found = await dry_run(ticker, rule=GROWS, days=2, source=str(tmp_path / "files"))
    assert "expected the columns of trades" in days_of(found)[str(MONDAY)].problem
    assert not days_of(found)[str(FRIDAY)].problem


async def test_mistakes_are_refused_with_their_place(ticker: RunningTicker) -> None:
    wrong = await refused(ticker, rule={**GROWS, "where": "price > 5 AND rvoll > 2"})
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ALERT_RULE")
    assert (wrong.metadata["part"], wrong.metadata["position"]) == ("where", "14")
    assert wrong.metadata["suggestion"] == "rvol"
    unknown = await refused(ticker, name="high_of_dy")
    assert (unknown.reason, unknown.metadata["nearest"]) == ("UNKNOWN_ALERT_RULE", "high_of_day")
    for body, reason in (
        ({}, "INVALID_REQUEST"),
        ({"name": "halt", "rule": GROWS}, "INVALID_REQUEST"),
        ({"name": "halt", "days": 61}, "INVALID_LIMIT"),
        ({"name": "halt", "limit": 10_001}, "INVALID_LIMIT"),
        ({"name": "halt", "days": 1, "from": "2025-11-21"}, "INVALID_REQUEST"),
        ({"name": "halt", "to": "2025-11-21"}, "INVALID_REQUEST"),
        ({"name": "halt", "from": "2025-11-21", "to": "2025-11-20"}, "INVALID_DATE"),
        ({"name": "halt", "from": "2025-01-01", "to": "2025-11-20"}, "INVALID_DATE"),
        ({"name": "halt", "from": "yesterday"}, "INVALID_DATE"),
        ({"name": "halt", "symbols": "A B"}, "INVALID_SYMBOL"),
    ):
        assert (await refused(ticker, **body)).reason == reason, body


async def opened(ticker: RunningTicker, source: Path) -> Any:
    """A dry run whose process has begun. It cannot end while the vendor does not answer."""
    call: Any = ticker.alert_rules.DryRunAlertRule(request(rule=GROWS, days=2, source=str(source)))
    assert (await call.read()).HasField("opened")
    assert (await call.read()).HasField("progress")
    return call


async def test_so_many_run_at_once(ticker: RunningTicker, vendor: VendorServer, tmp_path: Path) -> None:
    Bars(MONDAY).write(tmp_path / "files")
    vendor.answering.clear()
    calls = [await opened(ticker, tmp_path / "files") for _ in range(MOST_RUNS)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await dry_run(ticker, rule=GROWS, source=str(tmp_path / "files"))
    more = refusal(caught.value)
    assert (more.code, more.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_DRY_RUNS")
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it has the three methods that are used
    assert status is not None
    assert status.details[1].Is(error_details_pb2.RetryInfo.DESCRIPTOR)
    for call in calls:
        call.cancel()
    vendor.answering.set()
    await until_no_worker()
    # The service notices the end of its workers a moment later.
    async with asyncio.timeout(60):
        while True:
            try:
                assert await dry_run(ticker, rule=GROWS, source=str(tmp_path / "files"))
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                await asyncio.sleep(0.05)


async def test_a_client_that_leaves_leaves_no_process_and_no_file(
    ticker: RunningTicker, vendor: VendorServer, tmp_path: Path
) -> None:
    Bars(MONDAY).write(tmp_path / "files")
    vendor.answering.clear()
    call = await opened(ticker, tmp_path / "files")
    assert workers()
    call.cancel()
    await until_no_worker()
    async with asyncio.timeout(60):
        while scratch_of(tmp_path):
            await asyncio.sleep(0.05)


async def test_a_process_that_is_killed_is_an_error(
    ticker: RunningTicker, vendor: VendorServer, tmp_path: Path
) -> None:
    for day in (FRIDAY, MONDAY):
        Bars(day).write(tmp_path / "files")
    vendor.answering.clear()
    call = await opened(ticker, tmp_path / "files")
    os.kill(workers().pop(), signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
    error = refusal(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRY_RUN_BROKE_OFF")
    assert "was killed by signal 9" in str(caught.value.details())
    await until_no_worker()


async def test_json_is_answered_with_events(ticker: RunningTicker, tmp_path: Path) -> None:
    Bars(MONDAY).write(tmp_path / "files")
    body = json.dumps({"rule": {"when": "grows(intraday_high)"}, "limit": 2, "source": str(tmp_path / "files")})
    text = b""
    async for part in ticker.alert_rules.DryRunAlertRuleFromJson(httpbody_pb2.HttpBody(data=body.encode())):
        assert part.content_type == "text/event-stream"
        text += part.data
    events = [json.loads(each.removeprefix("data: ")) for each in text.decode().split("\n\n") if each]
    kinds = [next(iter(each)) for each in events]
    assert (kinds[0], kinds[-1], kinds.count("alert"), kinds.count("day")) == ("opened", "ended", 2, 1)
    assert events[-1]["ended"]["alerts"] == sum(Bars(MONDAY).rises.values())
    assert events[kinds.index("alert")]["alert"]["row"]["symbol"].startswith("S00")


async def command(ticker: RunningTicker, *arguments: str) -> tuple[int | None, str, str]:
    """Runs `tradeul dry-run`; returns its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "services.cli.main",
            "dry-run",
            *arguments,
            "--address",
            f"127.0.0.1:{ticker.host.port}",
        ),
        env={**without_settings(os.environ), "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_command_prints_days_in_order_and_who_had_most(ticker: RunningTicker, tmp_path: Path) -> None:
    days = [Bars(FRIDAY), Bars(MONDAY)]
    for bars in days:
        bars.write(tmp_path / "files")
    rule = tmp_path / "mine.toml"
    rule.write_text(
        '[[alerts]]\nname = "mine"\ntitle = "Mine"\nwhen = "grows(intraday_high)"\ntext = "at {price:.2f}"\n'
    )
    source = ("--source", str(tmp_path / "files"))
    status, output, errors = await command(ticker, str(rule), "--days", "2", "--limit", "3", *source)
    assert status == 0, errors
    lines = output.splitlines()
    totals = [sum(bars.rises.values()) for bars in days]
    having = [sum(map(bool, bars.rises.values())) for bars in days]
    assert lines[0] == f"2025-11-21: {totals[0]} alerts of {having[0]} symbols (minute bars)"
    assert lines[4] == f"... and {totals[0] - 3} more"
    assert lines[5] == f"2025-11-24: {totals[1]} alerts of {having[1]} symbols (minute bars)"
    assert lines[10] == f"{sum(totals)} alerts on 2 days"
    counts = {symbol: count + days[1].rises[symbol] for symbol, count in days[0].rises.items()}
    most = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    assert lines[11] == "most: " + ", ".join(f"{symbol} {count}" for symbol, count in most)
    assert "dry run: 0 of 2 days, " in errors
    status, output, _ = await command(ticker, str(rule), "--json", *source)
    assert [next(iter(json.loads(line))) for line in output.splitlines()][-2:] == ["day", "ended"]
    status, _, errors = await command(ticker, "high_of_dy")
    assert (status, errors) == (2, "tradeul: there is no alert rule 'high_of_dy'; the nearest is 'high_of_day'\n")
    status, output, _ = await command(ticker, "halt", "--from", "2025-11-27")
    assert (status, output) == (1, "2025-11-27: not run: 2025-11-27 is not a trading day\n")
