"""The lists in the terminal against a real scanner: keys, layout, a lost connection, pipes, a pseudo-terminal."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from services.cli.lists.client import Client
from services.cli.terminal.app import TopApp, list_sheet, scan_sheet
from services.cli.terminal.screens import ColumnScreen, HelpScreen, SymbolScreen
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.scanner.service import ScannerService
from tests.support.mesh import free_ports
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import Tape

SYMBOLS = [f"S{i:02}" for i in range(30)]
LISTS = ("gappers_up", "losers", "halts")
SIZES = ((80, 24), (133, 40))


class Market:
    """A scanner on one port, which can go and come back, behind a sequencer by script."""

    def __init__(self, sequencer: ScriptedSequencer) -> None:
        self.sequencer = sequencer
        (self.port,) = free_ports(1)
        self.settings = Settings.load(
            {
                "TRADEUL_SCANNER_ADDRESS": f"127.0.0.1:{self.port}",
                "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}",
                "TRADEUL_METRICS_PORT_OFFSET": "0",
            }
        )
        self.host: Host | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.host = Host(ScannerService(self.settings))
        await self.host.start()

    async def stop(self) -> None:
        if self.host is not None:
            await self.host.stop()
            self.host = None


@pytest_asyncio.fixture
async def market() -> AsyncIterator[Market]:
    """30 symbols at 101 to 130 after a close of 100: those from 102 on are gappers."""
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening())
        sequencer.trade({symbol: 101.0 + number for number, symbol in enumerate(SYMBOLS)})
        market = Market(sequencer)
        await market.start()
        ticking = asyncio.create_task(tick(sequencer))
        try:
            yield market
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await market.stop()


async def tick(sequencer: ScriptedSequencer) -> None:
    """A feed that is silent for 10 s is lost, and a market in which nothing happens is stale."""
    while True:
        await asyncio.sleep(1)
        sequencer.send(sequencer.tape.watermark(0.001))


async def until(condition: Callable[[], bool], pilot: Pilot[None]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await pilot.pause(0.02)


def table_text(app: TopApp) -> list[str]:
    table = app.table
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


def line(app: TopApp, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).content)


@contextlib.asynccontextmanager
async def running(
    market: Market, path: Path, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[TopApp, Pilot[None]]]:
    app = TopApp(Client(market.address, ""), [list_sheet(name) for name in LISTS], path / "top.json")
    async with app.run_test(size=size) as pilot:
        yield app, pilot


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_list_is_read_at_a_glance(market: Market, tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    async with running(market, tmp_path, size) as (app, pilot):
        await until(lambda: "live" in line(app, "status") and "market open" in line(app, "status"), pilot)
        lines = table_text(app)
        assert lines[0].split()[:5] == ["#", "symbol", "price", "chg", "%"]
        assert lines[1].split()[:4] == ["1", "S29", "130.00", "+30.00"]
        # Tabs, a heading, the log under its line, the state and the keys: the rest is rows, or there are no more.
        shown = sum(bool(each) for each in lines[1:])
        assert shown == min(29, len(lines) - 1)
        assert len(lines) == height - 7
        assert all(len(each) <= width for each in lines)
        # As many columns as fit.
        assert ("company" in lines[0]) == (width > 100)
        assert line(app, "tabs").startswith("  1 gappers_up  2 losers  3 halts")
        assert "29 rows" in line(app, "status")
        assert len(line(app, "keys").rstrip()) <= width


async def test_every_key_does_its_work(market: Market, tmp_path: Path) -> None:
    async with running(market, tmp_path) as (app, pilot):
        await until(lambda: "S29" in table_text(app)[1], pilot)
        # The columns that did not fit, and back.
        await pilot.press("right", "right")
        assert "price" not in table_text(app)[0] and "vwap" in table_text(app)[0]
        await pilot.press("left", "left")
        # By column, round, and as the list has it.
        await pilot.press("greater_than_sign", "greater_than_sign", "r")
        assert app.sheet.sort_field == "price"
        assert (table_text(app)[0].split()[2], table_text(app)[1].split()[1]) == ("▲", "S01")
        await pilot.press("s")
        assert table_text(app)[1].split()[1] == "S29"
        # The cursor stays on its symbol.
        await pilot.press("down", "down")
        assert app.table.symbol == "S27"
        market.sequencer.trade({"S00": 150.0})
        await pilot.press("enter")
        assert isinstance(app.screen, SymbolScreen)
        assert "prev_close" in str(app.screen.query_one("#facts", Static).content)
        await pilot.press("escape")
        assert app.table.symbol == "S27"
        # Held rows stay.
        await pilot.press("space")
        market.sequencer.trade({"S28": 160.0})
        await until(lambda: app.sheet.waiting > 0, pilot)
        app.draw()
        assert "HELD" in line(app, "status") and "129.00" in table_text(app)[2]
        await pilot.press("space")
        await until(lambda: any("160.00" in each for each in table_text(app)), pilot)
        # Columns, kept for the next time.
        await pilot.press("c")
        assert isinstance(app.screen, ColumnScreen)
        # A letter finds the next field that begins with it.
        await pilot.press("c")
        assert app.screen.query_one(OptionList).highlighted == app.sheet.columns.index("change_percent")
        await pilot.press("space", "escape")
        assert "chg %" not in table_text(app)[0]
        assert "change_percent" not in json.loads((tmp_path / "top.json").read_text())["columns"]["gappers_up"]
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape", "l", "l", "t")
        await pilot.press("tab")
        await until(lambda: "no symbol passes now: change_percent <= -5" in " ".join(table_text(app)), pilot)
        await pilot.press("1")
        await until(lambda: "S29" in table_text(app)[1], pilot)


async def test_filters_and_own_scans_are_typed_in(market: Market, tmp_path: Path) -> None:
    async with running(market, tmp_path) as (app, pilot):
        await until(lambda: "S29" in table_text(app)[1], pilot)
        await pilot.press("slash", *"pric", "space", *"< 105")
        assert app.prompt.hint == "^ unknown field 'pric'; did you mean price?"
        await pilot.press("enter")
        assert app.prompt.display
        await pilot.press(*["left"] * 6, "e")
        await until(lambda: app.prompt.hint.startswith("3 of 29 rows match"), pilot)
        await pilot.press("enter")
        assert [row.symbol for row in app.sheet.rows()] == ["S03", "S02", "S01"]
        assert "3 of 29 rows: price < 105" in line(app, "status")
        await pilot.press("escape")
        assert len(app.sheet.rows()) == 29
        # A word is completed by Tab, the scan's matches are those of the market.
        await pilot.press("n", *"pri", "tab", *" > 127 AND ", *"symb", "tab", *' != "S29"')
        await until(lambda: app.prompt.hint.startswith("2 symbols match"), pilot)
        await pilot.press("enter")
        await until(lambda: app.prompt.display and app.prompt.input.value == "volume_today desc", pilot)
        app.prompt.input.value = "price asc"
        await pilot.press("enter")
        await until(lambda: "S27" in table_text(app)[1] and "S28" in table_text(app)[2], pilot)
        assert "price > 127 AND symbol" in line(app, "tabs")
        market.sequencer.trade({"S27": 90.0, "S05": 140.0})
        await until(lambda: "S05" in line(app, "log") and "S27" in line(app, "log"), pilot)
    # They are there the next time, until they are closed.
    async with running(market, tmp_path) as (app, pilot):
        assert len(app.sheets) == len(LISTS) + 1
        await pilot.press("shift+tab")
        await until(lambda: "S28" in table_text(app)[1], pilot)
        await pilot.press("x")
        assert json.loads((tmp_path / "top.json").read_text())["scans"] == []


async def test_the_log_begins_with_what_was_before(market: Market, tmp_path: Path) -> None:
    async with running(market, tmp_path) as (app, pilot):
        await until(lambda: "S29" in table_text(app)[1], pilot)
        market.sequencer.trade({"S05": 0.4})
        await until(lambda: "- S05" in line(app, "log"), pilot)
        await pilot.press("tab")
    async with running(market, tmp_path) as (app, pilot):
        await until(lambda: "10:00:0" in line(app, "log"), pilot)
        assert [(each.sign, each.row.symbol) for each in app.sheet.log] == [("-", "S05")]
        assert "0.4000" in line(app, "log")


async def test_a_lost_connection_is_said_and_the_rows_stay(market: Market, tmp_path: Path) -> None:
    async with running(market, tmp_path) as (app, pilot):
        await until(lambda: "● live" in line(app, "status"), pilot)
        await market.stop()
        await until(lambda: "not connected, rows of 10:00:00" in line(app, "status"), pilot)
        assert "S29" in table_text(app)[1]
        # Another list, of which there is nothing yet.
        await pilot.press("tab")
        await until(lambda: f"not connected to {market.address}" in table_text(app)[1], pilot)
        await market.start()
        await until(lambda: "● live" in line(app, "status"), pilot)
        await pilot.press("1")
        await until(lambda: "● live" in line(app, "status") and "S29" in table_text(app)[1], pilot)


async def test_lists_of_the_scanner_are_added_and_a_wrong_scan_says_why(market: Market, tmp_path: Path) -> None:
    sheets = [list_sheet("gappers_up"), scan_sheet("prise > 1", "", 10)]
    app = TopApp(Client(market.address, ""), sheets, tmp_path / "top.json", active=1)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "refused: unknown field 'prise'" in " ".join(table_text(app)), pilot)
        await until(lambda: len(app.sheets) == 15, pilot)
        assert app.sheet.name == "prise > 1"


async def test_no_colour_where_none_is_wanted(market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(market, tmp_path) as (app, pilot):
        await until(lambda: "S29" in table_text(app)[1], pilot)
        assert app.no_color
        # Signs say what colours would.
        assert "+30.00" in table_text(app)[1]
        await pilot.press("c")
        assert app.screen.query_one(OptionList).option_count > 70


# --- the command as a process


def command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "services.cli.main", *arguments)


def environment(path: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))}
    return {**kept, "XDG_CONFIG_HOME": str(path), "TERM": "xterm-256color", **settings}


async def output(path: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command(*arguments), env=environment(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_rows_for_pipes(market: Market, tmp_path: Path) -> None:
    where = ("--address", market.address)
    once, as_json, as_csv, none, unknown, wrong, misspelt = await asyncio.gather(
        output(tmp_path, "top", "gappers_up", "--limit", "3", *where),
        output(tmp_path, "top", "gappers_up", "--limit", "2", "--json", "--columns", "price", *where),
        output(
            tmp_path, "query", "price > 127", "--order-by", "price desc", "--csv", "--columns", "price,rvol", *where
        ),
        output(tmp_path, "query", "price > 1000", *where),
        output(tmp_path, "watch", "gapers_up", *where),
        output(tmp_path, "query", "prise > 1", *where),
        output(tmp_path, "query", "price > 1", "--columns", "pricee", *where),
    )
    assert once[0] == 0, once[2]
    assert [each.split()[:3] for each in once[1].splitlines()][1:-1] == [
        ["1", "S29", "130.00"],
        ["2", "S28", "129.00"],
        ["3", "S27", "128.00"],
    ]
    assert [json.loads(each) for each in as_json[1].splitlines()] == [
        {"rank": 1, "symbol": "S29", "price": 130},
        {"rank": 2, "symbol": "S28", "price": 129},
    ]
    assert as_csv[1].splitlines() == ["rank,symbol,price,rvol", "1,S29,130,", "2,S28,129,", "3,S27,128,"]
    assert (none[0], none[2]) == (0, "no symbol matches the filter now\n")
    assert (unknown[0], unknown[2]) == (2, "tradeul: there is no list 'gapers_up'; the nearest is 'gappers_up'\n")
    assert wrong[0] == 2 and "unknown field 'prise' at position 0; did you mean \"price\"?" in wrong[2]
    assert misspelt[0] == 2 and "there is no field 'pricee'; did you mean 'price'?" in misspelt[2]


async def test_changes_for_pipes_outlast_the_scanner_and_end_with_their_reader(market: Market, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("watch", "gappers_up", "--json", "--interval-ms", "0", "--address", market.address),
        env=environment(tmp_path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=2**22,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            snapshot = json.loads(await process.stdout.readline())
            assert (snapshot["type"], snapshot["count"]) == ("snapshot", 29)
            market.sequencer.trade({"S10": 150.0})
            first = json.loads(await process.stdout.readline())
            await market.stop()
            await market.start()
            market.sequencer.trade({"S11": 151.0})
            second = json.loads(await process.stdout.readline())
            assert [first["type"], second["type"]] == ["delta", "delta"]
            assert first["sequence"] == second["previous_sequence"] == snapshot["sequence"] + 1
            # The reader ends while there is nothing to write.
            process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            assert await process.wait() == 141
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@pytest.mark.parametrize("colours", [True, False], ids=["colours", "NO_COLOR"])
async def test_the_command_on_a_terminal_of_80_by_24(market: Market, tmp_path: Path, colours: bool) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *command("top", "gappers_up", "--address", market.address),
        env=environment(tmp_path, NO_COLOR="" if colours else "1"),
        stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    loop, received = asyncio.get_running_loop(), bytearray()
    loop.add_reader(ours, lambda: received.extend(os.read(ours, 65_536)))
    try:
        async with asyncio.timeout(60):
            while b"S29" not in received or b"live" not in received:
                await asyncio.sleep(0.02)
            # Keys that arrive together, as over a slow line, are all of the filter.
            os.write(ours, b"/rvol >= 0 OR price > 127\r")
            while b"3 of 29 rows" not in received:
                await asyncio.sleep(0.02)
            os.write(ours, b"q")
            await process.wait()
        assert process.returncode == 0
        # 30 to 38, 40 to 48 and 90 to 107 are colours; 39 and 49 are the terminal's own.
        codes = {int(code) for found in re.findall(rb"\x1b\[([0-9;]+)m", received) for code in found.split(b";")[:3]}
        assert bool(codes & {*range(30, 39), *range(40, 49), *range(90, 108)}) == colours
        # The screen of before is back.
        assert b"\x1b[?1049l" in received
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
