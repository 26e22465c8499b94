"""Every method declares its right, and docs/security.md shows what the protos say."""

from pathlib import Path

import pytest
from tradeul.v1 import rights_pb2

from tools import rightsdoc

# What changes something for others, by method: a new one belongs into this list, or it is open to every reader.
ADMIN = {
    "/tradeul.v1.AlertRulesService/CreateAlertRule",
    "/tradeul.v1.AlertRulesService/CreateAlertRuleFromJson",
    "/tradeul.v1.AlertRulesService/DeleteAlertRule",
    "/tradeul.v1.AlertRulesService/DryRunAlertRule",
    "/tradeul.v1.AlertRulesService/DryRunAlertRuleFromJson",
    "/tradeul.v1.AlertRulesService/UpdateAlertRule",
    "/tradeul.v1.AlertRulesService/UpdateAlertRuleFromJson",
    "/tradeul.v1.DataMaintenanceService/CancelRun",
    "/tradeul.v1.DataMaintenanceService/RunTask",
    "/tradeul.v1.FiltersService/CreateFilter",
    "/tradeul.v1.FiltersService/CreateFilterFromJson",
    "/tradeul.v1.FiltersService/DeleteFilter",
    "/tradeul.v1.FiltersService/UpdateFilter",
    "/tradeul.v1.FiltersService/UpdateFilterFromJson",
    "/tradeul.v1.HistoricalService/CancelLoad",
    "/tradeul.v1.HistoricalService/StartLoad",
    "/tradeul.v1.PolygonWsService/SubscribeMarket",
    "/tradeul.v1.PolygonWsService/UpdateSubscriptions",
    "/tradeul.v1.ReplayService/UpdateReplay",
    "/tradeul.v1.StandbyService/FollowJournal",
    "/tradeul.v1.ReplayService/UpdateReplayFromJson",
    "/tradeul.v1.RevocationService/WatchRevocations",
    *(
        f"/tradeul.v1.WebhooksService/{method}"
        for method in (
            *("ListWebhooks", "GetWebhook", "CreateWebhook", "CreateWebhookFromJson", "UpdateWebhook"),
            *("UpdateWebhookFromJson", "DeleteWebhook", "TestWebhook", "TestWebhookFromJson", "RotateWebhookSecret"),
            *("RotateWebhookSecretFromJson", "ListWebhookAttempts"),
        )
    ),
}
PUBLIC = {"/tradeul.v1.HealthService/GetHealth"}


def test_every_method_declares_its_right() -> None:
    found = {method.path: method.right for method in rightsdoc.methods()}
    assert len(found) > 40
    assert not [path for path, right in found.items() if right == rights_pb2.RIGHT_UNSPECIFIED]
    assert {path for path, right in found.items() if right == rights_pb2.RIGHT_ADMIN} == ADMIN
    assert {path for path, right in found.items() if right == rights_pb2.RIGHT_PUBLIC} == PUBLIC


def test_whatever_is_written_needs_the_right_to_administer() -> None:
    """By REST, all but GET; POST also queries, checks, and makes tickets that only read."""
    reading = {f"POST /api/v1/{path}" for path in ("scanner/scans:query", "scanner/scans:check", "tickets")}
    for method in rightsdoc.methods():
        if any(not route.startswith("GET ") and route not in reading for route in method.routes):
            assert method.right == rights_pb2.RIGHT_ADMIN, method.path


def test_the_table_is_current() -> None:
    assert rightsdoc.main(["--check"]) == 0


def test_a_stale_table_is_reported_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "security.md"
    page.write_text(f"# Title\n\n{rightsdoc.BEGIN}old\n{rightsdoc.END}\nThe rest.\n")
    monkeypatch.setattr(rightsdoc, "FILE", page)
    assert rightsdoc.main(["--check"]) == 1
    assert "tools.rightsdoc" in capsys.readouterr().err
    assert "old" in page.read_text()
    assert rightsdoc.main([]) == 0
    assert rightsdoc.main(["--check"]) == 0
    assert page.read_text().startswith("# Title\n")
    assert page.read_text().endswith("\nThe rest.\n")


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the marks of the generated table once, was 0 times"):
        rightsdoc.document("# Title\n")
