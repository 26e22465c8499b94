"""The `tradeul` command as processes: what it says when something is wrong, and that it stops when asked."""

import asyncio
import importlib.metadata
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from services.cli.local.mesh import readiness
from services.cli.main import COMMANDS, cli
from services.cli.redis_cli import answer_text
from services.kit.rpc.server import Host
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.packaged import checkout
from services.kit.runtime.settings import DEFAULT_PORTS, Address, Settings
from services.modules import MODULES, by_name
from tests.support.feed import running_feed
from tests.support.mesh import free_ports
from tests.support.running_simulator import running_simulator
from tests.support.stores import Stores, module_stores


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Every port a free one, no metrics, and `settings`."""
    ports = zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))},
        **{f"TRADEUL_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports},
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        **settings,
    }


def tradeul(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        env=environment(settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_list_targets_is_the_table() -> None:
    result = tradeul("list-targets")
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines[:-1]] == [[module.name, str(module.port)] for module in MODULES]
    assert lines[-1][0] == "gateway"


def test_check_config_shows_all_and_hides_keys() -> None:
    result = tradeul(
        "check-config",
        POLYGON_API_KEY="very-secret",
        TRADEUL_DATABASE_URL="postgresql://me:hunter2@db:5432/tradeul?sslmode=require&password=hunter3",
        TRADEUL_REDIS_URL="redis://cache:6379/0?password=hunter4",
        TRADEUL_FLAT_FILES_S3_KEY="hunter5",
        TRADEUL_FLAT_FILES_S3_SECRET="hunter6",
        TRADEUL_SIM_SPEED="2.5",
    )
    assert result.returncode == 0, result.stderr
    assert "very-secret" not in result.stdout
    assert "hunter" not in result.stdout
    lines = result.stdout.splitlines()
    assert "TRADEUL_SIM_SPEED=2.5" in lines
    assert "TRADEUL_DATABASE_URL=postgresql://me:***@db:5432/tradeul?sslmode=require&password=***" in lines
    assert "TRADEUL_REDIS_URL=redis://cache:6379/0?password=***" in lines
    assert "POLYGON_API_KEY=(hidden)" in lines
    # A vendor's key makes the wall's clock the default, which is none of the environment's words.
    assert "# TRADEUL_CLOCK=wall" in lines


async def test_check_config_tries_the_key_and_every_channel() -> None:
    async with running_simulator(symbols=5, start="2025-11-24T09:25", channels="A,AM,LULD") as simulator:
        settings = {**simulator.environment("my-key"), "TRADEUL_SUBSCRIPTIONS": "T.*,A.*"}
        result = await asyncio.to_thread(tradeul, "check-config", "--connect", **settings)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-3:] == [
            f"# {simulator.ws_url}: the key is accepted",
            "# warning: T.* is refused: not authorized to subscribe to T.*",
            "# A.* is accepted",
        ]
        # A mesh that runs keeps its connection: it is asked.
        (port,) = free_ports(1)
        settings |= {"TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{port}"}
        async with running_feed(settings, settings) as feed:
            while not (await feed.status()).refused_subscriptions:
                await asyncio.sleep(0.01)
            result = await asyncio.to_thread(tradeul, "check-config", "--connect", **settings)
            assert result.returncode == 0, result.stderr
            assert "# the mesh that runs here is SUBSCRIBED: " in result.stdout
            assert "# warning: T.* is refused: not authorized to subscribe to T.*" in result.stdout
            assert (await feed.status()).reconnects == 0
        nowhere = {**settings, "TRADEUL_POLYGON_WS_ADDRESS": "127.0.0.1:1", "POLYGON_WS_URL": "ws://127.0.0.1:1/"}
        result = await asyncio.to_thread(tradeul, "check-config", "--connect", **nowhere)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("tradeul: ws://127.0.0.1:1/: BACKING_OFF: cannot connect: ")
        assert " [warning" not in result.stdout
        settings |= {"TRADEUL_SUBSCRIPTIONS": "T.*"}
        result = await asyncio.to_thread(tradeul, "check-config", "--connect", **settings)
        assert result.returncode == 1
        assert "the vendor refuses every subscription: not authorized to subscribe to T.*" in result.stderr
        assert "my-key" not in result.stdout + result.stderr


def test_every_wrong_setting_is_named_at_once() -> None:
    wrong = {
        "TRADEUL_CLOCK": "moon",
        "TRADEUL_SIM_SEED": "-1",
        "TRADEUL_SCANNER_ADDRESS": "scanner",
        "POLYGON_WS_URL": "http://vendor",
        "TRADEUL_SIM_SEDD": "4",
    }
    for command in ("check-config", "up"):
        result = tradeul(command, **wrong)
        assert result.returncode == 78
        named = [name for name in wrong if f"{name}: " in result.stderr]
        assert named == (list(wrong) if command == "check-config" else [name for name in wrong if "SEDD" not in name])
    assert "did you mean TRADEUL_SIM_SEED?" in tradeul("check-config", **wrong).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve",), "NAME"),
        (("serve", "scaner"), "expected one of simulator, market_session"),
        (("serve", "health", "health"), "expected each service once"),
        (("launch",), "No such command"),
        (("lod",), "No such command 'lod'; did you mean 'load'?"),
        (("query", "price > 1", "--limt", "5"), "No such option '--limt'. Did you mean '--limit'?"),
        (("watch",), "expected either LIST or --filter and --order"),
        (("top", "winners", "--columns", "pice"), "there is no field 'pice'; did you mean 'price'?"),
        (("top", "winners", "--key-file", "/dev/null"), "--key-file: expected a regular file, was /dev/null"),
        (("top",), "expected either LIST or --filter and --order (tradeul top --help)"),
        (("replay", "noon"), "expected a date like 2025-11-24 or a file, was 'noon'"),
        (("replay", "2025-11-24", "--from", "noon"), "expected a time like 09:45 or 09:45:30, was 'noon'"),
        (("simulate-flat-files", ".", "--from", "2020-01-02"), "expected --from on or after 2022-01-03"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    result = tradeul(*arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("tradeul: ") and words in line and line.endswith(" --help)")


def test_up_names_every_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]
        result = tradeul(
            "up",
            TRADEUL_DATA_DIR=str(tmp_path),
            TRADEUL_GATEWAY_ADDRESS=taken[0],
            TRADEUL_SCANNER_ADDRESS=taken[1],
            TRADEUL_POLYGON_WS_ADDRESS="127.0.0.1:0",
        )
    assert result.returncode == 1
    assert f"gateway: {taken[0]}: Address already in use" in result.stderr
    assert f"scanner: {taken[1]}: Address already in use" in result.stderr
    assert "polygon_ws: expected a port" in result.stderr
    assert "Traceback" not in result.stderr


def test_each_market_has_a_directory_of_its_own() -> None:
    simulated, real = Settings.load({}), Settings.load({"POLYGON_API_KEY": "key"})
    assert [each.market_dir for each in (simulated, real)] == [Path(".tradeul/simulator"), Path(".tradeul/vendor")]
    # Said by itself it goes before the key: a real day played without one, the simulator beside one.
    files = Settings.load({"TRADEUL_MARKET": "vendor"})
    beside = Settings.load({"TRADEUL_MARKET": "Simulator", "POLYGON_API_KEY": "key"})
    assert (files.market_dir, files.clock, files.uses_simulator) == (Path(".tradeul/vendor"), "feed", False)
    assert (beside.market_dir, beside.clock, beside.polygon.api_key) == (
        Path(".tradeul/simulator"),
        "feed",
        "simulator",
    )
    assert (real.clock, real.uses_simulator) == ("wall", False)


def test_data_of_an_earlier_version_are_adopted_not_lost(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("16")
    (tmp_path / "sequencer.epoch").write_text("17")
    where = {"TRADEUL_DATA_DIR": str(tmp_path)}
    for command in (("up",), ("record",), ("load", "ohlc"), ("replay", "2025-11-24")):
        result = tradeul(*command, **where)
        assert result.returncode == 1
        assert "holds postgres, sequencer.epoch of an earlier version" in result.stderr
        assert "`tradeul adopt-data simulator`" in result.stderr
        assert "Traceback" not in result.stderr
    result = tradeul("adopt-data", "vendor", **where)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "vendor" / "postgres" / "data" / "PG_VERSION").read_text() == "16"
    assert (tmp_path / "vendor" / "sequencer.epoch").read_text() == "17"
    assert not (tmp_path / "postgres").exists()
    result = tradeul("adopt-data", "simulator", **where)
    assert result.returncode == 1
    assert "found none" in result.stderr


def test_up_shares_no_data_directory(tmp_path: Path) -> None:
    from services.cli.data_directory import locked

    with locked(tmp_path / "simulator"):
        result = tradeul("up", TRADEUL_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert f"another mesh is running on {tmp_path}" in result.stderr


async def serve(*names: str, **settings: str) -> tuple[asyncio.subprocess.Process, list[str]]:
    """A running `tradeul serve` with its first lines up to the last "serving"."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", "serve", *names),
        env=environment(settings),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while sum(" serving " in line for line in lines) < len(names):
            line = await process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line.decode())
    return process, lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_stops_when_asked(number: signal.Signals) -> None:
    process, lines = await serve("health", "market_session")
    served = [line.split("name=")[1].split()[0] for line in lines if " serving " in line]
    # In the table's order, not in the command line's.
    assert served == ["market_session", "health"]
    process.send_signal(number)
    async with asyncio.timeout(60):
        _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()
    stopped = [line.split("name=")[1].split()[0] for line in rest.decode().splitlines() if " stopped " in line]
    assert stopped == ["health", "market_session"]


