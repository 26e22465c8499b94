"""HealthService: the mesh's health as a message, or UNAVAILABLE."""

from typing import Any

import grpc.aio
from tradeul.v1 import health_pb2

from services.health.core import MeshHealth

Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer:
    def __init__(self, health: MeshHealth) -> None:
        self._health = health

    async def GetHealth(self, _: health_pb2.GetHealthRequest, __: Context) -> health_pb2.Health:
        self._health.check()
        health = self._health
        return health_pb2.Health(status="healthy", services=health.states, warnings=health.warnings)
