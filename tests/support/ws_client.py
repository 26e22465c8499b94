"""A client of /ws/scanner, independent of the server's code: it knows the contract and nothing else."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from services.kit.rpc.server import Host
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Address, Settings
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer

PATH = "/ws/scanner"
TIMEOUT = 60.0

Message = dict[str, Any]


def texts_of(frames: bytes) -> list[str]:
    """The texts in a run of frames, as another implementation reads them."""
    protocol = Protocol(CLIENT, state=OPEN, max_size=None)
    protocol.receive_data(frames)
    events = protocol.events_received()
    assert all(isinstance(event, Frame) and event.opcode == Opcode.TEXT and event.fin for event in events)
    return [bytes(event.data).decode() for event in events if isinstance(event, Frame)]


class ListView:
    """One list as a page of the older system keeps it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.sequence = 0
        self.rows: dict[str, Message] = {}
        self.snapshots = 0
        self.deltas = 0
        # Updates with changed fields only.
        self.patches = 0

    @property
    def ranked(self) -> list[Message]:
        rows = sorted(self.rows.values(), key=lambda row: row["rank"])
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        return rows

    def apply(self, message: Message) -> None:
        if message["type"] == "snapshot":
            assert message["count"] == len(message["rows"])
            self.epoch, self.sequence = message["epoch"], message["sequence"]
            self.rows = {row["symbol"]: row for row in message["rows"]}
            self.snapshots += 1
            return
        sequence = message["sequence"]
        # Where several changes may have become one, as in Redis and at intervals, it says what it follows.
        assert sequence > self.sequence, f"a repeat: {sequence} after {self.sequence}"
        assert message.get("previous_sequence", sequence - 1) == self.sequence, (
            f"a hole: {sequence} after {self.sequence}"
        )
        assert message["change_count"] == len(message["deltas"])
        self.sequence = sequence
        self.deltas += 1
        for change in message["deltas"]:
            self._change(change, may_be_several="previous_sequence" in message)

    def _change(self, change: Message, *, may_be_several: bool) -> None:
        symbol = change["symbol"]
        match change["action"]:
            case "add":
                assert symbol not in self.rows
                self.rows[symbol] = change["data"]
            case "update" if "symbol" not in change["data"]:
                self._patch(self.rows[symbol], change, may_be_several=may_be_several)
            case "update":
                assert symbol in self.rows
                self.rows[symbol] = change["data"]
            case "remove":
                assert symbol in self.rows
                del self.rows[symbol]
            case "rerank":
                assert symbol in self.rows
                assert self.rows[symbol]["rank"] == change["old_rank"]
                self.rows[symbol]["rank"] = change["new_rank"]
            case other:
                raise AssertionError(f"no such action: {other}")
        if change["action"] in ("add", "update"):
            assert self.rows[symbol]["symbol"] == symbol
            assert self.rows[symbol]["rank"] == change["rank"]

    def _patch(self, row: Message, change: Message, *, may_be_several: bool) -> None:
        """A JSON merge patch (RFC 7396), which changes something; after several changes, a value may be as before."""
        assert change["data"], "an update without a changed field"
        self.patches += 1
        row["rank"] = change["rank"]
        for name, value in change["data"].items():
            assert value != row.get(name) or may_be_several, f"{name} is {value!r} already"
            if value is None:
                row.pop(name, None)
            else:
                row[name] = value


class WsClient:
    """A connection and the lists that it keeps."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.lists: dict[str, ListView] = {}
        self.heard: list[str] = []

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def receive(self) -> Message:
        """The next message; lists are kept by the way."""
        async with asyncio.timeout(TIMEOUT):
            text = await self.connection.recv()
        assert isinstance(text, str)
        message: Message = json.loads(text)
        self.heard.append(message["type"])
        if message["type"] in ("snapshot", "delta"):
            self.lists.setdefault(message["list"], ListView()).apply(message)
        return message

    async def expect(self, kind: str) -> Message:
        """The next message, which must be of this kind."""
        message = await self.receive()
        assert message["type"] == kind, message
        return message

    async def until(self, name: str, position: tuple[int, int]) -> ListView:
        """Receives until the list is there."""
        while (view := self.lists.get(name)) is None or (view.epoch, view.sequence) != position:
            await self.receive()
        return view

    async def subscribe(self, name: str, **position: int) -> None:
        await self.send(action="subscribe_list", list=name, **position)
        message = await self.expect("subscribed_list")
        assert message == {"type": "subscribed_list", "list": name}


@contextlib.asynccontextmanager
async def ws_client(port: int, *, greeted: bool = True, **options: Any) -> AsyncIterator[WsClient]:
    async with connect(f"ws://127.0.0.1:{port}{PATH}", **options) as connection:
        client = WsClient(connection)
        if greeted:
            await client.expect("connected")
        yield client


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Host]:
    host = Host(service, serve_grpc=False)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@contextlib.asynccontextmanager
async def ws_server(
    scanner: str,
    limits: Limits | None = None,
    cors_origins: tuple[str, ...] = (),
    sequencers: Sequence[str] = (),
    **addresses: str,
) -> AsyncIterator[WebSocketServer]:
    """A WebSocket server on a free port, fed by the scanner at that address."""
    settings = Settings(
        addresses={
            "websocket_server": Address("127.0.0.1", 0),
            "scanner": Address.parse(scanner),
            **{name: Address.parse(text) for name, text in addresses.items()},
        },
        metrics_port_offset=0,
        cors_origins=cors_origins,
        sequencers=tuple(map(Address.parse, sequencers)),
    )
    service = WebSocketServer(settings, limits)
    async with serving(service):
        yield service


async def eventually(condition: Callable[[], object]) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.005)
