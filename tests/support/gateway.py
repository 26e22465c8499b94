"""The public gateway on free ports: the real Envoy with the template as `tradeul up` fills it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from services.cli.local.gateway import envoy_spec
from services.cli.local.process import ChildProcess
from services.kit.runtime.settings import Settings
from tests.support.mesh import free_ports

READY_SECONDS = 60.0
BEHIND = ("scanner", "market_session", "polygon_ws", "analytics", "ticker", "health", "websocket_server", "access")


def gateway_settings(data_dir: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings with free ports for the gateway and what is behind it."""
    names = (*BEHIND, "gateway", "gateway_admin", "data_ingest")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return Settings.load(
        {
            **{f"TRADEUL_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports.items()},
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "TRADEUL_DATA_DIR": str(data_dir),
            **(environment or {}),
        }
    )


class Gateway:
    """`async with Gateway(settings)`: Envoy accepts requests inside."""

    def __init__(self, settings: Settings, template: str | None = None) -> None:
        self._spec = envoy_spec(settings, (), template)
        self.address = str(settings.address("gateway"))
        self.metrics = str(settings.address("gateway_admin"))
        self.client = self.new_client()
        self._process: ChildProcess | None = None

    def new_client(self) -> httpx.AsyncClient:
        """With connections of its own."""
        return httpx.AsyncClient(base_url=f"http://{self.address}", timeout=20)

    @property
    def log(self) -> str:
        """What Envoy wrote: its access log, and its complaints."""
        assert self._spec.log_file is not None
        return self._spec.log_file.read_text()

    async def logged(self, text: str) -> str:
        """The line of the access log with `text`; it is written a little after the answer."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                for line in self.log.splitlines():
                    if text in line:
                        return line
                await asyncio.sleep(0.02)

    async def __aenter__(self) -> Self:
        self._process = await ChildProcess.start(self._spec, lambda _, __: None)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._spec.ready():
                    assert self._process.running, self.log
                    await asyncio.sleep(0.02)
        except BaseException as error:
            await self._process.stop()
            raise RuntimeError(f"the gateway did not open:\n{self.log}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        assert self._process is not None
        await self._process.stop()
