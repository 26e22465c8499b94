"""How the code is divided: who may import whom, no circles, files of a readable size."""

import ast
import graphlib
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST, LEAST_MEDIAN = 400, 90
# A part of services/kit or services/market and what of services/ it may import.
MAY_IMPORT = {
    "services.market": ("services.market", "services.kit.runtime"),
    "services.kit.runtime": ("services.kit.runtime",),
    "services.kit.rpc": ("services.kit.rpc", "services.kit.runtime"),
    **{
        f"services.kit.{name}": (f"services.kit.{name}", "services.kit.runtime", "services.kit.rpc", "services.market")
        for name in ("stores", "vendor", "lists", "alerts")
    },
}
SHARED = ("services.kit", "services.market")
# The command line puts the services together; a dry run plays a day of the replay into the sequencer of data_ingest.
COMPOSITION = ("services.cli", "services.dry_run")
# The table of the services, which imports nothing: anybody of services may read it.
TABLE = "services.modules"
Imports = Mapping[str, frozenset[str]]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files() -> list[Path]:
    return sorted(path for folder in ("services", "fastcore") for path in (ROOT / folder).rglob("*.py"))


def named_imports(tree: ast.Module) -> Iterator[str]:
    """Every name that may be a module, those within functions and under TYPE_CHECKING included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module comes from"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def compiled_imports(name: str) -> Iterator[str]:
    """What a compiled module imports and cimports, in its .pyx and its .pxd."""
    for path in (ROOT / "fastcore").glob(f"{name}.p[yx][xd]"):
        yield from re.findall(r"^\s*(?:from|c?import)\s+([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def read_imports() -> Imports:
    """Each module of services and fastcore with all that it imports, from wherever."""
    found = {module_name(path): frozenset(named_imports(ast.parse(path.read_text("utf-8")))) for path in python_files()}
    for path in (ROOT / "fastcore").glob("*.pyx"):
        found[f"fastcore.{path.stem}"] = frozenset(compiled_imports(path.stem))
    # Inline code that several compiled modules share.
    for path in (ROOT / "fastcore").glob("*.pxd"):
        found.setdefault(f"fastcore.{path.stem}", frozenset(compiled_imports(path.stem)))
    return found


def circle(imports: Imports) -> list[str]:
    """Modules that import each other in a circle, the first one once more at the end; empty when there is none."""
    graph = {name: {other for other in imported if other in imports} - {name} for name, imported in imports.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden_imports(imports: Imports) -> list[str]:
    """ "importer -> imported" for each import across the borders."""
    found = []
    for importer, imported in imports.items():
        if is_within(importer, COMPOSITION):
            continue
        rooms = [allowed for room, allowed in MAY_IMPORT.items() if is_within(importer, (room,))]
        own = ".".join(importer.split(".")[:2])
        if rooms:
            allowed: tuple[str, ...] = rooms[0]
        else:
            allowed = () if own.startswith("fastcore.") or own == TABLE else (own, *SHARED)
        for name in imported:
            if name == TABLE and importer.startswith("services"):
                continue
            if name in imports and is_within(name, ("services",)) and not is_within(name, allowed):
                found.append(f"{importer} -> {name}")
    return sorted(found)


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports()


def test_no_modules_import_each_other_in_a_circle(imports: Imports) -> None:
    found = circle(imports)
    assert not found, " -> ".join(found)


def test_a_circle_is_found() -> None:
    planted = {"a": {"b"}, "b": {"c", "os"}, "c": {"a"}, "d": {"a"}}
    assert sorted(set(circle({name: frozenset(names) for name, names in planted.items()}))) == ["a", "b", "c"]


def test_imports_under_type_checking_and_in_functions_count() -> None:
    text = "if TYPE_CHECKING:\n    from services.a import b\ndef f() -> None:\n    import services.c\n"
    assert set(named_imports(ast.parse(text))) == {"services.a", "services.a.b", "services.c"}


def test_imports_stay_within_their_borders(imports: Imports) -> None:
    found = forbidden_imports(imports)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "importer, imported",
    [
        ("services.scanner.core", "services.data_ingest.ring"),
        ("services.kit.runtime.clock", "services.kit.rpc.server"),
        ("services.kit.rpc.server", "services.kit.lists.client"),
        ("services.kit.stores.redis", "services.kit.vendor.client"),
        ("services.market.days", "services.kit.rpc.server"),
        ("services.market.days", "services.scanner.core"),
        ("services.scanner.core", "services.cli.main"),
        ("services.modules", "services.kit.lists.client"),
        ("fastcore.fields", "services.modules"),
        ("fastcore.fields", "services.kit.lists.client"),
    ],
)
def test_an_import_across_a_border_is_found(importer: str, imported: str) -> None:
    planted = {importer: frozenset({imported}), imported: frozenset[str]()}
    assert forbidden_imports(planted) == [f"{importer} -> {imported}"]


def test_the_markets_domain_is_pure(imports: Imports) -> None:
    """gRPC and asyncio are for its client only."""
    found = [
        f"{importer} -> {name}"
        for importer, imported in imports.items()
        if is_within(importer, ("services.market",))
        for name in imported
        if (name.split(".")[0] in ("grpc", "asyncio") or name.endswith("_pb2_grpc")) and not importer.endswith("client")
    ]
    assert not found, "\n".join(found)


def test_nothing_that_runs_uses_the_reference(imports: Imports) -> None:
    """It is what the tests compare with: slow, and with error messages for nobody."""
    reference = "fastcore.reference."
    users = {name for name, imported in imports.items() if any(f"{each}.".startswith(reference) for each in imported)}
    assert users
    assert not {name for name in users if not f"{name}.".startswith(reference)}


def test_files_of_services_have_a_readable_size() -> None:
    lines = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "services").rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines()))
    }
    assert not {path: count for path, count in lines.items() if count > LONGEST}
    assert statistics.median(lines.values()) >= LEAST_MEDIAN


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield (node.body[0].lineno, text)


QUESTION = re.compile(r"(What|Whether)\b")


def test_docstrings_state_what_is_done_or_returned() -> None:
    """In the indicative: "Returns the ids of symbols.", "True if the row passes."."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in python_files()
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if QUESTION.match(text)
    ]
    compiled = re.compile(r'"""(?:What|Whether)\b.*')
    for path in sorted((ROOT / "fastcore").glob("*.p[yx][xdi]*")):
        found += [f"{path.name}: {text}" for text in compiled.findall(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_definitions_are_those_of_the_repository() -> None:
    """Comments point at headings of docs/semantics.md, not at numbers of a document that is elsewhere."""
    wrong = re.compile(r"(?<!docs/)semantics|semantics(?!\.md)|\bsections? \d|\s\(\d{1,2}\.\d{1,2}\)", re.IGNORECASE)
    sources = [path for folder in ("services", "fastcore") for path in (ROOT / folder).rglob("*.*")]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(sources)
        if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".toml", ".sql")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if wrong.search(line)
    ]
    assert not found, "\n".join(found)
