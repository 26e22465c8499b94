"""Scanner filters: requests checked, rows of scanner_filters read and written, rows as messages."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf import json_format, struct_pb2
from tradeul.v1 import filters_pb2

from services.kit.lists.scan_filters import ScanFilterError, scan_filter
from services.kit.rpc.json_body import read_change
from services.kit.runtime.errors import (
    FILTER_EXISTS,
    INVALID_FILTER,
    INVALID_REQUEST,
    TOO_MANY_FILTERS,
    UNKNOWN_FILTER,
    ServiceError,
)
from services.ticker.store import Queries, Record

DEFAULT_PRIORITY: Final = 100
MAX_PARAMETER_BYTES: Final = 16_384
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


class FilterValues(NamedTuple):
    """A filter apart from its name."""

    enabled: bool
    priority: int
    parameters: Mapping[str, Any]


def checked_name(name: str) -> str:
    """`name`, if it is valid; raises INVALID_REQUEST."""
    if NAME.fullmatch(name) is None:
        raise INVALID_REQUEST.error(
            "expected a name of at most 63 lower-case letters, digits and underscores that begins with a letter, was"
            f" {name[:80]!r}",
            field="name",
        )
    return name


def new_filter(request: filters_pb2.CreateFilterRequest) -> FilterValues:
    """The filter that a request creates; raises INVALID_FILTER naming the wrong parameters."""
    if not request.HasField("parameters"):
        raise INVALID_REQUEST.error("expected parameters, was none", field="parameters")
    return _checked(
        request.name,
        FilterValues(
            request.enabled if request.HasField("enabled") else True,
            request.priority if request.HasField("priority") else DEFAULT_PRIORITY,
            {name: value for name, value in plain(request.parameters).items() if value is not None},
        ),
    )


def update_request(request: filters_pb2.UpdateFilterFromJsonRequest) -> filters_pb2.UpdateFilterRequest:
    """The request of a path's name and a body, which may repeat the name; raises INVALID_REQUEST."""
    return read_change(request.name, request.body, filters_pb2.UpdateFilterRequest())


def changed_filter(request: filters_pb2.UpdateFilterRequest, now: FilterValues) -> FilterValues:
    """The filter with the request's changes; raises INVALID_FILTER when they cannot be used."""
    if not (request.HasField("enabled") or request.HasField("priority") or request.HasField("parameters")):
        raise INVALID_REQUEST.error("expected enabled, priority or parameters, was none of them")
    parameters = {**now.parameters, **plain(request.parameters)}
    return _checked(
        request.name,
        FilterValues(
            request.enabled if request.HasField("enabled") else now.enabled,
            request.priority if request.HasField("priority") else now.priority,
            {name: value for name, value in parameters.items() if value is not None},
        ),
    )


def message_of(record: Mapping[str, Any]) -> filters_pb2.ScannerFilter:
    """A row of scanner_filters as the API shows it."""
    message = filters_pb2.ScannerFilter(name=record["name"], enabled=record["enabled"], priority=record["priority"])
    message.parameters.update(json.loads(record["parameters"]))
    message.updated_at.FromDatetime(record["updated_at"])
    return message


def plain(parameters: struct_pb2.Struct) -> dict[str, Any]:
    """The parameters as JSON has them; whole numbers, which a Struct holds as doubles, are whole again."""
    try:
        values: dict[str, Any] = json_format.MessageToDict(parameters)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise INVALID_FILTER.error(f"parameters: {error}", field="parameters") from error
    return {name: _whole(value) for name, value in values.items()}


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _checked(name: str, values: FilterValues) -> FilterValues:
    size = len(json.dumps(values.parameters))
    if size > MAX_PARAMETER_BYTES:
        raise INVALID_FILTER.error(f"expected parameters of at most {MAX_PARAMETER_BYTES} bytes, was {size}")
    try:
        scan_filter(name, values.parameters)
    except ScanFilterError as error:
        raise INVALID_FILTER.error(str(error), name=name) from error
    return values


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
                raise TOO_MANY_FILTERS.error(f"limit reached: {MAX_FILTERS} filters", maximum=MAX_FILTERS)
            record: Record | None = await connection.fetchrow(
                f"""INSERT INTO scanner_filters (name, enabled, priority, parameters) VALUES ($1, $2, $3, $4)
                ON CONFLICT DO NOTHING RETURNING {_COLUMNS}""",
                *(name, values.enabled, values.priority, json.dumps(values.parameters)),
            )
            if record is None:
                raise FILTER_EXISTS.error(f"there is a filter {name!r} already: change it by PATCH", name=name)
            return record

    async def update(self, name: str, change: Change) -> Record:
        """Stores the result of `change`; raises UNKNOWN_FILTER and what `change` raises."""
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
