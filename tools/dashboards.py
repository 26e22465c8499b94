"""Writes the Grafana dashboards of k8s/components/monitoring: `python -m tools.dashboards`.

Grafana's own JSON has a hundred lines for a panel; here a panel is its title, unit and queries.
"""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).resolve().parents[1] / "k8s" / "components" / "monitoring" / "dashboards"
COLUMNS: Final = 3
WIDTH: Final = 24 // COLUMNS
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


class Panel(NamedTuple):
    """A graph. `queries` are PromQL by the legend of their series; `unit` is one of Grafana's."""

    title: str
    unit: str
    queries: dict[str, str]


def quantiles(metric: str, by: str = "", select: str = "") -> dict[str, str]:
    """The median and the 99th percentile of a histogram."""
    labels = ", ".join(filter(None, ("le", by)))
    legend = f"{{{{{by}}}}} " if by else ""
    return {
        f"{legend}p{level}": f"histogram_quantile(0.{level}, sum by ({labels}) (rate({metric}_bucket{select}[1m])))"
        for level in (50, 99)
    }


TAPE: Final = (
    Panel(
        "Events from the vendor",
        "ops",
        {"{{kind}}": 'sum by (kind) (rate(tradeul_ticks_total{service="polygon_ws"}[1m]))'},
    ),
    Panel(
        "Events sequenced", "ops", {"{{kind}}": 'sum by (kind) (rate(tradeul_ticks_total{service="data_ingest"}[1m]))'}
    ),
    Panel("Frames", "ops", {"{{service}}": "sum by (service) (rate(tradeul_frames_total[1m]))"}),
    Panel("From a trade's time to each step", "s", quantiles("tradeul_lag_seconds", "step")),
    Panel("Duration of list refreshes", "s", quantiles("tradeul_refresh_seconds")),
    Panel("List changes", "ops", {"{{list}}": "sum by (list) (rate(tradeul_list_updates_total[1m]))"}),
    Panel(
        "Input set aside",
        "ops",
        {"{{service}} {{reason}}": "sum by (service, reason) (rate(tradeul_rejected_total[5m]))"},
    ),
    Panel("Suspect prints today", "short", {"{{outcome}}": "max by (outcome) (tradeul_suspect_prints)"}),
    Panel("Halted symbols", "short", {"halted": "max(tradeul_halted_symbols)"}),
    Panel(
        "Connection to the vendor",
        "short",
        {
            "subscribed": 'max(tradeul_feed_state{state="subscribed"})',
            "reconnected": "sum(increase(tradeul_feed_reconnects_total[5m]))",
            "gaps": "sum(increase(tradeul_feed_gaps_total[5m]))",
        },
    ),
    Panel(
        "Held around the sequencer",
        "bytes",
        {
            "batches not yet acknowledged": "max(tradeul_feed_unacknowledged_bytes)",
            "frames for readers": "max(tradeul_sequencer_held_bytes)",
        },
    ),
    Panel(
        "Lost",
        "short",
        {
            "batches": "sum(increase(tradeul_sequencer_lost_batches_total[5m]))",
            "events": "sum(increase(tradeul_feed_dropped_events_total[5m]))",
            "scan records": "sum(increase(tradeul_scan_records_dropped_total[5m]))",
            "minute bars": "sum(increase(tradeul_minute_bars_dropped_total[5m]))",
        },
    ),
    Panel("Journal writes", "Bps", {"bytes": "sum(rate(tradeul_journal_bytes_total[1m]))"}),
    Panel("Journal: pauses of the stream", "s", quantiles("tradeul_journal_market_seconds")),
    Panel(
        "Up-to-date copies of the market",
        "short",
        {"scanners": "sum(tradeul_scanner_current)", "analytics": "sum(tradeul_analytics_current)"},
    ),
    Panel("Memory", "bytes", {"{{pod}}": 'max by (pod) (process_resident_memory_bytes{pod!=""})'}),
    Panel("Processor", "percentunit", {"{{pod}}": 'sum by (pod) (rate(process_cpu_seconds_total{pod!=""}[1m]))'}),
    Panel("Services running", "short", {"{{service}}": "sum by (service) (tradeul_service_running)"}),
)
ENVOY: Final = '{envoy_http_conn_manager_prefix="gateway"}'
GATEWAY: Final = (
    Panel(
        "Responses",
        "ops",
        {
            "{{envoy_response_code_class}}xx": (
                f"sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx{ENVOY}[1m]))"
            )
        },
    ),
    Panel("Open requests and streams", "short", {"open": f"sum(envoy_http_downstream_rq_active{ENVOY})"}),
    Panel("Connections", "short", {"open": f"sum(envoy_http_downstream_cx_active{ENVOY})"}),
    Panel("Subscriptions", "short", {"{{service}} {{stream}}": "sum by (service, stream) (tradeul_subscribers)"}),
    Panel(
        "Slow subscribers", "short", {"{{service}} {{stream}}": "sum by (service, stream) (tradeul_slow_subscribers)"}
    ),
    Panel(
        "Custom scans",
        "short",
        {"open": "sum(tradeul_open_scans)", "steps per row": "sum(tradeul_scan_steps)"},
    ),
    Panel(
        "WebSocket clients",
        "short",
        {
            "open": "sum(tradeul_ws_clients)",
            "slow": 'sum(tradeul_slow_subscribers{service="websocket_server",stream="clients"})',
        },
    ),
    Panel("WebSocket bytes", "Bps", {"sent": "sum(rate(tradeul_ws_bytes_total[1m]))"}),
    Panel("RPCs by status", "ops", {"{{code}}": "sum by (code) (rate(tradeul_rpc_handled_total[1m]))"}),
    Panel("RPC duration", "s", quantiles("tradeul_rpc_seconds")),
    Panel("Refused requests", "ops", {"{{reason}}": "sum by (reason) (rate(tradeul_access_refused_total[1m]))"}),
    Panel("Requests by key", "ops", {"{{key}}": "topk(10, sum by (key) (rate(tradeul_access_allowed_total[1m])))"}),
)
DASHBOARDS: Final = {"tape": ("Tradeul: the tape", TAPE), "gateway": ("Tradeul: the gateway", GATEWAY)}


def dashboard(name: str) -> str:
    """Returns a dashboard as Grafana imports it."""
    title, panels = DASHBOARDS[name]
    document = {
        "uid": f"tradeul-{name}",
        "title": title,
        "tags": ["tradeul"],
        "timezone": "America/New_York",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(document, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(dashboard(name), encoding="utf-8")


if __name__ == "__main__":
    main()
