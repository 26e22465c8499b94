"""TRADEUL_STANDBY=sync: a sequencer dies, and readers get the next frame of the same epoch from the other one."""

import asyncio
import contextlib
import signal
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from services.data_ingest.standby.lease import LEASE_SECONDS, LOOK_SECONDS, LeaseStore
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import Frame
from tests.support.feed import RunningFeed
from tests.support.store_line import store_line
from tests.support.stores import Stores, fresh_database, module_stores
from tests.support.two_sequencers import Copy, Tape, TwoSequencers, settle, two_sequencers, until

pytestmark = pytest.mark.timeout(180)
SYNC = {name: {"TRADEUL_STANDBY": "sync"} for name in ("a", "b")}
IN_SYNC = "in sync: frames are shown when the standby has them"
ALONE = "frames are shown without one"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as stores:
        yield stores


@pytest.fixture
async def stores(servers: Stores) -> AsyncIterator[Stores]:
    async with fresh_database(servers.database_url) as url:
        yield Stores(servers.redis_url, url)


class Witness(Copy):
    """A copy that knows what each position was to it; `said` is what it was to all of them."""

    def __init__(self, said: dict[tuple[int, int], int]) -> None:
        super().__init__()
        self._said = said

    def apply(self, frame: Frame) -> None:
        checksum = zlib.crc32(frame.encoded)
        assert self._said.setdefault(frame.position, checksum) == checksum, f"two frames are called {frame.position}"
        super().apply(frame)


class Synchronous:
    """Two sequencers in sync, and two readers from the beginning, of which one looks at `a` alone."""

    def __init__(self, two: TwoSequencers, tape: Tape, feed: RunningFeed) -> None:
        self.two = two
        self.tape = tape
        self.feed = feed
        self.said: dict[tuple[int, int], int] = {}
        self.reader, self.of_a = Witness(self.said), Witness(self.said)

    async def in_sync(self, leader: str, after: int = 0) -> None:
        await self.two.until_log(leader, IN_SYNC, after)

    async def more_frames(self) -> None:
        """Waits until the reader has some more."""
        before = self.reader.position
        assert before is not None
        await until(lambda: self.reader.position is not None and self.reader.position.sequence > before.sequence + 20)

    async def restart(self, name: str) -> None:
        """Starts one that has ended, and waits until both are in sync."""
        (other,) = {"a", "b"} - {name}
        seen = len(self.two.log(other))
        await self.two.start(name)
        await self.in_sync(other, seen)

    async def settle(self, epochs: int = 1) -> None:
        """The reader has every trade once, without a snapshot since its first, and what a new reader gets."""
        reader = self.reader
        await settle(self.tape, reader, self.feed)
        assert (len(reader.epochs), len(reader.loads)) == (epochs, epochs)
        async with reading(self.two, Copy()) as fresh:
            await until(lambda: fresh.position is not None)

            def is_equal() -> bool:
                assert fresh.market is not None and reader.market is not None
                return fresh.position == reader.position and fresh.market.to_bytes() == reader.market.to_bytes()

            # Watermarks come all the time, to both.
            await until(is_equal)


@contextlib.asynccontextmanager
async def reading(two: TwoSequencers, copy: Copy, *names: str) -> AsyncIterator[Copy]:
    addresses = [each for name, each in zip(two.addresses, two.reader_addresses, strict=True) if name in names]
    task = asyncio.create_task(FrameReader(addresses or two.reader_addresses, copy, "test").run())
    try:
        yield copy
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended


@contextlib.asynccontextmanager
async def synchronous(
    tmp_path: Path, stores: Stores, own: dict[str, dict[str, str]] | None = None
) -> AsyncIterator[Synchronous]:
    both = {name: {**SYNC[name], **(own or {}).get(name, {})} for name in SYNC}
    async with two_sequencers(tmp_path, stores, both) as (two, tape, _, feed):
        running = Synchronous(two, tape, feed)
        await running.in_sync("a")
        async with reading(two, running.reader), reading(two, running.of_a, "a"):
            await until(lambda: running.reader.market is not None)
            yield running


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "SIGTERM", "lost"])
async def test_a_takeover_goes_on_in_the_same_epoch(tmp_path: Path, stores: Stores, how: str) -> None:
    async with synchronous(tmp_path, stores) as running:
        two = running.two
        old, new = "a", "b"
        for _ in range(3):
            await running.more_frames()
            if how == "lost":
                await two.lease("UPDATE sequencer_lease SET holder = 'nobody', fencing_number = fencing_number + 1")
            else:
                two.send(old, signal.Signals[how])
            await two.until_leads(new)
            await running.more_frames()
            if how == "SIGSTOP":
                two.send(old, signal.SIGCONT)
            assert await two.until_ended(old) == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 0}.get(how, 1)
            await running.restart(old)
            old, new = new, old
        await running.settle()


