"""The shipped alert rules, read from services/kit/alerts/alerts.toml or a file of the same shape."""

import math
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from fastcore.alert_parser import seconds_of
from fastcore.alert_rules import MOST_RULES, AlertRule, AlertRuleError, CompiledRule, compile_rule
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.kit.runtime.packaged import ALERTS

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COOLDOWN: Final = re.compile(r"[0-9]{1,6}[smh]")
_TEXTS: Final = ("name", "title", "when", "where", "quality", "once", "cooldown", "rearm", "text")
_KEYS: Final[Mapping[str, tuple[type, ...]]] = {
    **{name: (str,) for name in _TEXTS},
    "min_quality": (int, float),
    "sessions": (list,),
}


class AlertsError(ValueError):
    """A file of rules that cannot be used; the message names the rule and the key, with the reason."""


def load_alerts(list_names: Collection[str], path: Path | str | None = None) -> list[AlertRule]:
    """The rules of the file at `path` (the shipped ones when None), by name.

    `list_names`: the lists that rules may name. Raises AlertsError for anything that is wrong with the file, OSError
    when it cannot be read, StartError when the shipped ones are not installed.
    """
    file = ALERTS.path() if path is None else Path(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AlertsError(f"{file.name}: expected TOML: {error}") from error
    try:
        return _rules(content, list_names)
    except AlertsError as error:
        raise AlertsError(f"{file.name}: {error}") from error


def _rules(content: dict[str, Any], list_names: Collection[str]) -> list[AlertRule]:
    rows = content.pop("alerts", None)
    if not isinstance(rows, list) or not rows:
        raise AlertsError("expected at least one [[alerts]] table, was none")
    if content:
        raise AlertsError(f"expected [[alerts]] tables only, was {next(iter(content))!r}")
    if len(rows) > MOST_RULES:
        raise AlertsError(f"limit reached: {MOST_RULES} rules, was {len(rows)}")
    rules: dict[str, AlertRule] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise AlertsError(f"alerts[{index}]: expected a table, was {row!r}")
        where = f"alert {row.get('name', index)!r}"
        rule = _rule(where, row)
        if rule.name in rules:
            raise AlertsError(f"{where}: expected a name of its own, was there already")
        try:
            check_rule(rule, list_names)
        except (AlertRuleError, AlertsError) as error:
            raise AlertsError(f"{where}: {error}") from error
        rules[rule.name] = rule
    return [rules[name] for name in sorted(rules)]


def check_rule(rule: AlertRule, list_names: Collection[str]) -> CompiledRule:
    """The programs of a rule; raises AlertRuleError, and AlertsError for its name or a list that it names."""
    check_name(rule.name)
    if not 1 <= len(rule.title) <= 100:
        raise AlertsError(f"title: expected 1 to 100 characters, was {len(rule.title)}")
    if rule.min_quality is not None and not math.isfinite(rule.min_quality):
        raise AlertsError(f"min_quality: expected a number, was {rule.min_quality}")
    compiled = compile_rule(rule)
    for part, events in (("when", compiled.when), ("rearm", compiled.rearm)):
        for word in events.words if events is not None else ():
            if word.list and word.list not in list_names:
                hint = nearest_hint(nearest_name(word.list, list_names))
                raise AlertsError(f"{part}: there is no list {word.list!r}{hint}")
    return compiled


def check_name(name: str) -> str:
    """`name`, if a rule can have it; raises AlertsError."""
    if _NAME.fullmatch(name) is None:
        raise AlertsError(f"name: expected a-z, 0-9 and _, a letter first, at most 63, was {name[:80]!r}")
    return name


def _rule(where: str, row: Mapping[str, Any]) -> AlertRule:
    for key, value in row.items():
        if key not in _KEYS:
            raise AlertsError(f"{where}: expected one of {', '.join(_KEYS)}, was {key!r}")
        # type() and not isinstance: TOML's true is no number.
        if type(value) not in _KEYS[key]:
            raise AlertsError(f"{where}: expected {key} to be {_KEYS[key][0].__name__}, was {value!r}")
    for key in ("name", "title", "when"):
        if not row.get(key):
            raise AlertsError(f"{where}: expected a {key}, was none")
    if row.get("once", "day") != "day":
        raise AlertsError(f'{where}: expected once to be "day", was {row["once"]!r}')
    least = row.get("min_quality")
    return AlertRule(
        name=row["name"],
        title=row["title"],
        when=row["when"],
        where=row.get("where", ""),
        quality=row.get("quality", ""),
        min_quality=None if least is None else float(least),
        once_a_day="once" in row,
        cooldown_seconds=_cooldown(where, row.get("cooldown", "0s")),
        rearm=row.get("rearm", ""),
        sessions=tuple(map(str, row.get("sessions", ()))),
        text=row.get("text", ""),
    )


def _cooldown(where: str, text: str) -> int:
    if _COOLDOWN.fullmatch(text) is None:
        raise AlertsError(f"{where}: expected a cooldown like 30s, 5m or 1h, was {text!r}")
    return seconds_of(text)
