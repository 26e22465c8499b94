"""Secrets: from a variable or a file, and in the environment of those children only that use them."""

import ast
import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from services.cli.check_config import describe, unknown_variables
from services.cli.local.mesh import environment_of, specs_of
from services.cli.redis_cli import where
from services.cli.stores import split_password
from services.kit.runtime.environment import FILE_VARIABLES, PREFIXES, SECRETS, settings_for, without_settings
from services.kit.runtime.errors import SettingsError
from services.kit.runtime.settings import VARIABLES, Settings
from services.modules import MODULES, REPLAY, Module, Secret

SERVICES = Path(__file__).parents[2] / "services"
# The attribute of Settings by which code reads a secret.
ATTRIBUTES = {
    "redis_url": "redis",
    "database_url": "postgres",
    "polygon": "vendor",
    "fmp": "fmp",
    "flat_files": "flat_files",
}


def secret_fields() -> set[str]:
    """The variables of fields that are never shown, and of the stores' URLs."""
    groups: list[tuple[str, type[BaseModel]]] = [("", Settings)]
    groups += [(name, type(getattr(Settings(), name))) for name in ("polygon", "fmp", "flat_files", "sim", "replay")]
    hidden = {
        VARIABLES[(group, name) if group else (name,)]
        for group, model in groups
        for name, field in model.model_fields.items()
        if not field.repr
    }
    return hidden | {"TRADEUL_REDIS_URL", "TRADEUL_DATABASE_URL"}


def test_every_setting_that_is_hidden_may_come_from_a_file() -> None:
    assert set(FILE_VARIABLES) == secret_fields()
    assert not set(FILE_VARIABLES.values()) & set(VARIABLES.values())


