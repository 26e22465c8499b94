"""The WebSocket endpoint as a service of the mesh."""

import asyncio
import functools
from typing import ClassVar

import grpc.aio

from services.kit.lists.definitions import load_lists
from services.kit.rpc.channel import open_channel
from services.kit.rpc.key_streams import KeyStreams
from services.kit.runtime.lifecycle import Service, State
from services.kit.runtime.logging import get_logger
from services.kit.runtime.mesh_certificates import certificates_of
from services.kit.runtime.open_files import room_for_clients
from services.kit.runtime.origins import OriginCheck
from services.kit.runtime.settings import Settings
from services.websocket_server.aggregates import BarBook, BarFollower
from services.websocket_server.alert_follower import AlertFollower
from services.websocket_server.client_hub import ClientHub
from services.websocket_server.endpoint import listen
from services.websocket_server.limits import Limits
from services.websocket_server.list_broadcast import ListBroadcast
from services.websocket_server.list_follower import ListFollower

HEALTH_CHECK_SECONDS = 1.0

log = get_logger(__name__)


class WebSocketServer(Service):
    """Serves browsers; lists are followed at the scanner while they have subscriptions."""

    name: ClassVar[str] = "websocket_server"

    def __init__(self, settings: Settings, limits: Limits | None = None) -> None:
        super().__init__(settings)
        wanted = limits or Limits()
        self.limits = wanted._replace(clients=room_for_clients(wanted.clients))
        if self.limits.clients < wanted.clients:
            log.warning(
                "the limit of open files (ulimit -n) has room for fewer clients",
                clients=self.limits.clients,
                wanted=wanted.clients,
            )
        self.port = 0
        self._key_streams = KeyStreams(self.name, settings.address("access"))
        self._channel: grpc.aio.Channel | None = None
        self._server: asyncio.Server | None = None
        self._followers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._defect: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel = open_channel(self.settings.address("scanner"))
        lists = [spec.name for spec in load_lists()]
        follow_alerts = functools.partial(AlertFollower, self._channel)
        self.hub = ClientHub(lists, self.limits, self._follow, follow_alerts, self._key_streams)
        self._bars = BarFollower(
            self.settings.sequencer_addresses,
            BarBook(self.hub.listed),
            lambda: self.hub.is_watched,
            self.hub.show,
            self.limits,
        )
        tls = self.settings.address(self.name).tls
        self._server = await listen(
            self.settings.listen_address(self.name),
            self.hub,
            OriginCheck(self.settings.cors_origins),
            self._ready_condition,
            lambda: self.warning,
            certificates_of(tls).listening_context() if tls is not None else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.check_clients(), name="websocket_server.check_clients")
            tasks.create_task(self._bars.run(), name="websocket_server.bars")
            tasks.create_task(self._check_health(), name="websocket_server.unhealthy_reason")
            tasks.create_task(self._until_defect(), name="websocket_server.defect")

    async def drain(self) -> None:
        self.hub.go_away()
        deadline = asyncio.get_running_loop().time() + self.limits.close_seconds
        # Until the closing handshakes are over.
        while self.hub.closing and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.hub.close()
            for client in list(self.hub.closing):
                client.cut()
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await self._key_streams.close()
        if self._channel is not None:
            await self._channel.close(None)

    def _follow(self, sink: ListBroadcast) -> "asyncio.Task[None]":
        assert self._channel is not None, "start() first"
        follower = ListFollower(self._channel, sink, self.traces)
        task = asyncio.create_task(follower.run(), name=f"websocket_server.{sink.name}")
        self._followers.add(task)
        task.add_done_callback(self._follower_ended)
        return task

    def _follower_ended(self, task: "asyncio.Task[None]") -> None:
        self._followers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._defect.done():
            self._defect.set_exception(error)

    async def _until_defect(self) -> None:
        """Stops the service when a list is no longer followed because of a defect."""
        await self._defect

    def _ready_condition(self) -> str:
        return self.condition if self.state is not State.NEW else State.STARTING.value

    async def _check_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_CHECK_SECONDS)
            self.set_unhealthy_reason(self.hub.unhealthy_reason)


def create(settings: Settings) -> WebSocketServer:
    """The factory that services/modules.py names."""
    return WebSocketServer(settings)
