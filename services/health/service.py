"""The service: one watch on every other service of the mesh, and its answer to GetHealth."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final

import grpc.aio
from prometheus_client import Gauge
from tradeul.v1 import health_pb2

from services.health.core import NOT_SERVING, SERVING, MeshHealth
from services.health.sequencers import Role, Sequencer, follow_sequencers, state_of, warnings_of
from services.health.watcher import SEQUENCER, SOURCES, follow_warnings, poll, watch
from services.kit.rpc.server import add_servicer
from services.kit.runtime.lifecycle import Service, State
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.modules import ACCESS, GATEWAY_NEEDS, MODULES, by_name

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
MESH_SERVING: Final = Gauge(
    "tradeul_mesh_serving", "1 while the service reports SERVING, as seen over the network.", ["peer"]
)

# Replaces the vendor: no part of the mesh.
STAND_IN: Final = "simulator"


class HealthServicer:
    """The mesh's health as a message, or SERVICES_NOT_SERVING."""

    def __init__(self, health: MeshHealth, sequencers: Callable[[], list[health_pb2.SequencerHealth]]) -> None:
        self._health = health
        self._sequencers = sequencers

    async def GetHealth(self, _: health_pb2.GetHealthRequest, __: Context) -> health_pb2.Health:
        self._health.check()
        health = self._health
        return health_pb2.Health(
            status="healthy", services=health.states, warnings=health.warnings, sequencers=self._sequencers()
        )


class HealthService(Service):
    """See health.proto. `needed`: the services without which the gateway cannot serve."""

    name: ClassVar[str] = "health"

    def __init__(self, settings: Settings, needed: Collection[str] = GATEWAY_NEEDS) -> None:
        super().__init__(settings)
        names = [module.name for module in MODULES if module.name != STAND_IN]
        if not settings.requires_keys:
            names.remove(ACCESS)
        self.health = MeshHealth(names, needed)
        # Of several, by address.
        self._sequencers: Mapping[str, Sequencer] = {}
        # Its own state needs no connection.
        self.on_state(self._set_own)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = health_pb2.DESCRIPTOR.services_by_name["HealthService"]
        return (add_servicer(server, service, HealthServicer(self.health, self._sequencer_health)),)

    async def run(self) -> None:
        settings = self.settings
        async with asyncio.TaskGroup() as tasks:
            for name in self.health.states:
                if name == SEQUENCER and len(settings.sequencers) > 1 and not settings.is_replay:
                    follow_all = follow_sequencers(settings.sequencer_addresses, self._set_sequencers)
                    tasks.create_task(follow_all, name=f"health.{name}")
                elif name != self.name:
                    address = settings.address(name)
                    follow = watch if by_name(name).protocol == "grpc" else poll
                    tasks.create_task(
                        follow(name, address, self._set_state, self._set_process_warnings), name=f"health.{name}"
                    )
            for name in SOURCES:
                address = settings.address(name)
                targets = settings.sequencer_addresses if name == SEQUENCER else address
                follow_texts = follow_warnings(name, targets, self._set_warnings)
                tasks.create_task(follow_texts, name=f"health.warnings.{name}")

    def _set_own(self, state: State) -> None:
        self._set_state(self.name, SERVING if state is State.RUNNING else NOT_SERVING)
        self._set_process_warnings(self.name, [f"{self.name}: {self.warning}"] if self.warning else [])

    def _set_process_warnings(self, name: str, warnings: Sequence[str]) -> None:
        self._set_warnings(f"process of {name}", warnings)

    def _set_sequencers(self, sequencers: Mapping[str, Sequencer]) -> None:
        self._sequencers = sequencers
        self._set_state(SEQUENCER, state_of(sequencers))
        self._set_warnings("sequencers", warnings_of(sequencers))

    def _sequencer_health(self) -> list[health_pb2.SequencerHealth]:
        return [
            health_pb2.SequencerHealth(
                address=address,
                state=state,
                role=Role.Role.Name(role.role) if role is not None and role.role else "",
                lag_seconds=role.lag_seconds if role is not None and role.HasField("lag_seconds") else None,
            )
            for address, (state, role, _) in self._sequencers.items()
        ]

    def _set_state(self, name: str, state: str) -> None:
        if self.health.set_state(name, state):
            MESH_SERVING.labels(name).set(state == SERVING)
            log.info("health", peer=name, state=state)

    def _set_warnings(self, name: str, warnings: Sequence[str]) -> None:
        if self.health.set_warnings(name, warnings):
            log.info("warnings", peer=name, warnings=list(warnings))


def create(settings: Settings) -> HealthService:
    """The factory that services/modules.py names."""
    return HealthService(settings)
