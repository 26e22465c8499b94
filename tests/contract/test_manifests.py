"""The manifests of k8s/: valid, restricted, complete, and with the connections of services/modules.py and no others."""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import pytest

from services.cli.local.gateway import BEHIND, envoy_program
from services.kit.runtime.environment import FILE_VARIABLES, SECRETS, without_settings
from services.kit.runtime.settings import VARIABLES
from services.modules import GATEWAY_PORT, MODULES, by_name, peers_of
from tests.support.manifests import (
    ENDING,
    EVERYTHING,
    K8S,
    NAME,
    OVERLAYS,
    Manifest,
    allowed,
    containers,
    of_kind,
    pod,
    pod_labels,
    rendered,
    selects,
    settings_of,
    template,
    workloads,
)

# The newest, and that of two years ago.
VERSIONS = ("1.37.0", "1.32.0")
# Of operators, whose schemas are not Kubernetes' own.
CUSTOM_GROUPS = ("cert-manager.io", "gateway.networking.k8s.io", "monitoring.coreos.com")
STORES = {"redis": 6379, "postgres": 5432}
# By their component, not by the table of services.
BACKUP = ("backup", "restore")
# Of each sequencer, where there are several.
POD_NAME, OWN_ADDRESS = "POD_NAME", "TRADEUL_DATA_INGEST_ADDRESS"
SERVICES = K8S.parent / "services"

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(autouse=True, scope="module")
def schemas_are_read_once() -> Iterator[None]:
    """The validator reads a megabyte of definitions for each object."""
    with pytest.MonkeyPatch.context() as patch:
        utils = kubernetes_validate.utils
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


def in_cluster(name: str) -> str:
    return name.replace("_", "-")


def test_every_object_is_valid_in_old_and_new_clusters(overlay: str) -> None:
    for manifest in rendered(overlay):
        for version in VERSIONS if manifest["apiVersion"].partition("/")[0] not in CUSTOM_GROUPS else ():
            kubernetes_validate.validate(manifest, version, strict=True)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(overlay)]
    assert len(set(names)) == len(names)


def test_every_service_runs_once_under_its_own_account(overlay: str) -> None:
    running = workloads(overlay)
    settings = settings_of(overlay)
    optional = {
        "simulator": settings["TRADEUL_MARKET"] == "simulator",
        "access": settings.get("TRADEUL_KEYS") == "required",
    }
    wanted = {in_cluster(module.name) for module in MODULES if optional.get(module.name, True)}
    others = {"gateway", "migrate"} | {name for name in (*STORES, *BACKUP) if name in running}
    assert running.keys() == wanted | others
    accounts = {manifest["metadata"]["name"]: manifest for manifest in of_kind(overlay, "ServiceAccount")}
    for name, workload in running.items():
        assert pod(workload)["serviceAccountName"] == ("backup" if name in BACKUP else name)
        assert accounts[pod(workload)["serviceAccountName"]]["automountServiceAccountToken"] is False
        assert pod(workload)["automountServiceAccountToken"] is False
    for name in wanted:
        assert pod(running[name])["containers"][0]["args"] == ["serve", name.replace("-", "_")]


