"""Programs that are started while gRPC's threads run in the process that starts them."""

import contextlib
import os
import signal
import subprocess
import sys

# The child allocates until a collection is due, as Python's own handlers of a fork may; by then there is a channel that
# only a collection ends.
STARTS_PROGRAMS = """
import asyncio
import gc
import os

from services.kit.runtime.forks import prepare_for_forks

prepare_for_forks()
import grpc.aio
import uvloop


def allocate():
    gc.set_threshold(1, 1, 1)
    kept.extend([] for _ in range(1000))


kept = []
os.register_at_fork(after_in_child=allocate)


async def main():
    gc.set_threshold(1_000_000)
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    cycle = [channel]
    cycle.append(cycle)
    del channel, cycle
    process = await asyncio.create_subprocess_exec("true")
    print(await process.wait(), gc.isenabled())


uvloop.run(main())
"""


def test_a_program_starts_although_the_fork_leaves_garbage_of_grpc() -> None:
    """Where the child collects it, neither that nor the process that starts it goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS_PROGRAMS], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=60)
        assert output.strip() == "0 True"
    finally:
        # With a child that is no program yet.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
