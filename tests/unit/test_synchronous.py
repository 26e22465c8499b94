"""What a synchronous leader shows, and when: by whom the row of the lease may name, whatever the store answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fastcore.market import Market
from services.data_ingest.journal import JournalDirectory, begin_with
from services.data_ingest.journal.files import KINDS, JournalFile
from services.data_ingest.standby import synchronous
from services.data_ingest.standby.candidate import TakenOver
from services.data_ingest.standby.lease import Claimed
from services.data_ingest.standby.synchronous import Synchronous
from services.data_ingest.standby.takeover import goes_on, note_lease
from services.data_ingest.stream.bar_stream import BarStream
from services.data_ingest.stream.frame_stream import FrameStream, ReaderOptions
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.lists.definitions import load_lists
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import RunningClock
from services.kit.runtime.settings import Settings
from tests.unit.test_standby import DAY, EPOCH


class Follower:
    def __init__(self, name: str, position: int) -> None:
        self.name = self.session = name
        self.position: Position | None = Position(EPOCH, position)
        self.acknowledged: Position | None = None
        self.has_gone = False
        self.lag_seconds = 0.0


class Row:
    """The row of the lease. An answer that is withheld is given by `answer`."""

    def __init__(self) -> None:
        self.named: str | None = None
        self.asked: list[str | None] = []
        self.is_ours = True
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None
        # True: a statement that fails was done all the same.
        self.does_what_fails = False

    async def name_standby(self, number: int, session: str | None, change: int, epoch: int) -> bool:
        assert (number, change, epoch) == (7, len(self.asked) + 1, EPOCH)
        self.asked.append(session)
        await self.may_answer.wait()
        if self.failure is None or self.does_what_fails:
            self.named = session
        if self.failure is not None:
            raise self.failure
        return self.is_ours


class Leader:
    def __init__(self) -> None:
        self.sequencer = Sequencer(EPOCH, Market(load_lists(), EPOCH, encode_deltas=False))
        self.sequencer.begin_day(DAY)
        self.row = Row()
        self.lost: list[str] = []
        row: Any = self.row
        self.synchronous = Synchronous(self.sequencer, row, 7, self.lost.append)
        self.followers: set[Any] = set()
        self.task = asyncio.create_task(self.synchronous.run(self.followers))

    @property
    def shown(self) -> int:
        return self.sequencer.committed.newest(self.sequencer.ring)

    def add_frames(self, count: int = 1) -> None:
        for _ in range(count):
            self.sequencer.add_watermark(0)

    def acknowledge(self, follower: Follower, sequence: int | None = None) -> None:
        follower.position = Position(EPOCH, sequence if sequence is not None else self.sequencer.ring.newest)
        self.synchronous.acknowledged(follower)

    async def in_sync(self, name: str = "b") -> Follower:
        follower = Follower(name, self.sequencer.ring.newest)
        self.followers.add(follower)
        await until(lambda: self.row.named == name and self.synchronous.waited_for == [follower])
        return follower

    def gone(self, follower: Follower) -> None:
        follower.has_gone = True
        self.followers.discard(follower)
        self.synchronous.look()


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.001)


@pytest.fixture
async def leader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Leader]:
    monkeypatch.setattr(synchronous, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(synchronous, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(synchronous, "RETRY_SECONDS", 0.005)
    leader = Leader()
    yield leader
    leader.task.cancel()
    (ended,) = await asyncio.gather(leader.task, return_exceptions=True)
    assert ended is None or isinstance(ended, asyncio.CancelledError), ended


async def test_what_is_shown_is_what_the_standby_has(leader: Leader) -> None:
    leader.add_frames(3)
    assert leader.shown == 4, "nobody stands by"
    standby = await leader.in_sync()
    leader.add_frames(5)
    assert leader.shown == 4
    leader.acknowledge(standby, 6)
    assert leader.shown == 6
    assert leader.sequencer.committed.position == (EPOCH, 6)


async def test_a_standby_is_named_once_it_has_what_was_shown(leader: Leader) -> None:
    leader.add_frames(9)
    standby = Follower("b", 3)
    leader.followers.add(standby)
    await until(lambda: standby in leader.synchronous.waited_for)
    leader.add_frames(2)
    assert leader.shown < 12 and not leader.row.asked
    leader.acknowledge(standby, 11)
    await until(lambda: leader.row.named == "b")


async def test_a_standby_that_does_not_catch_up_is_not_named(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronous, "WAIT_SECONDS", 0.05)
    leader.add_frames(9)
    standby = Follower("b", 3)
    leader.followers.add(standby)
    await until(lambda: standby in leader.synchronous.waited_for)
    await until(lambda: standby not in leader.synchronous.waited_for)
    assert leader.shown == 10 and not leader.row.asked


async def test_without_a_standby_nothing_is_shown_before_the_row_says_so(leader: Leader) -> None:
    standby = await leader.in_sync()
    leader.add_frames(5)
    leader.row.may_answer.clear()
    leader.gone(standby)
    await until(lambda: leader.row.asked[-1] is None)
    assert leader.shown == 1
    leader.row.failure, leader.row.does_what_fails = TimeoutError(), True
    leader.row.may_answer.set()
    await until(lambda: len(leader.row.asked) > 4)
    assert leader.row.named is None and leader.shown == 1, "it may or may not have been done"
    leader.row.failure = None
    await until(lambda: leader.shown == 6)


async def test_a_standby_is_waited_for_from_before_it_is_named(leader: Leader) -> None:
    """The statement may have been done although the answer was lost."""
    leader.row.failure, leader.row.does_what_fails = TimeoutError(), True
    standby = Follower("b", 1)
    leader.followers.add(standby)
    await until(lambda: leader.row.named == "b")
    leader.add_frames()
    assert leader.shown == 1
    leader.gone(standby)
    await until(lambda: leader.row.named is None and len(leader.row.asked) > 3)
    assert leader.shown == 1
    leader.row.failure = None
    await until(lambda: leader.shown == 2)


async def test_a_late_standby_is_replaced_by_another_one_and_both_count_until_that_is_sure(leader: Leader) -> None:
    late = await leader.in_sync("b")
    other = Follower("c", 1)
    leader.followers.add(other)
    leader.add_frames(4)
    leader.acknowledge(late, 3)
    leader.acknowledge(other)
    assert leader.shown == 3
    leader.row.may_answer.clear()
    late.lag_seconds = 1.5
    await until(lambda: leader.row.asked[-1] == "c")
    leader.acknowledge(other)
    assert leader.shown == 3
    leader.row.may_answer.set()
    await until(lambda: leader.shown == 5)
    leader.acknowledge(late, 4)
    assert leader.shown == 5, "it is waited for no more"


async def test_who_recovers_before_the_row_could_be_changed_counts_again(leader: Leader) -> None:
    """The store is away, and the standby is late for a while."""
    standby = await leader.in_sync()
    leader.row.failure = OSError("away")
    leader.add_frames()
    standby.lag_seconds = 1.5
    await until(lambda: len(leader.row.asked) > 2)
    standby.lag_seconds = 0.0
    leader.acknowledge(standby)
    assert leader.shown == 2


async def test_a_leader_whose_lease_is_anothers_shows_nothing_more(leader: Leader) -> None:
    standby = await leader.in_sync()
    leader.row.is_ours = False
    leader.add_frames()
    leader.gone(standby)
    await until(lambda: leader.lost)
    await leader.task
    assert leader.shown == 1 and leader.lost == ["another sequencer has taken the lease"]


async def test_a_leader_that_stops_leaves_the_standby_named(leader: Leader) -> None:
    standby = await leader.in_sync()
    leader.add_frames()
    leader.synchronous.close()
    leader.gone(standby)
    await leader.task
    assert leader.row.named == "b" and leader.shown == 1


# --- what shows frames


async def test_a_reader_gets_frames_and_snapshots_when_they_may_be_shown(leader: Leader) -> None:
    standby = await leader.in_sync()
    leader.add_frames(2)
    stream = FrameStream(leader.sequencer, heartbeat_seconds=30)
    kinds: list[str] = []

    async def read() -> None:
        async for message in stream.subscribe(None, "test", ReaderOptions()).messages():
            kinds.append(FRAMES.read(message)[0])

    reading = asyncio.create_task(read())
    await until(lambda: kinds == ["opened"])
    leader.acknowledge(standby, 2)
    await asyncio.sleep(0.01)
    assert kinds == ["opened"], "the snapshot is of frame 3"
    leader.acknowledge(standby, 3)
    await until(lambda: kinds == ["opened", "snapshot", "current"])
    leader.add_frames()
    await asyncio.sleep(0.01)
    assert kinds[3:] == []
    leader.acknowledge(standby)
    await until(lambda: kinds[3:] == ["frame"])
    stream.close("the test is over")
    await reading
    assert kinds[4:] == ["going_away"]


async def test_a_reader_learns_of_a_new_epoch_when_that_may_be_shown(leader: Leader) -> None:
    standby = await leader.in_sync()
    stream = FrameStream(leader.sequencer, heartbeat_seconds=30)
    kinds: list[str] = []

    async def read() -> None:
        async for message in stream.subscribe(Position(EPOCH, 1), "test", ReaderOptions()).messages():
            kinds.append(FRAMES.read(message)[0])

    reading = asyncio.create_task(read())
    leader.add_frames()
    await until(lambda: kinds == ["opened", "current"])
    leader.sequencer.begin_epoch(EPOCH + 1, lambda epoch: Market(load_lists(), epoch, encode_deltas=False))
    leader.sequencer.begin_day(DAY)
    leader.acknowledge(standby, 2)
    await until(lambda: kinds[2:] == ["frame"])
    await asyncio.sleep(0.01)
    assert kinds[3:] == []
    standby.position = Position(EPOCH + 1, 1)
    leader.synchronous.acknowledged(standby)
    await until(lambda: kinds[3:5] == ["reset", "snapshot"])
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_watchers_of_bars_get_them_when_they_may_be_shown(leader: Leader) -> None:
    standby = await leader.in_sync()
    bars = BarStream(leader.sequencer)
    kinds: list[str] = []

    async def read() -> None:
        async for _ in bars._messages():
            kinds.append("message")

    reading = asyncio.create_task(read())
    await until(lambda: bars.readers)
    # The content is nobody's concern here.
    bars._on_frame("bars", b"")
    leader.add_frames()
    bars._on_frame("bars", b"")
    await until(lambda: len(kinds) == 1)
    await asyncio.sleep(0.01)
    assert len(kinds) == 1
    leader.acknowledge(standby)
    await until(lambda: len(kinds) == 2)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


# --- taking over


def taken(
    number: int, *, was_ours: bool = True, is_first: bool = False, copied: Any = None, has_all: bool = False
) -> Any:
    claimed = Claimed(number, 0.0, EPOCH, was_ours, is_first=is_first)
    return TakenOver(claimed, copied, has_all, b"", None, None)


class Copied:
    def __init__(self, epoch: int) -> None:
        self.position = Position(epoch, 5)


def test_only_who_has_all_that_was_shown_goes_on_in_the_epoch(tmp_path: Any) -> None:
    settings = Settings.load({"TRADEUL_DATA_DIR": str(tmp_path)})
    assert goes_on(settings, taken(7, copied=Copied(EPOCH), has_all=True))
    assert not goes_on(settings, taken(7, copied=Copied(EPOCH)))
    assert not goes_on(settings, taken(7, copied=Copied(EPOCH - 1), has_all=True)), "a later epoch has begun"
    assert goes_on(settings, taken(7, is_first=True)), "nobody ever led by a lease"
    assert not goes_on(settings, taken(7)), "the journal here is of no lease"
    note_lease(settings, 7)
    assert not goes_on(settings, taken(8, was_ours=False)), "another one led"
    assert goes_on(settings, taken(8))
    # One process died before it could note its number, so that 9 is missing.
    assert goes_on(settings, taken(10))
    assert not goes_on(settings, taken(13)), "who knows what came between"


def test_a_standstill_is_nobodys_lag() -> None:
    now = 0.0
    clock = RunningClock(0.25, lambda: now)
    now = 0.1
    assert clock() == pytest.approx(0.1)
    now = 60.0
    assert clock() == pytest.approx(0.35)


def test_what_an_own_journal_has_of_later_numbers_is_void(tmp_path: Path) -> None:
    """This sequencer led before, up to frame 9, of which frame 7 and later were shown to nobody."""
    directory = JournalDirectory(tmp_path)
    files = [
        JournalFile(Position(epoch, sequence), kind)
        for epoch, sequence in ((EPOCH - 1, 1000), (EPOCH, 5), (EPOCH, 6), (EPOCH, 9))
        for kind in KINDS
    ]
    for file in files:
        directory.path_of(file).touch()
    earlier = begin_with(directory, Position(EPOCH, 6), [b"frame 5", b"frame 6"])
    assert earlier == JournalFile(Position(EPOCH, 4), "frames")
    assert {path.name for path in tmp_path.iterdir()} == {earlier.name, "lock"}
    directory.close()
