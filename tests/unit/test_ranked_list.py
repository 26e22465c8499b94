"""Ranked lists: who is in, in which order, and what is said about it."""

import random

import pytest
from tradeul.v1 import frame_pb2, session_pb2

from fastcore.market import Market
from tests.support.tape import EPOCH, SECOND, Tape, Watched, a_list, rows_of, said


def test_starts_empty_at_sequence_0() -> None:
    watched = Watched(Tape(["A"]), a_list())
    assert watched.market.list_sequence("risers") == 0
    assert watched.refresh() == {}
    assert watched.market.list_sequence("risers") == 0


def test_enters_moves_and_leaves() -> None:
    watched = Watched(Tape(["A", "B", "C"]), a_list())
    assert said(watched.trade({"A": 103.0, "B": 102.0, "C": 101.0})["risers"]) == [
        ("ADD", "A", 1, 0),
        ("ADD", "B", 2, 0),
        ("ADD", "C", 3, 0),
    ]
    # C goes to the top: its row is new, the others only move.
    assert said(watched.trade({"C": 104.0})["risers"]) == [
        ("UPDATE", "C", 1, 0),
        ("RERANK", "A", 2, 1),
        ("RERANK", "B", 3, 2),
    ]
    # A leaves: removals come first, and B moves up.
    assert said(watched.trade({"A": 99.0})["risers"]) == [("REMOVE", "A", 0, 0), ("RERANK", "B", 2, 3)]
    assert watched.market.list_sequence("risers") == 3
    assert watched.ranked("risers") == ["C", "B"]


def test_nothing_new_is_no_change() -> None:
    watched = Watched(Tape(["A", "B"]), a_list())
    watched.trade({"A": 101.0})
    assert watched.trade({"B": 99.0}) == {}
    assert watched.refresh() == {}


def test_equal_values_rank_by_symbol() -> None:
    # Ids are in another order than the symbols, small letters sort behind capitals.
    symbols = ["ZZ", "BACpL", "BACP", "A", "BAC"]
    watched = Watched(Tape(symbols), a_list())
    watched.trade(dict.fromkeys(symbols, 101.0))
    assert watched.ranked("risers") == ["A", "BAC", "BACP", "BACpL", "ZZ"]


def test_ties_at_the_limit() -> None:
    symbols = [f"S{i:03}" for i in range(200)]
    shuffled = list(symbols)
    random.Random(3).shuffle(shuffled)
    watched = Watched(Tape(shuffled), a_list(limit=50))
    watched.trade({symbol: 101.0 for symbol in shuffled})
    assert watched.ranked("risers") == symbols[:50]


def test_limit_cuts_and_the_next_one_moves_up() -> None:
    watched = Watched(Tape(["A", "B", "C"]), a_list(limit=2))
    watched.trade({"A": 103.0, "B": 102.0, "C": 101.0})
    assert watched.ranked("risers") == ["A", "B"]
    assert said(watched.trade({"A": 100.5})["risers"]) == [
        ("REMOVE", "A", 0, 0),
        ("RERANK", "B", 1, 2),
        ("ADD", "C", 2, 0),
    ]


def test_absent_order_values_come_last_both_ways() -> None:
    specs = [a_list("up", "", "change_percent asc"), a_list("down", "", "change_percent desc")]
    watched = Watched(Tape(["A", "B", "C"]), *specs)
    watched.trade({"C": 101.0, "B": 102.0})
    assert watched.ranked("up") == ["C", "B", "A"]
    assert watched.ranked("down") == ["B", "C", "A"]


def test_several_order_values_and_none() -> None:
    specs = [a_list("two", "", "high desc, volume_today asc"), a_list("none", "", "")]
    tape = Tape(["D", "C", "B", "A"])
    watched = Watched(tape, *specs)
    watched.market.apply(tape.trades({"D": 101.0, "C": 102.0, "B": 101.0}, size=300))
    watched.market.apply(tape.trades({"A": 102.0}, size=200))
    watched.market.apply(tape.trades({"B": 101.0}, size=50))
    watched.refresh()
    assert watched.ranked("two") == ["A", "C", "D", "B"]
    assert watched.ranked("none") == ["A", "B", "C", "D"]


