"""The house's rules, each a test over the sources themselves."""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.runtime.environment import FILE_VARIABLES
from services.kit.runtime.settings import VARIABLES
from services.modules import MODULES
from tools.licences import installed
from tools.requirements import requirements

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("services", "fastcore", "bench", "tests", "tools")
    for path in (ROOT / folder).rglob("*.py")
)
SHIPPED = [path for path in SOURCES if path.parts[0] in ("services", "fastcore")]
CLOCK = Path("services/kit/runtime/clock.py")
# What tells the time, by module; asyncio's loop.time() only ever measures spans.
CLOCK_READINGS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "localtime", "gmtime", "ctime", "strftime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def imported(module: ast.Module) -> Iterator[str]:
    """Names of the modules that a file imports when it runs: not what only type checkers read."""
    for_types = {
        id(inner)
        for node in ast.walk(module)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(module):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def clock_readings(module: ast.Module) -> list[int]:
    """Lines that read a clock: time.time(), datetime.now(), or such a function imported by its name."""
    lines = []
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if node.attr in CLOCK_READINGS.get(owner, ()):
                lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            lines += [node.lineno for alias in node.names if alias.name in CLOCK_READINGS["time"]]
    return lines


def test_the_rule_of_clocks_sees_every_form() -> None:
    text = "from time import monotonic\ntime.time()\ndatetime.datetime.now()\ndatetime.date.today()\n"
    assert sorted(clock_readings(ast.parse(text))) == [1, 2, 3, 4]


def test_only_the_kits_clock_reads_the_time() -> None:
    found = {str(path): lines for path in SHIPPED if path != CLOCK and (lines := clock_readings(tree(path)))}
    assert not found


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.name == "core.py"], ids=str)
def test_cores_are_pure(path: Path) -> None:
    assert not [name for name in imported(tree(path)) if name.split(".")[0] in ("grpc", "asyncio", "redis", "asyncpg")]


def test_cores_stay_pure_by_what_they_import() -> None:
    """Importing every core loads no grpc, by whatever way."""
    cores = [".".join(path.with_suffix("").parts) for path in SHIPPED if path.name == "core.py"]
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "sys.exit(', '.join(name for name in sys.modules if name.split('.')[0] == 'grpc') or 0)"
    result = subprocess.run([sys.executable, "-c", code, *cores], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr


def test_the_compiled_core_does_no_input_or_output() -> None:
    banned = {"asyncio", "grpc", "socket", "services", "time", "random", "threading"}
    for path in SHIPPED:
        if path.parts[0] == "fastcore":
            assert not [name for name in imported(tree(path)) if name.split(".")[0] in banned], path
    imports = re.compile(r"^\s*(?:from|c?import)\s+(\w+)", re.MULTILINE)
    for source in (ROOT / "fastcore").glob("*.p[yx][xd]"):
        assert not banned & set(imports.findall(source.read_text(encoding="utf-8"))), source.name


def test_nothing_prints_and_nothing_is_caught_unseen() -> None:
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{path}:{node.lineno}: bare except"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}: print"


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"#.*\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    sources = [*SOURCES, *(path.relative_to(ROOT) for path in (ROOT / "fastcore").glob("*.p[yx][xd]"))]
    found = [str(path) for path in sources if words.search((ROOT / path).read_text(encoding="utf-8"))]
    assert not found


def test_every_extension_has_a_contract() -> None:
    """A .pyi for Python or a .pxd for Cython, where its meaning can be read without its code."""
    for source in (ROOT / "fastcore").glob("*.pyx"):
        assert source.with_suffix(".pyi").exists() or source.with_suffix(".pxd").exists(), source.name


def test_public_modules_say_what_they_are() -> None:
    missing = [str(path) for path in SHIPPED if path.name != "__init__.py" and ast.get_docstring(tree(path)) is None]
    assert not missing


def test_every_service_of_the_table_is_there() -> None:
    names = [module.name for module in MODULES]
    assert len(set(names)) == len(names)
    for module in MODULES:
        place, _, factory = module.factory.partition(":")
        path = Path(*place.split(".")).with_suffix(".py")
        functions = [node.name for node in tree(path).body if isinstance(node, ast.FunctionDef)]
        assert factory in functions, module.name


def test_the_operations_guide_names_every_setting() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    # Addresses are one line for all services.
    names = [name for path, name in VARIABLES.items() if path[0] != "addresses"]
    missing = [name for name in names if f"`{name}`" not in page]
    assert not missing
    assert "`TRADEUL_<SERVICE>_ADDRESS`" in page
    mentioned = set(re.findall(r"`((?:TRADEUL|POLYGON|FMP)_[A-Z0-9_]+)`", page))
    assert mentioned <= {*VARIABLES.values(), *FILE_VARIABLES.values()}
    assert set(FILE_VARIABLES.values()) <= mentioned


def test_every_target_of_the_makefile_is_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE) for name in line.split()}
    explained = set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE))
    assert targets == explained
    for page in ("README.md", "CONTRIBUTING.md", "docs/operations.md", "bench/README.md"):
        named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8")))
        assert named <= targets, page


def test_errors_are_shown_by_the_kits_redaction() -> None:
    """A reason that may be empty, or may hold a secret: reason_of() of services.kit.runtime.redaction is neither."""
    wrong = re.compile(r"\b(error|reason)=str\(|or type\((error|problem)\)\.__name__|format_exc\(|print_exc\(")
    home = Path("services/kit/runtime/redaction.py")
    found = {
        f"{path}:{number}"
        for path in SHIPPED
        if path != home
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if wrong.search(line)
    }
    # The vendor's own words have a home of theirs, which knows its key.
    assert not {place for place in found if not place.startswith("services/polygon_ws/connection.py")}


def test_dependencies_are_named_once_and_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [_distribution(requirement) for group in groups for requirement in group]
    assert len(names) == len(set(names)), sorted(names)
    modules: dict[str, set[str]] = {}
    for module, distributions in importlib.metadata.packages_distributions().items():
        for name in distributions:
            modules.setdefault(_distribution(name), set()).add(module)
    pattern = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    used = {name for path in SHIPPED for name in pattern.findall((ROOT / path).read_text(encoding="utf-8"))}
    unused = [name for name in map(_distribution, project["dependencies"]) if not modules.get(name, set()) & used]
    # Data that the standard library reads.
    assert unused == ["tzdata"]


def test_every_dependency_has_a_version_that_is_installed() -> None:
    """constraints.txt (make lock) holds a version for each, and nothing of the machine that wrote it."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+(?: ; [^;]+)?", line)]
    locked = {line.partition("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    assert not {_distribution(requirement) for group in groups for requirement in group} - locked


@pytest.mark.parametrize("path", ["Makefile", "k8s/image/Dockerfile"])
def test_what_is_installed_is_named_in_the_project(path: str) -> None:
    calls = re.findall(
        r"python (?:-m tools\.|tools/)requirements(?:\.py)? ([a-z ]+)", (ROOT / path).read_text(encoding="utf-8")
    )
    assert calls
    for names in calls:
        assert requirements(*names.split())


def test_what_webhooks_connect_with_is_installed_where_nothing_is_tested() -> None:
    """httpcore imports it when first used: without it no mesh starts, and the packages of tests bring it along."""
    assert "anyio" in installed(requirements("run"))


def test_every_package_that_is_run_has_its_licence_listed() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (\S+) \| [^|]+ \|$", page, re.MULTILINE)) - {"package"}
    assert not set(installed(requirements("run", "embedded"))) - listed


def _distribution(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()
