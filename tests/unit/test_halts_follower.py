"""What of the trade-halt feed enters the stream, when, and how often."""

from collections import Counter
from typing import Any

from services.data_ingest.feed.halt_feed import HaltItem
from services.data_ingest.feed.halts_follower import HaltsFollower
from tests.unit.test_sequencer import FOUR_OCLOCK, HOUR, SECOND, Feed, Rig

NINE = FOUR_OCLOCK + 5 * HOUR


class Nothing:
    """A source that is never asked."""

    def __init__(self) -> None:
        self.set_aside: Counter[str] = Counter({"symbol": 2})

    async def fetch(self) -> None:
        raise AssertionError("not asked")


class Following:
    def __init__(self, latest_ns: int = 2**63 - 1) -> None:
        self.rig = Rig()
        self.rows = 0
        self.rig.take(Feed().batch(("AAA", HOUR, 10.0), ("BRK.B", HOUR, 20.0), ("CCC", HOUR, 5.0)))
        self.follower = HaltsFollower(Nothing(), self.rig.sequencer, lambda: latest_ns, self._count)

    def _count(self, rows: int) -> None:
        self.rows += rows

    def offer(self, *items: HaltItem) -> int:
        return self.follower.take(list(items))

    def row(self, symbol: str) -> dict[str, Any]:
        self.rig.sequencer.add_watermark(NINE + HOUR)
        state: Any = self.rig.sequencer.market.state
        row: dict[str, Any] = state.row(symbol)
        return row


def test_an_item_is_told_once_and_again_when_it_says_more() -> None:
    following = Following()
    item = HaltItem("BRK B", NINE, 0, "T1")
    assert following.offer(item) == 1
    assert following.offer(item) == 0
    assert following.rig.kinds()[-1] == "halts"
    row = following.row("BRK.B")
    assert (row["halted"], row["halt_reason"], row["halted_at"]) == (True, "T1", NINE)
    assert following.offer(item._replace(resumes_at_ns=NINE + HOUR // 2)) == 1
    assert following.row("BRK.B")["halted"] is False
    assert following.rows == 2


def test_what_is_set_aside_is_counted_once() -> None:
    following = Following(latest_ns=NINE + 5 * SECOND)
    items = [
        HaltItem("NOBODY", NINE, 0, "T1"),
        HaltItem("AAA", NINE + 6 * SECOND, 0, "T1"),
        HaltItem("AAA", FOUR_OCLOCK + 16 * HOUR, 0, "T1"),
        HaltItem("CCC", NINE - 24 * HOUR, NINE - 23 * HOUR, "LUDP"),
    ]
    for _ in range(3):
        assert following.offer(*items) == 0
    assert following.follower.set_aside == {
        "symbol": 2, "unknown_symbol": 1, "time_ahead": 1, "time_out_of_session": 2
    }  # fmt: skip
    assert "NOBODY" not in following.rig.sequencer.symbols.texts


def test_an_item_waits_for_its_symbol() -> None:
    following = Following()
    item = HaltItem("LATER", NINE, 0, "T12")
    assert following.offer(item) == 0
    following.rig.sequencer.add_symbols(["LATER"])
    assert following.follower.publish() == 1
    assert following.row("LATER")["halted"] is True
    # Nothing was set aside.
    assert following.follower.set_aside == {"symbol": 2}


def test_an_item_whose_symbol_is_still_unknown_when_the_feed_is_read_again_is_set_aside() -> None:
    following = Following()
    item = HaltItem("NOBODY", NINE, 0, "T12")
    following.offer(item)
    assert following.follower.publish() == 0
    assert "unknown_symbol" not in following.follower.set_aside
    # Unchanged.
    assert following.follower.take(None) == 0
    assert following.follower.set_aside["unknown_symbol"] == 1
    following.rig.sequencer.add_symbols(["NOBODY"])
    assert following.follower.publish() == 1


def test_a_new_day_is_told_what_still_lasts() -> None:
    following = Following()
    following.offer(
        HaltItem("AAA", NINE, 0, "T12"),
        HaltItem("CCC", NINE, NINE + 300 * SECOND, "LUDP"),
        HaltItem("BRK.B", NINE, NINE + 24 * HOUR, "T1"),
    )
    rig = following.rig
    rig.feed.days.listen(following.follower.day_changed)
    day = 24 * HOUR
    feed = Feed(2)
    feed.symbols = ["AAA", "BRK.B", "CCC"]
    rig.take(feed.batch(("AAA", day + 1, 10.0), ("BRK.B", day + 2, 1.0), ("CCC", day + 3, 1.0)))
    rig.sequencer.add_watermark(FOUR_OCLOCK + day + HOUR)
    state: Any = rig.sequencer.market.state
    state.refresh()
    assert str(rig.sequencer.day.date) == "2026-03-11"
    # AAA's trade after the halt says that it trades.
    rows = {symbol: state.row(symbol) for symbol in ("AAA", "BRK.B", "CCC")}
    assert {symbol: row.get("halted") for symbol, row in rows.items()} == {"AAA": False, "BRK.B": False, "CCC": None}
    assert rows["AAA"]["halts_today"] == 0.0
    assert rows["AAA"]["halt_reason"] == "T12"
    assert rows["BRK.B"]["resumes_at"] == NINE + day


def test_words_of_two_halts_come_in_the_order_of_their_beginnings() -> None:
    following = Following()
    assert following.offer(
        HaltItem("AAA", NINE + 600 * SECOND, 0, "T1"), HaltItem("AAA", NINE, NINE + 300 * SECOND, "LUDP")
    ) == 2  # fmt: skip
    row = following.row("AAA")
    assert (row["halt_reason"], row["halts_today"]) == ("T1", 2.0)
