"""Readers of the sequenced stream, on a real event loop and without gRPC; and when watermarks come."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tradeul.v1 import data_ingest_pb2

from fastcore.market import Market
from fastcore.prepared_buffer import PreparedBuffer
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.feed.watermarks import MANY_RANKING_SHARE, RANKING_SHARE, TOLERATED_SECONDS, Pacer, Watermarks
from services.data_ingest.journal import MarketAt
from services.data_ingest.stream import frame_stream, snapshots
from services.data_ingest.stream.epochs import next_epoch, read_last, renewed, write_last
from services.data_ingest.stream.frame_stream import FrameStream, ReaderOptions
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.stream.snapshots import Snapshot
from services.kit.lists.definitions import load_lists
from services.kit.lists.scan_filters import ScanFilter
from services.kit.rpc.ring import HOLD_FACTOR, Position
from services.kit.runtime.clock import monotonic, wall_seconds
from services.kit.runtime.errors import ServiceError
from tests.unit.test_sequencer import CALENDAR, EPOCH, FOUR_OCLOCK, HOUR, SECOND, TODAY, Feed


class Publisher:
    """A sequencer whose frames are trades of one symbol."""

    def __init__(self, heartbeat_seconds: float = 10.0, **options: Any) -> None:
        self.slow: list[bool] = []
        market = Market(load_lists(), EPOCH, encode_deltas=False)
        self.sequencer = Sequencer(EPOCH, market, **options)
        self.stream = FrameStream(self.sequencer, self.slow.append, heartbeat_seconds)
        self.feed = FeedInput(self.sequencer, "feed")
        self.feed.days.begin(CALENDAR, TODAY)
        self._source = Feed()
        self._time = HOUR

    def publish(self, frames: int = 1) -> None:
        for _ in range(frames):
            self._time += SECOND
            self.feed.sequence(self._source.batch(("AAPL", self._time, 10.0)), 0)

    def mark(self) -> None:
        self.sequencer.add_watermark(0)

    def reader(
        self,
        requested: Position | None = None,
        credit: int = 0,
        *,
        wants_newest_state: bool = False,
        wants_bundles: bool = False,
        patience_seconds: float = 0.0,
    ) -> "Reader":
        options = ReaderOptions(
            credit, wants_newest_state, wants_bundles=wants_bundles, patience_seconds=patience_seconds
        )
        return Reader(self.stream, requested, options)


class Reader:
    """Keeps a copy of the market."""

    def __init__(self, stream: FrameStream, requested: Position | None, options: ReaderOptions) -> None:
        self.subscription = stream.subscribe(requested, "test", options)
        self.messages: AsyncGenerator[bytes, None] = self.subscription.messages()
        self.kinds: list[str] = []
        self.sequences: list[int] = []
        self.reasons: list[str] = []
        self.market: Market | None = None
        self._chunks: list[bytes] = []

    async def read(self) -> str:
        async with asyncio.timeout(10):
            message = data_ingest_pb2.SubscribeFramesResponse.FromString(await anext(self.messages))
        kind = str(message.WhichOneof("response"))
        self.kinds.append(kind)
        if kind == "snapshot":
            chunk = message.snapshot
            assert chunk.index == len(self._chunks)
            self._chunks.append(chunk.data)
            if len(self._chunks) == chunk.count:
                self.market = Market.from_bytes(load_lists(), b"".join(self._chunks))
                assert (self.market.epoch, self.market.sequence) == (chunk.position.epoch, chunk.position.sequence)
                self._chunks = []
        elif kind in ("frame", "bundle"):
            for frame in message.bundle.frames if kind == "bundle" else [message.frame]:
                self.sequences.append(frame.position.sequence)
                if self.market is not None:
                    self.market.apply(frame.SerializeToString())
        elif kind == "reset":
            self.reasons.append(message.reset.reason)
        return kind

    async def until(self, kind: str) -> None:
        while await self.read() != kind:
            pass


async def snapshot_of(publisher: Publisher, not_before: Position | None = None) -> Snapshot:
    """Waits until there is one."""
    async with asyncio.timeout(10):
        while (snapshot := publisher.stream.snapshots.take(not_before)) is None:
            await asyncio.sleep(0.001)
    return snapshot


async def others_turn() -> None:
    """Lets every other task go on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_new_reader_gets_the_whole_state_then_frames() -> None:
    publisher = Publisher()
    publisher.publish(3)
    reader = publisher.reader()
    await reader.until("current")
    assert reader.kinds == ["opened", "snapshot", "current"]
    publisher.publish(2)
    await reader.read()
    await reader.read()
    assert reader.market is not None
    assert reader.market.hash() == publisher.sequencer.market.hash()
    assert publisher.stream.readers == {reader.subscription}
    await reader.messages.aclose()
    assert not publisher.stream.readers


