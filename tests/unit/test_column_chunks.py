"""Columns out of DuckDB, without pandas."""

import re
import sys
from pathlib import Path

import duckdb
import pytest

from services.kit.stores.column_chunks import column_chunks

SERVICES = Path(__file__).parents[2] / "services"
NEEDS_PANDAS = re.compile(r"\.(fetch_df|fetch_df_chunk|fetchdf|df)\(")


@pytest.fixture(autouse=True)
def no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is where only what the mesh needs is installed."""
    monkeypatch.setitem(sys.modules, "pandas", None)


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 5000])
def test_all_rows_come_in_order(rows: int) -> None:
    with duckdb.connect() as database:
        query = f"SELECT range AS number, range / 2 AS half FROM range({rows}) ORDER BY number DESC"
        chunks = list(column_chunks(database, query, chunk_rows=1000))
        assert [len(chunk["number"]) for chunk in chunks] == [min(1000, rows - at) for at in range(0, rows, 1000)]
        numbers = [number for chunk in chunks for number in chunk["number"].tolist()]
        assert numbers == list(range(rows - 1, -1, -1))
        assert [half for chunk in chunks for half in chunk["half"].tolist()] == [number / 2 for number in numbers]


def test_parameters_and_the_next_query() -> None:
    with duckdb.connect() as database:
        for limit in (3, 5):
            (chunk,) = column_chunks(database, "SELECT range AS number FROM range(10) WHERE range < ?", [limit])
            assert chunk["number"].tolist() == list(range(limit))


def test_no_service_asks_duckdb_for_data_frames() -> None:
    found = [str(path) for path in SERVICES.rglob("*.py") if NEEDS_PANDAS.search(path.read_text())]
    assert found == [], "a data frame needs pandas, which is installed for tests and benchmarks alone"
