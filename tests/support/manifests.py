"""The manifests of k8s/ as kubectl renders them."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

K8S: Final = Path(__file__).resolve().parents[2] / "k8s"
# With all components at once, which no overlay of ours is.
EVERYTHING: Final = "everything"
OVERLAYS: Final = (*sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml")), EVERYTHING)
# A simulator and stores of its own are not for production.
NOT_WITH_PRODUCTION: Final = ("simulator", "postgres", "redis", "timescaledb")
KUBECTL: Final = Path(sys.executable).parent / "kubectl"
# Their Pods end by themselves.
ENDING: Final = ("Job", "CronJob")
WORKLOADS: Final = ("Deployment", "StatefulSet", *ENDING)
SETTINGS: Final = "tradeul-settings-"
NAME: Final = "app.kubernetes.io/name"

Manifest = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """Every object of an overlay; raises CalledProcessError when kubectl cannot render it."""
    with tempfile.TemporaryDirectory() as folder:
        if overlay == EVERYTHING:
            _write_everything(Path(folder))
        path = folder if overlay == EVERYTHING else K8S / "overlays" / overlay
        output = subprocess.run([KUBECTL, "kustomize", path], check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(output))


def _write_everything(folder: Path) -> None:
    """An overlay of production with the components that it leaves out."""
    production = yaml.safe_load((K8S / "overlays/production/kustomization.yaml").read_text(encoding="utf-8"))
    left_out = {Path(name).name for name in production["components"]} | set(NOT_WITH_PRODUCTION)
    components = [
        path.parent for path in sorted(K8S.glob("components/*/kustomization.yaml")) if path.parent.name not in left_out
    ]
    document = {
        "apiVersion": production["apiVersion"],
        "kind": "Kustomization",
        "namespace": production["namespace"],
        "resources": [os.path.relpath(K8S / "overlays" / "production", folder.resolve())],
        "components": [os.path.relpath(component, folder.resolve()) for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def of_kind(overlay: str, *kinds: str) -> Iterator[Manifest]:
    return (manifest for manifest in rendered(overlay) if manifest["kind"] in kinds)


def settings_of(overlay: str) -> dict[str, str]:
    """The settings that every service gets."""
    (data,) = (each["data"] for each in of_kind(overlay, "ConfigMap") if each["metadata"]["name"].startswith(SETTINGS))
    found: dict[str, str] = data
    return found


def workloads(overlay: str) -> dict[str, Manifest]:
    """Everything that makes Pods, by its name."""
    return {manifest["metadata"]["name"]: manifest for manifest in of_kind(overlay, *WORKLOADS)}


def template(workload: Manifest) -> Manifest:
    """The template of the workload's Pods."""
    job = workload["spec"]["jobTemplate"] if workload["kind"] == "CronJob" else workload
    found: Manifest = job["spec"]["template"]
    return found


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = template(workload)["spec"]
    return spec


def pod_labels(workload: Manifest) -> dict[str, str]:
    labels: dict[str, str] = template(workload)["metadata"]["labels"]
    return labels


def containers(workload: Manifest) -> Iterator[Manifest]:
    """The workload's containers, those that run before the others included."""
    spec = pod(workload)
    yield from spec.get("initContainers", ())
    yield from spec["containers"]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """True if a label selector matches; raises ValueError for an operator that no manifest uses."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        if expression["operator"] != "In":
            raise ValueError(f"expected the operator In, was {expression['operator']}")
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def allowed(overlay: str) -> set[tuple[str, str, int]]:
    """Who may connect to whom at which port: both what leaves the one and what reaches the other must be allowed."""
    everybody = {name: pod_labels(workload) for name, workload in workloads(overlay).items()}
    leaving: set[tuple[str, str, int]] = set()
    reaching: set[tuple[str, str, int]] = set()
    for policy in of_kind(overlay, "NetworkPolicy"):
        spec = policy["spec"]
        subjects = {name for name, labels in everybody.items() if selects(spec["podSelector"], labels)}
        for rules, peers_key, pairs in (
            (spec.get("egress") or (), "to", leaving),
            (spec.get("ingress") or (), "from", reaching),
        ):
            for rule in rules:
                peers = {
                    name
                    for name, labels in everybody.items()
                    if any(
                        "podSelector" in peer
                        and "namespaceSelector" not in peer
                        and selects(peer["podSelector"], labels)
                        for peer in rule.get(peers_key, ())
                    )
                }
                for port in rule["ports"]:
                    for subject in subjects:
                        for peer in peers:
                            pair = (subject, peer) if peers_key == "to" else (peer, subject)
                            pairs.add((*pair, port["port"]))
    return leaving & reaching


def _is_of_ours(peer: Manifest) -> bool:
    """True for Pods of the same namespace."""
    return "podSelector" in peer and "namespaceSelector" not in peer
