"""The dashboard's sources pass their own checks, and gateway/site is what they make."""

import gzip
import json
import re
from pathlib import Path

import pytest

from services.cli.local.site import site_files
from tests.support import javascript
from tools import protogen

# The packages are installed in the first test's time.
pytestmark = pytest.mark.timeout(420)
SOURCES = protogen.ROOT / "gateway" / "web"
# Apart from tests/web's packages, beside a copy of the gateway's folder.
GATEWAY = protogen.ROOT / "build" / "dashboard" / "gateway"
FIRST_LOAD = 300_000


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
async def web() -> Path:
    """A copy of gateway/web with its packages."""
    javascript.node()
    await javascript.install(SOURCES, GATEWAY / "web")
    return GATEWAY / "web"


async def test_the_committed_files_are_what_the_sources_make(web: Path) -> None:
    await javascript.checked("npm", "run", "build", cwd=web)
    built, committed = files(GATEWAY / "site"), files(SOURCES.parent / "site")
    differing = [name for name in sorted({*built, *committed}) if built.get(name) != committed.get(name)]
    assert not differing, f"`make web` makes other files than those of gateway/site: {', '.join(differing)}"


async def test_the_sources_are_typed_and_their_tests_pass(web: Path) -> None:
    await javascript.checked("npm", "run", "check", cwd=web)
    output = await javascript.checked("npm", "test", cwd=web)
    assert re.search(r"Tests .*\d+ passed", output), output


def test_the_first_load_is_small() -> None:
    """All that the first page needs before it shows anything: its page, scripts, styles, and the worker."""
    found = site_files()
    waiting, seen = ["index.html"], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        text = found[name].read_text(encoding="utf-8", errors="replace")
        # Of a script: what it imports at once; `import(...)` is for later.
        imported = re.findall(r'(?:from|import)"\./([\w.-]+)"', text)
        waiting += [f"assets/{each}" for each in imported]
        if name == "index.html":
            waiting += re.findall(r'(?:src|href)="/(assets/[^"]+)"', text)
            waiting += [each for each in found if re.fullmatch(r"assets/worker-.+\.js", each)]
    assert len(seen) >= 4
    size = sum(len(gzip.compress(found[name].read_bytes(), 9, mtime=0)) for name in seen)
    assert size < FIRST_LOAD, f"{size} bytes gzipped: {', '.join(sorted(seen))}"


def test_the_versions_are_exact_and_the_lock_file_names_no_registry() -> None:
    package = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert [name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
    locked = json.loads((SOURCES / "package-lock.json").read_text(encoding="utf-8"))["packages"].values()
    assert not [each for each in locked if "resolved" in each]
