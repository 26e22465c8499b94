"""The simulator in this process, as `tradeul serve simulator` hosts it."""

import contextlib
from collections.abc import AsyncIterator, Mapping

from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.simulator.service import Simulator


class RunningSimulator:
    """A simulator that serves on a free port."""

    def __init__(self, service: Simulator) -> None:
        self.service = service

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.service.port}"

    @property
    def rest_url(self) -> str:
        return f"http://{self.address}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.address}/stocks"

    def environment(self, key: str = "simulator") -> Mapping[str, str]:
        """The settings that make a mesh use it."""
        return {"POLYGON_API_KEY": key, "POLYGON_WS_URL": self.ws_url, "POLYGON_REST_URL": self.rest_url}


@contextlib.asynccontextmanager
async def running_simulator(**sim: object) -> AsyncIterator[RunningSimulator]:
    """`sim` are the TRADEUL_SIM_ settings in small letters: symbols=500, start="2025-11-24T09:31", speed=10."""
    settings = Settings.load(
        {
            "TRADEUL_SIMULATOR_ADDRESS": "127.0.0.1:0",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            **{f"TRADEUL_SIM_{name.upper()}": str(value) for name, value in sim.items()},
        }
    )
    service = Simulator(settings)
    host = Host(service, serve_grpc=False)
    await host.start()
    try:
        yield RunningSimulator(service)
    finally:
        await host.stop()
