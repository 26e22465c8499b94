"""The service: one watch on every other service of the mesh."""

import asyncio
from collections.abc import Collection, Sequence
from typing import ClassVar, Final

import grpc.aio
from tradeul.v1 import health_pb2

from services.health import metrics
from services.health.core import NOT_SERVING, SERVING, MeshHealth
from services.health.feed_warnings import NAME as FEED
from services.health.feed_warnings import follow_feed
from services.health.servicer import HealthServicer
from services.health.watcher import ask, watch
from services.kit.lifecycle import Service, State
from services.kit.logging import get_logger
from services.kit.server import add_servicer
from services.kit.settings import Settings
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
            tasks.create_task(follow_feed(self.settings.address(FEED), self._warned), name="health.feed")

    def _saw(self, name: str, state: str) -> None:
        if self.health.saw(name, state):
            metrics.SERVING.labels(name).set(state == SERVING)
            log.info("health", peer=name, state=state)

    def _warned(self, warnings: Sequence[str]) -> None:
        if self.health.warned(FEED, warnings):
            log.info("feed warnings", warnings=list(warnings))


def create(settings: Settings) -> HealthService:
    """The factory that services/modules.py names."""
    return HealthService(settings)
