"""scanner_filters in PostgreSQL. Whoever changes a row there, the sequencer hears of it by NOTIFY."""

import json
from collections.abc import Callable, Sequence
from typing import Final

from services.kit.runtime.errors import FILTER_EXISTS, TOO_MANY_FILTERS, UNKNOWN_FILTER, ServiceError
from services.ticker.filters_core import FilterValues
from services.ticker.store import Queries, Record

# All enabled ones are tried on every symbol at every refresh.
MAX_FILTERS: Final = 100
_COLUMNS: Final = "name, enabled, priority, parameters, updated_at"
_LOCK: Final = "LOCK TABLE scanner_filters IN SHARE ROW EXCLUSIVE MODE"


Change = Callable[[FilterValues], FilterValues]


class FilterStore:
    """Reads and writes; every method raises STORE_UNAVAILABLE while the database is away."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def all(self) -> Sequence[Record]:
        """By priority, then name."""
        return await self._queries.all(f"SELECT {_COLUMNS} FROM scanner_filters ORDER BY priority, name")

    async def get(self, name: str) -> Record:
        """Raises UNKNOWN_FILTER."""
        record = await self._queries.first(f"SELECT {_COLUMNS} FROM scanner_filters WHERE name = $1", name)
        if record is None:
            raise unknown(name)
        return record

    async def create(self, name: str, values: FilterValues) -> Record:
        """Raises FILTER_EXISTS, TOO_MANY_FILTERS."""
        async with self._queries.transaction() as connection:
            # Two that count at the same time would both find room for one.
            await connection.execute(_LOCK)
            if await connection.fetchval("SELECT count(*) FROM scanner_filters") >= MAX_FILTERS:
                raise TOO_MANY_FILTERS.error(
                    f"there are {MAX_FILTERS} filters already, which is the most", maximum=MAX_FILTERS
                )
            record: Record | None = await connection.fetchrow(
                f"""INSERT INTO scanner_filters (name, enabled, priority, parameters) VALUES ($1, $2, $3, $4)
                ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
                *(name, values.enabled, values.priority, json.dumps(values.parameters)),
            )
            if record is None:
                raise FILTER_EXISTS.error(f"there is a filter {name!r} already: change it by PATCH", name=name)
            return record

    async def update(self, name: str, change: Change) -> Record:
        """Puts what `change` makes of the row; raises UNKNOWN_FILTER and what `change` raises."""
        async with self._queries.transaction() as connection:
            record: Record | None = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM scanner_filters WHERE name = $1 FOR UPDATE", name
            )
            if record is None:
                raise unknown(name)
            now = FilterValues(record["enabled"], record["priority"], json.loads(record["parameters"]))
            wanted = change(now)
            if wanted == now:
                return record
            changed: Record = await connection.fetchrow(
                f"""UPDATE scanner_filters SET enabled = $2, priority = $3, parameters = $4 WHERE name = $1
                RETURNING {_COLUMNS}""",
                *(name, wanted.enabled, wanted.priority, json.dumps(wanted.parameters)),
            )
            return changed

    async def delete(self, name: str) -> None:
        """Raises UNKNOWN_FILTER."""
        if await self._queries.value("DELETE FROM scanner_filters WHERE name = $1 RETURNING name", name) is None:
            raise unknown(name)


def unknown(name: str) -> ServiceError:
    return UNKNOWN_FILTER.error(f"there is no filter {name!r}", name=name)
