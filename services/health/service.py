"""The service: one watch on every other service of the mesh, and its answer to GetHealth."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final

import grpc.aio
from prometheus_client import Gauge
from tradeul.v1 import health_pb2

from services.health.core import NOT_SERVING, SERVING, MeshHealth
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

    def __init__(self, health: MeshHealth) -> None:
        self._health = health

    async def GetHealth(self, _: health_pb2.GetHealthRequest, __: Context) -> health_pb2.Health:
        self._health.check()
        health = self._health
        return health_pb2.Health(status="healthy", services=health.states, warnings=health.warnings)


class HealthService(Service):
    """See health.proto. `needed`: the services without which the gateway cannot serve."""

    name: ClassVar[str] = "health"

    def __init__(self, settings: Settings, needed: Collection[str] = GATEWAY_NEEDS) -> None:
        super().__init__(settings)
        names = [module.name for module in MODULES if module.name != STAND_IN]
        if not settings.requires_keys:
            names.remove(ACCESS)
        self.health = MeshHealth(names, needed)
        # Its own state needs no connection.
        self.on_state(lambda state: self._set_state(self.name, SERVING if state is State.RUNNING else NOT_SERVING))

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = health_pb2.DESCRIPTOR.services_by_name["HealthService"]
        return (add_servicer(server, service, HealthServicer(self.health)),)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in self.health.states:
                if name != self.name:
                    address = self.settings.address(name)
                    follow = watch if by_name(name).protocol == "grpc" else poll
                    tasks.create_task(follow(name, address, self._set_state), name=f"health.{name}")
            for name in SOURCES:
                address = self.settings.address(name)
                targets = self.settings.sequencer_addresses if name == SEQUENCER else address
                follow_texts = follow_warnings(name, targets, self._set_warnings)
                tasks.create_task(follow_texts, name=f"health.warnings.{name}")

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
