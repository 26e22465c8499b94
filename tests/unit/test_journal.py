"""The journal: whatever ends the process, the next one goes on with the same market at the same position."""

import asyncio
import errno
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import structlog
from tradeul.v1 import alerts_pb2, frame_pb2, polygon_ws_pb2

from fastcore.alert_rules import AlertRule
from fastcore.market import Market
from fastcore.trade_rules import fallback_rules
from fastcore.wire import only_field
from services.data_ingest import metrics
from services.data_ingest.feed.feed_input import FeedInput, FeedProgress
from services.data_ingest.journal import Journal, JournalDirectory, Recovered, begin_with, files, recover
from services.data_ingest.startup import begin_journal
from services.data_ingest.stream.epochs import renewed
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import load_lists
from services.kit.lists.scan_filters import ScanFilter
from services.kit.rpc.frames import read_frame
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import StartError
from tests.unit.test_sequencer import CALENDAR, EPOCH, FOUR_OCLOCK, HOUR, SECOND, TODAY, TOMORROW, Feed

SYMBOLS = [f"S{index}" for index in range(40)]
SLOTS = 192


class Moment(NamedTuple):
    """What is to be found again."""

    position: Position
    hash: int
    feed: Position | None


class Rig:
    """A sequencer that keeps a journal, as data_ingest puts it together."""

    def __init__(
        self, path: Path, found: Recovered | None = None, split: list[str] | None = None, **limits: int
    ) -> None:
        self.directory = JournalDirectory(path)
        self.journal = Journal(self.directory, lambda: self.sequencer, **limits)
        self.source = Feed()
        self.rng = random.Random(7)
        self.alerts = RecentAlerts(found.alerts if found is not None else ())
        if found is None:
            market = Market(load_lists(), EPOCH, encode_deltas=False)
            self.sequencer = Sequencer(EPOCH, market, journal=self.journal, alerts=self.alerts)
        else:
            assert found.market is not None
            self.sequencer = Sequencer(
                EPOCH,
                found.market,
                journal=self.journal,
                day=found.day,
                messages=found.messages,
                alerts=self.alerts,
            )
        self.feed = FeedInput(self.sequencer, "feed", splits=lambda day: split)
        if found is not None:
            self.feed.resume_after(FeedProgress(found.feed, found.trade_identities))
        self.found = found

    async def begin(self) -> None:
        await begin_journal(self.journal, self.found)
        self.feed.days.begin(CALENDAR, self.found.day if self.found is not None else TODAY)

    @property
    def now(self) -> Moment:
        market = self.sequencer.market
        assert isinstance(market, Market)
        return Moment(self.sequencer.position, market.hash(), self.feed.position)

    def step(self) -> None:
        """Something of what happens in a day."""
        rng, sequencer = self.rng, self.sequencer
        now_ns = sequencer.now_ns or FOUR_OCLOCK
        kind = rng.choices(
            ("trades", "watermark", "baselines", "reference", "filters", "rules"), (12, 6, 2, 1, 1, 1)
        )[0]  # fmt: skip
        if kind == "trades":
            since = min(now_ns - FOUR_OCLOCK + rng.randrange(20 * SECOND), 12 * HOUR)
            trades = [(rng.choice(SYMBOLS), since + rng.randrange(SECOND), 1 + rng.random() * 50) for _ in range(9)]
            self.feed.sequence(self.source.batch(*trades), 0)
        elif kind == "watermark":
            sequencer.add_watermark(now_ns + rng.randrange(SECOND))
        elif kind == "baselines":
            self.baselines(rng.sample(SYMBOLS, 3))
        elif kind == "reference":
            ids = sequencer.add_symbols(rng.sample(SYMBOLS, 5))
            column = frame_pb2.NumberColumn(field=frame_pb2.PREV_CLOSE, values=[1 + rng.random() * 50 for _ in ids])
            sequencer.add_reference(frame_pb2.ReferenceColumns(symbol_id=ids, numbers=[column]).SerializeToString())
        elif kind == "filters":
            sequencer.set_list_filters([ScanFilter("least", f"price > {rng.random()}", ())])
        else:
            self.feed.set_trade_rules(fallback_rules())

    def baselines(self, symbols: list[str]) -> None:
        ids = self.sequencer.add_symbols(symbols)
        values = [sorted(self.rng.random() * 1e6 for _ in range(SLOTS * len(ids))) for _ in range(3)]
        columns = frame_pb2.VolumeBaselines(
            symbol_id=ids, days=[20] * len(ids), avg_volume=values[0], avg_trades=values[1], sd_trades=values[2]
        )
        self.sequencer.add_baselines(columns.SerializeToString())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def found_in(path: Path) -> Recovered | None:
    directory = JournalDirectory(path)
    try:
        return recover(directory, load_lists())
    finally:
        directory.close()


