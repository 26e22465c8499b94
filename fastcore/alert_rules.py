"""Alert rules: their definitions, the message that carries them in the stream, and their programs."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from tradeul.v1 import alert_rule_pb2, frame_pb2, session_pb2

from fastcore.alert_parser import LONGEST_SECONDS
from fastcore.alert_program import LoweredEvents, lower_events
from fastcore.alert_text import AlertText
from fastcore.alert_types import check_rearm, check_when
from fastcore.fields import SESSIONS
from fastcore.filter_ast import FilterError, OrderKey
from fastcore.filter_program import Lowered, lower_filter, lower_order
from fastcore.filter_types import check_filter, check_number, nearest

MOST_RULES: Final = 200
_SESSION_NAMES: Final = dict(enumerate(SESSIONS, 1))


class AlertRule(NamedTuple):
    """A rule as docs/alerts.md defines it.

    `min_quality` of None takes any quality, and none. `once_a_day` and `cooldown_seconds` (0 for none) limit the events
    of a symbol; `sessions` are those of now in which it has events, all when there are none. `owner`: the key that
    created it; `version` grows with every change of it, and is 0 for a shipped rule.
    """

    name: str
    title: str
    when: str
    where: str = ""
    quality: str = ""
    min_quality: float | None = None
    once_a_day: bool = False
    cooldown_seconds: int = 0
    rearm: str = ""
    sessions: tuple[str, ...] = ()
    text: str = ""
    owner: str = ""
    version: int = 0


class AlertRuleError(ValueError):
    """A rule that cannot be used: the part of it with the mistake, and the mistake."""

    def __init__(self, part: str, problem: FilterError) -> None:
        super().__init__(f"{part}: {problem}")
        self.part = part
        self.problem = problem


class CompiledRule(NamedTuple):
    """The programs of a rule; `quality` leaves its value in register 0. `sessions` has bit i for code i.

    `key`: the same as long as the rule's alerts are the same.
    """

    rule: AlertRule
    key: str
    when: LoweredEvents
    rearm: LoweredEvents | None
    where: Lowered
    quality: Lowered | None
    sessions: int


@lru_cache(2 * MOST_RULES)
def compile_rule(rule: AlertRule) -> CompiledRule:
    """The programs of a rule; AlertRuleError when it cannot be used."""
    part = "when"
    try:
        when = lower_events(check_when(rule.when))
        part = "rearm"
        rearm = check_rearm(rule.rearm)
        part = "where"
        where = lower_filter(check_filter(rule.where))
        part = "quality"
        number = check_number(rule.quality)
        part = "min_quality"
        if rule.min_quality is not None and number is None:
            raise FilterError("expected a quality that it is compared with, was none", 0)
        part = "text"
        AlertText(rule.text)
        part = "cooldown"
        if not 0 <= rule.cooldown_seconds <= LONGEST_SECONDS:
            raise FilterError(f"expected 0 to {LONGEST_SECONDS} seconds, was {rule.cooldown_seconds}", 0)
        part = "sessions"
        sessions = _session_bits(rule.sessions)
    except FilterError as error:
        raise AlertRuleError(part, error) from error
    content = repr(alert_key(rule)).encode()
    return CompiledRule(
        rule,
        f"rule:{blake2b(content, digest_size=12).hexdigest()}",
        when,
        lower_events(rearm) if rearm is not None else None,
        where,
        lower_order([OrderKey(number, False, 0)]) if number is not None else None,
        sessions,
    )


def alert_key(rule: AlertRule) -> AlertRule:
    """Rules with the same key have the same alerts, and the same memory."""
    return rule._replace(title="", text="", owner="", version=0)


def _session_bits(sessions: tuple[str, ...]) -> int:
    bits = 0
    for session in sessions:
        if session not in SESSIONS:
            problem = f"expected one of {', '.join(SESSIONS)}, was {session!r}"
            raise FilterError(problem, 0, nearest(session, SESSIONS))
        bits |= 1 << SESSIONS.index(session) + 1
    return bits


def rule_message(rule: AlertRule) -> alert_rule_pb2.AlertRule:
    """A rule as the stream and the API have it."""
    return alert_rule_pb2.AlertRule(
        name=rule.name,
        title=rule.title,
        when=rule.when,
        where=rule.where,
        quality=rule.quality,
        min_quality=rule.min_quality,
        once_a_day=rule.once_a_day,
        cooldown_seconds=rule.cooldown_seconds,
        rearm=rule.rearm,
        sessions=[session_pb2.Session.Value(session) for session in rule.sessions],
        text=rule.text,
        owner=rule.owner,
        version=rule.version,
    )


def rule_of_message(message: alert_rule_pb2.AlertRule) -> AlertRule:
    """The rule of a message; an unknown session is left out."""
    return AlertRule(
        name=message.name,
        title=message.title,
        when=message.when,
        where=message.where,
        quality=message.quality,
        min_quality=message.min_quality if message.HasField("min_quality") else None,
        once_a_day=message.once_a_day,
        cooldown_seconds=message.cooldown_seconds,
        rearm=message.rearm,
        sessions=tuple(_SESSION_NAMES[session] for session in message.sessions if session in _SESSION_NAMES),
        text=message.text,
        owner=message.owner,
        version=message.version,
    )


def rules_message(rules: Iterable[AlertRule], disabled: Iterable[AlertRule] = ()) -> bytes:
    """An encoded AlertRules: the rules in force, and those that are switched off."""
    message = frame_pb2.AlertRules(rules=map(rule_message, rules), disabled=map(rule_message, disabled))
    return message.SerializeToString(deterministic=True)


def read_rules(message: bytes) -> list[AlertRule]:
    """The rules in force of an encoded AlertRules; ValueError when it is none. An unknown session is left out."""
    return list(_decoded(message)[0])


def read_disabled_rules(message: bytes) -> list[AlertRule]:
    """The rules of an encoded AlertRules that are switched off; ValueError when it is none."""
    return list(_decoded(message)[1])


# Each copy of a market decodes the same message.
@lru_cache(16)
def _decoded(message: bytes) -> tuple[tuple[AlertRule, ...], tuple[AlertRule, ...]]:
    try:
        decoded = frame_pb2.AlertRules.FromString(message)
    except Exception as error:
        raise ValueError("expected an encoded AlertRules, was something else") from error
    return tuple(map(rule_of_message, decoded.rules)), tuple(map(rule_of_message, decoded.disabled))
