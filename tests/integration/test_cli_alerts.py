"""`tradeul alerts` against the real scanner: the newest ones, and those that follow."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from fastcore.alert_rules import AlertRule
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import Tape

SYMBOLS = ["AA", "BB"]
UP = AlertRule("up", "Up", "grows(price)", quality="change_percent", text="up to {price}")
DOWN = AlertRule("down", "Down", "shrinks(price)", text="down to {price}")


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening(), tape.alert_rules(DOWN, UP), tape.trades(dict.fromkeys(SYMBOLS, 100.0)))
        running.send(tape.watermark())
        yield running


@pytest.fixture
async def scanner(sequencer: ScriptedSequencer) -> AsyncIterator[RunningScanner]:
    async with running_scanner(sequencer) as running:
        await running.until_at(sequencer)
        yield running


async def move(scanner: RunningScanner, sequencer: ScriptedSequencer, prices: Mapping[str, float]) -> None:
    sequencer.send(sequencer.tape.trades(prices), sequencer.tape.watermark(1))
    await scanner.until_at(sequencer)


@asynccontextmanager
async def alerts(address: str, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tradeul alerts`, killed in the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli.main", "alerts", "--address", address, *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=kept,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def printed(scanner: RunningScanner, *options: str) -> tuple[int | None, str, str]:
    """The exit code, output and errors of a command that ends by itself."""
    async with alerts(scanner.address, *options) as process, asyncio.timeout(60):
        out, errors = await process.communicate()
        return process.returncode, out.decode(), errors.decode()


class Wire:
    """Passes bytes on between a server and its clients, until it is cut."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self._target = target.rpartition(":")
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target
        its_reader, its_writer = await asyncio.open_connection(host, int(port))
        self._writers += [writer, its_writer]
        await asyncio.gather(self._pass_on(reader, its_writer), self._pass_on(its_reader, writer))

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def wire_to(target: str) -> AsyncIterator[Wire]:
    wire = Wire(target)
    server = await asyncio.start_server(wire.connect, "127.0.0.1", 0)
    wire.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        wire.cut()
        server.close()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().rstrip("\n")


async def test_the_newest_are_printed_last(scanner: RunningScanner, sequencer: ScriptedSequencer) -> None:
    assert await printed(scanner) == (0, "", "no alerts yet\n")
    for price in (101.0, 102.0, 99.0):
        await move(scanner, sequencer, {"AA": price})
    status, out, _ = await printed(scanner)
    assert status == 0
    assert [text.split()[1:5] for text in out.splitlines()] == [
        ["AA", "up", "101.00", "up"], ["AA", "up", "102.00", "up"], ["AA", "down", "99.00", "down"],
    ]  # fmt: skip
    _, out, _ = await printed(scanner, "--json", "--limit", "2", "--rules", "up")
    found = [json.loads(text) for text in out.splitlines()]
    assert [(alert["sequence"], alert["text"], alert["row"]["price"]) for alert in found] == [
        (1, "up to 101", 101.0),
        (2, "up to 102", 102.0),
    ]
    assert "rank" not in found[0]["row"]


async def test_new_ones_follow_across_a_lost_connection(scanner: RunningScanner, sequencer: ScriptedSequencer) -> None:
    await move(scanner, sequencer, {"AA": 101.0, "BB": 99.0})
    options = ("--follow", "--json", "--filter", "price > 100")
    async with wire_to(scanner.address) as wire, alerts(wire.address, *options) as process:
        assert json.loads(await line(process))["sequence"] == 2
        for expected in (102.0, 103.0):
            await move(scanner, sequencer, {"AA": expected, "BB": 98.0 - expected / 100})
            found = json.loads(await line(process))
            assert (found["symbol"], found["row"]["price"]) == ("AA", expected)
            wire.cut()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


async def test_mistakes_are_named(scanner: RunningScanner) -> None:
    status, _, errors = await printed(scanner, "--rules", "upp")
    assert status == 2 and "upp" in errors and "up" in errors
    status, _, errors = await printed(scanner, "--follow", "--filter", "pric > 1")
    assert status == 2 and "price" in errors
