"""The compiled market's lists against the twin's: deltas, sequences, published rows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tradeul.v1 import scanner_pb2, ticker_row_pb2

from fastcore.changed_fields import changed_list_delta
from fastcore.fields import BY_NAME
from fastcore.market import Market
from fastcore.reference.filters_twin import first_key
from fastcore.reference.lists_twin import Change, ListsTwin, Update
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import ListSpec, load_lists
from tests.support.compare_rows import differences
from tests.support.list_patches import patched_delta
from tests.support.market_stream import EPOCH, MarketStream


def own_list(name: str, filter_: str, order_by: str, limit: int, **others: Any) -> ListSpec:
    values: dict[str, Any] = {
        "title": name, "stay": "", "base_filter": "", "uses_scanner_filters": False, "max_limit": limit, **others,
    }  # fmt: skip
    return ListSpec(name=name, filter=filter_, order_by=order_by, limit=limit, **values)


OWN = [
    own_list("everything", "", "", 1000),
    own_list("top", "has(price)", "volume_today desc, price asc", 7),
    own_list("sticky", "change_percent >= 4", "chg_1m desc", 10, stay="change_percent >= 2"),
    own_list("sticky_full", "price > 20", "price asc", 5, stay="price > 10", uses_scanner_filters=True),
    own_list("absent", "NOT rvol > 1 OR NOT has(rvol)", "rvol asc, spread_percent desc", 20),
    own_list("absent_not", "NOT (rvol > 1 AND price > 5)", "abs(gap_percent) / price desc", 20),
    own_list("texts", 'sector IN ("Energy", "Technology") AND NOT is_etf', "age_seconds asc", 20),
    own_list("enums", "gap_size >= MEDIUM AND session != CLOSED", "gap_size desc, updated_at desc", 15),
    own_list("between", "price BETWEEN open AND high + 0.01", "max(chg_5m, chg_10m) - min(chg_1m, 0) desc", 12),
    # Their order values move with time alone.
    own_list("waiting", "has(age_seconds)", "age_seconds desc", 30),
    own_list("busy", "has(score)", "score desc, rvol asc", 1000),
    own_list("by_symbol", "has(price)", "symbol desc", 30),
    own_list("halted", "halted OR luld_upper < price", "luld_upper - luld_lower desc", 30),
]


def row_of(message: ticker_row_pb2.TickerRow) -> dict[str, Any]:
    """A published row as the twin writes it."""
    row: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "rank":
            continue
        kind = BY_NAME[field.name].kind
        if kind == "enum":
            value = BY_NAME[field.name].values[value - 1]
        elif kind == "time":
            value = value.ToNanoseconds()
        row[field.name] = value
    return row


class Client:
    """Follows a list by its deltas alone, as docs/protocol.md says."""

    def __init__(self) -> None:
        self.sequence = 0
        self.ranks: dict[str, int] = {}
        self.rows: dict[str, bytes] = {}

    def apply(self, delta: scanner_pb2.ListDelta) -> None:
        assert delta.previous_sequence == self.sequence
        assert delta.change_count == len(delta.deltas)
        self.sequence = delta.sequence
        for change in delta.deltas:
            if change.action == change.REMOVE:
                del self.ranks[change.symbol], self.rows[change.symbol]
        for change in delta.deltas:
            if change.action == change.RERANK:
                assert self.ranks[change.symbol] == change.old_rank != change.new_rank
                self.ranks[change.symbol] = change.new_rank
            elif change.action in (change.ADD, change.UPDATE):
                assert (change.symbol in self.ranks) == (change.action == change.UPDATE)
                self.ranks[change.symbol] = change.rank
                row = ticker_row_pb2.TickerRow.FromString(change.data.SerializeToString())
                row.ClearField("rank")
                self.rows[change.symbol] = row.SerializeToString()

    def check(self, snapshot: scanner_pb2.RankedList) -> None:
        assert snapshot.sequence == self.sequence
        assert snapshot.count == len(snapshot.rows) == len(self.ranks)
        assert [row.symbol for row in snapshot.rows] == sorted(self.ranks, key=self.ranks.__getitem__)
        for rank, row in enumerate(snapshot.rows, 1):
            assert row.rank == rank == self.ranks[row.symbol]
            row.ClearField("rank")
            assert row.SerializeToString() == self.rows[row.symbol]


def changes_of(delta: scanner_pb2.ListDelta) -> dict[tuple[str, str], scanner_pb2.ListChange]:
    actions = scanner_pb2.ListChange.Action
    found = {(actions.Name(change.action), change.symbol): change for change in delta.deltas}
    assert len(found) == len(delta.deltas)
    return found


def check_changes(delta: scanner_pb2.ListDelta, expected: Sequence[Change]) -> None:
    found = changes_of(delta)
    assert found.keys() == {(change.action, change.symbol) for change in expected}, delta.list
    for change in expected:
        got = found[change.action, change.symbol]
        if change.action == "RERANK":
            assert (got.old_rank, got.new_rank) == (change.old_rank, change.rank)
        elif change.row is not None:
            assert got.rank == change.rank
            assert differences(row_of(got.data), change.row) == {}, (delta.list, change.symbol)


def check_updates(updates: Sequence[Any], expected: Sequence[Update]) -> list[scanner_pb2.ListDelta]:
    deltas = [scanner_pb2.ListDelta.FromString(bytes(update.delta)) for update in updates]
    assert [(delta.list, delta.sequence) for delta in deltas] == [(e.name, e.sequence) for e in expected]
    for update, e in zip(updates, expected, strict=True):
        actions = Counter(change.action for change in e.changes)
        assert (update.added, update.removed) == (actions["ADD"], actions["REMOVE"]), e.name
    for delta, update in zip(deltas, expected, strict=True):
        assert delta.epoch == EPOCH
        assert delta.change_count > 0
        check_changes(delta, update.changes)
    return deltas


def check_order(snapshot: scanner_pb2.RankedList, definition: ListSpec) -> None:
    """No row shows a better order value than the one before it, whenever the two were taken."""
    keys = [first_key(definition.order_by, row_of(row)) for row in snapshot.rows]
    if None not in keys:
        assert keys == sorted(keys), (definition.name, snapshot.sequence)  # type: ignore[type-var]


def check_changed_fields(update: Any, delta: scanner_pb2.ListDelta, client: Client) -> int:
    """What differs from the rows of `client`, which has not applied the delta; returns the number of updates."""
    before = {symbol: ticker_row_pb2.TickerRow.FromString(row) for symbol, row in client.rows.items()}
    for symbol, row in before.items():
        row.rank = client.ranks[symbol]
    patched = scanner_pb2.ListDelta.FromString(changed_list_delta(update.delta, update.changed))
    assert patched == patched_delta(delta, before)
    return sum(change.action == change.UPDATE for change in patched.deltas)


def follow(seed: int, definitions: list[ListSpec], batch_size: int = 20, **options: Any) -> None:
    market = Market(definitions, EPOCH)
    twin = ListsTwin(definitions, MarketTwin())
    clients = {definition.name: Client() for definition in definitions}
    by_name = {definition.name: definition for definition in definitions}
    patches = 0
    for number, frame in enumerate(MarketStream(seed, **options).frames(batch_size), 1):
        updates = market.apply(frame)
        for update, delta in zip(updates, check_updates(updates, twin.apply(frame)), strict=True):
            assert delta.position.sequence == number
            patches += check_changed_fields(update, delta, clients[delta.list])
            clients[delta.list].apply(delta)
            if number % 3 == 0:
                published = scanner_pb2.RankedList.FromString(market.snapshot(delta.list))
                check_order(published, by_name[delta.list])
                clients[delta.list].check(published)
    assert patches > 100
    for name, client in clients.items():
        snapshot = scanner_pb2.RankedList.FromString(market.snapshot(name))
        client.check(snapshot)
        for row, expected in zip(snapshot.rows, twin.rows(name), strict=True):
            assert differences(row_of(row), expected) == {}


@pytest.mark.parametrize("seed", range(4))
def test_built_in_lists(seed: int) -> None:
    follow(seed, load_lists(), length=1200)


@pytest.mark.parametrize("seed", range(10, 14))
def test_lists_with_odd_filters_and_orders(seed: int) -> None:
    follow(seed, OWN, length=1000)


@pytest.mark.parametrize("seed", [30, 31])
def test_lists_between_whole_seconds(seed: int) -> None:
    follow(seed, load_lists() + OWN, length=400, symbols=150, pace=200, two_days=False)


def test_small_and_large_batches_publish_the_same() -> None:
    definitions = load_lists() + OWN
    stream = MarketStream(20, length=1000)
    seen = []
    for batch_size in (1, 13, 10_000):
        market = Market(definitions, EPOCH)
        updates = []
        for frame in stream.frames(batch_size):
            for update in market.apply(frame):
                delta = scanner_pb2.ListDelta.FromString(bytes(update.delta))
                delta.ClearField("position")
                updates.append(delta.SerializeToString())
        seen.append((updates, market.hash()))
    assert seen[0] == seen[1] == seen[2]


def test_a_copy_made_in_the_middle_publishes_the_same() -> None:
    definitions = load_lists() + OWN
    frames = list(MarketStream(21, length=1000).frames(10))
    market = Market(definitions, EPOCH)
    copies: list[Market] = []
    for number, frame in enumerate(frames):
        if number % (len(frames) // 5) == 7:
            copies.append(Market.from_bytes(definitions, market.to_bytes()))
            assert copies[-1].hash() == market.hash()
        updates = [update.delta for update in market.apply(frame)]
        for copy in copies:
            assert [update.delta for update in copy.apply(frame)] == updates
    assert {copy.hash() for copy in copies} == {market.hash()}


def test_difference_leads_from_an_earlier_copy_to_now() -> None:
    definitions = load_lists() + OWN
    frames = list(MarketStream(22, length=800).frames(10))
    market = Market(definitions, EPOCH)
    clients = {definition.name: Client() for definition in definitions}
    old = Market.from_bytes(definitions, market.to_bytes())
    for number, frame in enumerate(frames, 1):
        market.apply(frame)
        if number % 40 and number != len(frames):
            continue
        for name, client in clients.items():
            if market.list_sequence(name) > old.list_sequence(name):
                client.apply(scanner_pb2.ListDelta.FromString(market.difference(old, name)))
            client.check(scanner_pb2.RankedList.FromString(market.snapshot(name)))
        old = Market.from_bytes(definitions, market.to_bytes())