async def test_serve_may_have_as_many_connections_as_the_system_allows() -> None:
    """The usual limit of 1,024 open files would refuse most of 10,000 WebSocket clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        process, _ = await serve("health")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        await process.communicate()
    assert limits == (hard, hard)


async def test_serve_while_it_waits_stops_too() -> None:
    """A scanner without a sequencer is not there yet; SIGTERM ends it all the same."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", "serve", "scanner"),
        env=environment({}),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()


def test_serve_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = tradeul("serve", "health", TRADEUL_HEALTH_ADDRESS=address)
    assert result.returncode == 1
    assert f"health: cannot listen on {address}" in result.stderr


async def test_an_unhealthy_service_has_started() -> None:
    """A key that was refused leaves the mesh up, with its health showing it, instead of starting again and again."""
    settings = Settings.load({"TRADEUL_POLYGON_WS_ADDRESS": "127.0.0.1:0", "TRADEUL_METRICS_PORT_OFFSET": "0"})
    module = by_name("polygon_ws")
    service = Service(settings)
    service.name = module.name  # type: ignore[misc]
    host = Host(service)
    await host.start()
    try:
        ready = readiness(module, Address("127.0.0.1", host.port))
        assert await ready()
        service.set_unhealthy_reason("auth_failed: authentication failed")
        assert await ready()
    finally:
        await host.stop()
    with socket.socket() as taken:
        # A port on which nobody listens, and nobody else can: that of the service may be another one's by now.
        taken.bind(("127.0.0.1", 0))
        assert not await readiness(module, Address("127.0.0.1", taken.getsockname()[1]))()