async def test_a_standby_that_dies_and_comes_back_is_waited_for_again(tmp_path: Path, stores: Stores) -> None:
    async with synchronous(tmp_path, stores) as running:
        two = running.two
        two.send("b", signal.SIGKILL)
        await two.until_ended("b")
        await two.until_log("a", ALONE)
        await running.more_frames()
        await running.restart("b")
        await running.more_frames()
        two.send("a", signal.SIGKILL)
        await two.until_leads("b")
        await running.settle()


async def test_a_standby_that_hangs_is_waited_for_a_second(tmp_path: Path, stores: Stores) -> None:
    async with synchronous(tmp_path, stores) as running:
        two = running.two
        two.send("b", signal.SIGSTOP)
        await two.until_log("a", ALONE)
        await running.more_frames()
        seen = len(two.log("a"))
        two.send("b", signal.SIGCONT)
        await running.in_sync("a", seen)
        two.send("a", signal.SIGKILL)
        await two.until_leads("b")
        await running.settle()


async def test_a_standby_that_lacks_frames_begins_a_new_epoch(tmp_path: Path, stores: Stores) -> None:
    """It hung, the leader went on alone and died for good; what it showed meanwhile is not shown as something else."""
    async with synchronous(tmp_path, stores) as running:
        two, reader = running.two, running.reader
        two.send("b", signal.SIGSTOP)
        await two.until_log("a", ALONE)
        await running.more_frames()
        two.send("a", signal.SIGKILL)
        await two.until_ended("a")
        two.send("b", signal.SIGCONT)
        await until(lambda: len(reader.epochs) == 2)
        assert "has_all=False" in two.log("b")
        await running.more_frames()


async def test_both_die_and_the_last_leader_goes_on(tmp_path: Path, stores: Stores) -> None:
    async with synchronous(tmp_path, stores) as running:
        two = running.two
        two.send("b", signal.SIGKILL)
        await two.until_log("a", ALONE)
        await running.more_frames()
        two.send("a", signal.SIGKILL)
        for name in ("a", "b"):
            await two.until_ended(name)
        seen = len(two.log("a"))
        await two.start("b")
        await two.start("a")
        await running.in_sync("a", seen)
        # The one that takes over dies soon, and is back.
        two.send("a", signal.SIGKILL)
        await two.until_leads("b")
        await running.more_frames()
        two.send("b", signal.SIGKILL)
        await two.until_ended("b")
        await two.start("b")
        await two.until_leads("b")
        await running.more_frames()
        await running.settle()


async def test_without_the_store_frames_are_shown_as_long_as_the_standby_has_them(
    tmp_path: Path, stores: Stores
) -> None:
    async with store_line(stores.database_url) as line:
        both = {name: {"TRADEUL_DATABASE_URL": line.url} for name in ("a", "b")}
        async with synchronous(tmp_path, stores, both) as running:
            two, reader = running.two, running.reader
            line.cut()
            await two.until_log("a", "the store does not answer")
            for _ in range(3):
                await asyncio.sleep(1)
                await running.more_frames()
            two.send("b", signal.SIGKILL)
            await two.until_log("a", "who stands by cannot be changed")
            shown = reader.position
            # Nobody could tell later that the standby lacks what is shown now.
            await asyncio.sleep(2)
            assert reader.position == shown and ALONE not in two.log("a")
            line.mend()
            await two.until_log("a", ALONE)
            await running.more_frames()
            await running.restart("b")
            line.cut()
            await two.until_log("b", "nobody can take over", len(two.log("b")))
            two.send("a", signal.SIGKILL)
            await two.until_ended("a")
            line.mend()
            await two.until_leads("b")
            await running.settle()


