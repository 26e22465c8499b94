"""Scanner filters between requests and rows: checked before they are stored. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from google.protobuf import json_format, struct_pb2
from tradeul.v1 import filters_pb2

from services.kit.lists.scan_filters import ScanFilterError, scan_filter
from services.kit.runtime.errors import INVALID_FILTER, INVALID_REQUEST

DEFAULT_PRIORITY: Final = 100
MAX_PARAMETER_BYTES: Final = 16_384
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


class FilterValues(NamedTuple):
    """What a row says beside its name."""

    enabled: bool
    priority: int
    parameters: Mapping[str, Any]


def checked_name(name: str) -> str:
    """`name`, when a filter may be called so; raises INVALID_REQUEST."""
    if NAME.fullmatch(name) is None:
        raise INVALID_REQUEST.error(
            f"expected a name of small letters, digits and underscores, was {name[:80]!r}", field="name"
        )
    return name


def new_filter(request: filters_pb2.CreateFilterRequest) -> FilterValues:
    """What a request to create asks for; raises INVALID_FILTER naming the wrong parameters."""
    # The door leaves out what it does not know: a misspelt field must not make a filter of nothing.
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


def changed_filter(request: filters_pb2.UpdateFilterRequest, now: FilterValues) -> FilterValues:
    """The row with what the request gives; raises INVALID_FILTER when that cannot be used."""
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