@pytest.mark.parametrize("count", [16, 17, 100, 1000, 3000])
@pytest.mark.parametrize("limit", [1, 15, 16, 100, 999, 1000])
@pytest.mark.parametrize("kind", ["random", "few values", "sorted", "reversed", "organ pipes"])
def test_selection_is_the_sorted_front(count: int, limit: int, kind: str) -> None:
    """Whatever the input looks like, the list is what sorting all rows would begin with."""
    rng = random.Random(f"{count} {limit} {kind}")
    symbols = [f"S{i:04}" for i in range(count)]
    ranks = {
        "random": rng.sample(range(count), count),
        "few values": [rng.randrange(4) for _ in range(count)],
        "sorted": list(range(count)),
        "reversed": list(range(count, 0, -1)),
        "organ pipes": [min(i, count - i) for i in range(count)],
    }[kind]
    prices = {symbol: 1.0 + rank for symbol, rank in zip(symbols, ranks, strict=True)}
    watched = Watched(Tape(symbols), a_list("by_price", "", "price desc", limit=limit))
    watched.trade(prices)
    assert watched.ranked("by_price") == sorted(symbols, key=lambda s: (-prices[s], s))[:limit]


def test_stay_keeps_members_only() -> None:
    watched = Watched(Tape(["A", "B"]), a_list(filter="change_percent >= 2", stay="change_percent >= 1"))
    watched.trade({"A": 102.0, "B": 101.5})
    assert watched.ranked("risers") == ["A"]
    watched.trade({"A": 101.0, "B": 101.9})
    assert watched.ranked("risers") == ["A"]
    watched.trade({"A": 100.99})
    assert watched.ranked("risers") == []
    # Once out, the stricter filter decides again.
    watched.trade({"A": 101.5})
    assert watched.ranked("risers") == []


def test_stay_does_not_suspend_base_and_scanner_filters() -> None:
    tape = Tape(["A", "B"])
    spec = a_list(
        filter="change_percent >= 2", stay="change_percent >= 1", base_filter="price >= 50", uses_scanner_filters=True
    )
    watched = Watched(tape, spec)
    watched.trade({"A": 102.0, "B": 103.0})
    assert watched.ranked("risers") == ["B", "A"]
    watched.market.apply(tape.filters(("cheap", "price < 103")))
    watched.refresh()
    assert watched.ranked("risers") == ["A"]


def test_untouched_rows_stay_as_taken_until_the_window_mark_moves() -> None:
    tape = Tape(["A", "B"])
    watched = Watched(tape, a_list())
    watched.trade({"A": 101.0, "B": 102.0})
    first = {row.symbol: row.age_seconds for row in rows_of(watched.market.snapshot("risers"))}
    # Three seconds on: nothing touched, nothing said, the ages stand.
    assert watched.refresh(3.0) == {}
    assert {row.symbol: row.age_seconds for row in rows_of(watched.market.snapshot("risers"))} == first
    # A is touched: its row is taken, with the age of now; B's stands.
    assert said(watched.trade({"A": 101.0}, 2.0)["risers"]) == [("UPDATE", "A", 2, 0)]
    ages = {row.symbol: row.age_seconds for row in rows_of(watched.market.snapshot("risers"))}
    assert ages == {"A": pytest.approx(2.0), "B": first["B"]}
    # The 10-second mark moves: all are taken.
    assert said(watched.refresh(6.0)["risers"]) == [("UPDATE", "B", 1, 0), ("UPDATE", "A", 2, 0)]


def test_lists_share_what_they_took_together_but_keep_what_they_took_apart() -> None:
    specs = [a_list("one", "price > 0", ""), a_list("two", "price > 0", ""), a_list("late", "volume_today > 150", "")]
    tape = Tape(["A", "B"])
    watched = Watched(tape, *specs)
    watched.trade({"A": 101.0, "B": 101.0})
    deltas = watched.trade({"A": 102.0}, 1.0)
    assert sorted(deltas) == ["late", "one", "two"]
    assert deltas["one"].deltas[0].data == deltas["two"].deltas[0].data == deltas["late"].deltas[0].data
    # B enters `late` without a trade: it is taken there with the age of now, elsewhere it stands.
    late = Watched(Tape(["A", "B"]), a_list("early", "price > 0", ""), a_list("late", "age_seconds >= 2", ""))
    late.trade({"B": 101.0})
    assert list(late.refresh(2.5)) == ["late"]
    assert rows_of(late.market.snapshot("early"))[0].age_seconds == 0.0
    assert rows_of(late.market.snapshot("late"))[0].age_seconds == pytest.approx(2.5)


