"""The service: one watch on every other service of the mesh."""

import asyncio
from collections.abc import Collection, Sequence
from typing import ClassVar, Final

import grpc.aio
from tradeul.v1 import health_pb2

from services.health import metrics
from services.health.core import NOT_SERVING, SERVING, MeshHealth
from services.health.servicer import HealthServicer
from services.health.warnings import ASKED, follow_warnings
from services.health.watcher import ask, watch
from services.kit.rpc.server import add_servicer
from services.kit.runtime.lifecycle import Service, State
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.modules import GATEWAY_NEEDS, MODULES, by_name

log = get_logger(__name__)

# The vendor's stand-in: no part of the mesh, and not there when the vendor is.
STAND_IN: Final = "simulator"


class HealthService(Service):
    """See health.proto. `needed`: the services without which the door cannot do its work."""

    name: ClassVar[str] = "health"

    def __init__(self, settings: Settings, needed: Collection[str] = GATEWAY_NEEDS) -> None:
        super().__init__(settings)
        self.health = MeshHealth([module.name for module in MODULES if module.name != STAND_IN], needed)
        # Of itself it knows without asking.
        self.on_state(lambda state: self._saw(self.name, SERVING if state is State.RUNNING else NOT_SERVING))

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = health_pb2.DESCRIPTOR.services_by_name["HealthService"]
        return (add_servicer(server, service, HealthServicer(self.health)),)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in self.health.states:
                if name != self.name:
                    address = self.settings.address(name)
                    follow = watch if by_name(name).protocol == "grpc" else ask
                    tasks.create_task(follow(name, address, self._saw), name=f"health.{name}")
            for name in ASKED:
                follow_texts = follow_warnings(name, self.settings.address(name), self._warned)
                tasks.create_task(follow_texts, name=f"health.warnings.{name}")

    def _saw(self, name: str, state: str) -> None:
        if self.health.saw(name, state):
            metrics.SERVING.labels(name).set(state == SERVING)
            log.info("health", peer=name, state=state)

    def _warned(self, name: str, warnings: Sequence[str]) -> None:
        if self.health.warned(name, warnings):
            log.info("warnings", peer=name, warnings=list(warnings))


def create(settings: Settings) -> HealthService:
    """The factory that services/modules.py names."""
    return HealthService(settings)
