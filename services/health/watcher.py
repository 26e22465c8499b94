"""Follows one service's state: told of changes by grpc.health.v1; a service without gRPC is asked."""

import asyncio
import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.health.core import NOT_SERVING, SERVING, UNREACHABLE
from services.kit.rpc.channel import open_channel
from services.kit.runtime.http_probe import http_status
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

# A server that refuses to be watched is asked again after so long.
PAUSE_SECONDS: Final = 1.0
# How often a service without gRPC is asked.
ASK_SECONDS: Final = 2.0


async def watch(name: str, target: Address | str, saw: Callable[[str, str], None]) -> None:
    """Calls `saw(name, state)` with every state that the service at `target` tells, until cancelled.

    A connection that is lost means UNREACHABLE; the channel looks for the service
    again by itself, and its keep-alive notices one that hangs.
    """
    async with open_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            call = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            try:
                async for response in call:
                    saw(name, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
                why = "the service ended the stream"
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
            finally:
                call.cancel()
            log.debug("watch ended", name=name, reason=why)
            saw(name, UNREACHABLE)
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.25, 1.0))


async def ask(name: str, target: Address, saw: Callable[[str, str], None]) -> None:
    """Calls `saw(name, state)` with what /readyz of a service without gRPC says, again and again until cancelled."""
    while True:
        status = await http_status(target.host, target.port, "/readyz")
        saw(name, UNREACHABLE if status is None else SERVING if status == HTTPStatus.OK else NOT_SERVING)
        await asyncio.sleep(ASK_SECONDS)
