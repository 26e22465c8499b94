"""What the feed has to say beside its state: less than it should get, or nothing at all."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import grpc.aio
from tradeul.v1 import polygon_ws_pb2, polygon_ws_pb2_grpc

from services.kit.channel import open_channel
from services.kit.settings import Address

NAME: Final = "polygon_ws"
ASK_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
# Enough to see what is wrong; GetFeedStatus names all of them.
MAX_WARNINGS: Final = 10

FeedStatus = polygon_ws_pb2.FeedStatus


def warnings_of(status: FeedStatus) -> list[str]:
    """One sentence for each thing that is less than it should be."""
    found = []
    if status.state != FeedStatus.SUBSCRIBED:
        found.append(f"{NAME}: {FeedStatus.State.Name(status.state)}: {status.detail}")
    refused = sorted(status.refused_subscriptions.items())
    found += [f"{NAME}: the vendor refuses {name}: {reason}" for name, reason in refused[:MAX_WARNINGS]]
    if (more := len(refused) - MAX_WARNINGS) > 0:
        found.append(f"{NAME}: the vendor refuses {more} more subscriptions")
    return found


async def follow_feed(target: Address | str, saw: Callable[[Sequence[str]], None]) -> None:
    """Calls `saw` with the feed's warnings again and again until cancelled; none while it does not answer."""
    async with open_channel(target) as channel:
        stub = polygon_ws_pb2_grpc.PolygonWsServiceStub(channel)
        while True:
            try:
                saw(
                    warnings_of(await stub.GetFeedStatus(polygon_ws_pb2.GetFeedStatusRequest(), timeout=ANSWER_SECONDS))
                )
            except grpc.aio.AioRpcError:
                # That it does not answer its state says.
                saw(())
            await asyncio.sleep(ASK_SECONDS)
