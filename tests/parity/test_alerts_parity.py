"""The compiled alert rules against the twin's, on random streams; restarts, replicas, days."""

import math

import pytest
from tradeul.v1 import frame_pb2, scanner_pb2

from fastcore.alert_rules import AlertRule
from fastcore.filters import compile_filter, compile_order
from fastcore.market import Market
from fastcore.market_state import MarketState
from fastcore.reference.alerts_twin import AlertsTwin, TwinAlert
from fastcore.reference.lists_twin import ListsTwin
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import load_lists
from tests.support.alert_frames import LATER, RULES, numbered, rule
from tests.support.market_stream import EPOCH, MarketStream

LISTS = load_lists()


def stream(seed: int, batch_size: int = 20, *, change_at: float = 0.6, **options: object) -> list[bytes]:
    frames = list(MarketStream(seed, **options).frames(batch_size))  # type: ignore[arg-type]
    return numbered(frames, {0: RULES, int(len(frames) * change_at): LATER})


def alerts_of(market: Market, frame: bytes) -> list[TwinAlert]:
    """The alerts of a frame as the twin has them."""
    if not market.take(frame):
        return []
    market.refresh()
    symbols = market.state.symbols
    return [
        TwinAlert(
            event.sequence,
            event.rule,
            symbols[event.symbol_id],
            event.time_ns,
            event.quality,
            event.quality_rank,
            event.level,
        )
        for event in market.alert_events
    ]


def check(alerts: list[TwinAlert], expected: list[TwinAlert]) -> None:
    assert [each._replace(quality=None, quality_rank=None) for each in alerts] == [
        each._replace(quality=None, quality_rank=None) for each in expected
    ]
    for alert, other in zip(alerts, expected, strict=True):
        assert near(alert.quality, other.quality), (alert, other)
        assert near(alert.quality_rank, other.quality_rank), (alert, other)


def near(a: float | None, b: float | None) -> bool:
    """Sums in another order differ in their last bits."""
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9))


def follow(frames: list[bytes]) -> dict[str, int]:
    market, twin = Market(LISTS, EPOCH), AlertsTwin(ListsTwin(LISTS, MarketTwin()))
    counts: dict[str, int] = {}
    for number, frame in enumerate(frames, 1):
        alerts, expected = alerts_of(market, frame), twin.apply(frame)
        try:
            check(alerts, expected)
        except AssertionError as error:
            raise AssertionError(f"after frame {number}: {error}") from error
        for alert in alerts:
            counts[alert.rule] = counts.get(alert.rule, 0) + 1
    assert not market.ignored_alert_rules
    return counts


@pytest.mark.parametrize("seed", range(2))
def test_every_word_on_random_streams(seed: int) -> None:
    follow(stream(seed, length=500))


def test_few_symbols_with_much_traffic() -> None:
    counts = follow(stream(10, 7, symbols=6, length=800, two_days=False, change_at=0.8))
    assert len(counts) > len(RULES) * 0.7, counts


def all_alerts(market: Market, frames: list[bytes]) -> list[TwinAlert]:
    return [alert for frame in frames for alert in alerts_of(market, frame)]


def test_every_rule_has_alerts_somewhere() -> None:
    """Or the streams would test nothing of it."""
    names: set[str] = set()
    for seed in range(20, 24):
        names |= {alert.rule for alert in all_alerts(Market(LISTS, EPOCH), stream(seed, symbols=8))}
    assert names == {each.name for each in (*RULES, *LATER)}


def test_the_size_of_batches_makes_no_difference() -> None:
    found = []
    for batch_size in (1, 13, 10_000):
        market = Market(LISTS, EPOCH)
        frames = list(MarketStream(30, length=1000).frames(batch_size))
        found.append((all_alerts(market, numbered(frames, {0: RULES})), market.state.hash()))
    assert len(found[0][0]) > 500
    assert found[0] == found[1] == found[2]


