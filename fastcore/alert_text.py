"""The text of an alert: a template with fields of the row in braces, as in `broke {or5_high:.2f} at {price}`.

A number without a format is shown with up to 4 decimals, a value that is absent as n/a.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fastcore.fields import BY_NAME
from fastcore.filter_ast import FilterError
from fastcore.filter_types import nearest

MAX_LENGTH: Final = 500
# Beside the fields of the row.
OWN_NAMES: Final = ("quality", "level")
_PLACE: Final = re.compile(r"\{(?P<name>\w+)(?::(?P<format>[^{}]*))?\}|[{}]")
_FORMAT: Final = re.compile(r"(?P<commas>,?)(?:\.(?P<decimals>[0-6])f)?")


class _Part(NamedTuple):
    """`before`, then the value of `name`, which is "" at the end."""

    before: str
    name: str
    commas: str
    decimals: str | None


class AlertText:
    """A checked template; raises FilterError."""

    def __init__(self, template: str) -> None:
        if len(template) > MAX_LENGTH:
            raise FilterError(f"expected at most {MAX_LENGTH} characters, was {len(template)}", MAX_LENGTH)
        self._parts: list[_Part] = []
        at = 0
        for match in _PLACE.finditer(template):
            name = match["name"]
            if name is None:
                raise FilterError("expected a field in braces, was a brace alone", match.start())
            names = (*BY_NAME, *OWN_NAMES)
            if name not in names:
                raise FilterError(f"unknown field {name!r}", match.start() + 1, nearest(name, names))
            form = _FORMAT.fullmatch(match["format"] or "")
            if form is None:
                raise FilterError(f"expected a format like .2f or ,.0f, was {match['format']!r}", match.start("format"))
            self._parts.append(_Part(template[at : match.start()], name, form["commas"], form["decimals"]))
            at = match.end()
        self._end = template[at:]
        # The names of the row's fields that it shows.
        self.fields = tuple({part.name for part in self._parts} - set(OWN_NAMES))

    def of(self, values: Mapping[str, Any]) -> str:
        """The text with these values: the fields of a row that are known, quality and level."""
        return "".join(part.before + _shown(values.get(part.name), part) for part in self._parts) + self._end


def _shown(value: Any, part: _Part) -> str:
    if value is None:
        return "n/a"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if part.decimals is not None:
        return f"{value:{part.commas}.{part.decimals}f}"
    text = f"{value:{part.commas}.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
