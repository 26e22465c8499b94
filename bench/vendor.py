"""The benchmark's vendor, a process of its own: trades encoded beforehand, sent as fast as possible or at an even rate.

It speaks as much of the vendor's protocol as the mesh needs. Commands come on
stdin and answers go to stdout, a line of JSON each:

    requested              which share of the symbols' history has been requested
    pace loading SECONDS   sends 50,000 trades a second, 200 probes among them, of the time before the bulk
    burst                  sends all bulk trades as fast as they are taken
    pace loaded SECONDS    the same of the time after the bulk; a third word is another number of trades a second
    pace bare SECONDS      sends the next ones to the client that came last, without probes; they are sent again later
    probes SECONDS RATE    sends nothing but so many probes a second
    endless RATE           begins to send so many trades a second, 200 probes among them, and minute bars
    sent                   the times of those probes that were sent since the last time, and the number of all trades
    stop                   ends that with a probe of two minutes later, after which all minutes of the others are over:
                           how many trades and shares each symbol has had


Times are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from bench.endless_trades import TICKS_PER_SECOND, EndlessTrades
from bench.workload import DAY, SECOND, Workload, at, trade_json, trades_json
from services.kit.runtime.clock import monotonic
from tests.support.vendor_server import VendorServer, text_frame

PER_FRAME = 500
# Paced trades are encoded in pieces, of which a tick has as many as the rate wants: five for 50,000 a second.
PER_PIECE = 50
PER_SECOND = 50_000
# Probes are trades whose prices say which they are; each probe symbol trades ten times a second.
PROBE_SYMBOLS = 20
# Above the prices of all others: who watches for probes takes the highest price for the newest one.
PROBE_BASE = 10_000
WRITE_AHEAD = 1 << 20
# The market's time at which each kind of trades begins.
BULK_START = "09:45:00"
STARTS = {"loading": "09:40:00", "loaded": "10:30:00"}
# After whatever has been sent before; by a second, which trades may be late, after the beginning of a minute.
ENDLESS_START = "10:35:01"


def piece_time(phase: str, piece: int) -> int:
    """The market's time of a phase's piece number `piece`, in ns."""
    return at(STARTS[phase]) + piece * PER_PIECE * (SECOND // PER_SECOND)


def probe_symbols() -> list[str]:
    return [f"ZZ{chr(ord('A') + i)}" for i in range(PROBE_SYMBOLS)]


class Feed:
    """The encoded messages: bulk trades of the benchmark's workload, and paced ones with probes before and after."""

    def __init__(self, symbols: int, bulk: int, loading_seconds: int, loaded_seconds: int) -> None:
        self.workload = Workload(symbols, start=STARTS["loading"])
        if (highest := self.workload.level.max() * 2) >= PROBE_BASE:
            raise ValueError(f"expected prices below {PROBE_BASE}, which are the probes', was up to {highest}")
        self.symbols = self.workload.symbols + probe_symbols()
        # A day's bars, the same for each: to put them together while the mesh requests a year of them would keep the
        # trades waiting, which are sent from the same process.
        self._bars = json.dumps(self._grouped()).encode()
        self._next_id = 0
        # Symbols whose history has been requested.
        self.requested: set[str] = set()
        self.counts = np.zeros(len(self.symbols), np.int64)
        self.tick = 0
        self.bare: list[bytes] = []
        self._probe_ns = 0
        self._sent_pieces = dict.fromkeys(STARTS, 0)
        self.paced = {"loading": list(self._arrays(loading_seconds * PER_SECOND, PER_PIECE))}
        for tick in range(loading_seconds * TICKS_PER_SECOND):
            self.counts[symbols + tick % PROBE_SYMBOLS] += 1
        self.workload.start_ns = at(BULK_START)
        self.bulk = [text_frame(part + b"]") for part in self._arrays(bulk, PER_FRAME)]
        # What the busiest symbols have traded once the bulk is through.
        self.bulk_counts = self.counts.copy()
        self.workload.start_ns = at(STARTS["loaded"])
        self.paced["loaded"] = list(self._arrays(loaded_seconds * PER_SECOND, PER_PIECE))

    def _arrays(self, events: int, per_array: int) -> Iterator[bytes]:
        """Arrays of so many trades, without their ends."""
        for batch in self.workload.trades(events // PER_FRAME, PER_FRAME):
            np.add.at(self.counts, batch.symbol_id, 1)
            parts = trades_json(batch, self.workload.symbols, self._next_id + 1)
            self._next_id += len(parts)
            for first in range(0, len(parts), per_array):
                yield f"[{','.join(parts[first : first + per_array])}".encode()

    def probe(self, time_ns: int) -> bytes:
        """The next probe, a trade at a higher price than the one before, and later even where there is none between."""
        self._next_id += 1
        self._probe_ns = time_ns = max(time_ns, self._probe_ns + SECOND // 1000)
        symbol, price = probe_symbols()[self.tick % PROBE_SYMBOLS], PROBE_BASE + self.tick / 100
        self.tick += 1
        return trade_json(symbol, self._next_id, price, 100, "", time_ns).encode()

    def ticks(self, phase: str, seconds: int, per_second: int) -> list[bytes]:
        """The next trades of a phase: an array without its end for each tick."""
        pieces, left = per_second // TICKS_PER_SECOND // PER_PIECE, self.paced[phase]
        if len(left) < (needed := seconds * TICKS_PER_SECOND * pieces):
            raise ValueError(f"expected {needed} pieces of trades, was {len(left)}")
        return [
            b",".join([left[first], *(piece[1:] for piece in left[first + 1 : first + pieces])])
            for first in range(0, needed, pieces)
        ]

    def with_probes(self, phase: str, seconds: int, per_second: int) -> list[bytes]:
        """The next ticks of a phase as frames, the last trade of each a probe."""
        ticks = self.ticks(phase, seconds, per_second)
        pieces, begun = per_second // TICKS_PER_SECOND // PER_PIECE, self._sent_pieces[phase]
        del self.paced[phase][: len(ticks) * pieces]
        self._sent_pieces[phase] += len(ticks) * pieces
        return [
            text_frame(tick + b"," + self.probe(piece_time(phase, begun + index * pieces)) + b"]")
            for index, tick in enumerate(ticks)
        ]

    def only_probes(self, count: int) -> list[bytes]:
        """Probes as frames, at the time of the next trades."""
        return [
            text_frame(b"[" + self.probe(piece_time("loaded", self._sent_pieces["loaded"])) + b"]")
            for _ in range(count)
        ]

    def _grouped(self) -> dict[str, Any]:
        closes = [*self.workload.prev_close.tolist(), *[PROBE_BASE / 2.0] * PROBE_SYMBOLS]
        volumes = [*self.workload.avg_volume.tolist(), *[1e6] * PROBE_SYMBOLS]
        rows = zip(self.symbols, closes, volumes, strict=True)
        return {
            "status": "OK",
            "results": [{"T": s, "o": c, "h": c, "l": c, "c": c, "v": v} for s, c, v in rows],
        }

    def rest(self, path: str, query: dict[str, str]) -> Any:
        """The vendor's REST as far as the sequencer asks: names and previous closes, no more."""
        if path == "/v1/marketstatus/now":
            return {"serverTime": f"{DAY}T09:45:00-04:00", "market": "open"}
        if path == "/v1/marketstatus/upcoming":
            return []
        if path == "/v3/reference/tickers":
            results = [{"ticker": s, "name": s, "primary_exchange": "XNAS", "type": "CS", "active": True}
                       for s in self.symbols]  # fmt: skip
            return {"status": "OK", "results": results, "count": len(results)}
        if path.startswith("/v2/aggs/grouped/"):
            return self._bars
        if path.startswith("/v2/aggs/ticker/"):
            self.requested.add(path.split("/")[4])
            return {"status": "OK", "results": []}
        if path.startswith("/v2/snapshot/"):
            return {"status": "OK", "tickers": []}
        if path.startswith("/v3/reference/tickers/"):
            return {"status": "OK", "results": {"ticker": path.rpartition("/")[2]}}
        return {"status": "OK", "results": []}


async def drained(transport: asyncio.WriteTransport, below: int) -> None:
    """Waits until at most `below` bytes are left to write; a transport has no event for it."""
    while transport.get_write_buffer_size() > below:
        await asyncio.sleep(0.0005)


async def burst(transport: asyncio.WriteTransport, frames: list[bytes]) -> dict[str, float]:
    began = monotonic()
    for frame in frames:
        transport.write(frame)
        if transport.get_write_buffer_size() > WRITE_AHEAD:
            await drained(transport, WRITE_AHEAD)
    await drained(transport, 0)
    return {"began": began, "sent": monotonic()}


async def pace(transport: asyncio.WriteTransport, frames: list[bytes], per_second: float) -> dict[str, Any]:
    """Sends the frames at an even rate; a late one is sent immediately, so that the rate holds."""
    sent = []
    began = monotonic()
    for index, frame in enumerate(frames):
        if (pause := began + index / per_second - monotonic()) > 0:
            await asyncio.sleep(pause)
        sent.append(monotonic())
        transport.write(frame)
    await drained(transport, 0)
    return {"sent": sent, "ended": monotonic()}


class Clients:
    """The mesh, which comes first, and what is measured beside it for a while."""

    def __init__(self, server: VendorServer) -> None:
        self._server = server
        self._mesh: asyncio.WriteTransport | None = None

    @property
    def mesh(self) -> asyncio.WriteTransport:
        if self._mesh is None:
            (self._mesh,) = self._server.transports()
        return self._mesh

    @property
    def other(self) -> asyncio.WriteTransport:
        (transport,) = (each for each in self._server.transports() if each is not self.mesh)
        return transport


async def paced(clients: Clients, feed: Feed, phase: str, seconds: int, per_second: int) -> dict[str, Any]:
    first = feed.tick
    if phase == "bare":
        # The same ones each time.
        feed.bare = feed.bare or [text_frame(tick + b"]") for tick in feed.ticks("loaded", seconds, per_second)]
        return await pace(clients.other, feed.bare, TICKS_PER_SECOND)
    frames = feed.with_probes(phase, seconds, per_second)
    return {"first_tick": first} | await pace(clients.mesh, frames, TICKS_PER_SECOND)


async def probes(clients: Clients, feed: Feed, seconds: float, per_second: float) -> dict[str, Any]:
    first = feed.tick
    return {"first_tick": first} | await pace(clients.mesh, feed.only_probes(round(seconds * per_second)), per_second)


class Endless:
    """Trades that are sent until they are stopped, with the next probe after each tick of them, and minute bars."""

    def __init__(self, feed: Feed, per_second: int) -> None:
        feed.workload.start_ns = at(ENDLESS_START)
        self._feed = feed
        self._trades = EndlessTrades(feed.workload, per_second)
        # With those that ended a silence before.
        self._probes = np.bincount(np.arange(feed.tick) % PROBE_SYMBOLS, minlength=PROBE_SYMBOLS)
        self._first = feed.tick
        self._sent: list[float] = []

    async def run(self, transport: asyncio.WriteTransport) -> None:
        """Sends at an even rate until cancelled; what is late is sent immediately."""
        began = monotonic()
        for index in itertools.count():
            await asyncio.sleep(max(0.0, began + index / TICKS_PER_SECOND - monotonic()))
            probe = self._probe(self._trades.now_ns)
            self._sent.append(monotonic())
            transport.write(self._trades.frame() + probe + self._trades.bars())
            # A mesh that cannot keep up is sent fewer.
            await drained(transport, WRITE_AHEAD)

    def last(self) -> bytes:
        """A probe so much later that the minutes before it are over."""
        return self._probe(self._trades.now_ns + 120 * SECOND)

    def _probe(self, time_ns: int) -> bytes:
        self._probes[self._feed.tick % PROBE_SYMBOLS] += 1
        return text_frame(b"[" + self._feed.probe(time_ns) + b"]")

    def take_sent(self) -> dict[str, Any]:
        """Returns and forgets when probes were sent; and how many trades were in all, with these."""
        first, sent = self._first, self._sent
        self._first, self._sent = first + len(sent), []
        return {"first_tick": first, "sent": sent, "trades": self._trades.trades + int(self._probes.sum())}

    def totals(self) -> dict[str, Any]:
        """How many trades of each symbol were sent, and the shares that bars have, but for the probes'."""
        counts = [*self._trades.counts.tolist(), *self._probes.tolist()]
        return {
            "counts": dict(zip(self._feed.symbols, counts, strict=True)),
            "volumes": dict(zip(self._feed.workload.symbols, self._trades.volumes_in_bars.tolist(), strict=True)),
        }


async def serve(symbols: int, bulk: int, loading_seconds: int, paced_seconds: int) -> None:
    feed = Feed(symbols, bulk, loading_seconds, paced_seconds)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with VendorServer(feed.rest) as server:
        counts = dict(zip(feed.symbols, feed.bulk_counts.tolist(), strict=True))
        answer({"ws_url": server.ws_url, "rest_url": server.rest_url, "counts": counts})
        clients = Clients(server)
        endless = sending = None
        while line := (await commands.readline()).decode().split():
            if line[0] == "requested":
                answer({"share": len(feed.requested) / len(feed.symbols)})
            elif line[0] == "burst":
                answer(await burst(clients.mesh, feed.bulk))
            elif line[0] == "pace":
                per_second = int(line[3]) if line[3:] else PER_SECOND
                answer(await paced(clients, feed, line[1], int(line[2]), per_second))
            elif line[0] == "probes":
                answer(await probes(clients, feed, float(line[1]), float(line[2])))
            elif line[0] == "endless":
                endless = Endless(feed, int(line[1]))
                sending = asyncio.create_task(endless.run(clients.mesh))
                answer({})
            elif line[0] == "sent" and endless is not None:
                answer(endless.take_sent())
            elif line[0] == "stop" and endless is not None and sending is not None:
                sending.cancel()
                await asyncio.wait({sending})
                clients.mesh.write(endless.last())
                await drained(clients.mesh, 0)
                answer(endless.totals())


def answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@click.command()
@click.option("--symbols", type=int, default=12_000)
@click.option("--bulk", type=int, default=2_000_000)
@click.option("--loading-seconds", type=int, default=0)
@click.option("--paced-seconds", type=int, default=25)
def main(symbols: int, bulk: int, loading_seconds: int, paced_seconds: int) -> None:
    """The benchmark's vendor."""
    asyncio.run(serve(symbols, bulk, loading_seconds, paced_seconds))


if __name__ == "__main__":
    main()