def test_a_copy_made_in_the_middle_repeats_none_and_loses_none() -> None:
    """A restart, a replica that comes later, a replay from a recording: all of them go on from the market's bytes."""
    frames = stream(31, 10, length=1000)
    market = Market(LISTS, EPOCH)
    copies: list[Market] = []
    for number, frame in enumerate(frames):
        if number % (len(frames) // 8) == 3:
            copies.append(Market.from_bytes(LISTS, market.to_bytes()))
            assert copies[-1].hash() == market.hash()
            assert copies[-1].alert_sequence == market.alert_sequence
        alerts = alerts_of(market, frame)
        for copy in copies:
            assert alerts_of(copy, frame) == alerts
            assert copy.alert_counts == market.alert_counts
    assert market.alert_sequence > 500
    assert {copy.hash() for copy in copies} == {market.hash()}
    assert {copy.to_bytes() for copy in copies} == {market.to_bytes()}


def test_a_new_epoch_goes_on_with_what_is_remembered() -> None:
    """The numbering begins again, the alerts go on."""
    frames = stream(32, 10, length=1000, two_days=False)
    one = Market(LISTS, EPOCH)
    cut = len(frames) // 2
    all_alerts(one, frames[:cut])
    assert one.alert_sequence
    state = MarketState.from_bytes(one.state.to_bytes())
    other = Market.of_state(LISTS, EPOCH + 1, state)
    before = one.alert_sequence
    expected = all_alerts(one, frames[cut:])
    renamed = []
    for sequence, frame in enumerate(frames[cut:], 1):
        message = frame_pb2.Frame.FromString(frame)
        message.position.epoch, message.position.sequence = EPOCH + 1, sequence
        renamed.append(message.SerializeToString())
    # Lists begin empty in a new epoch, and are filled at its first watermark.
    assert all_alerts(other, renamed) == [each._replace(sequence=each.sequence - before) for each in expected]


def test_a_rule_keeps_its_memory_while_others_change() -> None:
    """Others come, go, change, are switched off and on; its own title and text, owner and version change, too."""
    frames = list(MarketStream(34, length=1500, symbols=6).frames(10))
    others = RULES[::2]
    kept = RULES[1::2]
    renamed = [each._replace(title="x", text="{price}", owner="desk", version=7) for each in kept]
    changed = [each._replace(when=each.when.replace("vwap", "open"), where="price > 1") for each in others]
    plans = {
        0: (others + kept, []),
        len(frames) // 4: (kept, others),
        len(frames) // 3: (changed + renamed, []),
        len(frames) // 2: (renamed + LATER[-1:], others),
        len(frames) * 2 // 3: (kept + others, []),
    }
    alone = all_alerts(Market(LISTS, EPOCH), numbered(frames, dict.fromkeys(plans, kept)))
    market = Market(LISTS, EPOCH)
    in_force = {at: rules for at, (rules, _) in plans.items()}
    disabled = {at: rules for at, (_, rules) in plans.items()}
    found = all_alerts(market, numbered(frames, in_force, disabled))
    names = {each.name for each in kept}
    mine = [each._replace(sequence=0) for each in found if each.rule in names]
    assert len(mine) > 300
    assert mine == [each._replace(sequence=0) for each in alone]
    assert market.alert_counts.keys() == {each.name for each in RULES}


def test_a_rule_that_was_switched_off_begins_anew() -> None:
    frames = list(MarketStream(35, length=900, symbols=6, two_days=False).frames(10))
    once = [rule("once", "grows(intraday_high)", once_a_day=True)]
    market = Market(LISTS, EPOCH)
    half = len(frames) // 2
    messages = numbered(frames, {0: once, half: [], half + 20: once}, {half: once})
    first = [alert.symbol for alert in all_alerts(market, messages[: half + 1])]
    assert all_alerts(market, messages[half + 1 : half + 20]) == []
    assert [each.name for each in market.disabled_alert_rules] == ["once"]
    again = [alert.symbol for alert in all_alerts(market, messages[half + 20 :])]
    assert set(first) & set(again), "once a day, and once more after it was switched on"
    assert len(set(again)) == len(again) == market.alert_counts["once"]


def test_rules_that_cannot_be_used_are_left_out() -> None:
    market = Market(LISTS, EPOCH)
    good = rule("good", "grows(price)")
    wrong = [rule("list", 'enters("nowhere")'), rule("word", "grow(high)"), good, good]
    frames = numbered(MarketStream(33, length=300).frames(10), {0: wrong})
    assert {alert.rule for alert in all_alerts(market, frames)} == {"good"}
    assert market.ignored_alert_rules.keys() == {"list", "word", "good"}
    assert "nowhere" in market.ignored_alert_rules["list"]
    assert "did you mean" in market.ignored_alert_rules["word"]


@pytest.mark.parametrize("seed", [31, 32])
def test_a_rules_alerts_do_not_depend_on_the_other_rules(seed: int) -> None:
    frames = list(MarketStream(seed, length=1000).frames(10))

    def alerts(rules: list[AlertRule]) -> dict[str, list[object]]:
        found: dict[str, list[object]] = {each.name: [] for each in rules}
        for alert in all_alerts(Market(LISTS, EPOCH), numbered(frames, {0: rules})):
            found[alert.rule].append((alert.symbol, alert.time_ns, alert.quality, alert.quality_rank, alert.level))
        return found

    together = alerts(RULES)
    assert len(together) == len(RULES)
    for each in RULES:
        assert alerts([each])[each.name] == together[each.name], each.name


def test_a_scans_entries_and_exits_are_the_differences_of_its_rows() -> None:
    where, order, limit = "price > 2", "change_percent desc", 4
    scan = f"scan({where}, {order}, {limit})"
    market = Market(LISTS, EPOCH)
    members: set[str] | None = None
    date, moves = "", 0
    rules = [rule("in", f"enters({scan})"), rule("out", f"leaves({scan}, {limit})")]
    for frame in numbered(MarketStream(34, length=400).frames(10), {0: rules}):
        if not market.take(frame):
            continue
        market.refresh()
        if not market.state.trading_date:
            continue
        message = market.query(compile_filter(where), compile_order(order), limit)
        now = {row.symbol for row in scanner_pb2.RankedList.FromString(message).rows}
        # A new day forgets everything.
        before = members if members is not None and market.state.trading_date == date else now
        expected = {("in", symbol) for symbol in now - before} | {("out", symbol) for symbol in before - now}
        assert {(alert.rule, alert.symbol) for alert in market.alert_events} == expected
        moves += len(expected)
        members, date = now, market.state.trading_date
    assert moves > 20
