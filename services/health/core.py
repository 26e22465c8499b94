"""What is known of each service's health, and the one answer that follows from it: no I/O."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from services.kit.runtime.errors import SERVICES_NOT_SERVING

SERVING: Final = "SERVING"
NOT_SERVING: Final = "NOT_SERVING"
# Nobody answers there, or not any more.
UNREACHABLE: Final = "UNREACHABLE"


class MeshHealth:
    """The newest state of every service.

    `names`: all services of the mesh, unreachable until heard of. `needed`: those
    of them without which the public door cannot do its work.
    """

    def __init__(self, names: Collection[str], needed: Collection[str]) -> None:
        if missing := sorted(set(needed) - set(names)):
            raise ValueError(f"expected the door's needs among the services, was {', '.join(missing)} too")
        self._states = dict.fromkeys(names, UNREACHABLE)
        self._needed = frozenset(needed)
        # What works with less than it should, by who says so.
        self._warnings: dict[str, tuple[str, ...]] = {}

    @property
    def warnings(self) -> list[str]:
        """What works with less than it should, each beginning with its service's name."""
        return [text for texts in self._warnings.values() for text in texts]

    def warned(self, name: str, warnings: Sequence[str]) -> bool:
        """Takes all that a service warns of now; whether it is something else than before."""
        if self._warnings.get(name, ()) == (fresh := tuple(warnings)):
            return False
        self._warnings[name] = fresh
        return True

    @property
    def states(self) -> Mapping[str, str]:
        """Each service's grpc.health.v1 state by name, or UNREACHABLE."""
        return self._states

    def saw(self, name: str, state: str) -> bool:
        """Takes a service's new state; whether it is another than before."""
        if self._states[name] == state:
            return False
        self._states[name] = state
        return True

    def check(self) -> None:
        """Raises SERVICES_NOT_SERVING when the door cannot do its work: names who is missing, with all states."""
        missing = [f"{name} ({state})" for name, state in self._states.items() if self._is_missing(name, state)]
        if missing:
            raise SERVICES_NOT_SERVING.error(f"not serving: {', '.join(missing)}", **self._states)

    def _is_missing(self, name: str, state: str) -> bool:
        return name in self._needed and state != SERVING
