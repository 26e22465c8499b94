"""buildah and podman with storage of their own in build/cluster, and a network that holds nothing but a loopback.

Stand-ins for official images go under the official names, so they must not come among the images of whoever runs this.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "build" / "cluster"
PROGRAMS: Final = ("buildah", "podman", "runc", "catatonit", "debootstrap", "ip", "nsenter")
# In a container there is often no systemd to ask for control groups, and a lower limit than podman would set.
CONTAINERS_CONF: Final = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
# The paths of sockets below runroot have to be short.
STORAGE_CONF: Final = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "/run/tradeul-cluster"
[storage.options.overlay]
# Or the folder stays mounted on itself, and cannot be removed.
skip_mount_home = "true"
"""


def reason_not_to() -> str | None:
    """Returns why containers cannot be built and run here; None if they can."""
    if os.geteuid() != 0:
        return "expected root, which mounts file systems and makes network namespaces"
    if missing := [name for name in PROGRAMS if program(name) is None]:
        return f"not installed: {', '.join(missing)}"
    try:
        name = buildah("from", "scratch")
        try:
            buildah("mount", name)
        finally:
            buildah("rm", name)
        with network("tradeul-probe"):
            pass
    except subprocess.CalledProcessError as error:
        return f"{' '.join(map(str, error.cmd))}: {error.stderr.strip()}"
    return None


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def environment() -> dict[str, str]:
    """Returns the environment in which buildah and podman use our storage."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = {"containers.conf": CONTAINERS_CONF, "storage.conf": STORAGE_CONF.format(folder=FOLDER)}
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_CONF": str(FOLDER / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"),
    }


def run(*command: str | Path, seconds: float = 600.0) -> str:
    """Returns the output; raises CalledProcessError or TimeoutExpired."""
    result = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=seconds, env=environment(), cwd=ROOT
    )
    return result.stdout.strip()


def buildah(*arguments: str | Path, seconds: float = 600.0) -> str:
    return run("buildah", *arguments, seconds=seconds)


def podman(namespace: str, *arguments: str | Path, seconds: float = 120.0) -> str:
    """Runs podman in a network namespace, so that a container on the host's network is in that one."""
    return inside(namespace, "podman", "--runtime", str(program("runc")), *arguments, seconds=seconds)


def inside(namespace: str, *command: str | Path, seconds: float = 120.0) -> str:
    return run("nsenter", f"--net=/var/run/netns/{namespace}", *command, seconds=seconds)


@contextmanager
def network(namespace: str) -> Iterator[str]:
    """A network namespace with its own loopback: no port of it meets one of this machine's."""
    ip = str(program("ip"))
    run(ip, "netns", "add", namespace)
    try:
        run(ip, "-n", namespace, "link", "set", "lo", "up")
        yield namespace
    finally:
        run(ip, "netns", "delete", namespace)
