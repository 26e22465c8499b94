"""The alert rules that the stream carries: the shipped ones and, from PostgreSQL, users' own and switches."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastcore.alert_rules import AlertRule
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.stream.table_follower import TableFollower
from services.kit.alerts.stored import ROWS_QUERY, StoredRules, merged
from services.kit.runtime.logging import get_logger
from services.kit.stores.notifications import ALERT_RULES

log = get_logger(__name__)


class AlertRulesFollower(TableFollower):
    """The rules of alert_rules, beside those of `shipped`."""

    table: ClassVar = ALERT_RULES
    query: ClassVar = ROWS_QUERY
    what: ClassVar = "alert rule"

    def __init__(self, url: str, sequencer: Sequencer, shipped: Sequence[AlertRule]) -> None:
        super().__init__(url)
        self._sequencer = sequencer
        self._shipped = shipped

    def begin(self, is_alone: bool) -> None:
        """Adds the shipped rules; where there are rules already, those stay until the rows can be read."""
        if is_alone or not self._sequencer.market.alert_rules_message:
            self._apply(merged(self._shipped, ()))

    def take(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        rules = merged(self._shipped, rows)
        self._apply(rules)
        return rules.left_out

    def _apply(self, rules: StoredRules) -> None:
        if self._sequencer.set_alert_rules(rules.enabled, rules.disabled):
            log.info("alert rules", enabled=len(rules.enabled), disabled=[rule.name for rule in rules.disabled])
