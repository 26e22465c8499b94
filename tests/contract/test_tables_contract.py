"""The older system's tables (section 9), on a real PostgreSQL that the migrations have made."""

from collections.abc import Iterator

import asyncpg
import pytest

from tests.support.stores import Stores, module_stores

NUMBER = {"double precision", "numeric", "real", "bigint", "integer", "smallint"}
TEXT = {"text", "character varying"}
TIME = {"timestamp with time zone"}
DATE = {"date"}
BOOLEAN = {"boolean"}
JSON = {"jsonb"}
BYTES = {"bytea"}
# Columns that consumers of the older system read; there may be more.
TABLES = {
    "scan_results": {
        "time": TIME, "symbol": TEXT, "list": TEXT, "session": TEXT, "rank": NUMBER, "price": NUMBER,
        "volume_today": NUMBER, "change_percent": NUMBER, "gap_percent": NUMBER, "rvol": NUMBER, "score": NUMBER,
    },
    "aggregates_1min": {
        "time": TIME, "symbol": TEXT, "open": NUMBER, "high": NUMBER, "low": NUMBER, "close": NUMBER,
        "volume": NUMBER, "vwap": NUMBER, "trades": NUMBER,
    },
    "daily_ohlc": {
        "date": DATE, "symbol": TEXT, "open": NUMBER, "high": NUMBER, "low": NUMBER, "close": NUMBER,
        "volume": NUMBER, "vwap": NUMBER, "trades": NUMBER,
    },
    "ticker_metadata": {
        "symbol": TEXT, "company_name": TEXT, "exchange": TEXT, "sector": TEXT, "industry": TEXT,
        "market_cap": NUMBER, "float_shares": NUMBER, "shares_outstanding": NUMBER, "avg_volume_30d": NUMBER,
        "avg_volume_10d": NUMBER, "avg_price_30d": NUMBER, "beta": NUMBER, "is_etf": BOOLEAN,
        "is_actively_trading": BOOLEAN, "security_type": TEXT, "list_date": TEXT, "updated_at": TIME,
    },
    "ticker_atr": {"symbol": TEXT, "date": DATE, "period": NUMBER, "atr": NUMBER, "atr_percent": NUMBER},
    "volume_slots": {
        "symbol": TEXT, "slot_number": NUMBER, "avg_volume": NUMBER, "avg_trades": NUMBER, "sd_trades": NUMBER,
        "days": NUMBER, "data_date": DATE,
    },
    "alert_rules": {
        "name": TEXT, "enabled": BOOLEAN, "owner": TEXT, "version": NUMBER, "definition": JSON, "updated_at": TIME,
    },
    "alert_events": {
        "time": TIME, "epoch": NUMBER, "sequence": NUMBER, "rule": TEXT, "symbol": TEXT, "quality": NUMBER,
        "quality_rank": NUMBER, "level": NUMBER, "text": TEXT, "price": NUMBER, "volume_today": NUMBER,
        "change_percent": NUMBER, "rvol": NUMBER, "alert": BYTES,
    },
    "webhooks": {
        "id": TEXT, "enabled": BOOLEAN, "disabled_reason": TEXT, "owner": TEXT, "version": NUMBER, "url": TEXT,
        "rules": {"ARRAY"}, "filter": TEXT, "min_quality": NUMBER, "shape": TEXT, "secret": BYTES,
        "former_secret": BYTES, "former_until": TIME, "created_at": TIME, "updated_at": TIME,
    },
    "webhook_progress": {
        "webhook_id": TEXT, "epoch": NUMBER, "sequence": NUMBER, "failing_since": TIME, "failures": NUMBER,
        "next_attempt_at": TIME, "problem": TEXT, "begun": NUMBER,
    },
    "webhook_attempts": {
        "id": NUMBER, "webhook_id": TEXT, "message_id": TEXT, "time": TIME, "attempt": NUMBER, "outcome": TEXT,
        "status": NUMBER, "duration_ms": NUMBER, "error": TEXT, "next_attempt_at": TIME, "alerts": NUMBER,
    },
    "scanner_filters": {
        "name": TEXT, "enabled": BOOLEAN, "priority": NUMBER, "parameters": JSON, "updated_at": TIME,
    },
}  # fmt: skip
# What tells two rows apart: every write can be repeated without a duplicate.
KEYS = {
    "scan_results": {"list", "time", "symbol"},
    "aggregates_1min": {"symbol", "time"},
    "daily_ohlc": {"date", "symbol"},
    "ticker_metadata": {"symbol"},
    "ticker_atr": {"symbol", "date", "period"},
    "volume_slots": {"symbol", "slot_number"},
    "scanner_filters": {"name"},
    "alert_rules": {"name"},
    "alert_events": {"time", "epoch", "sequence"},
    "webhooks": {"id"},
    "webhook_progress": {"webhook_id"},
    "webhook_attempts": {"webhook_id", "id"},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


async def rows(stores: Stores, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stores.database_url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


@pytest.mark.parametrize("table", TABLES)
async def test_columns(stores: Stores, table: str) -> None:
    found = await rows(
        stores,
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = $1",
        table,
    )
    types = {each["column_name"]: each["data_type"] for each in found}
    assert types, f"there is no table {table}"
    wrong = {name: types.get(name) for name, kinds in TABLES[table].items() if types.get(name) not in kinds}
    assert not wrong


@pytest.mark.parametrize("table", KEYS)
async def test_primary_keys(stores: Stores, table: str) -> None:
    found = await rows(
        stores,
        "SELECT usage.column_name FROM information_schema.table_constraints AS kind"
        " JOIN information_schema.key_column_usage AS usage USING (constraint_schema, constraint_name)"
        " WHERE kind.table_schema = current_schema() AND kind.table_name = $1"
        " AND kind.constraint_type = 'PRIMARY KEY'",
        table,
    )
    assert {each["column_name"] for each in found} == KEYS[table]


async def test_the_default_filters_are_there(stores: Stores) -> None:
    found = await rows(stores, "SELECT name, enabled FROM scanner_filters ORDER BY priority")
    assert [tuple(each) for each in found] == [
        ("price_range", True), ("volume_min", True), ("volume_min_premarket", True), ("rvol_high", False),
    ]  # fmt: skip
