"""AlertRulesService: requests checked and stored; the sequencer follows the table."""

from collections.abc import Collection
from typing import Any

import grpc.aio
from google.api import httpbody_pb2
from tradeul.v1 import alert_rule_pb2, alert_rules_pb2

from fastcore.alert_rules import AlertRule, rule_of_message
from services.kit.rpc.json_body import read_json
from services.kit.rpc.key_streams import RequestKey
from services.kit.runtime.errors import INVALID_REQUEST
from services.ticker.alert_rules import AlertRuleStore, checked_rule, checked_rule_name, update_rule_request

Context = grpc.aio.ServicerContext[Any, Any]


class AlertRulesServicer:
    """See alert_rules.proto. `lists`: the names of the built-in lists, which rules may name."""

    def __init__(self, store: AlertRuleStore, lists: Collection[str]) -> None:
        self._store = store
        self._lists = lists

    async def GetAlertRule(
        self, request: alert_rules_pb2.GetAlertRuleRequest, _: Context
    ) -> alert_rules_pb2.StoredAlertRule:
        return await self._store.get(checked_rule_name(request.name))

    async def CreateAlertRule(
        self, request: alert_rules_pb2.CreateAlertRuleRequest, context: Context
    ) -> alert_rules_pb2.StoredAlertRule:
        if not request.HasField("rule"):
            raise INVALID_REQUEST.error("expected a rule, was none", field="rule")
        checked_rule_name(request.rule.name)
        key = RequestKey.of_context(context)
        rule = self._checked(request.rule)._replace(owner=key.name if key is not None else "", version=0)
        return await self._store.create(rule, request.enabled if request.HasField("enabled") else True)

    async def CreateAlertRuleFromJson(
        self, body: httpbody_pb2.HttpBody, context: Context
    ) -> alert_rules_pb2.StoredAlertRule:
        return await self.CreateAlertRule(read_json(body, alert_rules_pb2.CreateAlertRuleRequest()), context)

    async def UpdateAlertRule(
        self, request: alert_rules_pb2.UpdateAlertRuleRequest, _: Context
    ) -> alert_rules_pb2.StoredAlertRule:
        name = checked_rule_name(request.name)
        if not (request.HasField("rule") or request.HasField("enabled")):
            raise INVALID_REQUEST.error("expected rule or enabled, was none of them")
        rule = None
        if request.HasField("rule"):
            if request.rule.name not in ("", name):
                raise INVALID_REQUEST.error(
                    f"expected the name {name!r}, which cannot be changed, was {request.rule.name[:80]!r}",
                    field="rule.name",
                )
            request.rule.name = name
            rule = self._checked(request.rule)
        return await self._store.update(name, rule, request.enabled if request.HasField("enabled") else None)

    async def UpdateAlertRuleFromJson(
        self, request: alert_rules_pb2.UpdateAlertRuleFromJsonRequest, context: Context
    ) -> alert_rules_pb2.StoredAlertRule:
        return await self.UpdateAlertRule(update_rule_request(request), context)

    async def DeleteAlertRule(
        self, request: alert_rules_pb2.DeleteAlertRuleRequest, _: Context
    ) -> alert_rules_pb2.DeleteAlertRuleResponse:
        await self._store.delete(checked_rule_name(request.name))
        return alert_rules_pb2.DeleteAlertRuleResponse()

    def _checked(self, message: alert_rule_pb2.AlertRule) -> AlertRule:
        return checked_rule(rule_of_message(message), self._lists)