@pytest.mark.parametrize("variable", FILE_VARIABLES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_is_as_good_as_the_variable(variable: str, end: str, tmp_path: Path) -> None:
    urls = {"TRADEUL_REDIS_URL": "redis://:pw@h:1/0", "TRADEUL_DATABASE_URL": "postgresql://u:pw@h/d"}
    value = urls.get(variable, "k3y")
    (tmp_path / "secret").write_bytes(value.encode() + end.encode())
    file = {FILE_VARIABLES[variable]: str(tmp_path / "secret"), variable: ""}
    assert Settings.load(file) == Settings.load({variable: value}) != Settings.load({})


def test_each_wrong_file_is_one_line_among_the_other_errors(tmp_path: Path) -> None:
    empty, several, binary, pipe = (tmp_path / name for name in ("empty", "several", "binary", "pipe"))
    empty.write_text("\n")
    several.write_text("one\ntwo\n")
    binary.write_bytes(b"\xff\xfe")
    os.mkfifo(pipe)
    with pytest.raises(SettingsError) as raised:
        Settings.load(
            {
                "POLYGON_API_KEY": "hunter1",
                "POLYGON_API_KEY_FILE": str(several),
                "FMP_API_KEY_FILE": str(tmp_path / "nothing"),
                "TRADEUL_REDIS_URL_FILE": str(empty),
                "TRADEUL_DATABASE_URL_FILE": str(several),
                "TRADEUL_FLAT_FILES_S3_KEY_FILE": str(binary),
                "TRADEUL_FLAT_FILES_S3_SECRET_FILE": str(pipe),
                "TRADEUL_API_KEY_FILE": str(tmp_path),
                "TRADEUL_CLOCK": "moon",
            }
        )
    lines = [line.strip() for line in str(raised.value).splitlines()]
    assert sorted(lines[:-1]) == sorted(
        [
            "wrong settings:",
            "POLYGON_API_KEY_FILE: expected one of POLYGON_API_KEY and POLYGON_API_KEY_FILE, were both set",
            f"FMP_API_KEY_FILE: expected a file that can be read, was {tmp_path}/nothing: No such file or directory",
            f"TRADEUL_REDIS_URL_FILE: expected a value in {empty}, was empty",
            f"TRADEUL_DATABASE_URL_FILE: expected one line in {several}, were several",
            f"TRADEUL_FLAT_FILES_S3_KEY_FILE: expected UTF-8 in {binary}, was something else",
            f"TRADEUL_FLAT_FILES_S3_SECRET_FILE: expected a regular file, was {pipe}",
            f"TRADEUL_API_KEY_FILE: expected a regular file, was {tmp_path}",
        ]
    )
    assert lines[-1].startswith("TRADEUL_CLOCK: ")


def test_a_wrong_url_in_a_file_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("hunter2")
    for variable in ("TRADEUL_REDIS_URL", "TRADEUL_DATABASE_URL"):
        with pytest.raises(SettingsError, match=f"{variable}: expected a ") as raised:
            Settings.load({f"{variable}_FILE": str(tmp_path / "url")})
        assert "hunter2" not in str(raised.value)


def test_check_config_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    environment = {"POLYGON_API_KEY_FILE": str(tmp_path / "key"), "TRADEUL_SIM_SEED_FILE": "x"}
    settings = Settings.load(environment)
    shown = {setting.name: setting for setting in describe(settings, environment)}
    assert "POLYGON_API_KEY" not in shown
    assert shown["POLYGON_API_KEY_FILE"].value == str(tmp_path / "key")
    assert shown["POLYGON_API_KEY_FILE"].is_set
    assert "hunter2" not in str(shown)
    (line,) = unknown_variables(environment)
    assert line.startswith("TRADEUL_SIM_SEED_FILE: no such setting")


def test_other_programs_get_no_settings() -> None:
    ours = {name: "x" for name in (*VARIABLES.values(), *FILE_VARIABLES.values(), "PGPASSWORD")}
    assert without_settings({**ours, "PATH": "/bin", "PGTZ": "UTC"}) == {"PATH": "/bin", "PGTZ": "UTC"}


def test_a_child_gets_the_secrets_that_it_uses_and_every_other_setting() -> None:
    secrets = {name: "x" for pair in FILE_VARIABLES.items() for name in pair}
    environment = {**secrets, "PGPASSWORD": "x", "TRADEUL_SIM_SEED": "2", "TRADEUL_HALTS_URL": "", "PATH": "/bin"}
    others = {"TRADEUL_SIM_SEED": "2", "TRADEUL_HALTS_URL": ""}
    assert settings_for(environment, ()) == others
    fmp: tuple[Secret, ...] = ("fmp",)
    postgres: tuple[Secret, ...] = ("postgres",)
    assert settings_for(environment, fmp) == {**others, "FMP_API_KEY": "x", "FMP_API_KEY_FILE": "x"}
    assert settings_for(environment, postgres) == {
        **others, "TRADEUL_DATABASE_URL": "x", "TRADEUL_DATABASE_URL_FILE": "x", "PGPASSWORD": "x",
    }  # fmt: skip


@pytest.mark.parametrize("module", [*MODULES, REPLAY], ids=lambda module: module.name)
def test_a_service_has_the_secrets_that_its_code_reads(module: Module) -> None:
    used = {
        ATTRIBUTES[node.attr]
        for path in (SERVICES / module.name).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES
        if ast.unparse(node.value).endswith("settings")
    }
    assert set(module.secrets) == used
    assert set(module.secrets) < set(SECRETS)


@pytest.mark.parametrize("replays", [False, True])
def test_a_service_has_the_settings_of_the_whole_mesh(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, replays: bool
) -> None:
    """Market and clock follow from the vendor's key, which most services do not get."""
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name)
    environment = {
        "POLYGON_API_KEY": "hunter1", "FMP_API_KEY": "hunter2", "TRADEUL_FLAT_FILES_S3_SECRET": "hunter3",
        "TRADEUL_DATABASE_URL": "postgresql://u:hunter4@h/d", "TRADEUL_REDIS_URL": "redis://:hunter5@h/0",
        "TRADEUL_API_KEY": "hunter6", "TRADEUL_DATA_DIR": str(tmp_path),
        **({"TRADEUL_REPLAY_DATE": "2025-11-24"} if replays else {}),
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    whole = Settings.load()
    for module in MODULES:
        part = Settings.load(environment_of(whole, module.secrets, {"redis": "unix:///x"} if replays else {}))
        assert (part.market, part.clock, part.halts_url, part.polygon.rest_url, part.keys) == (
            whole.market, whole.clock, whole.halts_url, whole.polygon.rest_url, whole.keys
        ), module.name  # fmt: skip
        assert part.polygon.api_key == ("hunter1" if "vendor" in module.secrets else "")
        assert part.database_url == (whole.database_url if "postgres" in module.secrets else "")
        assert not replays or "hunter5" not in str(part.redis_url)
    for spec in specs_of(whole):
        assert not [argument for argument in spec.argv() if "hunter" in argument], spec.name
        if not spec.command[-1].startswith(("migrate", *(module.name for module in (*MODULES, REPLAY)))):
            assert not [name for name in spec.environ() if name.startswith(PREFIXES)], spec.name


def test_a_simulated_market_gets_no_vendors_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "hunter1")
    settings = Settings.load({"TRADEUL_MARKET": "simulator", "POLYGON_API_KEY": "hunter1"})
    assert "POLYGON_API_KEY" not in environment_of(settings, ("vendor",), {})


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://tradeul@/tradeul?host=/a/b", "postgresql://tradeul@/tradeul?host=/a/b", ""),
        ("postgresql://me:p%40ss@db:5/x?sslmode=require", "postgresql://me@db:5/x?sslmode=require", "p@ss"),
        ("postgresql:///x?password=pw&host=/a", "postgresql:///x?host=/a", "pw"),
        ("postgresql:///x?host=/a&password=pw", "postgresql:///x?host=/a", "pw"),
    ],
)
def test_psql_gets_the_password_in_its_environment(url: str, shown: str, password: str) -> None:
    assert split_password(url) == (shown, password)


@pytest.mark.parametrize(
    ("url", "options", "password"),
    [
        ("unix:///run/redis.sock", ["-s", "/run/redis.sock"], ""),
        ("unix://me:pw@/run/redis.sock?db=2", ["-s", "/run/redis.sock", "-n", "2", "--user", "me"], "pw"),
        ("redis://cache:6379/0", ["-u", "redis://cache:6379/0"], ""),
        ("rediss://:p%40ss@cache:6379/0", ["-u", "rediss://cache:6379/0"], "p@ss"),
        ("redis://cache/0?password=pw", ["-u", "redis://cache/0"], "pw"),
    ],
)
def test_redis_cli_gets_the_password_in_its_environment(url: str, options: list[str], password: str) -> None:
    assert where(url) == (options, password)
