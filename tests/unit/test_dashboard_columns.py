"""The dashboard has a column of its own for every field: a label, a width and a format."""

import re

from fastcore.fields import FIELDS
from tools import protogen

COLUMNS = protogen.ROOT / "gateway" / "web" / "src" / "table" / "columns.ts"


def test_every_field_has_a_column() -> None:
    table = re.search(r"const PRESENTATIONS[^{]*\{\n(.*?)\n\};", COLUMNS.read_text(), re.DOTALL)
    assert table is not None
    columns = set(re.findall(r"^  (\w+): ", table[1], re.MULTILINE))
    assert columns >= {field.name for field in FIELDS}
    assert columns - {field.name for field in FIELDS} <= {"rank"}
