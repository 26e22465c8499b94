"""A service as three coroutines, start, run and stop, and its state machine.

    NEW -> STARTING -> RUNNING -> STOPPING -> TERMINATED
              |           |          |
              +-----------+----------+--> FAILED

`services.kit.rpc.server.Host` drives it: start(), then gRPC is served and health is
SERVING, then run() until a stop is requested or it fails, then drain(), then the
server closes, then stop(). Health and readiness are derived from the state.
"""

import asyncio
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from services.kit.runtime.settings import Settings

if TYPE_CHECKING:
    import grpc.aio

    from services.kit.runtime.spans import Traces


class State(enum.Enum):
    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    TERMINATED = "terminated"
    FAILED = "failed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.STARTING, State.TERMINATED}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING, State.FAILED}),
    State.RUNNING: frozenset({State.STOPPING, State.FAILED}),
    State.STOPPING: frozenset({State.TERMINATED, State.FAILED}),
    State.TERMINATED: frozenset(),
    State.FAILED: frozenset(),
}


class Service:
    """Base of the services. Override what is needed; every step may raise, which stops the process."""

    name: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # From start() on; None where traces are off.
        self.traces: Traces | None = None
        self._state = State.NEW
        self._listeners: list[Callable[[State], None]] = []
        self._unhealthy_reason: str | None = None
        self._warning: str | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def unhealthy_reason(self) -> str | None:
        """The reason why it cannot do its work although it runs; None when it can."""
        return self._unhealthy_reason

    @property
    def condition(self) -> str:
        """The state's name, with the unhealthy reason if there is one: "running" alone is ready."""
        return self._state.value if self._unhealthy_reason is None else f"{self._state.value}: {self._unhealthy_reason}"

    def set_unhealthy_reason(self, reason: str | None) -> None:
        """Sets the reason why it cannot do its work, or None when it can again; health is NOT_SERVING meanwhile."""
        if reason != self._unhealthy_reason:
            self._unhealthy_reason = reason
            for listener in self._listeners:
                listener(self._state)

    @property
    def warning(self) -> str | None:
        """A sentence for /health on what is degraded in its process; None when nothing is."""
        return self._warning

    def set_warning(self, warning: str | None) -> None:
        """Sets what is degraded, or None."""
        if warning != self._warning:
            self._warning = warning
            for listener in self._listeners:
                listener(self._state)

    def on_state(self, listener: Callable[[State], None]) -> None:
        """Calls `listener` at every change of the state, of the unhealthy reason or of the warning."""
        self._listeners.append(listener)

    def enter(self, state: State) -> None:
        """Moves to `state`; raises RuntimeError when the state machine has no such step."""
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"{self.name}: no step from {self._state.value} to {state.value}")
        self._state = state
        for listener in self._listeners:
            listener(state)

    def add_to_server(self, server: "grpc.aio.Server") -> tuple[str, ...]:
        """Adds the servicers, after start(); returns the full names of their services."""
        return ()

    async def start(self) -> None:
        """Opens what it needs; returns when requests can be answered."""

    async def run(self) -> None:
        """Works until cancelled; returning before that is a failure. Waits by default."""
        await asyncio.get_running_loop().create_future()

    async def drain(self) -> None:
        """Ends open streams in-band (going_away); requests still work."""

    async def stop(self) -> None:
        """Releases what start() opened, also after a start() that failed half-way."""
