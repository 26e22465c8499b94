"""docs/fields.md is what fastcore/fields.py says."""

from pathlib import Path

import pytest

from fastcore.fields import FIELDS
from tools import fielddoc


def test_the_page_is_current() -> None:
    assert fielddoc.main(["--check"]) == 0


def test_every_field_has_its_line() -> None:
    page = fielddoc.document()
    assert all(f"| `{field.name}` | {field.kind} |" in page for field in FIELDS)
    assert page.count("\n| `") == len(FIELDS)


def test_a_stale_page_is_told_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "fields.md"
    monkeypatch.setattr(fielddoc, "FILE", page)
    assert fielddoc.main(["--check"]) == 1
    assert "tools.fielddoc" in capsys.readouterr().err
    assert not page.exists()
    assert fielddoc.main([]) == 0
    assert fielddoc.main(["--check"]) == 0
