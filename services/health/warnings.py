"""What services have to say beside their state: what works with less than it should."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc.aio
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, polygon_ws_pb2, polygon_ws_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.runtime.settings import Address

FEED: Final = "polygon_ws"
SEQUENCER: Final = "data_ingest"
ASK_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
# Enough to see what is wrong; GetFeedStatus names all of them.
MAX_WARNINGS: Final = 10

FeedStatus = polygon_ws_pb2.FeedStatus


def feed_warnings(status: FeedStatus) -> list[str]:
    """One sentence for each thing that is less than it should be."""
    found = []
    if status.state != FeedStatus.SUBSCRIBED:
        found.append(f"{FEED}: {FeedStatus.State.Name(status.state)}: {status.detail}")
    refused = sorted(status.refused_subscriptions.items())
    found += [f"{FEED}: the vendor refuses {name}: {reason}" for name, reason in refused[:MAX_WARNINGS]]
    if (more := len(refused) - MAX_WARNINGS) > 0:
        found.append(f"{FEED}: the vendor refuses {more} more subscriptions")
    return found


async def ask_feed(channel: grpc.aio.Channel) -> list[str]:
    stub = polygon_ws_pb2_grpc.PolygonWsServiceStub(channel)
    return feed_warnings(await stub.GetFeedStatus(polygon_ws_pb2.GetFeedStatusRequest(), timeout=ANSWER_SECONDS))


async def ask_sequencer(channel: grpc.aio.Channel) -> list[str]:
    stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
    request = data_ingest_pb2.GetSequencerStatusRequest()
    status = await stub.GetSequencerStatus(request, timeout=ANSWER_SECONDS)
    return [f"{SEQUENCER}: {text}" for text in status.warnings]


ASKED: Final[dict[str, Callable[[grpc.aio.Channel], Awaitable[list[str]]]]] = {
    FEED: ask_feed,
    SEQUENCER: ask_sequencer,
}


async def follow_warnings(name: str, target: Address | str, saw: Callable[[str, Sequence[str]], None]) -> None:
    """Calls `saw(name, warnings)` again and again until cancelled; with none while the service does not answer."""
    async with open_channel(target) as channel:
        while True:
            try:
                saw(name, await ASKED[name](channel))
            except grpc.aio.AioRpcError:
                # That it does not answer its state says.
                saw(name, ())
            await asyncio.sleep(ASK_SECONDS)
