"""What the documentation refers to exists, and what refers to it finds it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"])
FOLDERS: Final = ("services", "fastcore", "tests", "tools", "bench", "protos/tradeul", "gateway")
SOURCES: Final = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".proto", ".toml", ".yaml", ".sql", ".js"}
    and "_pb2" not in path.name
    and path != Path(__file__)
)
# A page, and the heading that follows its name in quotes, over line ends and marks of comments.
REFERENCE: Final = re.compile(r'docs/([\w/-]+\.md)(?:#([\w-]+))?(?:,[\s#/]+"([^"]+)")?')
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+?) *$", re.MULTILINE)
PATH: Final = re.compile(r"`((?:services|fastcore|tests|tools|bench|protos|gateway)/[\w./-]+)`")
TEST_FILE: Final = re.compile(r"`(test_\w+\.py)`")
METRIC: Final = re.compile(r"\btradeul_[a-z0-9_]+\b")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def headings(page: Path) -> set[str]:
    # Inside fenced or indented blocks a # begins a comment, not a heading.
    return set(HEADING.findall(re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL)))


def anchor(heading: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def references() -> Iterator[tuple[str, Path, str | None, str | None]]:
    """Who refers to a page, the page, its anchor and its quoted heading."""
    for source in SOURCES:
        for match in REFERENCE.finditer(text(source)):
            quoted = re.sub(r"\s*\n[\s#/]*", " ", match[3]) if match[3] else None
            yield f"{source.relative_to(ROOT)}: {match[0]}", ROOT / "docs" / match[1], match[2], quoted


def test_every_reference_from_code_finds_its_page_and_heading() -> None:
    found = list(references())
    assert len(found) > 20
    assert not [who for who, page, _, _ in found if not page.exists()]
    assert not [who for who, page, _, heading in found if heading and heading not in headings(page)]
    anchors = {page: {anchor(heading) for heading in headings(page)} for page in PAGES}
    assert not [who for who, page, name, _ in found if name and name not in anchors[page]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_resolves(page: Path) -> None:
    for link in LINK.findall(text(page)):
        if link.startswith(("http://", "https://")):
            continue
        file, _, name = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not name or name in {anchor(heading) for heading in headings(target)}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [path for path in PATH.findall(text(page)) if not (ROOT / path).exists()]
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert not missing + [name for name in TEST_FILE.findall(text(page)) if name not in tests]


def test_every_metric_in_the_docs_is_exported() -> None:
    code = "\n".join(text(path) for path in SOURCES if path.is_relative_to(ROOT / "services"))
    exported = set(re.findall(r'"(tradeul_[a-z0-9_]+)"', code))
    for page in PAGES:
        for name in METRIC.findall(text(page)):
            if not name.endswith("_"):  # "tradeul_ws_*"
                assert {name, name.removesuffix("_total")} & exported, f"{page.name}: {name}"