async def test_a_patient_reader_gets_what_came_meanwhile_in_one_message() -> None:
    publisher = Publisher()
    publisher.publish()
    reader = publisher.reader(wants_bundles=True, patience_seconds=0.2)
    await reader.until("current")
    before = publisher.sequencer.position.sequence
    publisher.mark()
    # The first one after a pause comes at once.
    assert await reader.read() == "frame"
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    for _ in range(3):
        publisher.publish()
        publisher.mark()
        await others_turn()
    assert await reader.read() == "bundle"
    assert loop.time() - sent_at > 0.1
    assert reader.sequences == [before + n for n in range(1, 8)]
    assert reader.market is not None
    assert reader.market.hash() == publisher.sequencer.market.hash()


async def test_of_a_patient_reader_many_bytes_do_not_wait_nor_what_is_left_when_the_service_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_stream, "BUNDLE_BYTES", 1000)
    publisher = Publisher()
    publisher.publish()
    reader = publisher.reader(wants_bundles=True, patience_seconds=1e6)
    await reader.until("current")
    publisher.mark()
    assert await reader.read() == "frame"
    reading = asyncio.create_task(reader.read())
    publisher.publish()
    publisher.mark()
    await others_turn()
    assert not reading.done()
    publisher.publish(40)
    assert await reading == "bundle"
    # Up to so many bytes at once; what is less than that waits again.
    publisher.mark()
    while reader.sequences[-1] < publisher.sequencer.position.sequence - 15:
        await reader.read()
    reading = asyncio.create_task(reader.read())
    await others_turn()
    assert not reading.done()
    publisher.stream.close("stopping")
    assert await reading in ("frame", "bundle")
    while await reader.read() != "going_away":
        pass
    assert reader.sequences[-1] == publisher.sequencer.position.sequence
    assert reader.market is not None
    assert reader.market.hash() == publisher.sequencer.market.hash()


async def test_events_come_in_one_message_with_the_watermark_that_follows_them() -> None:
    publisher = Publisher()
    publisher.publish()
    reader = publisher.reader(wants_bundles=True)
    await reader.until("current")
    before = publisher.sequencer.position.sequence
    reading = asyncio.create_task(reader.read())
    await others_turn()
    publisher.publish(3)
    await others_turn()
    assert not reading.done()
    publisher.mark()
    assert await reading == "bundle"
    assert reader.sequences == [before + n for n in (1, 2, 3, 4)]
    assert reader.market is not None
    assert reader.market.hash() == publisher.sequencer.market.hash()
    # One frame needs no bundle.
    publisher.mark()
    assert await reader.read() == "frame"


async def test_many_events_do_not_wait_for_a_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher()
    publisher.publish()
    reader = publisher.reader(wants_bundles=True)
    await reader.until("current")
    size = len(publisher.sequencer.ring.get(publisher.sequencer.ring.newest))
    monkeypatch.setattr(frame_stream, "BUNDLE_BYTES", 10 * size)
    reading = asyncio.create_task(reader.read())
    await others_turn()
    publisher.publish(25)
    async with asyncio.timeout(10):
        assert await reading == "bundle"
        first = len(reader.sequences)
        assert 10 <= first < 25
        # What is left is sent without waiting, since it is there.
        while len(reader.sequences) < 25:
            assert await reader.read() == "bundle"


