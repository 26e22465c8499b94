"""Alert rules as people write them: refused with the part that is wrong, or the same alerts before and after a restart.

An input is the lines `when`, `where`, `quality`, `rearm` and `text`.
"""

from collections.abc import Iterator
from functools import cache

from tradeul.v1 import frame_pb2

from fastcore.alert_rules import AlertRule, AlertRuleError, compile_rule, read_rules, rules_message
from fastcore.alert_text import AlertText
from fastcore.filter_ast import WORDS
from fastcore.market import Market
from fastcore.wire import fields, wrap
from tests.robustness.fuzz.target import Target
from tests.robustness.fuzz.targets.market import LISTS, positioned
from tests.support.alert_frames import RULES
from tests.support.market_stream import EPOCH, MarketStream

_BODY = frame_pb2.Frame.DESCRIPTOR.fields_by_name["alert_rules"].number
_WATERMARK = frame_pb2.Frame.DESCRIPTOR.fields_by_name["watermark"].number
_FRAMES = 20


@cache
def bodies() -> list[bytes]:
    """Some of a day, without positions."""
    found = []
    for frame in MarketStream(7, length=100, symbols=3, two_days=False).frames(20):
        message = frame_pb2.Frame.FromString(frame)
        message.ClearField("position")
        found.append(message.SerializeToString())
    return found[:_FRAMES]


def events_of(market: Market) -> list[tuple[object, ...]]:
    """The alerts of the last watermark."""
    names = ("sequence", "rule", "symbol_id", "time_ns", "quality", "quality_rank", "level")
    return [tuple(repr(getattr(event, name)) for name in names) for event in market.alert_events]


def is_watermark(body: bytes) -> bool:
    return fields(body, 1)[0][0] == _WATERMARK


def run(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").split("\n")
    when, where, quality, rearm, text = (lines + [""] * 5)[:5]
    rule = AlertRule("rule", "Rule", when, where=where, quality=quality, rearm=rearm, text=text)
    try:
        compile_rule(rule)
    except AlertRuleError as error:
        part = {"when": when, "where": where, "quality": quality, "rearm": rearm, "text": text}[error.part]
        assert 0 <= error.problem.position <= len(part)
        assert str(error)
        return
    message = rules_message([rule])
    assert read_rules(message) == [rule]
    AlertText(text).of({"price": 1.5, "symbol": "A", "quality": 1e300, "level": -0.0})
    market, restarted = Market(LISTS, EPOCH), Market(LISTS, EPOCH)
    for sequence, body in enumerate((wrap(_BODY, message), *bodies()), 1):
        frame = positioned(body, sequence)
        market.apply(frame)
        restarted.apply(frame)
        if is_watermark(body):
            assert events_of(market) == events_of(restarted)
        if sequence == len(bodies()) // 2:
            restarted = Market.from_bytes(LISTS, restarted.to_bytes())
    assert set(market.ignored_alert_rules) <= {"rule"}
    assert market.hash() == restarted.hash()


def seeds() -> Iterator[bytes]:
    for each in RULES:
        yield "\n".join((each.when, each.where, each.quality, each.rearm, "broke {high:.2f} at {price:,}")).encode()


TARGET = Target(
    run,
    seeds,
    longest=250,
    python=(
        "fastcore.alert_parser",
        "fastcore.alert_program",
        "fastcore.alert_rules",
        "fastcore.alert_text",
        "fastcore.alert_types",
        "fastcore.filter_parser",
        "fastcore.filter_types",
        "fastcore.filter_program",
    ),
    words=(
        *(f"{word}(".encode() for word in WORDS),
        *(b"price", b"vwap", b"high", b"rvol", b"volume_today", b"halted", b"volume ", b"5m", b", ", b"{price:.2f}"),
        *(
            b" AND ",
            b" OR ",
            b"NOT ",
            b" > ",
            b"1h",
            b'"sticky"',
            b"scan(price > 1, price desc, 2)",
            b"symbol desc",
            b"abs(",
        ),
    ),
)
