"""The wheel, installed into an environment of its own and run from an empty folder, far from any checkout."""

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.kit.runtime.packaged import FOR_THE_MESH, MIGRATIONS, Packaged, checkout
from tests.support.mesh import Mesh

# What is not tracked: made anew, or not a part of what is built.
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.so", "*.c", ".*", "build", "dist", "*.egg-info", "node_modules")
# The environment is made in the first test's time.
pytestmark = pytest.mark.timeout(600)
SETTINGS = {"TRADEUL_SIM_SYMBOLS": "300", "TRADEUL_SIM_START": "2026-03-10T09:45:00"}


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and a checkout's packages but not the checkout."""

    root: Path

    @property
    def program(self) -> Path:
        return self.root / "bin" / "tradeul"

    @property
    def site_packages(self) -> Path:
        (path,) = (self.root / "lib").glob("python*/site-packages")
        return path

    def run(self, *command: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRADEUL_", "POLYGON_", "PYTHON"))}
        return subprocess.run(
            [str(part) for part in command],
            cwd=folder, env={**clean, **environment}, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip


def build_wheel(folder: Path) -> Path:
    """The wheel of the checkout's sources, with the extensions as they are compiled already."""
    root, copy = checkout(), folder / "source"
    shutil.copytree(root, copy, ignore=NOT_SOURCES, symlinks=True)
    shutil.copytree(root / "build" / "cython", copy / "build" / "cython", dirs_exist_ok=True)
    built = copy / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "fastcore"
    built.mkdir(parents=True)
    for extension in sorted((root / "fastcore").glob("*.so")):
        # Newer than what it was made of, so that it is not compiled again.
        shutil.copyfile(extension, built / extension.name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder / "wheels", copy)
    (wheel,) = (folder / "wheels").glob("tradeul-*.whl")
    shutil.rmtree(copy)
    return wheel


def pip(*arguments: object, python: object = sys.executable) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    made = Installed(folder / "venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.root)], timeout=60, check=True)
    # Without pip's and the network's time: what the tests have, they lend. Files ".pth" of a folder that is
    # named so are not read, so a checkout that is installed there as editable stays unknown.
    lent = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (made.site_packages / "lent.pth").write_text("".join(f"{path}\n" for path in lent))
    pip("install", "--no-deps", "--no-index", wheel, python=made.root / "bin" / "python")
    return made


async def test_it_runs_from_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    names = ("fastcore.market", "gateway", "services.cli.main", "tradeul.v1")
    where = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    found = installed.run(installed.root / "bin" / "python", "-c", where, *names, folder=folder).stdout.splitlines()
    assert len(found) == len(names)
    assert all(Path(path).is_relative_to(installed.site_packages) for path in found), found
    # The default directory, in the folder that it is called in; a package of the same name there is not ours.
    (folder / "services").mkdir()
    (folder / "services" / "__init__.py").write_text("raise AssertionError('not this one')\n")
    environment = {**SETTINGS, "PYTHONPATH": "", "TRADEUL_DATA_DIR": ""}
    async with Mesh(tmp_path / "log", environment, program=[str(installed.program)], folder=folder) as mesh:
        assert (folder / ".tradeul" / "simulator" / "postgres").is_dir()
        async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client, asyncio.timeout(90):
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/openapi.json")).json()["paths"]
            while not (await client.get("/api/v1/scanner/lists/high_volume?limit=3")).json().get("rows"):
                await asyncio.sleep(0.2)
        log = mesh.log_path.read_text()
        assert "applied 0001_spine" in log
        assert str(checkout()) not in log
    # Mesh has asserted that nothing is left running.


@pytest.mark.parametrize("file", FOR_THE_MESH, ids=lambda file: file.name)
def test_what_is_missing_is_named_at_once(installed: Installed, file: Packaged, tmp_path: Path) -> None:
    path = installed.site_packages.joinpath(*file.package.split("."), file.name)
    away = tmp_path / "away"
    path.rename(away)
    try:
        result = installed.run(installed.program, "up", folder=tmp_path, TRADEUL_DATA_DIR=str(tmp_path / "data"))
    finally:
        away.rename(path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"tradeul: expected {file.name} of {file.package} at {path}, was missing")


def test_migrate_without_migrations_is_an_error(installed: Installed, tmp_path: Path) -> None:
    folder = installed.site_packages.joinpath(*MIGRATIONS.package.split("."), MIGRATIONS.name)
    away = tmp_path / "away"
    folder.rename(away)
    folder.mkdir()
    try:
        result = installed.run(
            installed.program, "migrate", folder=tmp_path, TRADEUL_DATABASE_URL="postgresql://nobody@/x"
        )
    finally:
        folder.rmdir()
        away.rename(folder)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"tradeul: expected *.sql in {folder}, was none")