async def test_bundles_keep_to_the_credit() -> None:
    publisher = Publisher()
    publisher.publish()
    reader = publisher.reader(credit=3, wants_bundles=True)
    await reader.until("current")
    start = publisher.sequencer.position
    publisher.publish(5)
    publisher.mark()
    assert await reader.read() == "bundle"
    assert reader.sequences == [start.sequence + n for n in (1, 2, 3)]
    reading = asyncio.create_task(reader.read())
    await others_turn()
    assert not reading.done()
    reader.subscription.acknowledge(Position(EPOCH, start.sequence + 2))
    assert await reading == "bundle"
    assert reader.sequences == [start.sequence + n for n in (1, 2, 3, 4, 5)]


async def test_a_whole_state_in_several_chunks_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 1000)
    publisher = Publisher()
    publisher.publish(3)
    first = publisher.reader()
    await first.until("current")
    assert first.kinds.count("snapshot") > 1
    publisher.publish(3)
    # The state of before, and the frames since.
    second = publisher.reader()
    await second.until("current")
    assert second.sequences == [sequence for sequence in range(publisher.sequencer.position.sequence - 2, 99)][:3]
    assert second.market is not None
    assert second.market.hash() == publisher.sequencer.market.hash()


async def test_a_reader_may_want_the_newest_state() -> None:
    publisher = Publisher()
    publisher.publish(3)
    await publisher.reader().until("current")
    publisher.publish(3)
    reader = publisher.reader(wants_newest_state=True)
    await reader.until("current")
    assert (reader.kinds, reader.sequences) == (["opened", "snapshot", "current"], [])
    assert reader.market is not None
    assert reader.market.sequence == publisher.sequencer.position.sequence


async def test_a_returning_reader_gets_what_it_missed() -> None:
    publisher = Publisher()
    publisher.publish(2)
    requested = publisher.sequencer.position
    publisher.publish(3)
    reader = publisher.reader(requested)
    await reader.until("current")
    assert reader.kinds == ["opened", "frame", "frame", "frame", "current"]
    assert reader.sequences == [requested.sequence + n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("requested", "why"),
    [
        (Position(EPOCH - 1, 3), "another epoch"),
        (Position(EPOCH, 1), "older than the oldest held"),
        (Position(EPOCH, 10_000), "ahead of the newest"),
    ],
)
async def test_a_position_that_is_gone_is_reset_with_the_reason(requested: Position, why: str) -> None:
    publisher = Publisher(max_frames=4)
    publisher.publish(9)
    reader = publisher.reader(requested)
    await reader.until("current")
    assert reader.kinds == ["opened", "reset", "snapshot", "current"]
    assert why in reader.reasons[0]


async def test_a_reader_behind_the_ring_gets_a_fresh_state_and_counts_as_slow() -> None:
    publisher = Publisher(max_frames=4)
    reader = publisher.reader()
    await reader.until("current")
    publisher.publish(50)
    await reader.until("current")
    assert reader.kinds[-3:] == ["reset", "snapshot", "current"]
    assert (publisher.slow, publisher.stream.slow) == ([True], 1)
    assert reader.market is not None
    assert reader.market.hash() == publisher.sequencer.market.hash()
    waiting = asyncio.create_task(reader.read())
    while publisher.stream.slow:
        await asyncio.sleep(0)
    publisher.publish()
    assert await waiting == "frame"
    assert publisher.slow == [True, False]