def moment_of(found: Recovered | None) -> Moment:
    assert found is not None and found.market is not None
    assert found.market.sequence == found.position.sequence
    return Moment(found.position, found.market.hash(), found.feed)


def copies(home: Path) -> Iterator[Path]:
    """Copies of the directory, as who ends the process now would leave it."""
    number = 0
    while True:
        number += 1
        copy = home.with_name(f"copy-{number}")
        shutil.copytree(home, copy)
        yield copy
        shutil.rmtree(copy)


@pytest.mark.parametrize("split", [None, [], SYMBOLS[:4]], ids=["unknown", "nobody", "some"])
async def test_at_every_moment_the_next_process_finds_the_market(home: Path, split: list[str] | None) -> None:
    rig = Rig(home, split=split, max_frames=10**9)
    await rig.begin()
    copy = copies(home)
    for step in range(150):
        rig.step()
        if step % 40 == 25:
            await rig.journal.write_market()
        if step == 90:
            # Some baselines of before are gone with their day, or all.
            rig.feed.days.begin(CALENDAR, TOMORROW)
        if step % 3 == 0:
            assert moment_of(found_in(next(copy))) == rig.now
    # One state to go on from, and the one before it.
    assert len(rig.directory.files("state")) == 2
    rig.journal.close()


async def test_who_takes_over_and_ends_soon_leaves_the_frames_of_before(home: Path) -> None:
    """They are a leader's; what is in the journal here is of an earlier time."""
    leader, earlier = Rig(home.with_name("leader")), Rig(home)
    for rig, steps in ((leader, 60), (earlier, 90)):
        await rig.begin()
        for _ in range(steps):
            rig.step()
        rig.journal.close()
        rig.directory.close()
    copied = found_in(home.with_name("leader"))
    assert copied is not None
    before = len(copied.messages)
    assert before > 10
    directory = JournalDirectory(home)
    file = begin_with(directory, copied.position, copied.messages)
    directory.close()
    standby = Rig(home, copied._replace(state=file))
    standby.source, standby.rng = leader.source, leader.rng
    await standby.begin()
    standby.sequencer.add_watermark(standby.sequencer.now_ns + SECOND)
    standby.journal.close()
    standby.directory.close()
    found = found_in(home)
    assert moment_of(found) == standby.now and found is not None
    assert found.messages[:before] == copied.messages and len(found.messages) > before


async def test_the_stream_that_goes_on_is_the_one_that_was_not_ended(home: Path) -> None:
    """Also when the process is ended again and again."""
    rig, whole = Rig(home), Rig(home.with_name("whole"))
    for _ in range(6):
        await rig.begin()
        # A day that is in force already is said once more.
        whole.feed.days.begin(CALENDAR, TODAY)
        for step in range(25):
            rig.step()
            whole.step()
            if step == 12:
                await rig.journal.write_market()
        rig.journal.close()
        found = found_in(home)
        assert moment_of(found) == rig.now == whole.now
        assert found is not None
        ring = whole.sequencer.ring
        first = ring.newest + 1 - len(found.messages)
        assert found.messages == [ring.get(sequence) for sequence in range(first, ring.newest + 1)]
        ended, rig = rig, Rig(home, found)
        rig.source, rig.rng = ended.source, ended.rng
        rig.feed.set_symbols(rig.source.symbols)
    rig.journal.close()
    whole.journal.close()


