"""docs/fields.md, written from fastcore/fields.py: `python -m tools.fielddoc [--check]`."""

import argparse
import sys
from typing import Final

from fastcore.fields import FIELDS, Field
from services.kit.runtime.packaged import checkout

FILE: Final = checkout() / "docs" / "fields.md"

_HEAD: Final = """\
# Fields

Written by `python -m tools.fielddoc` from `fastcore/fields.py`; do not edit.

The fields of a symbol's row: their names in JSON, in filters and orders ([filters.md](filters.md)), and in the message
`TickerRow`. Times of day are New York's; percentages are in percent (4 is 4 %). A field that cannot be known yet is
absent: left out of the row, never 0.

| field | type | unit | meaning |
|---|---|---|---|
"""


def document() -> str:
    """The whole page."""
    return _HEAD + "".join(_row(field) for field in FIELDS)


def _row(field: Field) -> str:
    meaning = field.meaning
    if field.values:
        meaning = f"{meaning}; one of {', '.join(f'`{value}`' for value in field.values)}"
    return f"| `{field.name}` | {field.kind} | {field.unit} | {meaning.replace('|', '&#124;')} |\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fielddoc", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is not current")
    page = document()
    is_current = FILE.exists() and FILE.read_text(encoding="utf-8") == page
    if parser.parse_args(arguments).check:
        if not is_current:
            sys.stderr.write("expected docs/fields.md to be current; run `python -m tools.fielddoc`\n")
            return 1
    elif not is_current:
        FILE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