async def test_a_reader_that_loads_for_longer_than_the_ring_lasts_gets_there(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(max_frames=8)
    publisher.publish(20)
    monkeypatch.setattr(
        snapshots, "CHUNK_BYTES", len(publisher.sequencer.market_at(with_baselines=True).data) // 20 + 1
    )
    reader = publisher.reader()
    while (kind := await reader.read()) != "current":
        if kind == "snapshot":
            # A frame for each piece: the ring is through before the state is.
            publisher.publish()
        elif kind == "frame" and len(reader.sequences) % 2 == 0:
            # It reads frames faster than they come, or it would never be current.
            publisher.publish()
    assert reader.kinds.count("snapshot") == 20
    assert (reader.kinds.count("reset"), publisher.slow) == (0, [])
    assert reader.sequences[0] == reader.sequences[-1] - len(reader.sequences) + 1
    while reader.sequences[-1] < publisher.sequencer.position.sequence:
        await reader.read()
    assert reader.market is not None and reader.kinds.count("reset") == 0
    assert reader.market.hash() == publisher.sequencer.market.hash()
    ring = publisher.stream.ring
    assert (ring.holders, ring.newest + 1 - ring.oldest) == (0, 8)


async def test_what_is_kept_for_a_reader_that_loads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(max_frames=8)
    publisher.publish(20)
    monkeypatch.setattr(
        snapshots, "CHUNK_BYTES", len(publisher.sequencer.market_at(with_baselines=True).data) // 20 + 1
    )
    ring = publisher.stream.ring
    stuck, gone = publisher.reader(), publisher.reader()
    for reader in (stuck, gone):
        await reader.until("snapshot")
    for _ in range(100):
        publisher.publish()
        assert ring.newest + 1 - ring.oldest <= HOLD_FACTOR * 8
    assert (ring.holders, ring.newest + 1 - ring.oldest) == (0, 8)
    await gone.messages.aclose()
    # It gets the reason, and begins again with a snapshot of now.
    await stuck.until("current")
    assert (len(stuck.reasons), ring.holders) == (1, 0)
    assert stuck.market is not None
    assert stuck.market.hash() == publisher.sequencer.market.hash()


async def test_a_numbering_that_comes_to_its_end_goes_on_in_a_new_epoch() -> None:
    """Positions have 32 bits: all of the old one is read, then the whole state, and the rows are the same."""
    publisher = Publisher(last_sequence=20)
    sequencer = publisher.sequencer
    sequencer.set_list_filters([ScanFilter("least", "price > 1", ())])
    publisher.publish(5)
    reader, behind = publisher.reader(), publisher.reader()
    await reader.until("current")
    await behind.until("current")
    assert not sequencer.is_epoch_due
    publisher.publish(30)
    assert sequencer.is_epoch_due
    # As at the beginning of the next epoch: until then, touched rows are of a moment that is still to come.
    sequencer.add_watermark(0)
    rows, ended = sequencer.market.state.hash(), sequencer.position
    await reader.read()
    sequencer.begin_epoch(EPOCH + 7, renewed(sequencer.market))
    sequencer.announce_epoch()
    assert not sequencer.is_epoch_due
    assert sequencer.market.state.hash() == rows
    publisher.publish(3)
    for each in (reader, behind):
        await each.until("current")
        frames = each.sequences[: each.sequences.index(ended.sequence) + 1]
        assert frames == list(range(frames[0], ended.sequence + 1))
        assert each.reasons == [f"epoch {EPOCH + 7} began"]
        assert each.subscription.position == sequencer.position == Position(EPOCH + 7, 5)
        assert each.market is not None
        assert each.market.hash() == sequencer.market.hash()
    # Lists and their filters begin anew with it.
    assert sequencer.market.list_count("filtered") == 1
    assert not publisher.stream.slow
    with pytest.raises(ValueError, match="expected an epoch after"):
        sequencer.begin_epoch(EPOCH + 7, renewed(sequencer.market))
    # A reader that comes back with the old numbering gets the reason.
    late = publisher.reader(ended)
    await late.until("current")
    assert "another epoch" in late.reasons[0]


async def test_a_slow_reader_that_goes_is_no_longer_counted() -> None:
    publisher = Publisher(max_frames=4)
    reader = publisher.reader()
    await reader.until("current")
    publisher.publish(50)
    await reader.until("snapshot")
    await reader.messages.aclose()
    assert (publisher.slow, publisher.stream.slow) == ([True, False], 0)


async def test_credit_bounds_what_is_under_way() -> None:
    publisher = Publisher(heartbeat_seconds=0.01)
    reader = publisher.reader(credit=2)
    await reader.until("current")
    publisher.publish(5)
    await reader.until("heartbeat")
    assert len(reader.sequences) == 2
    reader.subscription.acknowledge(Position(EPOCH, reader.sequences[0]))
    await reader.read()
    await reader.until("heartbeat")
    assert len(reader.sequences) == 3
    # What was applied of an earlier epoch is no matter; what was not sent is a mistake.
    reader.subscription.acknowledge(Position(EPOCH - 1, 10_000))
    with pytest.raises(ServiceError, match="at most"):
        reader.subscription.acknowledge(Position(EPOCH, reader.sequences[-1] + 1))
    reader.subscription.acknowledge(Position(EPOCH, reader.sequences[-1]))
    await reader.read()
    await reader.read()
    assert len(reader.sequences) == 5


async def test_quiet_streams_send_heartbeats_and_going_away_comes_last() -> None:
    publisher = Publisher(heartbeat_seconds=0.01)
    publisher.publish()
    reader = publisher.reader()
    await reader.until("heartbeat")
    publisher.publish()
    publisher.stream.close("stopping")
    await reader.until("going_away")
    assert reader.kinds[-2:] == ["frame", "going_away"]
    with pytest.raises(StopAsyncIteration):
        await anext(reader.messages)
    late = publisher.reader()
    await late.until("going_away")
    # The state that was made for the first, and the frame since.
    assert late.kinds == ["opened", "snapshot", "frame", "current", "going_away"]


async def test_a_mistake_ends_the_messages_with_its_error() -> None:
    publisher = Publisher()
    reader = publisher.reader()
    await reader.until("current")
    reader.subscription.end(ServiceError.__new__(ServiceError))
    with pytest.raises(ServiceError):
        await reader.read()
    assert not publisher.stream.readers


async def test_a_state_that_is_of_no_use_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(max_frames=4)
    publisher.publish()
    first = await snapshot_of(publisher)
    publisher.stream.snapshots.release()
    assert await snapshot_of(publisher) is first
    publisher.publish(5)
    assert await snapshot_of(publisher) is not first
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", -1.0)
    second = await snapshot_of(publisher)
    publisher.stream.snapshots.release()
    assert await snapshot_of(publisher) is not second


async def test_a_state_for_which_nobody_has_waited_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher()
    states = publisher.stream.snapshots
    assert states.take() is None
    async with asyncio.timeout(10):
        while states.take(publisher.sequencer.position) is None:
            await asyncio.sleep(0.001)
    publisher.publish()
    # The next one is made, and its reader has left.
    assert states.take(publisher.sequencer.position) is None
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "data_ingest.snapshot"))
    monkeypatch.setattr(snapshots, "SNAPSHOT_SECONDS", -1.0)
    states.release()
    assert states.take() is None


