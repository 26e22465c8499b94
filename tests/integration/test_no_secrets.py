"""No traceback and no secret in what an operator sees, whatever fails: commands, services, records of loads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.mesh import free_ports
from tests.support.stores import Stores, module_stores

PASSWORD = "correct-horse-battery"
KEY = "vendor-key-2d9f"
SECRETS = (PASSWORD, KEY)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


def tradeul(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))},
            "POLYGON_API_KEY": KEY,
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            **settings,
        },
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def check(result: subprocess.CompletedProcess[str], *words: str) -> None:
    seen = result.stdout + result.stderr
    assert result.returncode not in (0, -6, -11), seen
    assert "Traceback" not in seen
    assert not [secret for secret in SECRETS if secret in seen], seen
    for word in words:
        assert word in seen


@pytest.mark.parametrize(
    "command", [("migrate",), ("load", "ohlc"), ("serve", "historical"), ("serve", "data_maintenance")], ids=" ".join
)
def test_a_store_that_is_not_there(command: tuple[str, ...]) -> None:
    (nobody,) = free_ports(1)
    where = f"127.0.0.1:{nobody}"
    check(
        tradeul(
            *command,
            TRADEUL_DATABASE_URL=f"postgresql://me:{PASSWORD}@{where}/tradeul",
            TRADEUL_REDIS_URL=f"redis://:{PASSWORD}@{where}/0",
        ),
        str(nobody),
    )


def test_wrong_settings() -> None:
    check(tradeul("up", POLYGON_WS_URL=f"http://me:{PASSWORD}@vendor", TRADEUL_CLOCK="moon"), "POLYGON_WS_URL")


async def test_a_load_that_meets_what_nobody_thought_of(stores: Stores, tmp_path: Path) -> None:
    """The database refuses in the middle: its own words, and its address, hold a password."""
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no row for postgresql://me:{PASSWORD}@db/tradeul'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON load_units FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    day = tmp_path / "us_stocks_sip" / "day_aggs_v1" / "2025" / "10" / "2025-10-30.csv"
    day.parent.mkdir(parents=True)
    day.write_text(
        "ticker,volume,open,close,high,low,window_start,transactions\nA,100,10,10.5,11,9,1761796800000000000,5\n"
    )
    try:
        result = tradeul(
            *("load", "ohlc", "--source", str(tmp_path), "--from", "2025-10-30", "--to", "2025-10-30"),
            TRADEUL_DATABASE_URL=stores.database_url,
        )
        check(result, "failed", "no row for postgresql://***@db/tradeul")
        records = await connection.fetch("SELECT state, error, source FROM load_jobs")
        assert [record["state"] for record in records] == ["FAILED"]
        problems = await connection.fetch("SELECT * FROM load_problems")
        assert not [secret for secret in SECRETS if secret in str([*map(tuple, records), *map(tuple, problems)])]
    finally:
        await connection.execute("DROP TRIGGER refuse ON load_units; DROP FUNCTION refuse()")
        await connection.close()


def test_a_sunday_has_no_files(tmp_path: Path) -> None:
    result = tradeul("simulate-flat-files", str(tmp_path), "--from", "2025-11-23")
    check(result, "expected a trading day, had none from 2025-11-23 to 2025-11-23")
    # A Thursday on which the market traded, but before the simulator's calendar.
    result = tradeul("simulate-flat-files", str(tmp_path), "--from", "2019-11-21", "--to", "2022-01-05")
    check(result, "expected --from on or after 2022-01-03, was 2019-11-21")
    assert list(tmp_path.iterdir()) == []
