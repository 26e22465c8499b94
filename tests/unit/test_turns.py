"""Answers that take a while are made one at a time, with a part of the event loop's time, and few of them wait."""

import asyncio
import itertools
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from services.kit.runtime.errors import ServiceError
from services.scanner.turns import Turns


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def test_turns_alternate_with_everything_else() -> None:
    """However many come at once, the event loop does something else after each of them."""
    turns, order = Turns(), list[str]()
    count = value("tradeul_turn_seconds_count")

    async def others() -> None:
        while order.count("request") < 4:
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(turns.take(lambda: order.append("request")) for _ in range(4)), others())
    indices = [index for index, name in enumerate(order) if name == "request"]
    assert all(after - before > 1 for before, after in itertools.pairwise(indices)), order
    assert value("tradeul_turn_seconds_count") - count == 4


async def test_the_next_turn_waits_in_proportion_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock and its pauses are replaced: work of 2 s is followed by 4 s for everything else."""
    turns, loop = Turns(pause=2.0), asyncio.get_running_loop()
    now, pauses = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def work(seconds: float) -> Callable[[], None]:
        def pass_time() -> None:
            now[0] += seconds

        return pass_time

    with monkeypatch.context() as patch:
        patch.setattr(type(loop), "time", lambda _: now[0])
        patch.setattr("services.scanner.turns.asyncio.sleep", sleep)
        for seconds in (2.0, 1.0, 0.0, 0.0):
            await turns.take(work(seconds))
    assert pauses == [0.0, 4.0, 2.0, 0.0]


async def test_a_turn_ends_with_what_it_raises() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        await turns.take(lambda: 1 // 0)
    assert await turns.take(lambda: 3) == 3
    assert turns.waiting == 0


async def test_waiting_requests_are_bounded() -> None:
    """Of one key, and of all; a client that has gone makes room."""
    turns, before = Turns(max_waiting=4, max_waiting_of_key=2), value("tradeul_turns_waiting")

    def request(key: str) -> "asyncio.Task[int]":
        return asyncio.create_task(turns.take_counted(lambda: 1, key))

    # Whoever has the turn pauses first.
    turns._next_at = asyncio.get_running_loop().time() + 3600
    waiting = [request("web"), request("web")]
    await asyncio.sleep(0)
    with pytest.raises(ServiceError, match=r"limit reached: 2 requests that wait .* of the key 'web'") as caught:
        await request("web")
    assert (caught.value.reason.name, caught.value.metadata) == ("TOO_MANY_REQUESTS", {"maximum": "2", "key": "web"})
    waiting += [request(""), request("ops")]
    await asyncio.sleep(0)
    assert value("tradeul_turns_waiting") - before == turns.waiting == 4
    with pytest.raises(ServiceError, match=r"limit reached: 4 requests that wait to be answered$"):
        await request("other")
    waiting.pop().cancel()
    await asyncio.sleep(0)
    turns._next_at = 0.0
    waiting[0].cancel()
    assert await turns.take_counted(lambda: 2, "ops") == 2
    assert await asyncio.gather(*waiting[1:]) == [1, 1]
    assert (turns.waiting, value("tradeul_turns_waiting") - before) == (0, 0)