async def test_no_state_is_made_once_the_stream_is_closed() -> None:
    publisher = Publisher()
    publisher.stream.close("test")
    for _ in range(2):
        assert publisher.stream.snapshots.take() is None
        await others_turn()
    reader = publisher.reader()
    assert [await reader.read(), await reader.read()] == ["opened", "going_away"]


class PreparingBuffers:
    """Makes snapshots wait for their memory, in the thread that prepares it, until they may have it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go_on = threading.Event()
        self.count = 0
        monkeypatch.setattr(snapshots, "PreparedBuffer", self._prepare)

    def _prepare(self, size: int) -> PreparedBuffer:
        self.count += 1
        assert self.may_go_on.wait(10)
        return PreparedBuffer(size)

    async def until_begun(self) -> None:
        async with asyncio.timeout(10):
            while not self.count:
                await asyncio.sleep(0.001)


async def test_a_snapshot_is_made_once_for_all_who_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream goes on while memory is made ready, and the snapshot is of the moment after that."""
    publisher, buffers = Publisher(), PreparingBuffers(monkeypatch)
    asked_at = publisher.sequencer.position
    readers = [publisher.reader(wants_newest_state=number == 1) for number in range(2)]
    assert [await reader.read() for reader in readers] == ["opened", "opened"]
    reading = [asyncio.create_task(reader.until("current")) for reader in readers]
    await buffers.until_begun()
    publisher.publish(3)
    buffers.may_go_on.set()
    await asyncio.gather(*reading)
    assert buffers.count == 1
    for reader in readers:
        assert reader.kinds == ["opened", "snapshot", "current"]
        assert reader.market is not None and reader.market.sequence == publisher.sequencer.position.sequence
    shared = await snapshot_of(publisher, asked_at)
    assert shared.position == publisher.sequencer.position
    publisher.publish()
    assert await snapshot_of(publisher) is shared
    assert (await snapshot_of(publisher, publisher.sequencer.position)).position == publisher.sequencer.position
    assert buffers.count == 2


