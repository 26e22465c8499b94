"""One copy of the market: frames, questions, whole states, own lists."""

import random
from collections.abc import Callable, Iterable

import pytest
from tradeul.v1 import frame_pb2, scanner_pb2, ticker_row_pb2

from fastcore.filters import Filter, Order, compile_filter, compile_order
from fastcore.market import Market
from fastcore.prepared_buffer import PreparedBuffer
from fastcore.ranked_list import RankedList
from fastcore.wire import read_fields, write_fields
from services.kit.lists.definitions import ListSpec, load_lists
from services.kit.lists.list_client import ListCopy
from tests.support.tape import EPOCH, Tape, Watched, a_list, check_copy, feed, rows_of, said, watcher

SYMBOLS = [f"S{i:02}" for i in range(60)]
SPECS = [
    a_list("risers", limit=10),
    a_list("fallers", "change_percent < 0", "change_percent asc", stay="change_percent < 1", limit=10),
    a_list("busy", "volume_today > 0", "volume_today desc", base_filter="price >= 99", uses_scanner_filters=True),
]


def compiled(filter_text: str, order_by: str) -> tuple[Filter, Order]:
    return compile_filter(filter_text), compile_order(order_by)


def random_frames(tape: Tape, seed: int, watermarks: int) -> list[bytes]:
    """Trades and watermarks; some of the trades come behind the last watermark."""
    rng = random.Random(seed)
    frames: list[bytes] = []
    for _ in range(watermarks):
        frames.append(tape.trades({s: round(rng.uniform(97, 103), 1) for s in rng.sample(SYMBOLS, rng.randrange(8))}))
        if rng.random() < 0.1:
            frames.append(tape.filters(("least", f"price >= {rng.uniform(97, 100):.1f}")))
        frames.append(tape.watermark(rng.choice([0.01, 2.0])))
    return [*frames, tape.trades({"S01": 102.5, "S02": 97.5})]


def applied(specs: Iterable[ListSpec], frames: Iterable[bytes], encode_deltas: bool = True) -> Market:
    market = Market(specs, EPOCH, encode_deltas)
    for frame in frames:
        market.apply(frame)
    return market


def symbols_of(ranked_list: bytes) -> list[str]:
    return [row.symbol for row in rows_of(ranked_list)]


def test_frames_must_follow() -> None:
    tape = Tape(["A"])
    market = Market([a_list()], EPOCH)
    frames = tape.opening()
    for frame in frames:
        market.apply(memoryview(frame))
    assert (market.epoch, market.sequence) == (EPOCH, len(frames))
    with pytest.raises(ValueError, match=f"after sequence {len(frames)}, was {EPOCH}/1"):
        market.apply(frames[0])
    with pytest.raises(ValueError, match=f"expected a frame of epoch {EPOCH + 1}"):
        Market([a_list()], EPOCH + 1).apply(frames[0])
    with pytest.raises(ValueError, match=r"was 0/0"):
        Market([a_list()], EPOCH).apply(b"")
    with pytest.raises(ValueError, match="truncated"):
        Market([a_list()], EPOCH).apply(frames[0][:-1])


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_made_at_noon_goes_on_exactly_alike(seed: int) -> None:
    tape = Tape(SYMBOLS)
    opening = tape.opening()
    before, after = random_frames(tape, seed, 40), random_frames(tape, seed + 100, 40)
    market = applied(SPECS, [*opening, *before])
    data = market.to_bytes()
    copy = Market.from_bytes(SPECS, data)
    assert copy.hash() == market.hash()
    assert (copy.epoch, copy.sequence) == (market.epoch, market.sequence)
    assert copy.to_bytes() == data
    for spec in SPECS:
        assert copy.snapshot(spec.name) == market.snapshot(spec.name)
        assert copy.list_sequence(spec.name) == market.list_sequence(spec.name) > 10
    for frame in after:
        expected = [(u.list, u.previous_sequence, u.sequence, u.delta) for u in market.apply(frame)]
        assert [(u.list, u.previous_sequence, u.sequence, u.delta) for u in copy.apply(frame)] == expected
    assert copy.hash() == market.hash()
    assert copy.to_bytes() == market.to_bytes()


