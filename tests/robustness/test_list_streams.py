"""List clients under a sequencer that loses frames, hangs up, resets and restarts: every copy ends up exact."""

import asyncio
import contextlib
import random

import pytest
from tradeul.v1 import scanner_pb2, stream_pb2

from services.kit.lists.list_client import ListCopy, follow_list
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import Response, ScriptedSequencer
from tests.support.tape import EPOCH, Tape

SYMBOLS = [f"S{i:02}" for i in range(60)]
LISTS = ("filtered", "gappers_up", "new_highs")
STEPS = 250


class Client:
    """Follows one list, and now and then hangs up and comes back with what it has."""

    def __init__(self, seed: int, address: str) -> None:
        self._rng = random.Random(seed)
        self.list = self._rng.choice(LISTS)
        interval = self._rng.choice((0, 0, 5, 40))
        only = self._rng.random() < 0.5
        self._request = scanner_pb2.WatchListRequest(list=self.list, min_interval_ms=interval, changed_fields_only=only)
        self._address = address
        self.copy = ListCopy()

    async def run(self) -> None:
        while True:
            updates = self._rng.randint(1, 60)
            async with contextlib.aclosing(follow_list(self._address, self._request, self.copy)) as copies:
                async for copy in copies:
                    ranks = [row.rank for row in copy.rows()]
                    assert ranks == list(range(1, len(ranks) + 1))
                    updates -= 1
                    if updates == 0:
                        break


async def do_something(rng: random.Random, sequencer: ScriptedSequencer) -> None:
    """Mostly trades; sometimes trouble."""
    prices = {symbol: round(rng.uniform(95, 110), 2) for symbol in rng.sample(SYMBOLS, rng.randint(1, 12))}
    trouble = rng.random()
    if trouble < 0.04:
        sequencer.is_lossy = True
        sequencer.trade(prices, rng.choice((0.05, 12.0)))
        sequencer.is_lossy = False
    elif trouble < 0.07:
        sequencer.hang_up()
    elif trouble < 0.10:
        sequencer.say_snapshot()
    elif trouble < 0.12:
        sequencer.forget_before(sequencer.market.sequence + 1)
        sequencer.hang_up()
    elif trouble < 0.13:
        await sequencer.die()
        tape = Tape(SYMBOLS, epoch=sequencer.tape.epoch + 1)
        await sequencer.start(tape)
        sequencer.send(*tape.opening())
    elif trouble < 0.15:
        goodbye = stream_pb2.StreamGoingAway(position=sequencer.position, reason="a pause")
        sequencer.say(Response(going_away=goodbye))
    else:
        sequencer.trade(prices, rng.choice((0.0, 0.05, 3.0)))


async def until_equal(client: Client, scanner: RunningScanner) -> None:
    """Waits until the client stands where the list does; then it must have the same rows."""
    while True:
        answer = await scanner.get(client.list)
        if (client.copy.epoch, client.copy.sequence) == (answer.epoch, answer.sequence):
            assert client.copy.rows() == list(answer.rows)
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(3))
async def test_every_copy_is_exact_in_the_end(seed: int) -> None:
    rng = random.Random(seed)
    tape = Tape(SYMBOLS, epoch=EPOCH)
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening())
        async with running_scanner(sequencer, max_held=rng.choice((5, 40, 4096))) as scanner:
            clients = [Client(seed * 100 + i, scanner.address) for i in range(10)]
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(client.run()) for client in clients]
                # On a busy machine many changes come as one, or as a snapshot.
                steps = 0
                while steps < STEPS or sum(client.copy.deltas for client in clients) <= 100:
                    steps += 1
                    await do_something(rng, sequencer)
                    await asyncio.sleep(rng.choice((0, 0, 0.002, 0.01)))
                # A frame that was lost last is noticed at the next.
                sequencer.trade({"S00": 104.0}, 0.05)
                await scanner.until_at(sequencer)
                async with asyncio.timeout(60):
                    await asyncio.gather(*(until_equal(client, scanner) for client in clients))
                for task in running:
                    task.cancel()
            for name in LISTS:
                expected = scanner_pb2.RankedList.FromString(sequencer.market.snapshot(name))
                expected.stale_seconds = 0
                assert await scanner.get(name) == expected
