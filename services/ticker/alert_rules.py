"""Alert rules of one's own, and switches of shipped ones: requests checked, rows of alert_rules read and written."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import asyncpg
from tradeul.v1 import alert_rules_pb2

from fastcore.alert_rules import MOST_RULES, AlertRule, AlertRuleError, rule_message
from services.kit.alerts.definitions import AlertsError, check_name, check_rule
from services.kit.alerts.stored import COLUMNS, rule_json, rule_of_row
from services.kit.rpc.json_body import read_change
from services.kit.runtime.errors import (
    ALERT_RULE_CHANGED,
    ALERT_RULE_EXISTS,
    ALERT_RULE_SHIPPED,
    INVALID_ALERT_RULE,
    INVALID_REQUEST,
    TOO_MANY_ALERT_RULES,
    UNKNOWN_ALERT_RULE,
    ServiceError,
)
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.ticker.store import Queries, Record

# PostgreSQL's jsonb cannot hold it.
_NUL: Final = "\0"
_LOCK: Final = "LOCK TABLE alert_rules IN SHARE ROW EXCLUSIVE MODE"
_SELECT: Final = f"SELECT {COLUMNS} FROM alert_rules WHERE name = $1"


def checked_rule_name(name: str) -> str:
    """`name`, if it is valid; raises INVALID_REQUEST."""
    try:
        return check_name(name)
    except AlertsError as error:
        raise INVALID_REQUEST.error(str(error), field="name") from error


def checked_rule(rule: AlertRule, list_names: Collection[str]) -> AlertRule:
    """`rule`, if it can be used; raises INVALID_ALERT_RULE with the part of it that cannot, and the position there."""
    for part, value in rule._asdict().items():
        if isinstance(value, str) and _NUL in value:
            raise INVALID_ALERT_RULE.error(f"{part}: expected a text without NUL", part=part)
    try:
        check_rule(rule, list_names)
    except AlertRuleError as error:
        metadata: dict[str, object] = {"part": error.part, "position": error.problem.position}
        if error.problem.suggestion:
            metadata["suggestion"] = error.problem.suggestion
        raise INVALID_ALERT_RULE.error(str(error), **metadata) from error
    except AlertsError as error:
        raise INVALID_ALERT_RULE.error(str(error), part=str(error).partition(":")[0]) from error
    return rule


def update_rule_request(
    request: alert_rules_pb2.UpdateAlertRuleFromJsonRequest,
) -> alert_rules_pb2.UpdateAlertRuleRequest:
    """The request of a path's name and a body, which may repeat the name; raises INVALID_REQUEST."""
    return read_change(request.name, request.body, alert_rules_pb2.UpdateAlertRuleRequest())


