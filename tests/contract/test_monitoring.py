"""Alert rules and dashboards: they name metrics and labels that exist, and alerts fire when they should."""

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import REGISTRY, Counter, Histogram

from tests.support.javascript import leave_out
from tests.support.manifests import K8S
from tools import dashboards

MONITORING: Final = K8S / "components" / "monitoring"
RULES: Final = MONITORING / "rules.yaml"
ALERT_TESTS: Final = Path(__file__).parent / "alert_tests.yaml"
RUNBOOK: Final = K8S.parent / "docs" / "cluster.md"
SERVICES: Final = K8S.parent / "services"
# Of prometheus_client itself, and what a scrape adds.
OTHERS: Final = {
    f"process_{name}": {"pod"} for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "max_fds")
}
# Of Envoy; test_gateway.py reads them from a running one.
ENVOY: Final = {
    "envoy_http_downstream_rq_xx": {"envoy_http_conn_manager_prefix", "envoy_response_code_class"},
    "envoy_http_downstream_rq_active": {"envoy_http_conn_manager_prefix"},
    "envoy_http_downstream_cx_active": {"envoy_http_conn_manager_prefix"},
}
# Of kube-state-metrics, which names a series' object by these labels.
KUBERNETES: Final = {
    "kube_cronjob_created": {"namespace", "cronjob"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
}
# What the series of counters and histograms end with.
SUFFIXES: Final = ("_total", "_created", "_bucket", "_count", "_sum")
# A name that is compared with something, or grouped by, is a label's.
METRIC: Final = re.compile(r"\b((?:tradeul|envoy_http_downstream|process|kube)_\w+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for name in dashboards.DASHBOARDS:
        for panel in json.loads((MONITORING / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))["panels"]:
            yield from (target["expr"] for target in panel["targets"])


def exported() -> dict[str, set[str]]:
    """The labels of every metric that a service exports, by the names of its series."""
    for file in SERVICES.rglob("metrics.py"):
        importlib.import_module(".".join(file.relative_to(SERVICES.parent).with_suffix("").parts))
    found: dict[str, set[str]] = {}
    for collector, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        # The registry reserves the name itself, too, which has no series.
        if isinstance(collector, Counter | Histogram):
            names = [name for name in names if name.endswith(SUFFIXES)]
        found |= {name: labels | ({"le"} if name.endswith("_bucket") else set()) for name in names}
    return found | OTHERS | ENVOY | KUBERNETES


def test_queries_name_metrics_and_labels_that_exist() -> None:
    known = exported()
    for query in queries():
        used = METRIC.findall(query)
        assert used, query
        allowed: set[str] = set()
        for name, selected in used:
            assert name in known, query
            assert set(re.findall(r"(\w+)\s*[=!~]+", selected)) <= known[name], query
            allowed |= known[name]
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert {label.strip() for label in grouped.split(",")} <= allowed, query


def test_dashboards_are_those_of_the_tool() -> None:
    for name in dashboards.DASHBOARDS:
        assert (MONITORING / "dashboards" / f"{name}.json").read_text(encoding="utf-8") == dashboards.dashboard(name)


def test_every_alert_has_a_paragraph_in_the_runbook() -> None:
    headings = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE))
    assert {rule["alert"] for rule in rules()} == headings
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/cluster.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        leave_out("promtool", "left out: promtool (Debian's package prometheus) is not installed")
    plain = tmp_path / "rules.yaml"
    plain.write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]), encoding="utf-8")
    tests = {**yaml.safe_load(ALERT_TESTS.read_text(encoding="utf-8")), "rule_files": [str(plain)]}
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(tests), encoding="utf-8")
    for what, path in (("check", plain), ("test", file)):
        result = subprocess.run([program, what, "rules", path], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
