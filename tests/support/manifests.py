"""The manifests of k8s/ as kubectl renders them."""

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

K8S: Final = Path(__file__).resolve().parents[2] / "k8s"
OVERLAYS: Final = tuple(sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml")))
KUBECTL: Final = Path(sys.executable).parent / "kubectl"
WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
NAME: Final = "app.kubernetes.io/name"

Manifest = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """Every object of an overlay; raises CalledProcessError when kubectl cannot render it."""
    output = subprocess.run(
        [KUBECTL, "kustomize", K8S / "overlays" / overlay], check=True, capture_output=True, text=True
    ).stdout
    return tuple(yaml.safe_load_all(output))


def of_kind(overlay: str, *kinds: str) -> Iterator[Manifest]:
    return (manifest for manifest in rendered(overlay) if manifest["kind"] in kinds)


def workloads(overlay: str) -> dict[str, Manifest]:
    """Everything that makes Pods, by its name."""
    return {manifest["metadata"]["name"]: manifest for manifest in of_kind(overlay, *WORKLOADS)}


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def pod_labels(workload: Manifest) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
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
