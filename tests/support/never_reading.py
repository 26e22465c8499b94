"""Clients of the gateway that open a stream of a list and then read nothing, ever."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Final

from tradeul.v1 import scanner_pb2

from tests.support.raw_http2 import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, headers
from tests.support.raw_ws import TEXT, client_frame

RECEIVE_BYTES: Final = 4096
INITIAL_WINDOW_SIZE: Final = 4
LARGEST_WINDOW: Final = 2**31 - 1
WINDOW_UPDATE: Final = 8
METHOD: Final = "/tradeul.v1.ScannerService/WatchList"

Open = Callable[[str, int, str, int], list[socket.socket]]


def sse(host: str, port: int, name: str, count: int) -> list[socket.socket]:
    """Server-sent events over HTTP/1.1."""
    request = f"GET /api/v1/scanner/lists/{name}:watch HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    return [_connected(host, port, request) for _ in range(count)]


def grpc_web(host: str, port: int, name: str, count: int) -> list[socket.socket]:
    """gRPC-Web over HTTP/1.1."""
    body = _message(name)
    request = (
        f"POST {METHOD} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/grpc-web+proto\r\n"
        f"x-grpc-web: 1\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    return [_connected(host, port, request + body) for _ in range(count)]


def websocket(host: str, port: int, name: str, count: int) -> list[socket.socket]:
    """WebSockets that subscribe to the list."""
    request = (
        f"GET /ws/scanner HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
    wanted = client_frame(TEXT, f'{{"action":"subscribe_list","list":"{name}"}}'.encode())
    return [_connected(host, port, request + wanted) for _ in range(count)]


def grpc(host: str, port: int, name: str, count: int) -> list[socket.socket]:
    """gRPC, a connection each, with windows that hold back nothing: the socket is not read."""
    opening = _opening(LARGEST_WINDOW) + frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65_535).to_bytes(4, "big"))
    return [_connected(host, port, opening + _call(host, name, 1)) for _ in range(count)]


def grpc_streams(host: str, port: int, name: str, count: int) -> list[socket.socket]:
    """gRPC, all streams on one connection, which gives none of them a window."""
    calls = b"".join(_call(host, name, 1 + 2 * number) for number in range(count))
    return [_connected(host, port, _opening(0) + calls)]


KINDS: Final[dict[str, Open]] = {
    "server-sent events": sse,
    "gRPC": grpc,
    "gRPC, one connection": grpc_streams,
    "gRPC-Web": grpc_web,
    "WebSocket": websocket,
}


@contextlib.contextmanager
def never_reading(open_clients: Open, address: str, name: str, count: int) -> Iterator[list[socket.socket]]:
    """So many clients of one kind, which are closed at the end."""
    host, _, port = address.rpartition(":")
    clients = open_clients(host, int(port), name, count)
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def _connected(host: str, port: int, request: bytes) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    client.connect((host, port))
    client.sendall(request)
    return client


def _message(name: str) -> bytes:
    message = scanner_pb2.WatchListRequest(list=name).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def _opening(window: int) -> bytes:
    setting = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
    # The gateway's own settings are acknowledged unread.
    return PREFACE + frame(SETTINGS, 0, 0, setting) + frame(SETTINGS, ACK, 0, b"")


def _call(host: str, name: str, stream: int) -> bytes:
    fields = headers(
        method="POST", scheme="http", path=METHOD, authority=host, content_type="application/grpc", te="trailers"
    )
    return frame(HEADERS, END_HEADERS, stream, fields) + frame(DATA, END_STREAM, stream, _message(name))