@pytest.mark.parametrize("with_baselines", [True, False])
@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_market_is_written_into_a_buffer_as_into_bytes(size: int, with_baselines: bool) -> None:
    """Whether or not there is enough room; and again, once nobody looks at what was written before."""
    tape = Tape(SYMBOLS)
    market = applied(SPECS, [*tape.opening(), *random_frames(tape, 3, 20)])
    buffer = PreparedBuffer(size)
    written = market.write_to(buffer, with_baselines)
    before = market.to_bytes(with_baselines)
    assert bytes(written) == before
    assert size < len(buffer) <= buffer.capacity or buffer.capacity == size
    for frame in random_frames(tape, 4, 20):
        market.apply(frame)
    with pytest.raises(BufferError, match="expected a buffer that nobody looks at"):
        market.write_to(buffer)
    assert bytes(written) == before
    written.release()
    assert bytes(market.write_to(buffer, with_baselines)) == market.to_bytes(with_baselines) != before
    assert market.expected_size(with_baselines) >= len(buffer)


def test_a_buffer_has_a_size() -> None:
    with pytest.raises(ValueError, match="expected a size of at least 0 bytes, was -1"):
        PreparedBuffer(-1)
    assert len(PreparedBuffer(100)) == 0


def test_the_sequencer_s_copy_counts_alike_without_deltas() -> None:
    tape = Tape(SYMBOLS)
    frames = [*tape.opening(), *random_frames(tape, 1, 30)]
    market, sequencer = Market(SPECS, EPOCH), Market(SPECS, EPOCH, encode_deltas=False)
    for frame in frames:
        updates, counted = market.apply(frame), sequencer.apply(frame)
        assert [(u.list, u.sequence) for u in counted] == [(u.list, u.sequence) for u in updates]
        assert all(u.delta for u in updates)
        assert not any(u.delta for u in counted)
    assert sequencer.hash() == market.hash()
    assert Market.from_bytes(SPECS, sequencer.to_bytes()).hash() == market.hash()


def test_hash_tells_markets_apart() -> None:
    def market_of(*prices: dict[str, float]) -> Market:
        tape = Tape(SYMBOLS)
        opening = tape.opening()
        return applied(SPECS, [*opening, *[tape.trades(one) for one in prices], tape.watermark()])

    one = market_of({"S01": 101.0}, {"S02": 102.0})
    assert one.hash() == market_of({"S01": 101.0}, {"S02": 102.0}).hash()
    assert one.hash() != market_of({"S01": 101.0}, {"S02": 102.1}).hash()
    # Where the state is the same but a list was told more often, it is another market.
    tape = Tape(SYMBOLS)
    frames = [
        *tape.opening(),
        tape.trades({"S01": 101.0}),
        tape.watermark(),
        tape.trades({"S02": 102.0}),
        tape.watermark(),
    ]
    assert one.hash() != applied(SPECS, frames).hash()


def test_asking_changes_nothing() -> None:
    tape = Tape(SYMBOLS)
    frames = [*tape.opening(), *random_frames(tape, 5, 30)]
    asked, quiet = Market(SPECS, EPOCH), Market(SPECS, EPOCH)
    for frame in frames:
        expected = [(u.list, u.sequence, u.delta) for u in quiet.apply(frame)]
        assert [(u.list, u.sequence, u.delta) for u in asked.apply(frame)] == expected
        asked.query(*compiled("price > 0", "price desc"), 20, as_built_in=True)
        asked.snapshot("risers", 30)
        asked.remove_scan(asked.add_scan(*compiled("price > 0", ""), 5))
        assert asked.hash() == quiet.hash()
    assert asked.to_bytes() == quiet.to_bytes()


def test_whole_states_of_other_lists_or_broken_ones_are_refused() -> None:
    tape = Tape(SYMBOLS)
    data = applied(SPECS, [*tape.opening(), *random_frames(tape, 2, 5)]).to_bytes()
    with pytest.raises(ValueError, match="same definitions"):
        Market.from_bytes([*SPECS[:2], SPECS[2]._replace(filter="price > 1")], data)
    with pytest.raises(ValueError, match="same definitions"):
        Market.from_bytes(SPECS[:2], data)
    with pytest.raises(ValueError, match="incomplete"):
        Market.from_bytes(SPECS, b"")
    rng = random.Random(4)
    for _ in range(60):
        with pytest.raises(ValueError):
            Market.from_bytes(SPECS, data[: rng.randrange(len(data))])