# --- the row of the lease


async def expire(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("UPDATE sequencer_lease SET expires_at = clock_timestamp() - interval '1 second'")
    finally:
        await connection.close()


async def put_off(url: str) -> None:
    """As a leader renews the lease while the server's clock is an hour ahead."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("UPDATE sequencer_lease SET expires_at = clock_timestamp() + interval '1 hour'")
    finally:
        await connection.close()


async def test_the_lease_of_another_one_was_not_ours(stores: Stores) -> None:
    a, b = (LeaseStore(stores.database_url, name) for name in ("a", "b"))
    first = await a.claim(0.0)
    assert first is not None and first.is_first and first.was_ours
    assert await b.claim(0.0) is None
    again = await a.claim(0.0)
    assert again is not None and again.was_ours and not again.is_first
    await expire(stores.database_url)
    assert await b.claim(15.0) is None, "it may come back"
    other = await b.claim(0.0)
    assert other is not None and not other.was_ours
    assert [each.fencing_number - first.fencing_number for each in (again, other)] == [1, 2]
    for store in (a, b):
        store.close()


async def test_only_the_standby_that_is_named_may_take_over_at_once(stores: Stores) -> None:
    a, b = (LeaseStore(stores.database_url, name) for name in ("a", "b"))
    first = await a.claim(0.0)
    assert first is not None
    assert await a.name_standby(first.fencing_number, "b 1", 1, 5)
    assert await b.claim(15.0, "b 1") is None, "it has not run out"
    assert await b.claim(15.0, "b 2", is_leader_gone=True) is None, "an earlier connection of it is named"
    taken = await b.claim(15.0, "b 1", is_leader_gone=True)
    assert taken is not None and (taken.synced, taken.epoch, taken.was_ours) == ("b 1", 5, False)
    assert not await a.name_standby(first.fencing_number, None, 2, 5), "it does not lead any more"
    # The name was given for the leader of then.
    assert await a.claim(15.0, "b 1", is_leader_gone=True) is None
    for store in (a, b):
        store.close()


async def test_only_who_followed_the_last_leader_takes_its_lease_as_soon_as_it_has_run_out(stores: Stores) -> None:
    """A leader that was started again has a number of its own: who followed the one before lacks what it had since."""
    a, b = (LeaseStore(stores.database_url, name) for name in ("a", "b"))
    first = await a.claim(15.0)
    assert first is not None
    assert await b.claim(15.0, followed=first.fencing_number) is None, "it has not run out"
    again = await a.claim(15.0)
    assert again is not None
    await expire(stores.database_url)
    assert await b.claim(15.0, followed=first.fencing_number) is None
    assert await b.claim(15.0, followed=again.fencing_number) is not None
    for store in (a, b):
        store.close()


async def test_a_lease_of_a_clock_that_was_ahead_runs_out_when_nobody_renews_it(stores: Stores) -> None:
    a, b = (LeaseStore(stores.database_url, name) for name in ("a", "b"))
    first = await a.claim(0.0)
    assert first is not None
    await put_off(stores.database_url)
    # Its leader lives, and renews it by the clock of now.
    assert await b.claim(0.0) is None
    assert await a.renew(first.fencing_number, 1)
    await asyncio.sleep(LEASE_SECONDS / 2)
    assert await a.renew(first.fencing_number, 1)
    assert await b.claim(0.0) is None
    # Its leader is gone.
    await put_off(stores.database_url)
    async with asyncio.timeout(60):
        while (taken := await b.claim(0.0)) is None:
            await asyncio.sleep(LOOK_SECONDS)
    assert taken.fencing_number == first.fencing_number + 1
    for store in (a, b):
        store.close()


async def test_a_change_that_arrives_late_changes_nothing(stores: Stores) -> None:
    store = LeaseStore(stores.database_url, "a")
    claimed = await store.claim(0.0)
    assert claimed is not None
    assert await store.name_standby(claimed.fencing_number, None, 2, 5)
    assert not await store.name_standby(claimed.fencing_number, "b 1", 1, 5)
    again = await store.claim(0.0)
    assert again is not None and again.synced is None
    # The next leader counts from the beginning.
    assert await store.name_standby(again.fencing_number, "b 1", 1, 5)
    store.close()
