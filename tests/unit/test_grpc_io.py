"""Messages take the shortest way through gRPC's threads."""

import os
import subprocess
import sys

MESSAGES = 1000
# Prints how often threads of the event engine waited while so many messages went there and back.
EXCHANGES = f"""
import asyncio
from pathlib import Path

from services.kit.runtime.grpc_io import wait_in_one_thread

wait_in_one_thread()
import grpc.aio
import uvloop


async def echo(requests, context):
    async for request in requests:
        yield request


def waits():
    found = 0
    for task in Path("/proc/self/task").iterdir():
        status = (task / "status").read_text()
        if status.startswith("Name:\\tevent_engine"):
            found += int(status.partition("\\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


async def main():
    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Echo", {{"Echo": method}})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        call = channel.stream_stream("/Echo/Echo")()
        for _ in range({MESSAGES}):
            await call.write(b"message")
            await call.read()
        print(waits())
        await call.done_writing()
    await server.stop(None)


uvloop.run(main())
"""


def exchanged(**environment: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    return subprocess.run(
        [sys.executable, "-c", EXCHANGES],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**ours, **environment},
    )


def test_messages_do_not_pass_through_the_event_engine() -> None:
    process = exchanged()
    assert "Unknown experiment" not in process.stderr
    # With it they wait some six times for each message and its answer.
    assert int(process.stdout) < MESSAGES


def test_the_environment_decides() -> None:
    assert int(exchanged(GRPC_EXPERIMENTS="event_engine_client,event_engine_listener").stdout) > MESSAGES