async def test_who_waits_for_a_snapshot_gets_heartbeats_and_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher, buffers = Publisher(heartbeat_seconds=0.05), PreparingBuffers(monkeypatch)
    reader, other = publisher.reader(), publisher.reader()
    assert [await reader.read() for _ in range(3)] == ["opened", "heartbeat", "heartbeat"]
    await other.read()
    reader.subscription.end(ServiceError.__new__(ServiceError))
    with pytest.raises(ServiceError):
        await reader.read()
    publisher.stream.close("test")
    assert await other.read() == "going_away"
    buffers.may_go_on.set()


async def test_a_snapshot_of_which_the_ring_has_lost_what_follows_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher, made = Publisher(max_frames=4), []
    market_at = publisher.sequencer.market_at

    def then_many_frames(*, with_baselines: bool, buffer: PreparedBuffer) -> MarketAt:
        now = market_at(with_baselines, buffer)
        made.append(now.position)
        if len(made) == 1:
            asyncio.get_running_loop().call_soon(publisher.publish, 12)
        return now

    monkeypatch.setattr(publisher.sequencer, "market_at", then_many_frames)
    reader = publisher.reader()
    await reader.until("current")
    assert reader.kinds == ["opened", "snapshot", "current"]
    assert len(made) == 2 and not publisher.slow


async def test_a_snapshot_of_an_epoch_that_has_ended_meanwhile_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher, made = Publisher(), []
    sequencer = publisher.sequencer
    market_at = sequencer.market_at

    def then_another_epoch(*, with_baselines: bool, buffer: PreparedBuffer) -> MarketAt:
        now = market_at(with_baselines, buffer)
        made.append(now.position)
        if len(made) == 1:
            sequencer.begin_epoch(EPOCH + 7, renewed(sequencer.market))
            sequencer.announce_epoch()
        return now

    monkeypatch.setattr(sequencer, "market_at", then_another_epoch)
    snapshot = await snapshot_of(publisher)
    assert [position.epoch for position in made] == [EPOCH, EPOCH + 7]
    assert snapshot.position == made[1] == sequencer.position


async def test_a_snapshot_that_cannot_be_made_ends_who_asked_and_the_next_one_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = Publisher()

    def no_memory(size: int) -> PreparedBuffer:
        raise MemoryError(size)

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "PreparedBuffer", no_memory)
        with pytest.raises(MemoryError):
            await publisher.reader().until("current")
    reader = publisher.reader()
    await reader.until("current")
    assert reader.kinds == ["opened", "snapshot", "current"]


async def test_a_snapshot_is_of_the_time_when_it_may_be_shown_again() -> None:
    """Who leads may not be sure for a while; the ring does not wait so long."""
    publisher = Publisher(max_frames=8)
    may_show = True
    publisher.stream.may_show = lambda: may_show
    snapshot = await snapshot_of(publisher)
    # The frame that it is of may not be shown yet.
    publisher.sequencer.committed.set_limit(Position(EPOCH, snapshot.position.sequence - 1))
    reader = publisher.reader()
    assert await reader.read() == "opened"
    reading = asyncio.create_task(reader.until("current"))
    await others_turn()
    may_show = False
    publisher.stream.wake()
    await others_turn()
    publisher.publish(40)
    publisher.sequencer.committed.set_limit(None)
    may_show = True
    publisher.stream.wake()
    await reading
    assert reader.kinds == ["opened", "snapshot", "current"]
    assert not publisher.slow


# --- watermarks


class SetClock:
    """A wall clock that stands where it is set."""

    kind = "wall"

    def __init__(self, ns: int) -> None:
        self.ns: int | None = ns

    def now_ns(self) -> int | None:
        return self.ns


def test_watermarks_are_rarer_where_ranking_takes_long() -> None:
    seconds = 0.001
    pacer = Pacer(least=0.01, many_events=100, ranking_seconds=lambda: seconds)
    pacer.sent(7.0)
    pacer.add(99)
    assert pacer.due_at() == pytest.approx(7.01)
    seconds = 0.02 * RANKING_SHARE
    assert pacer.due_at() == pytest.approx(7.02)
    seconds = 1.0
    assert pacer.due_at() == pytest.approx(7.04)
    # Of many events: what comes faster than it can be taken is through sooner.
    pacer.add(1)
    assert pacer.due_at() == pytest.approx(7.25)
    seconds = 0.1 * MANY_RANKING_SHARE
    assert pacer.due_at() == pytest.approx(7.1)
    # They alone are no reason to wait: after a pause they may have come at once.
    seconds = 0.001
    assert pacer.due_at() == pytest.approx(7.01)
    pacer.sent(7.06)
    assert pacer.due_at() == pytest.approx(7.07)


