"""The ticker service's metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter

from services.kit.runtime.metrics import REJECTED

SERVICE: Final = "ticker"

ANSWERS = Counter("tradeul_ticker_answers", "Answers by what was requested and by source.", ["what", "source"])
FAILURES = Counter("tradeul_ticker_source_failures", "Times a source did not answer.", ["source"])
ROWS_CACHED = Counter("tradeul_ticker_rows_cached", "Rows written to ticker:data.")
ROWS_NOT_CACHED = REJECTED.labels(SERVICE, "row_cache_full")
MALFORMED_CACHE = REJECTED.labels(SERVICE, "malformed_metadata_in_redis")
MALFORMED_DETAIL = REJECTED.labels(SERVICE, "malformed_metadata_detail")
