"""No traceback and no secret in what an operator sees, whatever fails: commands, services, records of loads."""

import asyncio
import contextlib
import itertools
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from services.kit.runtime.environment import PREFIXES
from services.modules import MODULES, by_name
from tests.support.certificates import Authority
from tests.support.mesh import Mesh, command_words, free_ports, processes_below
from tests.support.redis_server import RedisServer
from tests.support.running_simulator import running_simulator
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


COMMANDS = (("migrate",), ("load", "ohlc"), ("serve", "historical"), ("serve", "data_maintenance"))


async def test_a_store_that_is_not_there() -> None:
    """Side by side: each waits a while for it."""
    (nobody,) = free_ports(1)
    settings = {
        "TRADEUL_DATABASE_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:{nobody}/tradeul",
        "TRADEUL_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{nobody}/0",
    }
    for result in await asyncio.gather(*(asyncio.to_thread(tradeul, *command, **settings) for command in COMMANDS)):
        check(result, str(nobody))


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


DATABASE_PASSWORD, REDIS_PASSWORD = "hunter-database-7c", "hunter-redis-81"
VENDOR_KEY, FMP_KEY, S3_SECRET, GATEWAY_KEY = "hunter-vendor-d3", "hunter-fmp-0a", "hunter-s3-55", "hunter-gateway-e9"
# Whose processes may have it in their environment; the vendor's key comes from a file.
PLANTED = {
    DATABASE_PASSWORD: "postgres", REDIS_PASSWORD: "redis", VENDOR_KEY: None, FMP_KEY: "fmp", S3_SECRET: "flat_files",
    GATEWAY_KEY: None,
}  # fmt: skip
METRICS_OFFSET = 4_500
# With empty settings, as every gRPC client begins.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
HTTP_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
TLS_ALERT = 21


def secrets_in(text: str) -> list[str]:
    return [secret for secret in PLANTED if secret in text]


def check_processes(mesh: Mesh) -> set[str]:
    """No process has a secret in its command line, or in its environment one that it does not use."""
    assert mesh.process is not None
    names = set()
    for pid in processes_below(mesh.process.pid):
        try:
            words = [word.decode() for word in command_words(pid)]
            environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        assert not secrets_in(" ".join(words)), words
        name = words[words.index("serve") + 1] if "serve" in words else Path(words[0]).name
        names.add(name)
        if name in [module.name for module in MODULES]:
            unused = [secret for secret, use in PLANTED.items() if use not in by_name(name).secrets]
            assert not [secret for secret in unused if secret in str(environment)], name
        else:
            assert not [each for each in environment if each.startswith(PREFIXES)], words
            assert not secrets_in(str(environment)), words
    return names


