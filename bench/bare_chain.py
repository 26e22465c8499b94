"""The least that a trade's way can take: processes that pass the vendor's messages on and do nothing else.

    python -m bench.bare_chain vendor WS_URL       takes the vendor's messages and serves them as a gRPC stream
    python -m bench.bare_chain relay ADDRESS       reads such a stream and serves it again

Each prints its port. They use the libraries, the event loop and the processor's turns that the mesh's services use.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

import grpc.aio
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from services.kit.rpc.channel import CHANNEL_OPTIONS
from services.kit.rpc.server import SERVER_OPTIONS
from services.kit.runtime.clock import monotonic
from services.kit.runtime.priority import work_in_short_turns

SERVICE: Final = "bench.BareChain"
METHOD: Final = f"/{SERVICE}/Watch"
READ_BUFFER_BYTES: Final = 256 * 1024
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
LOG_IN: Final = ({"action": "auth", "params": "bench"}, {"action": "subscribe", "params": "T.*"})
TRADES: Final = b'[{"ev":"T"'


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


@asynccontextmanager
async def started(ws_url: str, processes: int) -> AsyncIterator[str]:
    """Runs a chain of so many processes; yields the address of the last one."""

    async def start(stack: AsyncExitStack, *arguments: str) -> str:
        command = (sys.executable, "-m", "bench.bare_chain", *arguments)
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        stack.push_async_callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        if not (line := await process.stdout.readline()):
            raise RuntimeError(f"bench.bare_chain {arguments[0]} ended")
        return f"127.0.0.1:{int(line)}"

    async with AsyncExitStack() as stack:
        address = await start(stack, "vendor", ws_url)
        for _ in range(processes - 1):
            address = await start(stack, "relay", address)
        yield address


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
