"""The log of the lists: exactly who entered and left, against lists that are compared watermark by watermark."""

import random
import tracemalloc
from typing import Any

import pytest
from tradeul.v1 import scanner_pb2

from fastcore.list_membership import membership_changes
from fastcore.wire import write_fields
from services.kit.rpc.frames import next_frame
from services.kit.rpc.page_tokens import encode_page_token
from services.kit.runtime.errors import ServiceError
from services.scanner import list_log
from services.scanner.list_log import ListLog, list_log_page, page_place, page_token
from tests.support.settled_core import SettledCore
from tests.support.tape import EPOCH, Tape, a_list, at, rows_of

SPECS = [
    a_list("risers", limit=5),
    a_list("fallers", "change_percent < 0", "change_percent asc"),
    a_list("active", "volume_today > 300", "volume_today desc", limit=4),
]
SYMBOLS = [f"S{number:02}" for number in range(12)]
Entry = tuple[int, str, str, int, float, float]


class Replica:
    """A scanner's core and its log."""

    def __init__(self, **limits: int) -> None:
        self.core = SettledCore(SPECS)
        self.log = ListLog(self.core, **limits)

    def apply(self, *frames: bytes) -> None:
        for frame in frames:
            parts = next_frame(memoryview(frame), self.core.position)
            updates = self.core.apply(parts)
            if parts.begins_market:
                self.log.market_replaced()
            self.log.frame_applied(parts, updates)

    def load(self, other: "Replica") -> None:
        position = other.core.position
        assert position is not None
        self.core.load(other.core.market.to_bytes(), position)
        self.log.market_replaced()

    def members(self) -> dict[str, dict[str, int]]:
        return {
            spec.name: {row.symbol: row.rank for row in rows_of(self.core.market.snapshot(spec.name))} for spec in SPECS
        }

    def page(self, name: str = "", symbol: str = "", limit: int = 1000, token: str = "") -> scanner_pb2.ListLogPage:
        return list_log_page(self.log, name, symbol, limit, page_place(token))

    def entries(self, name: str = "", symbol: str = "") -> list[Entry]:
        """The log, oldest first, as plain_log() writes it."""
        return [
            (each.time.ToNanoseconds(), each.list, each.symbol, each.rank, each.price, each.change_percent)
            for each in reversed(self.page(name, symbol).changes)
        ]


@pytest.fixture
def tape() -> Tape:
    return Tape(SYMBOLS)


def random_day(replica: Replica, tape: Tape, rng: random.Random, watermarks: int) -> list[Entry]:
    """Random trades; the log as it should be, from the members before and after each watermark."""
    expected: list[Entry] = []
    before = replica.members()
    for _ in range(watermarks):
        chosen = rng.sample(SYMBOLS, rng.randint(0, 4))
        if chosen:
            replica.apply(tape.trades({symbol: round(rng.uniform(97, 103), 2) for symbol in chosen}))
        replica.apply(tape.watermark(rng.choice((0.0, 0.25, 20.0))))
        after = replica.members()
        for spec in SPECS:
            old, new = before[spec.name], after[spec.name]
            changed: dict[str, int] = {symbol: 0 for symbol in old if symbol not in new}
            changed |= {symbol: rank for symbol, rank in new.items() if symbol not in old}
            for symbol, rank in changed.items():
                row: dict[str, Any] = replica.core.market.state.row(symbol)
                expected.append((tape.now_ns, spec.name, symbol, rank, row["price"], row["change_percent"]))
        before = after
    return expected


@pytest.mark.parametrize("seed", range(5))
def test_the_log_is_what_the_lists_show_at_every_watermark(tape: Tape, seed: int) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.watermark())
    expected = random_day(replica, tape, random.Random(seed), 150)
    entries = replica.entries()
    assert len(entries) > 100
    assert sorted(entries) == sorted(expected)
    assert [entry[0] for entry in entries] == sorted(entry[0] for entry in entries)
    for spec in SPECS:
        assert sorted(replica.entries(spec.name)) == sorted(entry for entry in expected if entry[1] == spec.name)
    for symbol in SYMBOLS:
        assert sorted(replica.entries("risers", symbol)) == sorted(
            entry for entry in expected if entry[1:3] == ("risers", symbol)
        )
    # Enter and leave alternate, so that members follow from it.
    members: dict[str, set[str]] = {spec.name: set() for spec in SPECS}
    for _, name, symbol, rank, *_ in entries:
        assert (symbol not in members[name]) == bool(rank)
        (members[name].add if rank else members[name].discard)(symbol)
    assert members == {name: set(ranks) for name, ranks in replica.members().items()}


def test_pages_of_any_size_are_the_whole_log(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.watermark())
    random_day(replica, tape, random.Random(7), 60)
    whole = list(replica.page().changes)
    for limit in (1, 7, len(whole) - 1, len(whole), len(whole) + 1):
        pages: list[scanner_pb2.LoggedChange] = []
        token = ""
        while True:
            page = replica.page(limit=limit, token=token)
            assert page.count == len(page.changes) <= limit
            pages += page.changes
            # What comes meanwhile is before the first page.
            random_day(replica, tape, random.Random(limit), 1)
            if not (token := page.next_page_token):
                break
        assert pages[: len(whole)] == whole or limit > len(whole)
        whole = list(replica.page().changes)


