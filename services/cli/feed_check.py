"""`tradeul check-config --connect`: the vendor's answers to the key and to each subscription.

The vendor takes one connection per key and evicts the older one, so the
answers are those of the mesh that runs here; only without one is a connection opened.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import grpc.aio
from tradeul.v1 import polygon_ws_pb2, polygon_ws_pb2_grpc

from fastcore.feed_decoder import FeedDecoder
from fastcore.feed_elements import Status
from services.kit.rpc.channel import open_channel
from services.kit.runtime.errors import ServiceError, StartError
from services.kit.runtime.settings import Settings
from services.polygon_ws.connection import ANSWER_SECONDS, FeedConnection, FeedState
from services.polygon_ws.vendor_answers import Subscriptions

# A mesh on this machine answers at once or not at all.
MESH_SECONDS: Final = 2.0

FeedStatus = polygon_ws_pb2.FeedStatus


async def check_feed(settings: Settings) -> list[str]:
    """The lines to show; raises StartError when the vendor cannot be reached or refuses everything."""
    status = await _of_the_mesh(settings)
    # A replay has no subscriptions: its feed is a file.
    if status is not None and status.subscriptions:
        return list(_lines_of_the_mesh(status))
    return await _of_the_vendor(settings)


async def _of_the_mesh(settings: Settings) -> FeedStatus | None:
    """Returns the status of a polygon_ws that runs here; None without one."""
    async with open_channel(settings.address("polygon_ws")) as channel:
        stub = polygon_ws_pb2_grpc.PolygonWsServiceStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            status: FeedStatus = await stub.GetFeedStatus(polygon_ws_pb2.GetFeedStatusRequest(), timeout=MESH_SECONDS)
            return status
    return None


def _lines_of_the_mesh(status: FeedStatus) -> Iterator[str]:
    yield f"the mesh that runs here is {FeedStatus.State.Name(status.state)}: {status.detail}"
    refused = status.refused_subscriptions
    for name in status.subscriptions:
        if name in refused:
            yield f"warning: {name} is refused: {refused[name]}"
    for notice in status.notices:
        times = f" ({notice.count} times)" if notice.count > 1 else ""
        yield f"the vendor sent {notice.kind}: {notice.text}{times}"


async def _of_the_vendor(settings: Settings) -> list[str]:
    polygon = settings.polygon
    decoder = FeedDecoder()
    changed = asyncio.Event()
    try:
        subscriptions = Subscriptions(settings.subscriptions)
    except ServiceError as error:
        raise StartError(f"TRADEUL_SUBSCRIPTIONS: {error}") from error

    def take(message: memoryview) -> list[Status]:
        statuses = decoder.decode(message)
        decoder.take()
        changed.set()
        return statuses

    connection = FeedConnection(
        polygon.ws_url, polygon.api_key, subscriptions, take, lambda state, detail: changed.set()
    )
    running = asyncio.create_task(connection.run())
    try:
        # Log-in and subscription each have so long, and single answers may come after the first.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * ANSWER_SECONDS):
                while not _is_answered(connection):
                    changed.clear()
                    await changed.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if connection.state is not FeedState.SUBSCRIBED:
        raise StartError(f"{polygon.ws_url}: {connection.state.name}: {connection.detail}")
    lines = [f"{polygon.ws_url}: the key is accepted"]
    for name in subscriptions.names:
        if name in subscriptions.refused:
            lines.append(f"warning: {name} is refused: {subscriptions.refused[name]}")
        elif name in subscriptions.accepted:
            lines.append(f"{name} is accepted")
        else:
            lines.append(f"warning: {name} was not answered")
    return lines


def _is_answered(connection: FeedConnection) -> bool:
    """True if there is nothing more to wait for."""
    if connection.state is FeedState.SUBSCRIBED:
        return not connection.subscriptions.unanswered
    return connection.state in (FeedState.REFUSED, FeedState.BACKING_OFF)