@pytest.mark.timeout(240)
async def test_a_running_mesh_shows_no_secret(stores: Stores, tmp_path: Path) -> None:
    """Seen by another program of this machine and by clients: processes, files, metrics, responses, a crash."""
    key_file = tmp_path / "vendor-key"
    key_file.write_text(VENDOR_KEY + "\n")
    async with (
        RedisServer(tmp_path / "redis") as server,
        running_simulator(symbols=50, start="2026-03-10T09:45") as simulator,
    ):
        await server.redis.config_set("requirepass", REDIS_PASSWORD)
        url = stores.database_url.replace("tradeul@", f"tradeul:{DATABASE_PASSWORD}@")
        assert DATABASE_PASSWORD in url
        settings = {
            **{name: value for name, value in simulator.environment().items() if name != "POLYGON_API_KEY"},
            "POLYGON_API_KEY_FILE": str(key_file),
            "FMP_API_KEY": FMP_KEY,
            "TRADEUL_FLAT_FILES_S3_SECRET": S3_SECRET,
            "TRADEUL_API_KEY": GATEWAY_KEY,
            "TRADEUL_DATABASE_URL": url,
            "TRADEUL_REDIS_URL": server.url.replace("unix://", f"unix://:{REDIS_PASSWORD}@"),
            "TRADEUL_CLOCK": "feed",
            "TRADEUL_METRICS_PORT_OFFSET": str(METRICS_OFFSET),
            "TRADEUL_LOG_LEVEL": "debug",
        }
        authority = Authority(tmp_path, "ca")
        pair = authority.certificate("mesh", "DNS:tradeul", usage="serverAuth,clientAuth")
        settings |= {
            "TRADEUL_MESH_TLS_CERT_FILE": str(pair.certificate),
            "TRADEUL_MESH_TLS_KEY_FILE": str(pair.key),
            "TRADEUL_MESH_TLS_CA_FILE": str(authority.pair.certificate),
        }
        shown = tradeul("check-config", **{**settings, "POLYGON_API_KEY": ""})
        assert shown.returncode == 0, shown.stderr
        assert not secrets_in(shown.stdout + shown.stderr)
        scraper = ssl.create_default_context(cafile=str(authority.pair.certificate))
        scraper.load_cert_chain(*authority.certificate("prometheus", "DNS:prometheus", usage="clientAuth"))
        async with (
            Mesh(tmp_path / "mesh", settings) as mesh,
            httpx.AsyncClient(timeout=10, verify=scraper) as client,
        ):
            names = check_processes(mesh)
            assert {"envoy", "scanner", "historical", "data_ingest"} <= names
            await check_strangers(mesh, authority)
            crashed = crash(mesh, "scanner")
            parent = mesh.process.pid if mesh.process else 0
            async with asyncio.timeout(60):
                # It takes a moment to end, and health to notice.
                while crashed in processes_below(parent):
                    await asyncio.sleep(0.1)
                while (await client.get(f"{mesh.url}/health")).status_code != httpx.codes.OK:
                    await asyncio.sleep(0.1)
            check_processes(mesh)
            pages = [f"http://127.0.0.1:{mesh.ports['gateway_admin']}/stats/prometheus"]
            pages += [
                f"https://127.0.0.1:{mesh.ports[module.name] + METRICS_OFFSET}/metrics"
                for module in MODULES
                if module.name not in ("simulator", "access")
            ]
            for page in pages:
                response = await client.get(page, extensions={"sni_hostname": "tradeul"})
                assert response.status_code == httpx.codes.OK, page
                assert not secrets_in(response.text), page
            for path in ("/health", "/nope", "/api/v1/scanner/lists/nope", "/api/v1/ticker/NOPE", "/api/v1/rvol/NOPE"):
                response = await client.get(mesh.url + path)
                assert not secrets_in(response.text + str(response.headers)), path
    files = [path for path in (tmp_path / "mesh").rglob("*") if path.is_file()]
    assert {"mesh.log", "envoy.yaml", "gateway.log"} <= {path.name for path in files}
    kept = [file for file in files if "journal" in file.parts or file.name == "sequencer.epoch"]
    assert kept
    assert not [file for file in kept if file.stat().st_mode & 0o077]
    for file in files:
        assert not secrets_in(file.read_bytes().decode(errors="replace")), file


async def check_strangers(mesh: Mesh, authority: Authority) -> None:
    """No port of a service answers a client without a certificate of the mesh, in TLS or in plain text."""
    trusting = ssl.create_default_context(cafile=str(authority.pair.certificate))
    ports = [mesh.ports[module.name] for module in MODULES if module.name not in ("simulator", "access")]
    assert len(ports) > 9
    for port in ports:
        for context, request in itertools.product((trusting, None), (HTTP2_PREFACE, HTTP_REQUEST)):
            name = "tradeul" if context is not None else None
            answer = b""
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
                writer.write(request)
                answer = await reader.read(100)
                writer.close()
            # An alert of TLS at most.
            assert not answer or answer[0] == TLS_ALERT, (port, answer)


def crash(mesh: Mesh, service: str) -> int:
    """Aborts the service's process, as a fault of compiled code would; returns its id."""
    assert mesh.process is not None
    for pid in processes_below(mesh.process.pid):
        if {b"serve", service.encode()} <= set(command_words(pid)):
            os.kill(pid, signal.SIGABRT)
            return pid
    raise AssertionError(f"expected a process of {service}, was none")