@pytest.mark.parametrize(
    "damaged, message",
    [
        (lambda row: row + b"\x08", "expected a TickerRow"),
        # Two symbols: which one counts would be anybody's choice.
        (lambda row: row + ticker_row_pb2.TickerRow(symbol="S99").SerializeToString(), "expected its symbol"),
        (lambda row: ticker_row_pb2.TickerRow(symbol="S99").SerializeToString(), "expected its symbol"),
        (lambda row: row.replace(b"Inc.", b"In\xff."), "expected a TickerRow"),
        (lambda row: b"", "expected a row that begins with its symbol"),
    ],
)
def test_rows_of_a_list_that_could_not_be_published_are_refused(
    damaged: Callable[[bytes], bytes], message: str
) -> None:
    tape = Tape(SYMBOLS)
    name = frame_pb2.TextColumn(field=frame_pb2.COMPANY_NAME, values=["S01 Inc."])
    names = frame_pb2.ReferenceColumns(symbol_id=[SYMBOLS.index("S01")], texts=[name])
    frames = [*tape.opening(), tape.frame(reference=names), tape.trades({"S01": 101.0}), tape.watermark()]
    market = applied([a_list()], frames)
    whole = market.to_bytes()
    with pytest.raises(ValueError, match=f"row of S01 in a list: {message}|^{message}"):
        Market.from_bytes([a_list()], with_rows(whole, damaged))
    assert Market.from_bytes([a_list()], with_rows(whole, bytes)).hash() == market.hash()


