"""The least that a trade's way can take: processes that pass the vendor's messages on and do nothing else.

    python -m bench.bare_chain vendor WS_URL       takes the vendor's messages and serves them as a gRPC stream
    python -m bench.bare_chain relay ADDRESS       reads such a stream and serves it again

Each prints its port. They use the libraries, the event loop and the processor's turns that the mesh's services use. The
client may read the last one through an Envoy that only passes requests on, as clients of the mesh do.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, cast

import grpc.aio
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from services.cli.local.gateway import envoy_program
from services.kit.rpc.channel import CHANNEL_OPTIONS
from services.kit.rpc.server import SERVER_OPTIONS
from services.kit.runtime.clock import monotonic
from services.kit.runtime.grpc_io import WITHOUT_EVENT_ENGINE
from services.kit.runtime.priority import work_in_short_turns
from tests.support.mesh import free_ports

SERVICE: Final = "bench.BareChain"
METHOD: Final = f"/{SERVICE}/Watch"
READ_BUFFER_BYTES: Final = 256 * 1024
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
LOG_IN: Final = ({"action": "auth", "params": "bench"}, {"action": "subscribe", "params": "T.*"})
TRADES: Final = b'[{"ev":"T"'
EXTENSIONS: Final = "type.googleapis.com/envoy.extensions"


def _same(data: bytes) -> bytes:
    return data


class Passing:
    """Passes each message to every stream that is open."""

    def __init__(self) -> None:
        self._streams: set[asyncio.Queue[bytes]] = set()

    def send(self, message: bytes) -> None:
        for stream in self._streams:
            stream.put_nowait(message)

    async def watch(self, _: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        stream: asyncio.Queue[bytes] = asyncio.Queue()
        self._streams.add(stream)
        try:
            # The stream is open as soon as its reader has this.
            await context.write(b"opened")
            while True:
                await context.write(await stream.get())
        finally:
            self._streams.discard(stream)

    async def serve(self) -> int:
        """Returns the port, on which it is served until the process ends."""
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        handler = grpc.unary_stream_rpc_method_handler(self.watch, _same, _same)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Watch": handler}),))
        port: int = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port


class Listener(WSListener):
    def __init__(self, passing: Passing) -> None:
        self._passing = passing

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT and (message := frame.get_payload_as_bytes()).startswith(TRADES):
            self._passing.send(message)


async def messages(address: str) -> AsyncIterator[bytes]:
    """The messages of a stream; the first one says that it is open."""
    async with grpc.aio.insecure_channel(address, CHANNEL_OPTIONS) as channel:
        call = channel.unary_stream(METHOD, request_serializer=_same, response_deserializer=_same)(b"")
        async for message in call:
            yield cast("bytes", message)


async def run(role: str, source: str) -> None:
    passing = Passing()
    port = await passing.serve()
    if role == "vendor":
        transport, _ = await ws_connect(
            lambda: Listener(passing),
            source,
            max_frame_size=MAX_FRAME_BYTES,
            read_buffer_init_size=READ_BUFFER_BYTES,
        )
        for request in LOG_IN:
            transport.send(WSMsgType.TEXT, json.dumps(request).encode())
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await transport.wait_disconnected()
    else:
        async for message in messages(source):
            if message == b"opened":
                sys.stdout.write(f"{port}\n")
                sys.stdout.flush()
            else:
                passing.send(message)


def envoy_configuration(port: int, address: str) -> dict[str, Any]:
    """Of an Envoy that passes every request on to `address`, both sides with HTTP/2."""
    host, _, served = address.rpartition(":")
    route = {"match": {"prefix": "/"}, "route": {"cluster": "chain", "timeout": "0s"}}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    upstream = {
        "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _socket_address(host, int(served))}}
    cluster = {
        "name": "chain",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "chain", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": upstream},
    }
    listener = {
        "address": _socket_address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _socket_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


async def until_listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


@asynccontextmanager
async def started(ws_url: str, processes: int, has_envoy: bool) -> AsyncIterator[str]:
    """Runs a chain of so many processes, and Envoy before the client; yields the address that the client reads."""

    async def start(stack: AsyncExitStack, *arguments: str) -> str:
        process = await run_program(stack, sys.executable, "-m", "bench.bare_chain", *arguments)
        assert process.stdout is not None
        if not (line := await process.stdout.readline()):
            raise RuntimeError(f"bench.bare_chain {arguments[0]} ended")
        return f"127.0.0.1:{int(line)}"

    async with AsyncExitStack() as stack:
        address = await start(stack, "vendor", ws_url)
        for _ in range(processes - 1):
            address = await start(stack, "relay", address)
        if has_envoy:
            (port,) = free_ports(1)
            configuration = json.dumps(envoy_configuration(port, address))
            options = ("--config-yaml", configuration, "--concurrency", "1", "--log-level", "error")
            await run_program(stack, envoy_program(), *options, "--use-dynamic-base-id")
            await until_listening(port)
            address = f"127.0.0.1:{port}"
        yield address


async def run_program(stack: AsyncExitStack, *command: str) -> asyncio.subprocess.Process:
    """Runs a program until the stack is closed."""
    # gRPC waits for sockets as in the mesh's services.
    environment = {"GRPC_EXPERIMENTS": WITHOUT_EVENT_ENGINE, **os.environ}
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)
    stack.push_async_callback(process.wait)
    stack.callback(process.kill)
    return process


async def arrivals(address: str, times: list[float], opened: "asyncio.Future[None]") -> None:
    """Adds the time of each message's arrival, until cancelled."""
    async for message in messages(address):
        if message == b"opened":
            opened.set_result(None)
        else:
            times.append(monotonic())


def main() -> None:
    role, source = sys.argv[1:]
    work_in_short_turns()
    uvloop.run(run(role, source))


if __name__ == "__main__":
    main()
