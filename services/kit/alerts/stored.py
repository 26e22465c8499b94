"""The rows of alert_rules: rules of one's own, and switches of shipped ones."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf import json_format
from tradeul.v1 import alert_rule_pb2

from fastcore.alert_rules import MOST_RULES, AlertRule, rule_message, rule_of_message

COLUMNS: Final = "name, enabled, owner, version, definition::text AS definition, updated_at"
ROWS_QUERY: Final = f"SELECT {COLUMNS} FROM alert_rules ORDER BY name"
# Columns of their own.
_APART: Final = ("name", "owner", "version")


class StoredRules(NamedTuple):
    """The rules for the stream; and rows that cannot be read, by name, with the reason."""

    enabled: list[AlertRule]
    disabled: list[AlertRule]
    left_out: dict[str, str]


def rule_json(rule: AlertRule) -> str:
    """A rule's definition as `alert_rules.definition` holds it."""
    message = rule_message(rule)
    for name in _APART:
        message.ClearField(name)
    return json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True))


def rule_of_row(row: Mapping[str, Any]) -> AlertRule:
    """The rule of a row that has a definition; ValueError when that cannot be read."""
    try:
        message = json_format.Parse(row["definition"], alert_rule_pb2.AlertRule())
    except json_format.ParseError as error:
        raise ValueError(f"definition: {error}") from error
    return rule_of_message(message)._replace(name=row["name"], owner=row["owner"], version=row["version"])


def merged(shipped: Sequence[AlertRule], rows: Iterable[Mapping[str, Any]]) -> StoredRules:
    """The shipped rules and those of the rows, by name.

    A rule that names what there is no longer stays in: whoever shows the rules shows its mistake.
    """
    rules = {rule.name: rule for rule in shipped}
    disabled: set[str] = set()
    left_out: dict[str, str] = {}
    for row in rows:
        name = row["name"]
        if row["definition"] is not None:
            if len(rules) >= MOST_RULES and name not in rules:
                left_out[name] = f"limit reached: {MOST_RULES} rules, of which {len(shipped)} are shipped"
                continue
            try:
                rules[name] = rule_of_row(row)
            except ValueError as error:
                left_out[name] = str(error)
                continue
        if not row["enabled"]:
            disabled.add(name)
    ordered = [rules[name] for name in sorted(rules)]
    return StoredRules(
        [rule for rule in ordered if rule.name not in disabled],
        [rule for rule in ordered if rule.name in disabled],
        left_out,
    )