def test_deltas_and_snapshots_say_when_and_where() -> None:
    tape = Tape(["A"])
    watched = Watched(tape, a_list())
    delta = watched.trade({"A": 101.0})["risers"]
    assert (delta.list, delta.epoch, delta.previous_sequence, delta.sequence) == ("risers", EPOCH, 0, 1)
    assert delta.timestamp.ToNanoseconds() == tape.now_ns
    assert (delta.position.epoch, delta.position.sequence) == (EPOCH, tape.sequence)
    assert delta.deltas[0].data.rank == delta.deltas[0].rank == 1


def test_symbols_may_come_later() -> None:
    tape = Tape(["B"])
    watched = Watched(tape, a_list(filter="price > 0", order_by=""))
    watched.trade({"B": 101.0})
    added = [f"A{i:04}" for i in range(3000)]
    watched.market.apply(tape.frame(symbols=frame_pb2.SymbolTable(first_id=1, symbols=added)))
    tape.symbols += added
    watched.trade({symbol: 100.0 for symbol in added[:150]})
    assert watched.ranked("risers") == added[:100]


def test_scanner_filters_apply_by_session_of_now() -> None:
    tape = Tape(["A", "B"], clock="09:29:00")
    watched = Watched(
        tape, a_list(filter="price > 0", order_by="", uses_scanner_filters=True), a_list("free", "price > 0", "")
    )
    watched.market.apply(
        tape.filters(
            ("pre", "price >= 101", [session_pb2.PRE_MARKET]),
            ("open", "price < 101", [session_pb2.MARKET_OPEN, session_pb2.POST_MARKET]),
            ("wrong", "prize > 3"),
        )
    )
    assert list(watched.market.ignored_filters) == ["wrong"]
    assert "price" in watched.market.ignored_filters["wrong"]
    watched.trade({"A": 101.0, "B": 100.0})
    assert watched.ranked("risers") == ["A"]
    assert watched.ranked("free") == ["A", "B"]
    watched.refresh(60.0)
    assert watched.ranked("risers") == ["B"]
    # A new message replaces the one before.
    watched.market.apply(tape.filters())
    assert watched.market.ignored_filters == {}
    watched.refresh()
    assert watched.ranked("risers") == ["A", "B"]


def test_wrong_definitions_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean"):
        Market([a_list(filter="prise > 3")], EPOCH)
    with pytest.raises(ValueError, match="at least 1, was 0"):
        Market([a_list(limit=0)], EPOCH)
    with pytest.raises(ValueError, match="twice"):
        Market([a_list(), a_list()], EPOCH)


@pytest.mark.parametrize("seed", range(4))
def test_clients_follow_a_random_market(seed: int) -> None:
    """Hundreds of watermarks: whoever applies the deltas has what a fresh sort of the rows gives."""
    rng = random.Random(seed)
    symbols = [f"S{i:03}" for i in range(120)]
    rng.shuffle(symbols)
    specs = [
        a_list("risers", limit=20),
        a_list("fallers", "change_percent < 0", "change_percent asc", stay="change_percent < 0.5", limit=10),
        a_list("busy", "volume_today >= 300", "volume_today desc, price asc", limit=40),
        a_list("all", "", "", limit=200),
    ]
    watched = Watched(Tape(symbols), *specs)
    last: dict[str, float] = {}
    for _ in range(150):
        prices = {symbol: round(rng.uniform(98, 102), 1) for symbol in rng.sample(symbols, rng.randrange(6))}
        last |= prices
        watched.trade(prices, rng.choice([0.0, 0.01, 3.0]))
        up = sorted((s for s in last if last[s] > 100), key=lambda s: (-last[s], s))
        assert watched.ranked("risers") == up[:20]
    assert watched.market.list_sequence("all") > 50
    assert watched.tape.now_ns > 10 * SECOND
