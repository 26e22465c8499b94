"""RPCs that have come and are not begun yet: those of all clients at once, while a service is busy."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import grpc.aio

from bench.canary import watching
from services.kit.rpc.server import server_options
from tests.support.behind_gateway import behind_gateway
from tests.support.gateway import Gateway
from tests.support.never_reading import grpc_streams

METHOD = "/tradeul.tests.PendingService/Answer"
# gRPC's own limits are 1,000, from which on it ends some, and 3,000, from which on it ends all.
RPCS = 5_000
LONG_ENOUGH_SECONDS = 2.0
# Of one connection, as many as the gateway lets it have.
STREAMS = 100
PATIENCE_SECONDS = 100.0


async def _answer(request: bytes, _: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return request


async def test_none_of_those_that_came_while_the_service_was_busy_is_lost() -> None:
    server = grpc.aio.server(options=server_options())
    handlers = {"Answer": grpc.unary_unary_rpc_method_handler(_answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tradeul.tests.PendingService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            ask = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
            requests = [asyncio.ensure_future(ask(b"%d" % number)) for number in range(RPCS)]
            # Those above go out, and the loop, which is the server's, too, begins none of them meanwhile.
            await asyncio.sleep(0)
            time.sleep(LONG_ENOUGH_SECONDS)  # noqa: ASYNC251  busy
            assert await asyncio.gather(*requests) == [b"%d" % number for number in range(RPCS)]
    finally:
        await server.stop(None)


async def test_all_clients_may_come_to_the_gateway_at_once(tmp_path: Path) -> None:
    """And go at once, while another one misses nothing."""
    async with (
        behind_gateway(tmp_path) as behind,
        Gateway(behind.settings) as gateway,
        watching(gateway.address) as canary,
    ):
        host, _, port = gateway.address.rpartition(":")
        with contextlib.ExitStack() as connections:
            for _ in range(RPCS // STREAMS):
                for connection in grpc_streams(host, int(port), "gappers_up", STREAMS):
                    connections.enter_context(connection)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while behind.scanner.hub.subscribers < RPCS + 1:
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while behind.scanner.hub.subscribers > 1:
                await asyncio.sleep(0.05)
            # It is there, and follows.
            behind.sequencer.trade({"S01": 107.0})
            while not canary.updates:
                await asyncio.sleep(0.05)