def test_replicas_have_the_same_log_and_tokens(tape: Tape) -> None:
    one, other = Replica(), Replica()
    for frame in (*tape.opening(), tape.trades({"S01": 103.0}), tape.watermark(), tape.trades({"S02": 104.0})):
        one.apply(frame)
        other.apply(frame)
    last = tape.watermark()
    one.apply(last)
    other.apply(last)
    token = one.page(limit=1).next_page_token
    assert one.page(token=token) == other.page(token=token)
    assert [each.symbol for each in one.page(token=token).changes] == ["S01"]


def test_a_change_takes_little(tape: Tape) -> None:
    """As tuples it was 400 bytes, with its places in the log of the list and of the symbol."""
    replica = Replica()
    replica.apply(*tape.opening(), tape.watermark())
    random_day(replica, tape, random.Random(1), 30)
    before = len(replica.entries())
    tracemalloc.start()
    try:
        random_day(replica, tape, random.Random(2), 200)
        mine = tracemalloc.Filter(True, list_log.__file__)
        held = sum(each.size for each in tracemalloc.take_snapshot().filter_traces([mine]).statistics("filename"))
    finally:
        tracemalloc.stop()
    assert 60 < held / (len(replica.entries()) - before) < 160


@pytest.mark.parametrize("number", [-1, 1 << 32, 1.5, "1", True])
def test_the_token_of_a_place_that_cannot_be_is_refused(number: int | float | str) -> None:
    token = encode_page_token([EPOCH, number, 0, 0])  # type: ignore[list-item]
    with pytest.raises(ServiceError, match="expected the next_page_token of an earlier answer"):
        page_place(token)


def test_a_snapshot_logs_what_changed_meanwhile_and_says_since_when_it_is_complete(tape: Tape) -> None:
    ahead, behind = Replica(), Replica()
    ahead.apply(*tape.opening(), tape.trades({"S01": 103.0, "S02": 102.0, "S03": 98.0}), tape.watermark())
    behind.load(ahead)
    # What was there before is not known to have entered now.
    assert behind.entries() == []
    assert behind.page().since.ToNanoseconds() == tape.now_ns
    ahead.apply(tape.trades({"S01": 99.0, "S04": 101.0}), tape.watermark(), tape.watermark(30))
    behind.load(ahead)
    assert {entry[:4] for entry in behind.entries()} == {
        (tape.now_ns, "risers", "S01", 0),
        (tape.now_ns, "risers", "S04", 2),
        (tape.now_ns, "fallers", "S01", 2),
    }
    assert behind.page().since.ToNanoseconds() == tape.now_ns


def test_a_new_epoch_moves_nobody_who_stays(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.trades({"S01": 103.0, "S02": 102.0}), tape.watermark())
    entries = replica.entries()
    again = Tape(SYMBOLS, epoch=EPOCH + 1)
    replica.apply(*again.opening(), again.trades({"S01": 103.0, "S02": 99.0}), again.watermark())
    assert {entry[1:4] for entry in replica.entries()[len(entries) :]} == {("risers", "S02", 0), ("fallers", "S02", 1)}


def test_a_day_begins_with_an_empty_log(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.trades({"S01": 103.0}), tape.watermark())
    assert len(replica.entries()) == 1
    replica.apply(tape.next_day(), tape.watermark())
    assert {entry[1:4] for entry in replica.entries()} == {("risers", "S01", 0)}
    assert replica.page().since.ToNanoseconds() == tape.now_ns


def test_the_oldest_changes_are_dropped_beyond_the_limit(tape: Tape) -> None:
    replica = Replica(max_held=20)
    replica.apply(*tape.opening(), tape.watermark())
    expected = random_day(replica, tape, random.Random(3), 100)
    entries = replica.entries()
    assert len(entries) == 20
    assert sorted(entries) == sorted(expected[-20:])
    assert sorted(each for symbol in SYMBOLS for each in replica.entries(symbol=symbol)) == sorted(entries)
    assert sorted(each for spec in SPECS for each in replica.entries(spec.name)) == sorted(entries)
    since = replica.page().since.ToNanoseconds()
    assert since > at("10:00:00")
    assert [each for each in expected if each[0] >= since] == [each for each in expected[-20:] if each[0] >= since]


@pytest.mark.parametrize("token", ["!", "e30", "WzFd", page_token((1, 2, 3)), "WzEsMiwzLCJ4Il0"])  # type: ignore[arg-type]
def test_a_token_of_no_page_is_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="next_page_token"):
        page_place(token)


def test_membership_of_encoded_deltas() -> None:
    delta = scanner_pb2.ListDelta(list="risers", epoch=1, sequence=2)
    change = scanner_pb2.ListChange
    delta.deltas.add(action=change.REMOVE, symbol="GONE")
    delta.deltas.add(action=change.ADD, symbol="NEW", rank=7).data.price = 1.5
    delta.deltas.add(action=change.RERANK, symbol="MOVED", old_rank=1, new_rank=2)
    delta.deltas.add(action=change.UPDATE, symbol="SAME", rank=3).data.price = 1.5
    assert membership_changes(delta.SerializeToString()) == [("GONE", 0), ("NEW", 7)]
    assert membership_changes(b"") == []
    # Of an enum only the lower 32 bits count.
    padded = write_fields([(5, 2, write_fields([(1, 0, 2**32 + change.ADD), (2, 2, b"A"), (3, 0, 2)]))])
    assert scanner_pb2.ListDelta.FromString(padded).deltas[0].action == scanner_pb2.ListChange.ADD
    assert membership_changes(padded) == [("A", 2)]
    with pytest.raises(ValueError, match="ListDelta"):
        membership_changes(delta.SerializeToString()[:-3])
