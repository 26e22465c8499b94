"""The loads' counters."""

from prometheus_client import Counter, Gauge

UNITS = Counter("tradeul_load_units", "Days or symbols loaded, by kind and outcome.", ["kind", "outcome"])
ROWS = Counter("tradeul_load_rows", "Rows loaded, by kind.", ["kind"])
SET_ASIDE = Counter("tradeul_load_rows_set_aside", "Rows of loads that could not be used, by kind.", ["kind"])
RUNNING = Gauge("tradeul_loads_running", "Loads in progress.")
WATCHERS = Gauge("tradeul_load_watchers", "Open streams of load progress.")