def with_rows(market: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The bytes of a market with other rows in its lists."""

    def inside(message: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
        return write_fields(
            (at, kind, change(value) if at == number and isinstance(value, bytes) else value)
            for at, kind, value in read_fields(message)
        )

    return inside(market, 4, lambda lists: inside(lists, 5, lambda one: inside(one, 5, change)))


def test_the_values_shown_are_in_the_lists_order() -> None:
    """An order value may move with time alone, and a row be shown as it was taken some seconds before."""
    watched = Watched(Tape(["A", "B", "C"]), a_list("waiting", "has(age_seconds)", "age_seconds desc"))

    def shown() -> list[tuple[str, float]]:
        return [(row.symbol, row.age_seconds) for row in rows_of(watched.market.snapshot("waiting"))]

    watched.trade({"A": 101.0})
    watched.trade({"B": 101.0})
    assert shown() == [("A", 0.0), ("B", 0.0)]
    # C enters with an age of 2 s; A and B are older, and were shown with 0 s.
    deltas = watched.trade({"C": 101.0}, 2.0)
    assert shown() == [("A", 2.002), ("B", 2.001), ("C", 2.0)]
    assert [change[:2] for change in said(deltas["waiting"])] == [("UPDATE", "A"), ("UPDATE", "B"), ("ADD", "C")]
    # Where nothing contradicts the order, time alone changes nothing within a window.
    assert watched.refresh(1.0) == {}
    assert shown() == [("A", 2.002), ("B", 2.001), ("C", 2.0)]
    # A copy of the market knows what was shown.
    copy = Market.from_bytes([a_list("waiting", "has(age_seconds)", "age_seconds desc")], watched.market.to_bytes())
    frames = [watched.tape.trades({"A": 101.0}), watched.tape.watermark(2.0)]
    assert [watched.market.apply(frame) for frame in frames][1][0].delta == [copy.apply(frame) for frame in frames][1][
        0
    ].delta
    assert copy.hash() == watched.market.hash()


def test_a_query_sees_the_state_of_now() -> None:
    tape = Tape(["A", "B", "C"])
    watched = Watched(tape, a_list(base_filter="price >= 50"))
    watched.trade({"A": 101.0})
    watched.market.apply(tape.trades({"B": 103.0, "C": 40.0}))
    answer = scanner_pb2.RankedList.FromString(watched.market.query(*compiled("price > 0", "price desc"), 2))
    assert [row.symbol for row in answer.rows] == ["B", "A"]
    assert [row.rank for row in answer.rows] == [1, 2]
    assert (answer.list, answer.epoch, answer.sequence, answer.count) == ("scan", EPOCH, 0, 2)
    assert answer.timestamp.ToNanoseconds() == tape.now_ns
    assert (answer.position.epoch, answer.position.sequence) == (EPOCH, tape.sequence)
    # The list itself is as it was at the watermark.
    assert watched.ranked("risers") == ["A"]
    assert symbols_of(watched.market.query(*compiled("", ""), 9)) == ["A", "B", "C"]
    assert symbols_of(watched.market.query(*compiled("price > 0", ""), 9, as_built_in=True)) == ["A", "B"]
    watched.market.apply(tape.filters(("dear", "price > 101")))
    assert symbols_of(watched.market.query(*compiled("price > 0", ""), 9, as_built_in=True)) == ["B"]
    assert symbols_of(watched.market.query(*compiled("price > 0", ""), 9)) == ["A", "B", "C"]
    assert [watched.market.count(compile_filter(text)) for text in ("", "price > 50", "price > 500")] == [3, 2, 0]
    with pytest.raises(ValueError, match="position 8"):
        compile_filter("price > prise")
    with pytest.raises(ValueError, match="at least 1"):
        watched.market.query(*compiled("", ""), 0)


def test_a_snapshot_may_be_shorter_or_longer() -> None:
    tape = Tape(SYMBOLS)
    watched = Watched(tape, a_list("risers", limit=10), a_list("few", "change_percent > 6", "price desc", limit=10))
    prices = {symbol: 101.0 + i / 10 for i, symbol in enumerate(SYMBOLS)}
    watched.trade(prices)
    best = list(reversed(SYMBOLS))
    assert watched.ranked("risers") == best[:10]
    assert watched.ranked("risers", 3) == best[:3]
    assert watched.ranked("risers", 25) == best[:25]
    # A list that is not full has nothing to add.
    assert watched.ranked("few", 500) == watched.ranked("few") == best[:9]
    # Behind the watermark: published rows stand, further ones are of now.
    watched.market.apply(tape.trades({"S00": 120.0}))
    assert watched.ranked("risers", 10) == best[:10]
    assert watched.ranked("risers", 11) == ["S00", *best[:10]]
    with pytest.raises(ValueError, match="at least 1, was 0"):
        watched.market.snapshot("risers", 0)
    with pytest.raises(KeyError, match="risers, few, was 'losers'"):
        watched.market.snapshot("losers")


def test_own_lists_live_beside_the_built_in_ones() -> None:
    tape = Tape(["A", "B", "C"])
    watched = Watched(tape, a_list())
    watched.trade({"A": 101.0})
    watched.market.apply(tape.trades({"B": 99.0}))
    scan = watched.market.add_scan(*compiled("price > 0", "price asc"), 2)
    assert isinstance(scan, RankedList)
    # It is there at once, with the rows of now.
    assert (scan.sequence, scan.count) == (1, 2)
    copy = ListCopy()
    snapshot = scanner_pb2.RankedList.FromString(watched.market.scan_snapshot(scan))
    assert (snapshot.list, snapshot.epoch, snapshot.sequence) == ("scan", EPOCH, 1)
    assert [row.symbol for row in snapshot.rows] == ["B", "A"]
    copy.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
    assert watched.refresh() == {}
    for prices in ({"C": 100.0}, {"C": 98.0}, {"A": 90.0, "B": 91.0}):
        watched.market.apply(tape.trades(prices))
        updates = watched.market.apply(tape.watermark())
        assert updates[-1].list == scan.name
        assert scanner_pb2.ListDelta.FromString(bytes(updates[-1].delta)).list == "scan"
        feed(copy, updates[-1])
        for update in updates[:-1]:
            feed(watched.copies[update.list], update)
    assert copy.rows() == rows_of(watched.market.scan_snapshot(scan))
    assert copy.sequence == scan.sequence == 4
    # No part of the whole state.
    assert Market.from_bytes([a_list()], watched.market.to_bytes()).hash() == watched.market.hash()
    # By itself it is refreshed to the rows of now, whatever the last watermark saw.
    watched.market.apply(tape.trades({"A": 80.0}))
    change = watched.market.refresh_scan(scan)
    assert change is not None
    feed(copy, change)
    assert copy.rows() == rows_of(watched.market.scan_snapshot(scan))
    assert watched.market.refresh_scan(scan) is None
    watched.market.take(tape.watermark())
    for update in watched.market.refresh():
        feed(watched.copies[update.list], update)
    other = watched.market.add_scan(*compiled("price > 1000", ""), 2)
    assert other.name != scan.name
    assert (other.sequence, other.count) == (0, 0)
    watched.market.remove_scan(scan)
    with pytest.raises(KeyError, match="of this market"):
        watched.market.remove_scan(scan)
    with pytest.raises(KeyError, match="of this market"):
        watched.market.scan_snapshot(scan)
    with pytest.raises(KeyError, match="of this market"):
        watched.market.refresh_scan(scan)
    assert set(watched.trade({"A": 95.0})) == set()


def test_difference_leads_from_an_earlier_copy() -> None:
    tape = Tape(SYMBOLS)
    opening = tape.opening()
    before, after = random_frames(tape, 8, 30), random_frames(tape, 9, 30)
    old = applied(SPECS, [*opening, *before])
    copies = {spec.name: watcher(old, spec.name) for spec in SPECS}
    new = Market.from_bytes(SPECS, old.to_bytes())
    for frame in after:
        new.apply(frame)
    for name, copy in copies.items():
        delta = scanner_pb2.ListDelta.FromString(new.difference(old, name))
        assert (delta.previous_sequence, delta.sequence) == (old.list_sequence(name), new.list_sequence(name))
        copy.apply(scanner_pb2.WatchListResponse(delta=delta))
        check_copy(copy, new, name)
    assert said(scanner_pb2.ListDelta.FromString(new.difference(new, "risers"))) == []
    with pytest.raises(ValueError, match="earlier copy"):
        old.difference(new, "risers")
    with pytest.raises(ValueError, match="earlier copy"):
        new.difference(Market(SPECS, EPOCH + 1), "risers")


def test_the_built_in_lists_can_be_had() -> None:
    market = Market(load_lists(), EPOCH)
    assert market.list_names[0] == "gappers_up"
    assert len(market.list_names) == 14
    tape = Tape(SYMBOLS)
    for frame in [*tape.opening(), *random_frames(tape, 3, 10), tape.watermark()]:
        market.apply(frame)
    for name in market.list_names:
        assert scanner_pb2.RankedList.FromString(market.snapshot(name)).list == name


def test_a_new_symbol_is_one_row_to_derive_not_the_whole_market() -> None:
    tape = Tape(SYMBOLS)
    market = applied(SPECS, [*tape.opening(), tape.trades(dict.fromkeys(SYMBOLS, 100.0)), tape.watermark(0.0)])
    before = market.state.derived_rows
    for number in range(20):
        market.apply(tape.frame(symbols=frame_pb2.SymbolTable(first_id=60 + number, symbols=[f"N{number}"])))
        market.apply(tape.watermark(0.0))
    assert market.state.derived_rows - before == 20
    assert market.state.row("N7").keys() == {"symbol", "minutes_since_open"}


@pytest.mark.parametrize("seed", range(3))
def test_symbols_are_in_order_however_they_came(seed: int) -> None:
    """One by one, some together, very many at once: ties go by the symbol's text."""
    rng = random.Random(seed)
    names = rng.sample([f"{letter}{number}" for letter in "ABCDEFGH" for number in range(40)], 200)
    tape = Tape([])
    market = applied([a_list("all", "price > 0", "volume_today desc", limit=500)], tape.opening())
    at = 0
    while at < len(names):
        new = names[at : at + rng.choice((1, 1, 2, 5, 40))]
        market.apply(tape.frame(symbols=frame_pb2.SymbolTable(first_id=at, symbols=new)))
        at += len(new)
    tape.symbols = names
    market.apply(tape.trades(dict.fromkeys(names, 10.0)))
    market.apply(tape.watermark(0.0))
    assert symbols_of(market.snapshot("all")) == sorted(names)