async def test_the_next_process_has_the_newest_alerts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of before the journal's market as those since, also when the process is ended again and again."""
    rig, known, copy = Rig(home), 0, copies(home)
    for _ in range(3):
        await rig.begin()
        rig.sequencer.set_alert_rules([AlertRule("up", "Up", "grows(price)", text="{price}")])
        for step in range(40):
            rig.step()
            if step == 20:
                await rig.journal.write_market()
            if step % 10 == 5:
                found = found_in(next(copy))
                assert found is not None and found.alerts == rig.alerts.all()
        rig.journal.close()
        found = found_in(home)
        assert found is not None and found.alerts == rig.alerts.all()
        alerts = [alerts_pb2.Alert.FromString(alert) for alert in found.alerts]
        assert [(alert.epoch, alert.sequence) for alert in alerts] == [(EPOCH, n + 1) for n in range(len(alerts))]
        assert len(alerts) > known + 10
        known = len(alerts)
        ended, rig = rig, Rig(home, found)
        rig.source, rig.rng = ended.source, ended.rng
        rig.feed.set_symbols(rig.source.symbols)
    await rig.begin()
    rig.journal.close()
    # After the machine was started again, rules may have been others: none is made up since the journal's market.
    monkeypatch.setattr("services.data_ingest.journal.recovery.boot_id", lambda: "another")
    found = found_in(home)
    assert found is not None and (found.market, found.alerts) == (None, rig.alerts.all())