def test_pods_keep_to_the_restricted_standard(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        spec = pod(workload)
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        allowed_volumes = {"emptyDir", "projected", "secret", "configMap", "persistentVolumeClaim", "name"}
        assert all(volume.keys() <= allowed_volumes for volume in spec.get("volumes", ())), name
        for container in containers(workload):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
    namespace = next(of_kind(overlay, "Namespace"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_container_has_requests_and_a_limit_of_memory(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        for container in containers(workload):
            resources = container["resources"]
            assert resources["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name
            assert _bytes(resources["requests"]["memory"]) <= _bytes(resources["limits"]["memory"]), name


def test_every_long_running_container_is_probed_at_its_own_port(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        if workload["kind"] in ENDING:
            continue
        (container,) = pod(workload)["containers"]
        ports = {port["containerPort"] for port in container["ports"]} | {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            action = container[probe]
            target = action.get("grpc") or action.get("httpGet") or action.get("tcpSocket")
            assert target is None or target["port"] in ports, (name, probe)
        # A peer's fault is no reason to restart this one.
        liveness = container["livenessProbe"]
        if "grpc" in liveness:
            assert liveness["grpc"]["service"] == "liveness", name
        elif name in {in_cluster(module.name) for module in MODULES}:
            assert liveness["httpGet"]["path"] == "/livez", name
        if name not in STORES:
            seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert seconds + 15 <= pod(workload)["terminationGracePeriodSeconds"], name


def test_images_are_pinned(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        for container in containers(workload):
            image = container["image"]
            assert "@sha256:" in image or re.search(r":[\w.-]*\d[\w.-]*$", image), (name, image)


def test_services_reach_pods_at_ports_that_they_open(overlay: str) -> None:
    running = workloads(overlay)
    for service in of_kind(overlay, "Service"):
        reached = [
            each for each in running.values() if selects({"matchLabels": service["spec"]["selector"]}, pod_labels(each))
        ]
        assert [each["metadata"]["name"] for each in reached] == [service["metadata"]["name"]]
        open_ports = {port["containerPort"] for port in pod(reached[0])["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= open_ports
    for name, workload in running.items():
        if workload["kind"] == "StatefulSet":
            assert workload["spec"]["serviceName"] == name


def test_addresses_in_the_settings_are_those_of_services(overlay: str) -> None:
    settings = settings_of(overlay)
    ports = {
        service["metadata"]["name"]: {port["port"] for port in service["spec"]["ports"]}
        for service in of_kind(overlay, "Service")
    }
    addresses = {variable: value for variable, value in settings.items() if variable.endswith("_ADDRESS")}
    for variable, value in addresses.items():
        host, _, port = value.partition(":")
        assert int(port) in ports[host], variable
        assert variable == f"TRADEUL_{host.replace('-', '_').upper()}_ADDRESS"
    assert addresses.keys() == {
        f"TRADEUL_{name.replace('-', '_').upper()}_ADDRESS" for name in ports.keys() - STORES.keys()
    }


def test_every_variable_is_a_setting(overlay: str) -> None:
    known = {*VARIABLES.values(), *FILE_VARIABLES.values()}
    for config in of_kind(overlay, "ConfigMap"):
        if config["metadata"]["name"].startswith("tradeul-settings"):
            assert config["data"].keys() <= known
    for name, workload in workloads(overlay).items():
        if name not in STORES:
            given = {variable["name"] for container in containers(workload) for variable in container.get("env", ())}
            # The scripts' own, and what an address is made of.
            own = {"BACKUP_DIRECTORY", "BACKUP_KEEP"} if name in BACKUP else {POD_NAME}
            assert given - own <= known, name


def test_each_service_gets_the_secrets_that_it_uses_and_no_others(overlay: str) -> None:
    running = workloads(overlay)
    is_vendor = settings_of(overlay)["TRADEUL_MARKET"] == "vendor"
    variables = {secret: {FILE_VARIABLES[variable] for variable in names} for secret, names in SECRETS.items()}
    # Each by a component of its own, which overlays may leave out.
    left_out = (
        {"gateway"} | (set() if is_vendor else {"vendor"}) | (set() if overlay == EVERYTHING else {"fmp", "flat_files"})
    )
    for module in MODULES:
        if (workload := running.get(in_cluster(module.name))) is None:
            continue
        used = set[str]().union(*(variables[name] for name in module.secrets if name not in left_out))
        (container,) = pod(workload)["containers"]
        environment = (each for each in container.get("env", ()) if each["name"] not in (POD_NAME, OWN_ADDRESS))
        given = {variable["name"]: variable["value"] for variable in environment}
        assert given.keys() == used, module.name
        folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        files = {f"{folders[volume]}/{file}" for volume, file in _secret_files(pod(workload))}
        assert set(given.values()) <= files, module.name


def test_what_is_mounted_or_read_exists(overlay: str) -> None:
    existing = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(overlay)}
    # Made by whoever installs it; docs/cluster.md says how.
    existing |= {
        ("Secret", name)
        for name in (
            *("tradeul-database", "tradeul-redis", "tradeul-vendor", "tradeul-tls"),
            *("tradeul-fmp", "tradeul-flat-files"),
        )
        if overlay != "local"
    }
    for name, workload in workloads(overlay).items():
        assert _references(template(workload)) <= existing, name
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        volumes = {volume["name"] for volume in pod(workload).get("volumes", ())} | claims
        for container in containers(workload):
            mounts = [mount["name"] for mount in container.get("volumeMounts", ())]
            assert set(mounts) <= volumes and len(set(mounts)) == len(mounts), name


def test_connections_are_those_of_the_table_of_services(overlay: str) -> None:
    running = workloads(overlay)
    wanted = set()
    for module in MODULES:
        for peer in peers_of(module):
            if in_cluster(peer) in running and in_cluster(module.name) in running:
                port = STORES.get(peer) or by_name(peer).port
                wanted.add((in_cluster(module.name), in_cluster(peer), port))
    wanted |= {("gateway", in_cluster(name), by_name(name).port) for name in BEHIND if in_cluster(name) in running}
    wanted |= {("migrate", name, port) for name, port in STORES.items() if name in running}
    wanted |= {(name, "postgres", STORES["postgres"]) for name in BACKUP if name in running and "postgres" in running}
    assert allowed(overlay) == wanted
    denied = [policy for policy in of_kind(overlay, "NetworkPolicy") if policy["spec"]["podSelector"] == {}]
    assert [policy["metadata"]["name"] for policy in denied] == ["default-deny", "names"]


def test_the_gateway_alone_is_open_to_everybody(overlay: str) -> None:
    for policy in of_kind(overlay, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress") or ():
            if "from" not in rule:
                assert policy["metadata"]["name"] == "gateway"
                assert rule["ports"] == [{"port": GATEWAY_PORT}]


def test_envoy_accepts_the_overlays_configuration(overlay: str, tmp_path: Path) -> None:
    settings = settings_of(overlay)
    environment = {**without_settings(os.environ), **settings}
    init = pod(workloads(overlay)["gateway"])["initContainers"][0]
    assert init["args"] == ["render-gateway", "/gateway"]
    command = [sys.executable, "-m", "services.cli.main", "render-gateway", str(tmp_path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    configuration = tmp_path / "envoy.yaml"
    checked = subprocess.run(
        [envoy_program(), "--mode", "validate", "--config-path", configuration], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    # The Envoy of the Pod sees this folder alone.
    text = configuration.read_text(encoding="utf-8")
    files = set(re.findall(r'filename: "?([^"\s}]+)|"filename": "([^"]+)"|proto_descriptor: "([^"]+)"', text))
    assert files and all(Path("".join(each)).is_relative_to(tmp_path) for each in files)


def test_singletons_are_one_and_end_before_they_begin(overlay: str) -> None:
    running = workloads(overlay)
    assert running["polygon-ws"]["spec"]["replicas"] == 1
    assert running["polygon-ws"]["spec"]["strategy"] == {"type": "Recreate"}
    # A StatefulSet never has two Pods of one name.
    assert running["data-ingest"]["kind"] == "StatefulSet"


def test_sequencers_are_one_or_those_of_the_settings(overlay: str) -> None:
    sequencer = workloads(overlay)["data-ingest"]["spec"]
    (container,) = pod(workloads(overlay)["data-ingest"])["containers"]
    sequencers = settings_of(overlay).get("TRADEUL_SEQUENCERS")
    assert (sequencers is not None) is (overlay == EVERYTHING)
    if sequencers is None:
        assert sequencer["replicas"] == 1
        return
    pods = [f"data-ingest-{number}" for number in range(sequencer["replicas"])]
    (port,) = (each["containerPort"] for each in container["ports"] if each["name"] == "grpc")
    assert len(pods) == 2
    assert sequencers.split(",") == [f"{name}.{sequencer['serviceName']}:{port}" for name in pods]
    (own,) = (each["value"] for each in container["env"] if each["name"] == OWN_ADDRESS)
    assert sequencers.split(",") == [own.replace(f"$({POD_NAME})", name) for name in pods]
    # After a restart of both neither is waited for: the one that led last has the newest journal.
    assert sequencer["podManagementPolicy"] == "Parallel"


def test_disruption_budgets_can_be_met(overlay: str) -> None:
    running = workloads(overlay)
    budgets = {budget["metadata"]["name"]: budget["spec"] for budget in of_kind(overlay, "PodDisruptionBudget")}
    assert budgets.keys() == {name for name, workload in running.items() if workload["kind"] not in ENDING}
    for name, budget in budgets.items():
        assert budget["maxUnavailable"] >= 1, name
        assert selects(budget["selector"], {NAME: name}), name


def test_backups_speak_the_servers_version_and_a_restore_is_never_by_itself(overlay: str) -> None:
    running = workloads(overlay)
    assert ("backup" in running) is (overlay == EVERYTHING)
    if overlay != EVERYTHING:
        return
    assert running["restore"]["spec"]["suspend"] is True and not running["backup"]["spec"].get("suspend")
    assert pod(running["restore"])["restartPolicy"] == "Never"
    (server,) = re.findall(r"image: (\S+/postgres:\S+)", (K8S / "components/postgres/postgres.yaml").read_text())
    for name in BACKUP:
        assert pod(running[name])["containers"][0]["image"] == server
        assert pod_labels(running[name])["uses-database"] == "true"


def test_peers_in_the_code_are_in_the_table_of_services(overlay: str) -> None:
    address = re.compile(r'settings\.address\("(\w+)"\)')
    for module in MODULES:
        for file in (SERVICES / module.name).rglob("*.py"):
            named = set(address.findall(file.read_text(encoding="utf-8")))
            assert named <= peers_of(module), file


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def _secret_files(spec: Manifest) -> set[tuple[str, str]]:
    """(volume, file) of every file of a Secret."""
    secrets = [(volume["name"], volume["secret"]) for volume in spec.get("volumes", ()) if "secret" in volume]
    return {(name, item["path"]) for name, secret in secrets for item in secret["items"]}


def _references(value: Any) -> set[tuple[str, str]]:
    """The ConfigMaps, Secrets and volume claims that a Pod template names."""
    found: set[tuple[str, str]] = set()
    if isinstance(value, dict):
        for key, each in value.items():
            if key in ("configMapRef", "configMapKeyRef", "configMap") and "name" in each:
                found.add(("ConfigMap", each["name"]))
            elif key == "persistentVolumeClaim":
                found.add(("PersistentVolumeClaim", each["claimName"]))
            elif key in ("secretRef", "secretKeyRef", "secret") and ("name" in each or "secretName" in each):
                found.add(("Secret", each.get("name") or each["secretName"]))
            found |= _references(each)
    elif isinstance(value, list):
        for each in value:
            found |= _references(each)
    return found