def test_watermarks_are_rarer_while_the_copies_that_rank_are_behind() -> None:
    behind = ranking = 0.0
    pacer = Pacer(least=0.01, many_events=100, ranking_seconds=lambda: ranking, behind_seconds=lambda: behind)
    pacer.sent(7.0)
    # As long as an acknowledgement may take.
    behind = TOLERATED_SECONDS
    assert pacer.due_at() == pytest.approx(7.01)
    behind = TOLERATED_SECONDS + 0.04
    assert pacer.due_at() == pytest.approx(7.02)
    ranking = 0.03 * RANKING_SHARE
    assert pacer.due_at() == pytest.approx(7.03)
    behind = TOLERATED_SECONDS + 0.2
    assert pacer.due_at() == pytest.approx(7.1)
    # A copy that stands still is no reason to keep all others waiting.
    behind = 3600.0
    assert pacer.due_at() == pytest.approx(7.25)


async def test_how_far_behind_the_best_of_those_that_rank_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(frame_stream, "monotonic", lambda: now)
    publisher = Publisher()
    publisher.publish()
    stream = publisher.stream
    scanners = [publisher.reader(credit=100, wants_bundles=True) for _ in range(2)]
    first, second = (reader.subscription for reader in scanners)
    # One that may wait, and one that never says how far it is.
    others = [
        publisher.reader(credit=100, wants_bundles=True, patience_seconds=0.05), publisher.reader(wants_bundles=True),
    ]  # fmt: skip
    for reader in (*others, *scanners):
        await reader.until("current")

    def mark(time: float) -> Position:
        nonlocal now
        now = time
        publisher.publish()
        publisher.mark()
        return publisher.sequencer.position

    # It acknowledges when something comes, so that the last one before a pause says nothing.
    marks = [mark(200.0)]
    now = 201.0
    assert stream.behind_seconds == 0
    marks.append(mark(202.0))
    now = 202.25
    assert stream.behind_seconds == 0.25
    marks += [mark(203.0), mark(204.0)]
    assert stream.behind_seconds == 2
    for reader in scanners:
        while reader.sequences[-1:] != [marks[-1].sequence]:
            await reader.read()
    # The events before the second watermark, then this, then all.
    first.acknowledge(marks[1]._replace(sequence=marks[1].sequence - 1))
    assert stream.behind_seconds == 1
    first.acknowledge(marks[1])
    assert stream.behind_seconds == 0
    first.acknowledge(marks[3])
    now = 205.0
    assert (first.behind_seconds(now), second.behind_seconds(now), stream.behind_seconds) == (0, 3, 0)
    # One that has come to load the market is no help yet.
    late = publisher.reader(credit=100, wants_bundles=True)
    await late.read()
    await scanners[0].messages.aclose()
    assert stream.behind_seconds == 3
    await late.until("current")
    assert stream.behind_seconds == 0


async def test_an_acknowledgement_does_not_send_events_before_their_watermark() -> None:
    publisher = Publisher()
    publisher.publish()
    publisher.mark()
    reader = publisher.reader(credit=100, wants_bundles=True)
    await reader.until("current")
    publisher.mark()
    assert await reader.read() == "frame"
    reading = asyncio.create_task(reader.read())
    await others_turn()
    publisher.publish()
    reader.subscription.acknowledge(publisher.sequencer.position._replace(sequence=reader.sequences[-1]))
    await others_turn()
    assert not reading.done()
    publisher.mark()
    assert await reading == "bundle"


async def test_a_new_epoch_begins_with_nothing_to_catch_up_with() -> None:
    publisher = Publisher()
    publisher.publish()
    reader = publisher.reader(credit=100, wants_bundles=True)
    await reader.until("current")
    publisher.mark()
    publisher.mark()
    assert publisher.stream.behind_seconds > 0
    publisher.sequencer.begin_epoch(EPOCH + 7, renewed(publisher.sequencer.market))
    await reader.until("current")
    assert publisher.stream.behind_seconds == 0


