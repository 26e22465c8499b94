"""The ticker service's metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.kit.runtime.metrics import LATENCY_BUCKETS, REJECTED

SERVICE: Final = "ticker"

ANSWERS = Counter("tradeul_ticker_answers", "Answers by what was requested and by source.", ["what", "source"])
FAILURES = Counter("tradeul_ticker_source_failures", "Times a source did not answer.", ["source"])
ROWS_CACHED = Counter("tradeul_ticker_rows_cached", "Rows written to ticker:data.")
ROWS_NOT_CACHED = REJECTED.labels(SERVICE, "row_cache_full")
MALFORMED_CACHE = REJECTED.labels(SERVICE, "malformed_metadata_in_redis")
MALFORMED_DETAIL = REJECTED.labels(SERVICE, "malformed_metadata_detail")
DRY_RUNS = Gauge("tradeul_dry_runs", "Dry runs of alert rules in progress.")
DRY_RUN_DAYS = Counter("tradeul_dry_run_days", "Days of dry runs by outcome: run, failed.", ["outcome"])

WEBHOOK_DELIVERING = Gauge("tradeul_webhooks_delivering", "1 in the replica that delivers to webhooks.")
WEBHOOK_ATTEMPTS = Counter(
    "tradeul_webhook_attempts", "Messages sent to webhooks, including tests, by outcome.", ["outcome"]
)
WEBHOOK_ALERTS = Counter("tradeul_webhook_alerts", "Alerts that webhooks have accepted.")
WEBHOOK_ALERTS_MISSED = Counter(
    "tradeul_webhook_alerts_missed", "Alerts that were neither held nor stored any more when a webhook got to them."
)
WEBHOOK_SECONDS = Histogram(
    "tradeul_webhook_seconds",
    "Time from an alert's arrival for a webhook to its acceptance.",
    buckets=(*LATENCY_BUCKETS, 60, 600, 3600),
)
WEBHOOKS_FAILING = Gauge(
    "tradeul_webhooks_failing", "Webhooks whose oldest message was refused and waits to be sent again."
)
WEBHOOKS_FAILING_SECONDS = Gauge(
    "tradeul_webhooks_failing_seconds", "How long the longest-failing webhook has been failing."
)
WEBHOOKS_DISABLED = Gauge("tradeul_webhooks_disabled", "Webhooks that the service has switched off.")
