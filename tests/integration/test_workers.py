"""Worker processes: whoever stops waiting for one, and however often, leaves none behind."""

import asyncio
import gc
import os

from services.kit.runtime.workers import end_worker, start_worker

# Waits for its input, which never comes.
MODULE = "services.data_ingest.reference.process"


def children() -> set[int]:
    """This process's children that have not been waited for."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


async def test_a_start_that_is_cancelled_twice_leaves_no_child() -> None:
    before = children()
    for turns in range(12):
        starting = asyncio.create_task(start_worker(MODULE, b""))
        # At another point of the start each time, and of the end that follows.
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        (result,) = await asyncio.gather(starting, return_exceptions=True)
        if isinstance(result, asyncio.subprocess.Process):
            # It had begun by then.
            await end_worker(result)
        else:
            assert isinstance(result, asyncio.CancelledError)
        assert children() == before
    # An unclosed transport would warn here, and a warning is an error.
    gc.collect()


async def test_an_end_that_is_cancelled_is_an_end() -> None:
    before = children()
    process = await start_worker(MODULE, b"")
    assert children() > before
    ending = asyncio.create_task(end_worker(process))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.sleep(0)
    ending.cancel()
    (result,) = await asyncio.gather(ending, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError)
    assert process.returncode is not None
    assert children() == before
    gc.collect()
