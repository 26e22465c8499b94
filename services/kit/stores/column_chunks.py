"""DuckDB's results as numpy columns, a chunk at a time.

DuckDB's own way to do so, fetch_df_chunk(), needs pandas, which is no dependency of the services.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import duckdb
from numpy.typing import NDArray

CHUNK_ROWS: Final = 131_072


def column_chunks(
    database: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[object] = (), chunk_rows: int = CHUNK_ROWS
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yields the columns of a query's rows, in its order, by name; nothing when there are none. No value may be NULL.

    The rows wait in a temporary table, which DuckDB moves to the disk when they take too much memory. Raises
    duckdb.Error.
    """
    database.execute(f"CREATE OR REPLACE TEMP TABLE column_chunks AS {query}", parameters)
    try:
        first = 0
        while True:
            part = database.execute(
                "SELECT * FROM column_chunks WHERE rowid >= ? AND rowid < ? ORDER BY rowid", [first, first + chunk_rows]
            ).fetchnumpy()
            if not len(next(iter(part.values()))):
                return
            yield part
            first += chunk_rows
    finally:
        database.execute("DROP TABLE IF EXISTS column_chunks")
