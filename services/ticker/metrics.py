"""The ticker service's metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.kit.runtime.metrics import REJECTED

SERVICE: Final = "ticker"

ANSWERS = Counter("tradeul_ticker_answers", "Answers by what was requested and by source.", ["what", "source"])
FAILURES = Counter("tradeul_ticker_source_failures", "Times a source did not answer.", ["source"])
ROWS_CACHED = Counter("tradeul_ticker_rows_cached", "Rows written to ticker:data.")
ROWS_NOT_CACHED = REJECTED.labels(SERVICE, "row_cache_full")
MALFORMED_CACHE = REJECTED.labels(SERVICE, "malformed_metadata_in_redis")
MALFORMED_DETAIL = REJECTED.labels(SERVICE, "malformed_metadata_detail")
DRY_RUNS = Gauge("tradeul_dry_runs", "Dry runs of alert rules that are under way.")
DRY_RUN_DAYS = Counter("tradeul_dry_run_days", "Days of dry runs by outcome: run, failed.", ["outcome"])