class AlertRuleStore:
    """Reads and writes; every method raises STORE_UNAVAILABLE while the database is away.

    `shipped`: the rules that come with the software, by name; their rows only switch them.
    """

    def __init__(self, queries: Queries, shipped: Mapping[str, AlertRule]) -> None:
        self._queries = queries
        self._shipped = shipped

    async def get(self, name: str) -> alert_rules_pb2.StoredAlertRule:
        """Raises UNKNOWN_ALERT_RULE."""
        return self._stored(name, await self._queries.first(_SELECT, name))

    async def create(self, rule: AlertRule, enabled: bool) -> alert_rules_pb2.StoredAlertRule:
        """Raises ALERT_RULE_EXISTS, TOO_MANY_ALERT_RULES."""
        async with self._queries.transaction() as connection:
            # Two that count at the same time would both find room for one.
            await connection.execute(_LOCK)
            if rule.name in self._shipped or await connection.fetchrow(_SELECT, rule.name) is not None:
                raise ALERT_RULE_EXISTS.error(f"there is an alert rule {rule.name!r} already", name=rule.name)
            room = MOST_RULES - len(self._shipped)
            if await connection.fetchval("SELECT count(*) FROM alert_rules WHERE definition IS NOT NULL") >= room:
                raise TOO_MANY_ALERT_RULES.error(
                    f"limit reached: {MOST_RULES} alert rules, of which {len(self._shipped)} are shipped",
                    maximum=MOST_RULES,
                )
            record = await connection.fetchrow(
                "INSERT INTO alert_rules (name, enabled, owner, definition) VALUES ($1, $2, $3, $4)"
                f" RETURNING {COLUMNS}",
                *(rule.name, enabled, rule.owner, rule_json(rule)),
            )
        return self._stored(rule.name, record)

    async def update(self, name: str, rule: AlertRule | None, enabled: bool | None) -> alert_rules_pb2.StoredAlertRule:
        """Replaces the definition if there is one, and switches if told so; an equal rule changes nothing.

        Raises UNKNOWN_ALERT_RULE, ALERT_RULE_SHIPPED, and ALERT_RULE_CHANGED for another version than the rule's.
        """
        async with self._queries.transaction() as connection:
            await connection.execute(_LOCK)
            record = await connection.fetchrow(_SELECT, name)
            if record is not None and record["definition"] is not None:
                record = await self._change(connection, record, rule, enabled)
            elif name not in self._shipped:
                raise self._unknown(name)
            elif rule is not None:
                raise ALERT_RULE_SHIPPED.error(
                    f"the rule {name!r} is shipped and can only be switched: create one with another name", name=name
                )
            elif enabled is not None and enabled != (record is None or record["enabled"]):
                record = await connection.fetchrow(
                    "INSERT INTO alert_rules (name, enabled) VALUES ($1, $2)"
                    f" ON CONFLICT (name) DO UPDATE SET enabled = $2 RETURNING {COLUMNS}",
                    *(name, enabled),
                )
        return self._stored(name, record)

    @staticmethod
    async def _change(
        connection: asyncpg.Connection, record: Record, rule: AlertRule | None, enabled: bool | None
    ) -> Record:
        now = _rule_of(record)
        if rule is not None and rule.version and rule.version != record["version"]:
            raise ALERT_RULE_CHANGED.error(
                f"expected version {record['version']} of the rule {record['name']!r}, was {rule.version}: it was"
                " changed meanwhile",
                version=record["version"],
            )
        wanted = now if rule is None else rule._replace(owner=record["owner"], version=record["version"])
        is_enabled = record["enabled"] if enabled is None else enabled
        if wanted is not None and (wanted, is_enabled) == (now, record["enabled"]):
            return record
        definition = record["definition"] if wanted is None else rule_json(wanted)
        changed: Record = await connection.fetchrow(
            f"UPDATE alert_rules SET enabled = $2, definition = $3 WHERE name = $1 RETURNING {COLUMNS}",
            *(record["name"], is_enabled, definition),
        )
        return changed

    async def delete(self, name: str) -> None:
        """Raises UNKNOWN_ALERT_RULE, ALERT_RULE_SHIPPED."""
        sql = "DELETE FROM alert_rules WHERE name = $1 AND definition IS NOT NULL RETURNING name"
        if await self._queries.value(sql, name) is not None:
            return
        if name in self._shipped:
            raise ALERT_RULE_SHIPPED.error(f"the rule {name!r} is shipped: it can be switched off only", name=name)
        raise self._unknown(name)

    def _stored(self, name: str, record: Record | None) -> alert_rules_pb2.StoredAlertRule:
        is_own = record is not None and record["definition"] is not None
        rule = _rule_of(record) if record is not None and is_own else self._shipped.get(name)
        if rule is None:
            if not is_own:
                raise self._unknown(name)
            rule = AlertRule(name, "", "")
        message = alert_rules_pb2.StoredAlertRule(
            rule=rule_message(rule), enabled=record is None or record["enabled"], shipped=not is_own
        )
        if record is not None:
            message.updated_at.FromDatetime(record["updated_at"])
        return message

    def _unknown(self, name: str) -> ServiceError:
        nearest = nearest_name(name, self._shipped)
        return UNKNOWN_ALERT_RULE.error(
            f"there is no alert rule {name!r}{nearest_hint(nearest)}", rule=name, nearest=nearest
        )


def _rule_of(record: Mapping[str, Any]) -> AlertRule | None:
    """None for a definition that cannot be read, which the next one replaces."""
    try:
        return rule_of_row(record)
    except ValueError:
        return None
