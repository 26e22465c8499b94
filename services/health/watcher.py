"""Follows one service: its state, by a watch of grpc.health.v1 or else by polling /readyz, and its warnings."""

import asyncio
import contextlib
import json
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, polygon_ws_pb2, polygon_ws_pb2_grpc

from services.health.core import NOT_SERVING, SERVING, UNREACHABLE
from services.kit.rpc.channel import open_channel
from services.kit.rpc.sequencers import Sequencers, SequencerTarget
from services.kit.rpc.server import WARNING
from services.kit.runtime.clock import monotonic
from services.kit.runtime.http_probe import http_answer
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

# Pause before a watch that was refused is tried again.
PAUSE_SECONDS: Final = 1.0
# Interval of polling warnings, and a service without gRPC.
POLL_SECONDS: Final = 2.0
FEED: Final = "polygon_ws"
SEQUENCER: Final = "data_ingest"
ANSWER_SECONDS: Final = 2.0
# With a question under way at its end, a hung service is UNREACHABLE within 15 s.
SILENT_SECONDS: Final = 9.0
# Enough to see the cause; GetFeedStatus has all of them.
MAX_WARNINGS: Final = 10

FeedStatus = polygon_ws_pb2.FeedStatus


OnChange = Callable[[str, str], None]
OnWarnings = Callable[[str, Sequence[str]], None]


async def watch(name: str, target: Address | str, on_change: OnChange, on_warnings: OnWarnings) -> None:
    """Calls `on_change(name, state)` with every state that the service at `target` reports, until cancelled.

    `on_warnings` gets what is degraded in its process, if anything is.

    A connection that is lost means UNREACHABLE, and so does a service that answers no question for
    SILENT_SECONDS, whose connection may stay open for minutes. The channel looks for the service again by itself.
    """
    async with open_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            answers = _Answers()
            following = asyncio.create_task(_follow(name, stub, answers, on_change), name=f"health.{name}.states")
            asking = asyncio.create_task(_until_silent(name, stub, answers, on_warnings), name=f"health.{name}.answers")
            try:
                done, _ = await asyncio.wait({following, asking}, return_when=asyncio.FIRST_COMPLETED)
                why = "it does not answer" if asking in done else following.result()
            finally:
                for task in (following, asking):
                    task.cancel()
                await asyncio.gather(following, asking, return_exceptions=True)
            log.debug("watch ended", name=name, reason=why)
            on_change(name, UNREACHABLE)
            on_warnings(name, ())
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.25, 1.0))


class _Answers:
    """When a service has last said anything, by the monotonic clock; it is not silent before the first time."""

    def __init__(self) -> None:
        self.last_at = math.inf


async def _follow(name: str, stub: health_pb2_grpc.HealthStub, answers: _Answers, on_change: OnChange) -> str:
    """Follows one watch to its end, and returns the reason."""
    call = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    try:
        async for response in call:
            answers.last_at = monotonic()
            on_change(name, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    finally:
        call.cancel()
    return "the service ended the stream"


async def _until_silent(
    name: str, stub: health_pb2_grpc.HealthStub, answers: _Answers, on_warnings: OnWarnings
) -> None:
    """Asks again and again; returns when a service that has said something has not done so for SILENT_SECONDS."""
    while monotonic() - answers.last_at < SILENT_SECONDS:
        try:
            check = stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=ANSWER_SECONDS)
            await check
            answers.last_at = monotonic()
            on_warnings(name, [f"{name}: {text}" for text in await process_warnings(check)])
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                # That is an answer, or the end of the connection, which the watch sees, too.
                answers.last_at = math.inf
        await asyncio.sleep(POLL_SECONDS)


async def process_warnings(check: Any) -> list[str]:
    """Returns what is degraded in a service's process, by its answer to a health check."""
    metadata = await check.trailing_metadata()
    return [str(value) for key, value in metadata or () if key == WARNING]


async def poll(name: str, target: Address, on_change: OnChange, on_warnings: OnWarnings) -> None:
    """Calls `on_change(name, state)` repeatedly until cancelled, with the state by the service's /readyz.

    `on_warnings` as for watch().
    """
    while True:
        answer = await http_answer(target, "/readyz")
        if answer is None:
            on_change(name, UNREACHABLE)
        else:
            on_change(name, SERVING if answer.status == HTTPStatus.OK else NOT_SERVING)
        on_warnings(name, [] if answer is None else readiness_warnings(name, answer.body))
        await asyncio.sleep(POLL_SECONDS)


def readiness_warnings(name: str, body: bytes) -> list[str]:
    """Returns the warning in the answer of /readyz; none for one that is not ours."""
    with contextlib.suppress(ValueError):
        match json.loads(body):
            case {"warning": str(warning)}:
                return [f"{name}: {warning}"]
    return []


def feed_warnings(status: FeedStatus) -> list[str]:
    """Returns a sentence for each subscription that is refused, and one when the feed is not subscribed."""
    found = []
    if status.state != FeedStatus.SUBSCRIBED:
        found.append(f"{FEED}: {FeedStatus.State.Name(status.state)}: {status.detail}")
    refused = sorted(status.refused_subscriptions.items())
    found += [f"{FEED}: the vendor refuses {name}: {reason}" for name, reason in refused[:MAX_WARNINGS]]
    if (more := len(refused) - MAX_WARNINGS) > 0:
        found.append(f"{FEED}: the vendor refuses {more} more subscriptions")
    return found


async def poll_feed(channel: grpc.aio.Channel) -> list[str]:
    stub = polygon_ws_pb2_grpc.PolygonWsServiceStub(channel)
    return feed_warnings(await stub.GetFeedStatus(polygon_ws_pb2.GetFeedStatusRequest(), timeout=ANSWER_SECONDS))


async def poll_sequencer(channel: grpc.aio.Channel) -> list[str]:
    stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
    request = data_ingest_pb2.GetSequencerStatusRequest()
    status = await stub.GetSequencerStatus(request, timeout=ANSWER_SECONDS)
    return [f"{SEQUENCER}: {text}" for text in status.warnings]


SOURCES: Final[dict[str, Callable[[grpc.aio.Channel], Awaitable[list[str]]]]] = {
    FEED: poll_feed,
    SEQUENCER: poll_sequencer,
}


async def follow_warnings(name: str, target: SequencerTarget, on_change: OnWarnings) -> None:
    """Calls `on_change(name, warnings)` repeatedly until cancelled; with none while the service does not answer.

    `target`: its address, or those of several of which one answers.
    """
    async with Sequencers(target) as sequencers:
        while True:
            try:
                on_change(name, await SOURCES[name](sequencers.channel))
            except grpc.aio.AioRpcError:
                # Its state shows that it does not answer.
                on_change(name, ())
                sequencers.next()
            await asyncio.sleep(POLL_SECONDS)
