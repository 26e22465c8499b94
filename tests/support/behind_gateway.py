"""What stands behind the gateway in its tests: a real scanner, a session service and the health service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import httpx
from tradeul.v1 import market_session_pb2

from services.health.service import HealthService
from services.kit.rpc.server import Host, add_servicer
from services.kit.runtime import errors
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Settings
from services.scanner.service import ScannerService
from tests.support.gateway import gateway_settings
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.tape import Tape

SYMBOLS: Final = [f"S{i:02}" for i in range(40)]
# That of a page of this machine, which may ask.
ORIGIN: Final = "http://localhost:3000"
SESSION: Final = market_session_pb2.CurrentSession(
    current_session=market_session_pb2.CurrentSession().current_session, trading_date="2026-03-10"
)


class SessionServicer:
    """MarketSessionService with one answer."""

    async def GetCurrentSession(self, _: Any, __: Any) -> market_session_pb2.CurrentSession:
        return SESSION

    async def WatchSession(self, _: Any, __: Any) -> AsyncIterator[market_session_pb2.WatchSessionResponse]:
        yield market_session_pb2.WatchSessionResponse(opened=market_session_pb2.SessionOpened())
        yield market_session_pb2.WatchSessionResponse(session=SESSION)

    async def SubscribeSession(self, _: Any, __: Any) -> None:
        raise NotImplementedError

    async def GetTradingDay(self, _: Any, __: Any) -> None:
        raise NotImplementedError

    async def ListTradingDays(self, _: Any, __: Any) -> None:
        raise NotImplementedError


class SessionService(Service):
    name = "market_session"

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = market_session_pb2.DESCRIPTOR.services_by_name["MarketSessionService"]
        return (add_servicer(server, service, SessionServicer()),)


class Behind:
    """What stands behind the gateway."""

    def __init__(self, settings: Settings, sequencer: ScriptedSequencer) -> None:
        self.settings = settings
        self.sequencer = sequencer
        self.scanner = ScannerService(settings, max_held=20)
        needed = ("scanner", "market_session", "health")
        services = (self.scanner, SessionService(settings), HealthService(settings, needed))
        self.hosts = {service.name: Host(service) for service in services}

    async def __aenter__(self) -> "Behind":
        for host in self.hosts.values():
            await host.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for host in self.hosts.values():
            await host.stop()
        assert (self.scanner.hub.subscribers, self.scanner.hub.slow_subscribers) == (0, 0)

    async def until_applied(self) -> None:
        while self.scanner.hub.position != (self.sequencer.tape.epoch, self.sequencer.market.sequence):
            await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def behind_gateway(data_dir: Path) -> AsyncIterator[Behind]:
    """Three of SYMBOLS have traded, one of which has a gap up, and one a gap down."""
    async with ScriptedSequencer(Tape(SYMBOLS)) as sequencer:
        sequencer.send(*sequencer.tape.opening())
        address = {"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}"}
        async with Behind(gateway_settings(data_dir, address), sequencer) as running:
            sequencer.trade({"S01": 105.0, "S02": 92.0, "S03": 100.5})
            await running.until_applied()
            yield running


def check_error(answer: httpx.Response, status: int, reason: errors.Reason) -> dict[str, Any]:
    """A google.rpc.Status with the reason's code and an ErrorInfo first."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == grpc.StatusCode[reason.code].value[0]
    info = body["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["domain"]) == (reason.name, errors.DOMAIN)
    assert body["message"]
    return body
