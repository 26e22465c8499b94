"""An HTTP/3 client on aioquic: one connection, a request at a time."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Http3Client(QuicConnectionProtocol):
    """Requests over one QUIC connection."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)
        self._events: defaultdict[int, asyncio.Queue[H3Event]] = defaultdict(asyncio.Queue)

    def quic_event_received(self, event: QuicEvent) -> None:
        for each in self._http.handle_event(event):
            if isinstance(each, HeadersReceived | DataReceived):
                self._events[each.stream_id].put_nowait(each)

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Returns the whole response."""
        answer: Answer | None = None
        async for part in self.parts(method, path, headers, body):
            answer = part if answer is None else answer._replace(body=answer.body + part.body)
        assert answer is not None
        return answer

    async def parts(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """Yields the head of the response, and then each piece of its body as it comes."""
        stream = self._quic.get_next_available_stream_id()
        head = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path, **(headers or {})}
        pairs = [(name.encode(), value.encode()) for name, value in head.items()]
        self._http.send_headers(stream, pairs, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        answer = Answer(0, {}, b"")
        while True:
            event = await self._events[stream].get()
            if isinstance(event, HeadersReceived) and not answer.status:
                received = {name.decode(): value.decode() for name, value in event.headers}
                answer = Answer(int(received[":status"]), received, b"")
                yield answer
            elif isinstance(event, DataReceived) and event.data:
                yield answer._replace(body=event.data)
            if event.stream_ended:  # type: ignore[attr-defined]  # both kinds have it
                return


@contextlib.asynccontextmanager
async def http3_client(port: int, ca: Path, name: str = "localhost") -> AsyncIterator[Http3Client]:
    """A connection to 127.0.0.1; raises ConnectionError when the server's certificate is not for the name."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, server_name=name)
    configuration.load_verify_locations(str(ca))
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3Client) as client:
        assert isinstance(client, Http3Client)
        yield client
