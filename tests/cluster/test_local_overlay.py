"""The local overlay's Pods run with the image as it is built, and come to lists with rows.

No cluster is needed: podman plays the manifests, with their users and read-only file systems. `make test-cluster`
builds the images first.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from services.modules import MODULES
from tests.cluster.containers import FOLDER, inside, network, podman, reason_not_to
from tests.cluster.images import BASE, images_of_the_overlay, is_there
from tests.cluster.pods import TWICE, hosts, play_documents, pod_names
from tests.support.manifests import ENDING, containers, pod, workloads

OVERLAY = "local"
# A small market, so that two cores have time for everything.
SETTINGS = {"TRADEUL_SIM_SYMBOLS": "500"}
START_SECONDS = 240.0

pytestmark = pytest.mark.timeout(480)


class Played:
    """The Pods, in their network namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def podman(self, *arguments: str) -> str:
        return podman(self._namespace, *arguments)

    def get(self, path: str) -> Any:
        """Returns what the gateway answers; raises CalledProcessError while it cannot."""
        script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
        url = f"http://127.0.0.1:8000{path}"
        return json.loads(inside(self._namespace, sys.executable, "-c", script, url))

    def execute(self, container: str, *command: str) -> str:
        return self.podman("exec", container, *command)

    def count(self, table: str) -> int:
        return int(
            self.execute(
                "postgres-postgres",
                "psql",
                "-h",
                "/var/run/postgresql",
                "-U",
                "tradeul",
                "-Atc",
                f"SELECT count(*) FROM {table}",
            )
        )

    def inspect(self) -> dict[str, Any]:
        """Every container but those of podman itself, by its name."""
        found = json.loads(self.podman("container", "inspect", *self.podman("ps", "-aq").split()))
        return {each["Name"]: each for each in found if not each["IsInfra"]}

    def succeeded(self) -> set[str]:
        """Names of the containers that have ended without an error."""
        states = {name: each["State"] for name, each in self.inspect().items()}
        return {name for name, state in states.items() if state["Status"] == "exited" and state["ExitCode"] == 0}

    def running_pods(self) -> set[str]:
        return {name.rpartition("-")[0] for name, each in self.inspect().items() if each["State"]["Running"]}

    def ended(self) -> str:
        """The last lines of every container that does not run, for a failure's message."""
        try:
            names = [name for name, each in self.inspect().items() if not each["State"]["Running"]]
            return "\n".join(f"{name}:\n{self.podman('logs', '--tail', '5', name)}" for name in names)
        except subprocess.SubprocessError as error:
            return f"no containers' output: {error}"


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    if (reason := reason_not_to()) is not None:
        pytest.skip(f"left out: {reason}")
    missing = [image for image in images_of_the_overlay() if not is_there(image)]
    if missing:
        pytest.skip(f"left out: no image {', '.join(missing)}: make test-cluster builds them")
    file = FOLDER / "pods.yaml"
    hosts_file = FOLDER / "hosts"
    hosts_file.write_text(hosts(OVERLAY), encoding="utf-8")
    file.write_text(yaml.safe_dump_all(play_documents(OVERLAY, SETTINGS, hosts_file)), encoding="utf-8")
    with network(f"tradeul-{os.getpid()}") as namespace:
        check_that_containers_run(namespace)
        # Of a run that was killed.
        clear(namespace)
        try:
            podman(namespace, "kube", "play", "--network", "host", str(file), seconds=240)
            yield Played(namespace)
        finally:
            clear(namespace)


def clear(namespace: str) -> None:
    """Removes every Pod and volume of our storage."""
    podman(namespace, "pod", "rm", "--all", "--force", "--time", "0")
    podman(namespace, "volume", "prune", "--force")


def check_that_containers_run(namespace: str) -> None:
    """Skips where the machine lets no container run, whatever is in it."""
    try:
        podman(
            namespace, "run", "--rm", "--network=host", "--read-only", "--memory=64m", "--cap-drop=all", BASE, "true"
        )
    except subprocess.CalledProcessError as error:
        pytest.skip(f"left out: no container runs here: {error.stderr.strip()}")


def wait_for(played: Played, what: str, check: Callable[[], bool]) -> None:
    """Waits until the check holds; an error of it counts as not yet."""
    deadline = time.monotonic() + START_SECONDS
    error: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except (subprocess.SubprocessError, ValueError, KeyError) as caught:
            error = caught
        time.sleep(1)
    shown = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
    pytest.fail(f"{what}: not within {START_SECONDS:.0f} s; the last error: {shown}\n{played.ended()}")


def test_the_mesh_comes_up_with_its_stores(played: Played) -> None:
    # A migration that came before its database ends with an error, and is started again.
    wait_for(played, "both migrations", lambda: {f"{name}-tradeul" for name in TWICE} <= played.succeeded())
    wait_for(played, "rows in a list", lambda: len(played.get("/api/v1/scanner/lists/gappers_up?limit=5")["rows"]) == 5)
    wait_for(played, "every service serving", lambda: played.get("/health")["status"] == "healthy")
    wait_for(played, "scan results in the database", lambda: played.count("scan_results") > 0)
    wait_for(played, "every Pod running", lambda: played.running_pods() == pod_names(OVERLAY))


def test_redis_has_the_lists_that_the_scanner_writes(played: Played) -> None:
    script = (
        "import redis, sys; client = redis.Redis.from_url(open(sys.argv[1]).read());"
        "print(client.dbsize(), client.get('market:source').decode())"
    )
    size, market = played.execute("scanner-tradeul", "python", "-c", script, "/run/secrets/redis/url").split()
    assert int(size) > 0 and market == "simulator"


def test_the_image_has_neither_compiler_nor_installer_and_writes_nowhere(played: Played) -> None:
    script = "command -v gcc cc pip pip3 make; touch /opt/tradeul/x 2>/dev/null && echo written; id -u; id -g"
    assert played.execute("scanner-tradeul", "sh", "-c", script).split() == ["10001", "10001"]
    sbom = json.loads(played.execute("scanner-tradeul", "cat", "/opt/tradeul/share/tradeul/sbom.cdx.json"))
    assert {"grpcio", "numpy", "tradeul"} <= {component["name"] for component in sbom["components"]}
    assert "asyncpg" in played.execute("scanner-tradeul", "cat", "/opt/tradeul/share/tradeul/licences.md")


def test_every_container_is_as_restricted_as_its_manifest(played: Played) -> None:
    found = played.inspect()
    for name, workload in workloads(OVERLAY).items():
        if workload["kind"] in ENDING:
            continue
        user = pod(workload)["securityContext"]["runAsUser"]
        for container in containers(workload):
            each = found[f"{name}-{container['name']}"]
            assert each["HostConfig"]["ReadonlyRootfs"] is True, name
            assert each["EffectiveCaps"] is None or each["EffectiveCaps"] == [], name
            assert each["Config"]["User"].partition(":")[0] == str(user), name


def test_a_wrong_value_ends_with_a_line_that_names_it(played: Played) -> None:
    (image,) = {each["ImageName"] for name, each in played.inspect().items() if name == "scanner-tradeul"}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        played.podman(
            "run", "--rm", "--network", "host", "--read-only", "--env", "TRADEUL_SIM_SYMBOLS=many", image,
            "serve", "scanner",
        )  # fmt: skip
    lines = caught.value.stderr.strip().splitlines()
    assert any("TRADEUL_SIM_SYMBOLS" in line for line in lines) and len(lines) <= 3


def test_every_service_is_a_pod(played: Played) -> None:
    assert {module.name.replace("_", "-") for module in MODULES if module.name != "access"} <= pod_names(OVERLAY)
