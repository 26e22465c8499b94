"""Large messages of all streams go one after another at a bounded pace, and small ones wait for none of them."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.scanner.large_messages import LARGE_BYTES, LargeMessages

LARGE = b"x" * LARGE_BYTES
SMALL = LARGE[1:]


async def stream(*messages: bytes) -> AsyncGenerator[bytes, None]:
    for message in messages:
        yield message


async def test_large_ones_are_paced_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock and its pauses are replaced. Small ones cost nothing, and what was not used is not saved up."""
    loop, now, pauses = asyncio.get_running_loop(), [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    large = LargeMessages(bytes_per_second=LARGE_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(type(loop), "time", lambda _: now[0])
        patch.setattr("services.scanner.large_messages.asyncio.sleep", sleep)
        sent = [message async for message in large.messages(stream(SMALL, LARGE, SMALL, LARGE, LARGE * 2, SMALL))]
        assert sent == [SMALL, LARGE, SMALL, LARGE, LARGE * 2, SMALL]
        assert pauses == [1.0, 1.0]
        now[0] += 60.0
        assert [len(message) async for message in large.messages(stream(LARGE, LARGE))] == [LARGE_BYTES] * 2
        assert pauses == [1.0, 1.0, 1.0]


async def test_small_ones_overtake_large_ones_of_other_streams() -> None:
    large = LargeMessages(bytes_per_second=1.0)
    assert await anext(large.messages(stream(LARGE))) == LARGE
    waiting = asyncio.create_task(anext(large.messages(stream(LARGE))))
    await asyncio.sleep(0)
    assert [message async for message in large.messages(stream(SMALL, SMALL))] == [SMALL, SMALL]
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_the_stream_is_closed_with_its_reader() -> None:
    closed = list[bool]()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield SMALL
        finally:
            closed.append(True)

    messages = LargeMessages().messages(endless())
    assert await anext(messages) == SMALL
    await messages.aclose()
    assert closed == [True]