async def test_a_watermark_follows_events_at_once_and_then_when_it_is_due() -> None:
    publisher = Publisher()
    watermarks = Watermarks(publisher.sequencer, publisher.feed.days, None, Pacer(least=0.03))
    running = asyncio.create_task(watermarks.run())
    count = publisher.sequencer.frames
    publisher.publish()
    watermarks.events_came(1)
    assert count["watermark"] == 1
    for _ in range(5):
        publisher.publish()
        watermarks.events_came(1)
    assert count["watermark"] == 1
    async with asyncio.timeout(10):
        while count["watermark"] < 2:
            await asyncio.sleep(0.005)
    assert publisher.sequencer.now_ns == FOUR_OCLOCK + HOUR + 6 * SECOND
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_walls_time_is_sent_while_nothing_comes() -> None:
    publisher = Publisher()
    publisher.publish()
    feed = FeedInput(publisher.sequencer, "wall")
    feed.days.begin(CALENDAR, TODAY)
    clock = SetClock(FOUR_OCLOCK + 6 * HOUR)
    watermarks = Watermarks(publisher.sequencer, feed.days, clock, Pacer())  # type: ignore[arg-type]
    running = asyncio.create_task(watermarks.run())
    async with asyncio.timeout(10):
        for hour in (6, 7):
            clock.ns = FOUR_OCLOCK + hour * HOUR
            while publisher.sequencer.now_ns != clock.ns:
                await asyncio.sleep(0.005)
        # A clock that was set back takes nothing back.
        clock.ns = FOUR_OCLOCK
        count = publisher.sequencer.frames["watermark"]
        while publisher.sequencer.frames["watermark"] == count:
            await asyncio.sleep(0.005)
        assert publisher.sequencer.now_ns == FOUR_OCLOCK + 7 * HOUR
        # At 04:00 the next day begins, though nothing trades.
        clock.ns = FOUR_OCLOCK + 24 * HOUR
        while publisher.sequencer.day == TODAY:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("has_clock", [False, True])
async def test_watermarks_are_rarer_with_either_clock(has_clock: bool) -> None:
    publisher = Publisher()
    publisher.publish()
    feed = FeedInput(publisher.sequencer, "wall")
    feed.days.begin(CALENDAR, TODAY)
    clock = SetClock(FOUR_OCLOCK + 6 * HOUR) if has_clock else None
    behind = 3600.0
    watermarks = Watermarks(publisher.sequencer, feed.days, clock, Pacer(behind_seconds=lambda: behind))  # type: ignore[arg-type]
    running = asyncio.create_task(watermarks.run())
    times: list[float] = []
    count = publisher.sequencer.frames
    async with asyncio.timeout(30):
        while len(times) < 4:
            before = count["watermark"]
            publisher.publish()
            watermarks.events_came(1)
            await asyncio.sleep(0.005)
            if count["watermark"] > before:
                times.append(monotonic())
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.2
    # When they have caught up it is no longer waited for.
    behind = 0.0
    async with asyncio.timeout(30):
        while count["watermark"] < 20:
            publisher.publish()
            watermarks.events_came(1)
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_watermark_that_fails_is_not_lost_in_a_callback() -> None:
    publisher = Publisher()
    watermarks = Watermarks(publisher.sequencer, publisher.feed.days, None, Pacer(least=0.001))
    running = asyncio.create_task(watermarks.run())
    watermarks.events_came(1)

    def broken(time_ns: int) -> None:
        raise ValueError("defect")

    publisher.sequencer.add_watermark = broken  # type: ignore[method-assign]
    watermarks.events_came(1)
    with pytest.raises(ValueError, match="defect"):
        async with asyncio.timeout(10):
            await running


# --- epochs


async def test_epochs_grow_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    directory = tmp_path / "fresh"
    first = await next_epoch(directory)
    assert first >= wall_seconds()
    write_last(directory / "sequencer.epoch", first + 1000)
    assert await next_epoch(directory) == first + 1001
    assert read_last(directory / "sequencer.epoch") == first + 1001
    (directory / "sequencer.epoch").write_text("nonsense")
    assert read_last(directory / "sequencer.epoch") == 0
