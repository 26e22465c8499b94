"""Alert rules with every word there is, and streams that carry them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tradeul.v1 import frame_pb2

from fastcore.alert_rules import AlertRule, rules_message
from tests.support.market_stream import EPOCH


def rule(name: str, when: str, **others: object) -> AlertRule:
    return AlertRule(name=name, title=name, when=when, **others)  # type: ignore[arg-type]


RULES = [
    rule("absent", "rises(NOT rvol > 1)"),
    rule("above", "crosses_above(price, vwap)"),
    rule("above_value", "crosses_above(vwap, prev_close * 1.01)"),
    rule("after_one", "after(crosses_below(price, vwap), crosses_above(price, vwap), 30m)"),
    rule("after_two", "after(after(grows(high), price < high * 0.995, 60m), grows(high), 60m)"),
    rule("below", "crosses_below(price, open)", cooldown_seconds=600),
    rule("both", "grows(intraday_high) AND price > vwap OR shrinks(intraday_low) AND price < vwap"),
    rule("choice", "(grows(high) OR change_percent > 2) AND price > 1"),
    rule("counted", "count(crosses_above(price, vwap), 2, 60m)"),
    rule("enter", 'enters("gappers_up", 10) OR leaves("gappers_up", 10)'),
    rule("enter_scan", 'enters(scan(price > 2 AND NOT symbol = "S3", change_percent desc, 3))'),
    rule("leave_scan", 'leaves(scan(price>2 AND NOT symbol = "S3" , change_percent desc, 3), 1)', where="price > 1"),
    rule("scan_by_time", "enters(scan(has(price), min(age_seconds, 60), -1 * volume_today, symbol desc, 5), 4)"),
    rule("enter_counted", "count(enters(scan(has(price), change_percent, 3)), 2, 60m)", rearm='leaves("losers", 5)'),
    rule(
        "enter_after",
        "after(leaves(scan(has(price), change_percent, 3)), grows(high), 60m)",
        rearm="leaves(scan(has(price), age_seconds, 3)) OR age_seconds > 30",
    ),
    rule("after_enter", "after(grows(high), enters(scan(has(price), age_seconds, 2)), 60m) OR rises(halted)"),
    rule("enter_all", 'enters("high_volume")', once_a_day=True),
    rule("falls", "falls(price > vwap)", sessions=("MARKET_OPEN", "POST_MARKET")),
    rule("grows", "grows(intraday_high)", where="volume_today > 1000", quality="change_percent"),
    rule("halts", "rises(halted)"),
    rule("held_shares", "held(price > vwap, volume 2000 + avg_volume_30d / 1e6)"),
    rule("held_time", "held(price > vwap, 5m)", rearm="price < vwap * 0.999"),
    rule("least", "rises(chg_1m > 0.2)", quality="abs(chg_1m) + rvol", min_quality=0.9),
    rule("plain", "chg_5m >= 0.5 AND volume_today > 5000", cooldown_seconds=120),
    rule("rearmed", "crosses_above(price, vwap)", rearm="crosses_below(price, vwap * 0.999) OR price < open"),
    rule("shrinks", "shrinks(price)", once_a_day=True),
    rule("steps", "steps(abs(change_percent), 1, 0.5)", quality="volume_today"),
    rule("steps_of_time", "steps(age_seconds, 10, 10)"),
    rule("text", 'rises(halt_reason = "T1" OR session = POST_MARKET)'),
]
# Some stay, some go, some come, and one becomes another.
LATER = [each for each in RULES if each.name not in ("above", "enter", "steps")] + [
    rule("above", "crosses_above(price, vwap)", cooldown_seconds=60),
    rule("new", "grows(low) OR shrinks(low)", quality="price"),
]


def numbered(
    frames: Iterable[bytes],
    rules: dict[int, list[AlertRule]],
    disabled: Mapping[int, list[AlertRule]] = MappingProxyType({}),
) -> list[bytes]:
    """The frames, with the rules in force from each index on, and those that are switched off then."""
    messages = [frame_pb2.Frame.FromString(frame) for frame in frames]
    for index in sorted(rules, reverse=True):
        body = frame_pb2.AlertRules.FromString(rules_message(rules[index], disabled.get(index, ())))
        messages.insert(index, frame_pb2.Frame(alert_rules=body))
    for sequence, message in enumerate(messages, 1):
        message.position.epoch, message.position.sequence = EPOCH, sequence
    return [message.SerializeToString() for message in messages]
