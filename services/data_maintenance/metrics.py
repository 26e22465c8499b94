"""data_maintenance's metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.kit.runtime.metrics import SUBSCRIBERS

SERVICE: Final = "data_maintenance"

RUNS = Counter(
    "tradeul_maintenance_runs",
    "Runs that ended here, by task and state, including those LOST to another replica.",
    ["task", "state"],
)
RUNNING = Gauge("tradeul_maintenance_running", "1 while the task runs here.", ["task"])
SECONDS = Histogram(
    "tradeul_maintenance_seconds", "How long runs took.", ["task"], buckets=(0.1, 1, 5, 15, 60, 300, 900, 3600, 14400)
)
FAILED_SYMBOLS = Counter("tradeul_maintenance_failed_symbols", "Symbols that failed in a run.", ["task"])
LAST_SUCCESS = Gauge(
    "tradeul_maintenance_last_success_seconds", "When a run last succeeded here (Unix time).", ["task"]
)
DATABASE_FAILURES = Counter("tradeul_maintenance_database_failures", "Failures to query the database.")

WATCHERS = SUBSCRIBERS.labels(SERVICE, "task")
