"""A thousand streams of one list: a process of its own.

    python -m bench.grpc_clients ADDRESS LIST STREAMS MIN_INTERVAL_MS SECONDS

Prints {"delivered", "seconds", "least", "most"}: deltas of all streams once each has its first, and of the
streams that got fewest and most.
"""

import asyncio
import json
import sys
from typing import Any

import grpc.aio
import uvloop
from tradeul.v1 import scanner_pb2

from services.kit.runtime.clock import monotonic

WATCH = "/tradeul.v1.ScannerService/WatchList"
STREAMS_PER_CHANNEL = 100
# opened, snapshot, current.
BEFORE_DELTAS = 3


async def follow(call: Any, counts: list[int], at: int) -> None:
    async for _ in call:
        counts[at] += 1


async def measure(address: str, name: str, streams: int, min_interval_ms: int, seconds: float) -> dict[str, float]:
    request = scanner_pb2.WatchListRequest(list=name, min_interval_ms=min_interval_ms)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(-(-streams // STREAMS_PER_CHANNEL))]
    counts = [0] * streams
    calls = [
        channels[at // STREAMS_PER_CHANNEL].unary_stream(
            WATCH, request_serializer=scanner_pb2.WatchListRequest.SerializeToString, response_deserializer=None
        )(request)
        for at in range(streams)
    ]
    tasks = [asyncio.create_task(follow(call, counts, at)) for at, call in enumerate(calls)]
    async with asyncio.timeout(120):
        while min(counts) <= BEFORE_DELTAS:
            await asyncio.sleep(0.1)
            if failed := [task for task in tasks if task.done()]:
                failed[0].result()
                raise RuntimeError("a stream ended")
    before, began = list(counts), monotonic()
    await asyncio.sleep(seconds)
    got, took = [now - then for now, then in zip(counts, before, strict=True)], monotonic() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close(None)
    return {"delivered": sum(got), "seconds": took, "least": min(got), "most": max(got)}


def main() -> None:
    address, name, streams, min_interval_ms, seconds = sys.argv[1:]
    result = uvloop.run(measure(address, name, int(streams), int(min_interval_ms), float(seconds)))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