def test_the_version_is_the_packages() -> None:
    result = tradeul("--version")
    assert result.stdout == f"tradeul {importlib.metadata.version('tradeul')}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lo"], ["load"]),
        (["top", "gap"], ["gappers_up", "gappers_down"]),
        (["query", "gap_si"], ["gap_size"]),
        (
            ["query", "x", "--columns", "rvol,vol_1"],
            ["rvol,vol_1m", "rvol,vol_10m", "rvol,vol_15m", "rvol,vol_1m_ratio"],
        ),
        (["watch", "--order-by", "chg_5"], ["chg_5m"]),
        (["keys", "re"], ["revoke"]),
        (["serve", "health", "scan"], ["scanner"]),
        (["top", "--key"], ["--key-file"]),
    ],
)
def test_bash_completes_commands_lists_and_fields(words: list[str], expected: list[str], tmp_path: Path) -> None:
    program = tmp_path / "tradeul"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m services.cli.main "$@"\n')
    program.chmod(0o755)
    lines = [
        tradeul("completion", "bash").stdout,
        f"COMP_WORDS=({shlex.join(['tradeul', *words])}); COMP_CWORD={len(words)}",
        f"_tradeul_completion {shlex.quote(str(program))}",
        """printf '%s\\n' "${COMPREPLY[@]}\"""",
    ]
    result = subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=environment({}), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.split() == expected, result.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_of_their_own(shell: str) -> None:
    result = tradeul("completion", shell)
    assert result.returncode == 0
    assert f"_TRADEUL_COMPLETE={shell}_complete" in result.stdout


