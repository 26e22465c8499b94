"""What the documentation refers to exists, and what refers to it finds it."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import click
import pytest

from fastcore.filters import FilterError, compile_filter, compile_order
from services.cli.main import COMMANDS, cli
from services.kit.runtime.errors import CATALOGUE

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"])
FOLDERS: Final = ("services", "fastcore", "tests", "tools", "bench", "protos/tradeul", "gateway")
SOURCES: Final = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".proto", ".toml", ".yaml", ".sql", ".js", ".ts", ".svelte"}
    # Packages of others, and what is built from our sources.
    and not {"node_modules", "site"} & set(path.parts)
    and "_pb2" not in path.name
    and path != Path(__file__)
)
# A page, and the heading that follows its name in quotes, over line ends and marks of comments.
REFERENCE: Final = re.compile(r'docs/([\w/-]+\.md)(?:#([\w-]+))?(?:,[\s#/]+"([^"]+)")?')
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+?) *$", re.MULTILINE)
PATH: Final = re.compile(r"`((?:services|fastcore|tests|tools|bench|protos|gateway)/[\w./-]+)`")
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
TEST_FILE: Final = re.compile(r"`(test_\w+\.py)`")
# A line of an indented block that runs tradeul; a synopsis, with its [--options], is none.
COMMAND: Final = re.compile(r"^    (?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?tradeul (?!.*\[--)(.+)$", re.MULTILINE)
URL: Final = re.compile(r"(?:-X (\w+) )?\"?(?:http://)?localhost:8000(/[^\s\"')`]*)")
# The dialect that pages and protos have left behind: the field's words are in CONTRIBUTING.md.
DIALECT: Final = re.compile(
    r"\b(?:doors?|own (?:list|scan)s?|whole state|alarms?|boards?|told|heard|asked for|when left out)\b", re.IGNORECASE
)
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


def test_every_promise_is_held_by_a_test_that_exists() -> None:
    found = TEST.findall(text(ROOT / "docs/guarantees.md"))
    assert len(found) > 40
    assert [f"{file}::{name}" for file, name in found if f"def {name}(" not in text(ROOT / file)] == []


def test_every_metric_in_the_docs_is_exported() -> None:
    code = "\n".join(text(path) for path in SOURCES if path.is_relative_to(ROOT / "services"))
    exported = set(re.findall(r'"(tradeul_[a-z0-9_]+)"', code))
    for page in PAGES:
        for name in METRIC.findall(text(page)):
            if not name.endswith("_"):  # "tradeul_ws_*"
                assert {name, name.removesuffix("_total")} & exported, f"{page.name}: {name}"


def test_pages_and_protos_use_the_fields_words() -> None:
    written = [*PAGES, *(path for path in SOURCES if path.suffix in {".proto", ".toml", ".yaml"})]
    assert not {str(path.relative_to(ROOT)): found for path in written if (found := DIALECT.findall(text(path)))}


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in COMMAND.findall(text(page))}))
def test_every_command_in_the_docs_is_one(line: str) -> None:
    """Its name, options and arguments are read as the command line reads them; nothing runs."""
    name, *arguments = shlex.split(line, comments=True)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, arguments)


def test_the_operations_guide_has_every_command() -> None:
    page = text(ROOT / "docs/operations.md")
    assert not [name for name in COMMANDS if f"`tradeul {name}" not in page]


def test_the_protocol_guide_has_every_reason_for_an_error() -> None:
    rows = re.findall(
        r"^\| (`[A-Z_`, ]+`) \| ([A-Z_]+) \| [\d, ]+ \| (yes|no) \|", text(ROOT / "docs/protocol.md"), re.MULTILINE
    )
    described = {(name, code, retry == "yes") for names, code, retry in rows for name in re.findall(r"[A-Z_]+", names)}
    assert described == set(CATALOGUE)


ROUTES: Final[dict[str, dict[str, Any]]] = json.loads(text(ROOT / "gateway/openapi.json"))["paths"]


def test_the_rest_guide_has_every_route_and_no_other() -> None:
    titles = [line.removeprefix("### ") for line in text(ROOT / "docs/rest.md").splitlines() if line.startswith("### ")]
    described = sorted(route for title in titles for route in title.split(", "))
    assert described == sorted(f"{method.upper()} {path}" for path, methods in ROUTES.items() for method in methods)


def test_every_url_in_the_docs_has_a_route_and_its_parameters() -> None:
    patterns = {re.compile(re.sub(r"\\\{\w+\\\}", r"[^/:?]+", re.escape(path))): path for path in ROUTES}
    for page in PAGES:
        for method, url in URL.findall(text(page)):
            parts = urlsplit(url)
            if parts.path in {"/", "/docs", "/openapi.json", "/tradeul-list.js", "/ws/scanner"}:
                continue
            found = [path for pattern, path in patterns.items() if pattern.fullmatch(parts.path)]
            assert found, f"{page.name}: {url}"
            methods = ROUTES[found[0]]
            assert not method or method.lower() in methods, f"{page.name}: {method} {url}"
            known = {each["name"] for operation in methods.values() for each in operation.get("parameters", ())}
            assert {name for name, _ in parse_qsl(parts.query)} <= known, f"{page.name}: {url}"


def test_the_filter_guide_is_the_compilers() -> None:
    """Its filters and orders compile, and its errors are those that such filters have."""
    page = text(ROOT / "docs/filters.md")
    filters, orders, errors = (
        re.findall(r"^    (\S.*)$", section, re.MULTILINE)
        for section in (page.partition("## Filters")[0], *re.split(r"^## ", page, flags=re.MULTILINE)[2:4])
    )
    assert (len(filters), len(orders), len(errors)) == (17, 3, 4)
    for line in filters:
        compile_filter(line)
    for line in orders:
        compile_order(line)
    for wrong, line in zip(("rvoll > 2", "gap_size = BIG", "price >=  ", 'sector = "Tech"'), errors, strict=True):
        with pytest.raises(FilterError) as caught:
            compile_filter(wrong)
        pattern = re.escape(line).replace(r"\.\.\.", ".*")
        assert re.fullmatch(pattern, str(caught.value)), line