async def test_a_record_that_was_not_finished_was_never_there(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(20):
        rig.step()
    before = rig.now
    (file,) = rig.directory.files("frames")
    size = rig.directory.path_of(file).stat().st_size
    rig.feed.sequence(rig.source.batch(("AAPL", HOUR, 10.0), ("NEW", HOUR, 11.0)), 0)
    assert rig.now != before
    rig.journal.close()
    path = rig.directory.path_of(file)
    whole = path.read_bytes()
    for cut in range(size, len(whole)):
        path.write_bytes(whole[:cut])
        assert moment_of(found_in(home)) == before
    path.write_bytes(whole)
    assert moment_of(found_in(home)) == rig.now


async def test_a_batch_is_in_the_journal_with_its_position_and_its_trades(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    message = bytes(rig.source.batch(("AAPL", HOUR, 10.0), ("MSFT", HOUR, 20.0)))
    rig.feed.sequence(memoryview(message), 0)
    await rig.journal.write_market()
    rig.feed.sequence(rig.source.batch(), 0)
    rig.journal.close()
    found = found_in(home)
    assert found is not None and found.feed == rig.feed.position
    after = Rig(home, found)
    await after.begin()
    # A vendor that sends the same trades once more, in another batch.
    again = polygon_ws_pb2.MarketBatch.FromString(message)
    again.position.sequence = after.source.sequence = rig.source.sequence + 1
    assert after.feed.sequence(memoryview(again.SerializeToString()), 0) == 0
    assert after.feed.rejected["duplicate"] == 2
    after.journal.close()


async def test_the_next_process_takes_no_trade_for_one_of_another_day(home: Path) -> None:
    """The journal knows yesterday's ids, and exchanges begin theirs again each morning."""
    rig = Rig(home)
    await rig.begin()
    rig.feed.sequence(rig.source.batch(("AAPL", HOUR, 10.0), ("MSFT", HOUR, 20.0), ids_from=1), 0)
    rig.feed.days.begin(CALENDAR, TOMORROW)
    rig.feed.sequence(rig.source.batch(("AAPL", 25 * HOUR, 11.0), ids_from=1), 0)
    rig.journal.close()
    found = found_in(home)
    assert found is not None and found.day == TOMORROW and len(found.trade_identities) == 3 * 8
    after = Rig(home, found)
    after.source = rig.source
    await after.begin()
    after.feed.set_symbols(rig.source.symbols)
    trades = [("AAPL", 25 * HOUR, 11.0), ("MSFT", 25 * HOUR, 21.0)]
    assert after.feed.sequence(after.source.batch(*trades, ids_from=1), 0) == 1
    assert after.feed.rejected["duplicate"] == 1
    after.journal.close()


async def test_a_new_epoch_is_what_the_next_process_goes_on_with(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(30):
        rig.step()
    await rig.journal.write_market()
    rig.step()
    market = rig.sequencer.market
    assert isinstance(market, Market)
    rows = market.state.hash()
    rig.sequencer.begin_epoch(EPOCH + 1, renewed(market))
    stored = rig.journal.begin(rig.feed.position, b"12345678")
    # Frames of the new epoch while its state is on its way to the disk.
    rig.sequencer.announce_epoch()
    rig.step()
    await stored
    for _ in range(10):
        rig.step()
    rig.journal.close()
    found = found_in(home)
    assert moment_of(found) == rig.now
    assert found is not None and found.position.epoch == EPOCH + 1
    assert found.trade_identities[:8] == b"12345678"
    assert rows != market.hash()
    assert all(name.startswith(str(EPOCH + 1)) for name in os.listdir(home) if name != "lock")


async def test_what_cannot_be_read_is_passed_over(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(3):
        for _ in range(10):
            rig.step()
        await rig.journal.write_market()
    rig.step()
    rig.journal.close()
    older, newest = (rig.directory.path_of(file) for file in rig.directory.files("state"))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert moment_of(found_in(home)) == rig.now
    older.write_bytes(b"")
    assert found_in(home) is None


async def test_who_is_ended_while_the_market_is_written_leaves_the_one_before(home: Path) -> None:
    """Whatever the last frame before the new files was."""
    rig = Rig(home)
    await rig.begin()
    rig.step()
    await rig.journal.write_market()
    copy = copies(home)
    last: set[int] = set()
    for _ in range(120):
        rig.step()
        before = rig.sequencer.position
        await rig.journal.write_market()
        left = next(copy)
        (left / files.JournalFile(before, "state").name).unlink()
        assert moment_of(found_in(left)) == rig.now
        last.add(read_frame(only_field(rig.sequencer.ring.get(before.sequence))[1]).kind)
    assert frame_pb2.Frame.DESCRIPTOR.fields_by_name["baselines"].number in last and len(last) > 3
    rig.journal.close()


async def test_a_file_that_is_missing_is_a_hole(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(2):
        for _ in range(10):
            rig.step()
        await rig.journal.write_market()
    rig.step()
    rig.journal.close()
    older, newest = (rig.directory.path_of(file) for file in rig.directory.files("frames"))
    rig.directory.path_of(rig.directory.files("state")[-1]).unlink()
    older.unlink()
    assert newest.exists()
    found = found_in(home)
    # What can be read, under another numbering.
    assert found is not None and found.market is None and found.position < rig.now.position


async def test_a_state_with_the_name_of_another_is_passed_over(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(10):
        rig.step()
    await rig.journal.write_market()
    state = rig.directory.files("state")[-1]
    for _ in range(10):
        rig.step()
    rig.journal.close()
    renamed = state._replace(position=rig.now.position)
    shutil.copy(rig.directory.path_of(state), rig.directory.path_of(renamed))
    with structlog.testing.capture_logs() as logs:
        assert moment_of(found_in(home)) == rig.now
    assert logs[0]["reason"] == f"expected the market at {renamed.position}, was at {state.position}"


async def test_bytes_that_are_not_what_was_written_end_the_numbering(home: Path) -> None:
    """Readers know what is lost here."""
    rig = Rig(home)
    await rig.begin()
    for _ in range(30):
        rig.step()
    middle = rig.now
    (file,) = rig.directory.files("frames")
    size = rig.directory.path_of(file).stat().st_size
    for _ in range(10):
        rig.step()
    rig.journal.close()
    path = rig.directory.path_of(file)
    wrong = bytearray(path.read_bytes())
    wrong[size + 20] ^= 1
    path.write_bytes(wrong)
    found = found_in(home)
    assert found is not None and (found.market, found.position) == (None, middle.position)


@pytest.mark.parametrize("kind", ["state", "frames", "baselines"])
async def test_whole_records_of_nonsense_end_no_recovery(home: Path, kind: files.Kind) -> None:
    """The checksum is right, the message is none: what is found lies before it."""
    rig = Rig(home)
    await rig.begin()
    for _ in range(30):
        rig.step()
    rig.journal.close()
    known = moment_of(found_in(home))
    file = rig.directory.files(kind)[-1]
    path = home / file.name
    whole = path.read_bytes()
    head = next(files.read_records(memoryview(whole)))
    rng = random.Random(kind)
    for _ in range(300):
        nonsense = rng.randbytes(rng.randrange(1, 30))
        # In place of the first record, after it, and after all.
        before = rng.choice((b"", whole[: 8 + len(head)], whole))
        with path.open("wb", buffering=0) as target:
            target.write(before)
            files.write_record(target.fileno(), [nonsense])
        found = found_in(home)
        assert found is None or found.position <= known.position
    path.write_bytes(whole)
    assert moment_of(found_in(home)) == known


async def test_after_the_machine_or_with_other_lists_the_rows_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(40):
        rig.step()
    # It brings the rows touched last to its time: another one within the second then changes no row.
    rig.sequencer.add_watermark(0)
    rig.journal.close()
    assert isinstance(rig.sequencer.market, Market)
    rows = rig.sequencer.market.state.hash()

    directory = JournalDirectory(home)
    found = recover(directory, load_lists()[:-1])
    directory.close()
    assert found is not None and (found.market, found.rows.hash()) == (None, rows)

    monkeypatch.setattr("services.data_ingest.journal.recovery.boot_id", lambda: "another")
    found = found_in(home)
    assert found is not None and (found.market, found.rows.hash()) == (None, rows)
    market = Market.of_state(load_lists(), EPOCH + 1, found.rows, encode_deltas=False)
    after = Sequencer(EPOCH + 1, market, day=found.day)
    after.add_watermark(0)
    assert (after.position, market.state.hash()) == (Position(EPOCH + 1, 1), rows)
    assert market.list_count("filtered") > 0


async def test_a_state_of_another_version_is_refused_in_one_line(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    rig.step()
    rig.journal.close()
    formats: tuple[str, str] | None = None
    for file in rig.directory.files("state"):
        records = list(files.read_records(memoryview((home / file.name).read_bytes())))
        layout = re.search(rb"tradeul state (\d+) ", bytes(records[0]))
        assert layout is not None
        before = layout[0].replace(layout[1], b"%0*d" % (len(layout[1]), int(layout[1]) - 1))
        formats = (layout[1].decode(), before.split()[2].decode())
        with (home / file.name).open("wb", buffering=0) as target:
            for record in records:
                files.write_record(target.fileno(), [bytes(record).replace(layout[0], before)])
    with structlog.testing.capture_logs() as logs:
        assert found_in(home) is None
    (line,) = logs
    assert line["event"] == "journal: state cannot be read"
    assert formats is not None
    says = "expected format '{} .*', was '{} .*', which another version of Tradeul writes".format(*formats)
    assert re.search(says, line["reason"])


async def test_what_cannot_be_written_stops_nothing_and_is_not_found(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    rig.step()
    # The size of files is bounded, as on a disk that is full.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    try:
        for _ in range(300):
            rig.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not rig.journal.is_kept
    assert os.listdir(home) == ["lock"]
    await rig.journal.begin(rig.feed.position)
    rig.step()
    assert rig.journal.is_kept
    rig.journal.close()
    assert moment_of(found_in(home)) == rig.now


@pytest.mark.parametrize("file", ["frames", "state"])
async def test_a_process_that_is_out_of_files_writes_on_and_loses_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The market waits for a file of its own; entries do not."""
    rig = Rig(home)
    await rig.begin()
    rig.baselines(SYMBOLS[:3])
    for _ in range(50):
        rig.step()
    first = moment_of(found_in(shutil.copytree(home, tmp_path / "before")))
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
        if file == "frames":
            lowest = os.open(os.devnull, os.O_RDONLY)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, usual[1]))
        else:
            # Others took what was left.
            full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            patched.setattr(Journal, "_write_state", mock.Mock(side_effect=full))
        try:
            await rig.journal.write_market()
            for _ in range(50):
                rig.step()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "journal's market cannot be written for now"
    ]
    assert "Too many open files" in logs[0]["reason"]
    assert rig.journal.is_kept
    assert moment_of(found_in(shutil.copytree(home, tmp_path / "then"))) == rig.now != first
    await rig.journal.write_market()
    rig.step()
    rig.journal.close()
    found = found_in(home)
    assert moment_of(found) == rig.now
    assert found is not None and found.state is not None and found.state.position > first.position


async def test_a_frame_that_cannot_be_applied_is_not_gone_on_from(home: Path) -> None:
    rig = Rig(home)
    await rig.begin()
    with pytest.raises(ValueError, match="expected"):
        rig.sequencer.add_reference(b"\x83\x01")
    rig.journal.close()
    assert found_in(home) is None


async def test_the_market_is_written_anew_when_there_is_much_to_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.data_ingest.journal.writer.LOOK_SECONDS", 0.01)
    rig = Rig(home, max_frames=50)
    await rig.begin()
    running = asyncio.create_task(rig.journal.run())
    for _ in range(400):
        rig.step()
        await asyncio.sleep(0.001)
    # Not while a thread writes or removes files that are to be read here.
    async with rig.journal.beginning:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    rig.journal.close()
    found = found_in(home)
    assert moment_of(found) == rig.now
    assert found is not None and len(found.messages) < 200
    assert len(os.listdir(home)) < 10


def test_one_process_at_a_time(home: Path) -> None:
    directory = JournalDirectory(home)
    with pytest.raises(StartError, match="another data_ingest writes its journal"):
        JournalDirectory(home)
    directory.close()
    JournalDirectory(home).close()


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "records"
    with path.open("wb", buffering=0) as file:
        assert files.write_record(file.fileno(), [b"one", b"", b" record"]) == 18
        files.write_record(file.fileno(), [b""])
        files.write_record(file.fileno(), [os.urandom(100_000)])
    data = path.read_bytes()
    assert [len(record) for record in files.read_records(memoryview(data))] == [10, 0, 100_000]
    large = [b"head", os.urandom(3 * files.PIECE_BYTES + 1), b""]
    with path.open("wb", buffering=0) as file:
        files.write_large_record(file.fileno(), large, iter)
        files.write_large_record(file.fileno(), [], iter)
    assert [bytes(record) for record in files.read_records(memoryview(path.read_bytes()))] == [b"".join(large), b""]
    wrong = bytearray(data)
    wrong[-1] ^= 1
    records = files.read_records(memoryview(wrong))
    assert [len(next(records)), len(next(records))] == [10, 0]
    with pytest.raises(files.Damaged, match="record at byte 26: expected CRC-32"):
        next(records)
    assert [len(record) for record in files.read_records(memoryview(data)[:-1])] == [10, 0]


async def test_the_market_is_written_without_haste_until_somebody_waits(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(home)
    await rig.begin()
    for _ in range(30):
        rig.step()
    monkeypatch.setattr("services.kit.runtime.priority.PAUSE_RATIO", 1e12)
    writing = asyncio.create_task(rig.journal.write_market())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(writing), 0.3)
    rig.step()
    rig.journal.hurry()
    await writing
    assert moment_of(found_in(next(copies(home)))) == rig.now
    assert max(state.position for state in rig.directory.files("state")) > Position(EPOCH, 0)
    rig.journal.close()


@pytest.mark.parametrize("until", ["prepared", "written"])
async def test_a_journal_that_is_abandoned_meanwhile_stays_so(
    home: Path, until: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While memory for the market is prepared, or while the market is written: it would lack what was removed."""
    rig = Rig(home)
    await rig.begin()
    for _ in range(60):
        rig.step()
    monkeypatch.setattr("services.kit.runtime.priority.PAUSE_RATIO", 1e12 if until == "prepared" else 0)
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    write = files.write_large_record

    def wait_and_write(file: int, parts: list[bytes | memoryview], pace: files.Pace) -> None:
        write(file, parts, pace)
        loop.call_soon_threadsafe(reached.set)
        time.sleep(0.3)

    if until == "written":
        monkeypatch.setattr("services.data_ingest.journal.writer.write_large_record", wait_and_write)
    writing = asyncio.create_task(rig.journal.write_market())
    if until == "written":
        await reached.wait()
    else:
        await asyncio.sleep(0.1)
    failures = metrics.JOURNAL_FAILURES._value.get()
    rig.journal.abandon("of a test")
    rig.journal.hurry()
    await writing
    assert metrics.JOURNAL_FAILURES._value.get() == failures + 1
    assert not rig.journal.is_kept
    assert os.listdir(home) == ["lock"]
    rig.journal.close()