def test_help_imports_no_command() -> None:
    """So that it, and every completion, is there at once."""
    heavy = ("grpc", "textual", "pydantic", "rich", "asyncio", "numpy")
    code = f"import sys; import services.cli.main; sys.exit(' '.join({{*{heavy!r}}} & {{*sys.modules}}) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    shown = tradeul("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    # Its line in `tradeul --help` says no more than its own help.
    assert command.help
    assert f"tradeul {name}" in f"{command.help} {command.epilog}", name


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("up",), {"TRADEUL_DATA_DIR": "/dev/null/x"}, "expected a directory that can be written, was /dev/null/x"),
        (("up",), {"TRADEUL_DATA_DIR": "/proc/x"}, "expected a directory that can be written, was /proc/x"),
        (("replay", "2025-11-24"), {"TRADEUL_DATA_DIR": "/dev/null"}, "was /dev/null/simulator: Not a directory"),
        (("record", "--out", "/dev/null/x"), {}, "cannot record to /dev/null/x: Not a directory"),
        (("record", "--out", "/proc/x"), {}, "cannot record to /proc/x: "),
        (("migrate",), {}, "expected TRADEUL_DATABASE_URL to be set"),
        (("migrate",), {"TRADEUL_DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/x"}, "database at postgresql://"),
        (("load", "ohlc"), {"TRADEUL_DATABASE_URL": "postgresql://me@127.0.0.1:1/x"}, "a load needs the database"),
        (("load", "ohlc", "--from", "yesterday"), {}, "from: expected YYYY-MM-DD, was 'yesterday'"),
        (("load", "ohlc", "--service", "127.0.0.1:1"), {}, "UNAVAILABLE: "),
        (("simulate-flat-files", "/dev/null/x", "--from", "2025-11-20"), {"TRADEUL_SIM_SYMBOLS": "5"},
         "cannot write to /dev/null/x: Not a directory"),
        (("top", "winners"), {"TRADEUL_GATEWAY_ADDRESS": "127.0.0.1:1"}, "no list from 127.0.0.1:1: UNAVAILABLE: "),
        (("adopt-data", "simulator"), {"TRADEUL_DATA_DIR": "/proc/x"}, "found none"),
        (("redis-cli", "PING"), {"TRADEUL_REDIS_URL": "unix:///nowhere"}, ""),
        (("psql", "-c", "SELECT 1"), {"TRADEUL_DATABASE_URL": "postgresql://me@127.0.0.1:1/x"}, "127.0.0.1"),
    ],
)  # fmt: skip
def test_an_error_is_a_line(arguments: tuple[str, ...], settings: dict[str, str], words: str, tmp_path: Path) -> None:
    result = tradeul(*arguments, **{"TRADEUL_DATA_DIR": str(tmp_path), **settings})
    assert result.returncode not in (0, 78)
    assert result.stdout == ""
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "hunter2" not in result.stderr
    # psql's own errors are two, and a replay may warn before.
    lines = [line for line in result.stderr.splitlines() if " [warning " not in line]
    assert len(lines) == 1 or arguments[0] == "psql"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TRADEUL_SUBSCRIPTIONS", "T.*,trades", "with KIND one of T, A, AM, LULD, Q, was 'trades'"),
        ("TRADEUL_DATABASE_URL", "postgresql://me:hunter2@host:port/x", "expected a port of 0 to 65535"),
        ("TRADEUL_REDIS_URL", "redis://host:99999", "expected a port of 0 to 65535"),
        ("TRADEUL_REDIS_URL", "redis://:hunter2@host/lists", "expected the number of a database behind"),
        ("TRADEUL_DATABASE_URL", "postgresql://me:hunter2@host/x?sslmode=on", "expected sslmode to be one of disable"),
        ("TRADEUL_REPLAY_SPEED", "fast", "expected a number or max, was 'fast'"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_a_line(name: str, value: str, words: str) -> None:
    for command in ("check-config", "up"):
        result = tradeul(command, **{name: value})
        assert result.returncode == 78
        (_, line) = result.stderr.splitlines()
        assert line.startswith(f"  {name}: ")
        assert words in line
        assert "hunter2" not in line


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


def test_redis_cli_needs_no_client_of_the_system(stores: Stores) -> None:
    def cli(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.cli.main", "redis-cli", *arguments],
            env=environment({**stores.environment(), "PATH": ""}),
            input=text, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert cli("ZADD", "ranked", "2", "BB", "3", "CC").stdout == "(integer) 2\n"
    assert cli("ZREVRANGE", "ranked", "0", "9", "WITHSCORES").stdout.splitlines() == ["1) CC", "2) 3", "3) BB", "4) 2"]
    assert cli("XADD", "stream", "1-2", "type", "delta").stdout == "1-2\n"
    read = ["1) 1) stream", "   2) 1) 1) 1-2", "         2) 1) type", "            2) delta"]
    assert cli("XREAD", "STREAMS", "stream", "0").stdout.splitlines() == read
    answers = cli(text="SET key 'two words'\nGET key\nGET nothing\nKEYS no*\n").stdout
    assert answers.splitlines() == ["OK", "two words", "(nil)", "(empty array)"]
    refused = cli("GET")
    assert refused.returncode == 1
    assert refused.stdout.startswith("(error) wrong number of arguments")


async def test_redis_cli_goes_on_while_it_is_subscribed(stores: Stores) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", "redis-cli", "PSUBSCRIBE", "news*"),
        env=environment({**stores.environment(), "PATH": "", "PYTHONUNBUFFERED": "1"}),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            first = [(await process.stdout.readline()).decode() for _ in range(3)]
            assert first == ["1) psubscribe\n", "2) news*\n", "3) (integer) 1\n"]
            await asyncio.to_thread(tradeul, "redis-cli", "PUBLISH", "news", "hello", **stores.environment())
            assert [await process.stdout.readline() for _ in range(4)][2:] == [b"3) news\n", b"4) hello\n"]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_answers_are_shown_like_redis_clis() -> None:
    assert answer_text([b"a", [1, None], {b"k": b"v"}]) == "1) a\n2) 1) (integer) 1\n   2) (nil)\n3) 1) k\n   2) v"


@pytest.mark.parametrize("path", [None, ""], ids=["system", "wheel"])
def test_psql_opens_the_meshs_database(stores: Stores, path: str | None) -> None:
    settings = stores.environment() | ({} if path is None else {"PATH": path})
    result = tradeul("psql", "-At", "-c", "SELECT count(*) FROM scanner_filters", **settings)
    assert (result.returncode, result.stdout) == (0, "4\n"), result.stderr


DOCUMENTED = sorted(
    line.strip()
    for page in (checkout() / "docs").glob("*.md")
    for line in page.read_text(encoding="utf-8").splitlines()
    if line.startswith(("    tradeul psql ", "    tradeul redis-cli "))
)


@pytest.mark.parametrize("line", DOCUMENTED)
def test_what_the_docs_say_about_the_stores_works(stores: Stores, line: str) -> None:
    # As a shell reads it; where it would wait for what is to come, it asks for what there is.
    _, *arguments = shlex.split(line.replace(" BLOCK 0", "").replace(" '$'", " 0"))
    result = tradeul(*arguments, **stores.environment())
    assert result.returncode == 0, result.stderr
    assert "(error)" not in result.stdout


def test_a_load_into_another_markets_database_says_that_only(stores: Stores) -> None:
    settings = {"TRADEUL_DATABASE_URL": stores.database_url, "TRADEUL_REDIS_URL": stores.redis_url}
    assert tradeul("migrate", **settings, TRADEUL_MARKET="simulator").returncode == 0
    result = tradeul("load", "ohlc", **settings, TRADEUL_MARKET="vendor")
    assert result.returncode == 1
    assert result.stderr.strip().endswith("(TRADEUL_MARKET says whose market it is)")


def test_ctrl_c_ends_the_writing_of_flat_files_without_a_trace(tmp_path: Path) -> None:
    # As from a terminal, also where the tests run in the background, which ignores Ctrl-C.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " from services.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, "simulate-flat-files", str(tmp_path)]
    span = ["--from", "2025-09-02", "--to", "2025-11-21"]
    env = {**os.environ, "TRADEUL_SIM_SYMBOLS": "200"}
    process = subprocess.Popen([*command, *span], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip() == "tradeul: stopped"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".csv.gz")] == []
