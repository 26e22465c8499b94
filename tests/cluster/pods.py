"""The local overlay as `podman kube play` takes it: the same Pods, all at one loopback, without what a cluster does.

What is kept: images, arguments, settings, mounts, limits of memory, and the security context (users, read-only root
file systems, no capabilities). What podman has no counterpart of is replaced: a Service by a name for the loopback in
/etc/hosts, a volume claim by a volume of the Pod, a Secret by files and values.
"""

import base64
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.manifests import ENDING, Manifest, of_kind, pod, pod_labels, rendered, settings_of, workloads

LOOPBACK: Final = "127.0.0.1"
# A Job's Pods: as many as may run at once.
TWICE: Final = ("migrate", "migrate-again")
LEFT_OUT: Final = (
    "topologySpreadConstraints",
    "priorityClassName",
    "serviceAccountName",
    "automountServiceAccountToken",
)
LEFT_OUT_OF_CONTAINERS: Final = ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports")


def hosts(overlay: str) -> str:
    """Returns the /etc/hosts by which Pods find Services."""
    names = sorted(service["metadata"]["name"] for service in of_kind(overlay, "Service"))
    return f"{LOOPBACK} {' '.join(['localhost', *names])}\n"


def play_documents(overlay: str, settings: dict[str, str], hosts_file: Path) -> list[Manifest]:
    """Returns what podman is given: ConfigMaps, then Pods.

    `settings` are added to those of the overlay; `hosts_file` holds what hosts() returns.
    """
    found = list(_config_maps(overlay, settings))
    for name, workload in workloads(overlay).items():
        for pod_name in TWICE if workload["kind"] == "Job" else (name,):
            config_maps, made = _pod(overlay, pod_name, workload)
            made["spec"]["volumes"].append(
                {"name": f"{pod_name}-hosts", "hostPath": {"path": str(hosts_file), "type": "File"}}
            )
            for container in (*made["spec"].get("initContainers", ()), *made["spec"]["containers"]):
                container.setdefault("volumeMounts", []).append(
                    {"name": f"{pod_name}-hosts", "mountPath": "/etc/hosts", "readOnly": True}
                )
            found += [*config_maps, made]
    # Before the Pods that name them.
    return sorted(found, key=lambda document: str(document["kind"]))


def pod_names(overlay: str) -> set[str]:
    """The names of the Pods that keep running."""
    return {name for name, workload in workloads(overlay).items() if workload["kind"] not in ENDING}


def _config_maps(overlay: str, settings: dict[str, str]) -> Iterator[Manifest]:
    overlays = settings_of(overlay)
    for config in of_kind(overlay, "ConfigMap"):
        data = {**config["data"], **settings} if config["data"] == overlays else config["data"]
        yield _config_map(config["metadata"]["name"], data)


def _config_map(name: str, data: dict[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _pod(overlay: str, name: str, workload: Manifest) -> tuple[list[Manifest], Manifest]:
    spec = copy.deepcopy(pod(workload))
    for key in LEFT_OUT:
        spec.pop(key, None)
    spec["hostNetwork"] = True
    # podman would restart init containers that have succeeded, too.
    is_ending = workload["kind"] == "Job" or "initContainers" in spec
    spec["restartPolicy"] = "OnFailure" if is_ending else "Always"
    claims = workload["spec"].get("volumeClaimTemplates", ())
    volumes = [*spec.get("volumes", ()), *({"name": each["metadata"]["name"], "emptyDir": {}} for each in claims)]
    config_maps = [made for volume in volumes if (made := _without_secret(overlay, name, volume)) is not None]
    # podman's volumes belong to no Pod: one of the same name would be the same one.
    for volume in volumes:
        volume["name"] = f"{name}-{volume['name']}"
    spec["volumes"] = volumes
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        for key in LEFT_OUT_OF_CONTAINERS:
            container.pop(key, None)
        for mount in container.get("volumeMounts", ()):
            mount["name"] = f"{name}-{mount['name']}"
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                reference = variable.pop("valueFrom")["secretKeyRef"]
                variable["value"] = _secret(overlay, reference["name"])[reference["key"]]
    annotations = {"io.podman.annotations.init.container.type": "always"}
    metadata = {"name": name, "labels": pod_labels(workload), "annotations": annotations}
    return config_maps, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _without_secret(overlay: str, pod_name: str, volume: dict[str, Any]) -> Manifest | None:
    """Makes a volume of a Secret one of a ConfigMap, which is returned."""
    if (secret := volume.pop("secret", None)) is None:
        return None
    data = _secret(overlay, secret["secretName"])
    name = f"{pod_name}-{secret['secretName']}"
    volume["configMap"] = {"name": name}
    return _config_map(name, {item["path"]: data[item["key"]] for item in secret["items"]})


def _secret(overlay: str, name: str) -> dict[str, str]:
    (data,) = (
        manifest["data"]
        for manifest in rendered(overlay)
        if manifest["kind"] == "Secret" and manifest["metadata"]["name"] == name
    )
    return {key: base64.b64decode(value).decode() for key, value in data.items()}
