"""AlertRulesService: requests checked and stored; the sequencer follows the table."""

import contextlib
from collections.abc import AsyncGenerator, Collection
from pathlib import Path
from typing import Any, Final

import grpc.aio
from google.api import httpbody_pb2
from tradeul.v1 import alert_rule_pb2, alert_rules_pb2, dry_run_pb2

from fastcore.alert_rules import AlertRule, rule_message, rule_of_message
from services.kit.lists.list_json import events_body, message_json
from services.kit.rpc.json_body import read_json
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.subscribing import write_all
from services.kit.runtime.errors import INVALID_REQUEST
from services.ticker.alert_rules import AlertRuleStore, checked_rule, checked_rule_name, update_rule_request
from services.ticker.dry_run_request import checked_request, days_of
from services.ticker.dry_runs import DryRuns, Wanted
from services.ticker.store import Queries

Context = grpc.aio.ServicerContext[Any, Any]
# Of a rule that is only tried.
DRY_RUN_NAME: Final = "dry_run"


class AlertRulesServicer:
    """See alert_rules.proto. `lists`: the names of the built-in lists, which rules may name.

    `folder`: where dry runs look for flat files and recordings unless a request says otherwise.
    """

    def __init__(
        self, store: AlertRuleStore, lists: Collection[str], dry_runs: DryRuns, queries: Queries, folder: Path
    ) -> None:
        self._store = store
        self._lists = lists
        self._dry_runs = dry_runs
        self._queries = queries
        self._folder = folder

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

    async def DryRunAlertRule(self, request: dry_run_pb2.DryRunAlertRuleRequest, context: Context) -> None:
        await write_all(await self._dry_run(request), context)

    async def DryRunAlertRuleFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> None:
        request = read_json(body, dry_run_pb2.DryRunAlertRuleRequest())
        await write_all(_events(await self._dry_run(request)), context)

    async def _dry_run(self, request: dry_run_pb2.DryRunAlertRuleRequest) -> AsyncGenerator[bytes, None]:
        """The messages of a dry run that may begin; raises what is wrong with the request, and UNKNOWN_ALERT_RULE."""
        checked = checked_request(request)
        if request.HasField("rule") == bool(request.name):
            raise INVALID_REQUEST.error("expected either name or rule", field="name")
        if request.HasField("rule"):
            if not request.rule.name:
                request.rule.name = DRY_RUN_NAME
            if not request.rule.title:
                request.rule.title = request.rule.name
            rule = rule_message(self._checked(request.rule))
        else:
            rule = (await self._store.get(checked_rule_name(request.name))).rule
            # A stored one may name what there is no longer.
            self._checked(rule)
        folder = Path(checked.source) if checked.source else self._folder
        days = await days_of(checked, folder, self._queries)
        return self._dry_runs.messages(Wanted(rule, days, checked.symbols, checked.limit, folder))

    def _checked(self, message: alert_rule_pb2.AlertRule) -> AlertRule:
        return checked_rule(rule_of_message(message), self._lists)


async def _events(messages: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The messages as server-sent events; closes them."""
    async with contextlib.aclosing(messages):
        async for message in messages:
            yield events_body(b"data: %b\n\n" % message_json(dry_run_pb2.DryRunAlertRuleResponse.FromString(message)))
