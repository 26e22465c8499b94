"""The built-in lists, read from services/kit/lists/lists.toml or a file of the same shape."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastcore.filter_ast import FilterError
from fastcore.filter_types import check_filter, check_order
from services.kit.runtime.packaged import LISTS

MOST_ROWS: Final = 1000
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DEFAULTS: Final[dict[str, type]] = {"base_filter": str, "limit": int, "max_limit": int}
_KEYS: Final[dict[str, type]] = {
    "name": str,
    "title": str,
    "filter": str,
    "order_by": str,
    "stay": str,
    "base": bool,
    "uses_scanner_filters": bool,
    "limit": int,
    "max_limit": int,
}


class ListsError(ValueError):
    """A file of lists that cannot be used; the message names the list and the key, with the reason."""


class ListSpec(NamedTuple):
    """One ranked list.

    `filter` is the list's own condition; `base_filter` ("" for none) and, when
    `uses_scanner_filters`, the enabled scanner_filters are added to it with AND.
    `stay` ("" for none) replaces `filter` for rows that are members already.
    `limit` rows are kept, published and streamed (as deltas too); one
    request may have up to `max_limit`, which are selected for its answer.
    """

    name: str
    title: str
    filter: str
    order_by: str
    stay: str
    base_filter: str
    uses_scanner_filters: bool
    limit: int
    max_limit: int


def load_lists(path: Path | str | None = None) -> list[ListSpec]:
    """The lists of the file at `path` (the built-in ones when None), in the file's order.

    Raises ListsError for anything that is wrong with it, OSError when it cannot be read,
    StartError when the built-in ones are not installed.
    """
    file = LISTS.path() if path is None else Path(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ListsError(f"{file.name}: expected TOML: {error}") from error
    try:
        return _specs(content)
    except ListsError as error:
        raise ListsError(f"{file.name}: {error}") from error


def _specs(content: dict[str, Any]) -> list[ListSpec]:
    rows = content.pop("lists", None)
    if not isinstance(rows, list) or not rows:
        raise ListsError("expected at least one [[lists]] table, was none")
    _check_keys("top level", content, _DEFAULTS)
    base_filter = content.get("base_filter", "")
    _check_text("top level", "base_filter", base_filter)
    specs: list[ListSpec] = []
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ListsError(f"lists[{index}]: expected a table, was {row!r}")
        spec = _spec(f"list {row.get('name', index)!r}", row, content, base_filter)
        if any(other.name == spec.name for other in specs):
            raise ListsError(f"list {spec.name!r}: expected a name of its own, was there already")
        specs.append(spec)
    return specs


def _spec(where: str, row: dict[str, Any], defaults: dict[str, Any], base_filter: str) -> ListSpec:
    _check_keys(where, row, _KEYS)
    for key in ("name", "title"):
        if not row.get(key):
            raise ListsError(f"{where}: expected a {key}, was none")
    if _NAME.fullmatch(row["name"]) is None:
        raise ListsError(f"{where}: expected a name of a-z, 0-9 and _ that begins with a letter, was {row['name']!r}")
    for key in ("filter", "stay", "order_by"):
        _check_text(where, key, row.get(key, ""))
    limit = _rows(where, "limit", row, defaults)
    max_limit = _rows(where, "max_limit", row, defaults)
    if max_limit < limit:
        raise ListsError(f"{where}: expected max_limit to be at least limit ({limit}), was {max_limit}")
    return ListSpec(
        name=row["name"],
        title=row["title"],
        filter=row.get("filter", ""),
        order_by=row.get("order_by", ""),
        stay=row.get("stay", ""),
        base_filter=base_filter if row.get("base", True) else "",
        uses_scanner_filters=row.get("uses_scanner_filters", True),
        limit=limit,
        max_limit=max_limit,
    )


def _check_keys(where: str, row: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in row.items():
        if key not in known:
            raise ListsError(f"{where}: expected one of {', '.join(known)}, was {key!r}")
        # type() and not isinstance: TOML's true is no number.
        if type(value) is not known[key]:
            raise ListsError(f"{where}: expected {key} to be {known[key].__name__}, was {value!r}")


def _check_text(where: str, key: str, text: str) -> None:
    check = check_order if key == "order_by" else check_filter
    try:
        check(text)
    except FilterError as error:
        raise ListsError(f"{where}: {key}: {error}") from error


def _rows(where: str, key: str, row: Mapping[str, Any], defaults: Mapping[str, Any]) -> int:
    value: int = row.get(key, defaults.get(key, 100))
    if not 1 <= value <= MOST_ROWS:
        raise ListsError(f"{where}: expected {key} to be 1 to {MOST_ROWS}, was {value}")
    return value
