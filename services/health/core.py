"""The newest state of each service, and whether the mesh is healthy by them: no I/O."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from services.kit.runtime.errors import SERVICES_NOT_SERVING

SERVING: Final = "SERVING"
NOT_SERVING: Final = "NOT_SERVING"
# Nothing answers there.
UNREACHABLE: Final = "UNREACHABLE"


class MeshHealth:
    """The newest state of every service.

    `names`: all services of the mesh, UNREACHABLE until their first report. `needed`: those
    of them without which the gateway cannot serve.
    """

    def __init__(self, names: Collection[str], needed: Collection[str]) -> None:
        if missing := sorted(set(needed) - set(names)):
            raise ValueError(f"expected the needed services among all, was {', '.join(missing)} too")
        self._states = dict.fromkeys(names, UNREACHABLE)
        self._needed = frozenset(needed)
        # By the service that warns.
        self._warnings: dict[str, tuple[str, ...]] = {}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what is degraded, each beginning with its service's name."""
        return [text for texts in self._warnings.values() for text in texts]

    def set_warnings(self, name: str, warnings: Sequence[str]) -> bool:
        """Sets all present warnings of a service; returns True if they have changed."""
        if self._warnings.get(name, ()) == (fresh := tuple(warnings)):
            return False
        self._warnings[name] = fresh
        return True

    @property
    def states(self) -> Mapping[str, str]:
        """Each service's grpc.health.v1 state by name, or UNREACHABLE."""
        return self._states

    def set_state(self, name: str, state: str) -> bool:
        """Sets a service's state; returns True if it has changed."""
        if self._states[name] == state:
            return False
        self._states[name] = state
        return True

    def check(self) -> None:
        """Raises SERVICES_NOT_SERVING, with all states, when needed services are not serving."""
        missing = [f"{name} ({state})" for name, state in self._states.items() if self._is_missing(name, state)]
        if missing:
            raise SERVICES_NOT_SERVING.error(f"not serving: {', '.join(missing)}", **self._states)

    def _is_missing(self, name: str, state: str) -> bool:
        return name in self._needed and state != SERVING
