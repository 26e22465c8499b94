"""The benchmark's vendor, a process of its own: trades encoded beforehand, sent as fast as possible or at an even rate.

It speaks as much of the vendor's protocol as the mesh needs. Commands come on
stdin and answers go to stdout, a line of JSON each:

    burst           sends all bulk trades as fast as they are taken
    pace SECONDS    sends 50,000 trades a second, probes among them

Times are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from bench.workload import DAY, SECOND, Workload, at
from services.kit.runtime.clock import monotonic
from tests.support.vendor_server import VendorServer, text_frame

PER_FRAME = 500
PER_TICK = 250
TICKS_PER_SECOND = 200
# Probes are trades whose prices say which they are; each probe symbol trades ten times a second.
PROBE_SYMBOLS = 20
PROBE_BASE = 1_000
WRITE_AHEAD = 1 << 20


def trade(symbol: str, trade_id: int, price: float, size: int, conditions: str, time_ns: int) -> str:
    return (
        f'{{"ev":"T","sym":"{symbol}","x":4,"i":"{trade_id}","z":3,"p":{price!r},"s":{size},'
        f'"c":[{conditions}],"t":{time_ns // 1_000_000},"q":{trade_id}}}'
    )


def probe_symbols() -> list[str]:
    return [f"ZZ{chr(ord('A') + i)}" for i in range(PROBE_SYMBOLS)]


class Feed:
    """The encoded messages: bulk trades of the benchmark's workload, and paced ones with probes."""

    def __init__(self, symbols: int, bulk: int, paced: int, start: str) -> None:
        self.workload = Workload(symbols, start=start)
        self.symbols = self.workload.symbols + probe_symbols()
        self._next_id = 0
        # Symbols whose history has been requested.
        self.requested: set[str] = set()
        self.counts = np.zeros(len(self.symbols), np.int64)
        self.bulk = [text_frame(part) for part in self._arrays(bulk, PER_FRAME)]
        self.bulk_counts = self.counts.copy()
        self.workload.start_ns = at("10:30:00")
        self.paced = list(self._arrays(paced, PER_TICK))

    def _arrays(self, events: int, per_array: int) -> Iterator[bytes]:
        names = self.workload.symbols
        for batch in self.workload.trades(events // per_array, per_array):
            np.add.at(self.counts, batch.symbol_id, 1)
            parts = []
            for symbol_id, time_ns, price, size, conditions in zip(
                batch.symbol_id.tolist(),
                batch.time_ns.tolist(),
                batch.price.tolist(),
                batch.size.tolist(),
                batch.conditions.tolist(),
                strict=True,
            ):
                self._next_id += 1
                ids = ",".join(str(i) for i in (12, 37) if conditions >> i & 1)
                parts.append(trade(names[symbol_id], self._next_id, price, int(size), ids, time_ns))
            yield f"[{','.join(parts)}]".encode()

    def with_probe(self, tick: int, array: bytes) -> bytes:
        """Tick number `tick` of the paced part, its last trade a probe."""
        self._next_id += 1
        symbol = probe_symbols()[tick % PROBE_SYMBOLS]
        time_ns = at("10:30:00") + tick * (SECOND // TICKS_PER_SECOND)
        probe = trade(symbol, self._next_id, PROBE_BASE + tick / 100, 100, "", time_ns)
        return text_frame(array[:-1] + b"," + probe.encode() + b"]")

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
            closes = [*self.workload.prev_close.tolist(), *[PROBE_BASE / 2.0] * PROBE_SYMBOLS]
            volumes = [*self.workload.avg_volume.tolist(), *[1e6] * PROBE_SYMBOLS]
            return {
                "status": "OK",
                "results": [
                    {"T": s, "o": c, "h": c, "l": c, "c": c, "v": v}
                    for s, c, v in zip(self.symbols, closes, volumes, strict=True)
                ],
            }
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


async def burst(server: VendorServer, frames: list[bytes]) -> dict[str, float]:
    began = monotonic()
    for transport in server.transports():
        for frame in frames:
            transport.write(frame)
            if transport.get_write_buffer_size() > WRITE_AHEAD:
                await drained(transport, WRITE_AHEAD)
        await drained(transport, 0)
    return {"began": began, "sent": monotonic()}


async def pace(server: VendorServer, feed: Feed, first_tick: int, ticks: int) -> dict[str, Any]:
    """Sends one array every 5 ms; a late one is sent immediately, so that the rate holds."""
    frames = [feed.with_probe(first_tick + i, array) for i, array in enumerate(feed.paced[:ticks])]
    del feed.paced[:ticks]
    (transport,) = server.transports()
    sent = []
    began = monotonic()
    for index, frame in enumerate(frames):
        if (pause := began + index / TICKS_PER_SECOND - monotonic()) > 0:
            await asyncio.sleep(pause)
        sent.append(monotonic())
        transport.write(frame)
    await drained(transport, 0)
    return {"first_tick": first_tick, "sent": sent, "ended": monotonic()}


async def serve(symbols: int, bulk: int, paced_seconds: int) -> None:
    feed = Feed(symbols, bulk, paced_seconds * TICKS_PER_SECOND * PER_TICK, "09:45:00")
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with VendorServer(feed.rest) as server:
        counts = dict(zip(feed.symbols, feed.bulk_counts.tolist(), strict=True))
        answer({"ws_url": server.ws_url, "rest_url": server.rest_url, "counts": counts, "bulk": bulk})
        tick = 0
        while line := (await commands.readline()).decode().split():
            if line[0] == "requested":
                answer({"share": len(feed.requested) / len(feed.symbols)})
            elif line[0] == "burst":
                answer(await burst(server, feed.bulk))
            elif line[0] == "pace":
                ticks = int(line[1]) * TICKS_PER_SECOND
                answer(await pace(server, feed, tick, ticks))
                tick += ticks


def answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@click.command()
@click.option("--symbols", type=int, default=12_000)
@click.option("--bulk", type=int, default=2_000_000)
@click.option("--paced-seconds", type=int, default=25)
def main(symbols: int, bulk: int, paced_seconds: int) -> None:
    """The benchmark's vendor."""
    asyncio.run(serve(symbols, bulk, paced_seconds))


if __name__ == "__main__":
    main()
