"""One POST to a receiver, which is not trusted: to the address that was checked, within a time, reading little."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, Self

import httpcore

from services.kit.runtime.certificates import usual_authorities
from services.kit.runtime.clock import monotonic, utc_now
from services.kit.runtime.redaction import reason_of
from services.ticker.webhooks.addresses import AddressError, Resolver, target_of

CONNECT_SECONDS: Final = 5.0
# From the name to the end of the answer.
TOTAL_SECONDS: Final = 15.0
# Of an answer's body that is read; a longer one costs the connection.
MOST_BODY_BYTES: Final = 16 * 1024
# A part of a refusal's body that goes into its reason.
SHOWN_CHARACTERS: Final = 200
# Shorter than the 5 s after which many servers (Node) close an idle connection.
IDLE_SECONDS: Final = 4.0
# At most so long is waited because a receiver says so (Retry-After).
LONGEST_RETRY_AFTER: Final = 3600.0
GONE: Final = 410
_HEADERS: Final = (("content-type", "application/json"), ("user-agent", "tradeul-webhooks"))


class Answer(NamedTuple):
    """The result of a POST: `error` is empty if it was accepted, with a status of 200 to 299.

    `status` is None without an answer; `retry_after`: the seconds that the receiver asks to wait, 0 without.
    """

    status: int | None
    seconds: float
    error: str
    retry_after: float = 0.0

    @property
    def is_accepted(self) -> bool:
        return not self.error

    @property
    def is_gone(self) -> bool:
        """True if the receiver wants nothing any more."""
        return self.status == GONE


class _Network(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be called; TLS is checked for the name of the URL nevertheless."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's name
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolver.addresses(host, port)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressError("expected a network address, was a Unix socket")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Sender:
    """Sends messages, over connections that stay open for a while; use as `async with Sender(resolver) as sender`.

    It follows no redirect, asks no proxy and decodes nothing: httpcore does none of that, unlike httpx.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=usual_authorities()),
            max_connections=None,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=_Network(resolver),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()
        self._resolver.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes, seconds: float = TOTAL_SECONDS) -> Answer:
        """Posts JSON once, within so many seconds, and raises nothing."""
        began = monotonic()
        status: int | None = None
        retry_after = 0.0
        try:
            target_of(url, self._resolver.allows_private)
            async with asyncio.timeout(seconds):
                async with self._pool.stream(
                    "POST",
                    url,
                    headers=[*_HEADERS, *headers.items()],
                    content=body,
                    extensions={"timeout": {"connect": CONNECT_SECONDS, "pool": CONNECT_SECONDS}},
                ) as response:
                    status = response.status
                    retry_after = _retry_after(response)
                    error = _refusal(response, await _beginning(response))
        except TimeoutError:
            error = f"no whole answer within {seconds:g} s"
        except AddressError as problem:
            error = reason_of(problem)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as problem:
            error = _failure(problem)
        return Answer(status, monotonic() - began, error, retry_after)


async def _beginning(response: httpcore.Response) -> bytes:
    """The beginning of the body; what follows is not read, and the connection is closed."""
    read = bytearray()
    async for chunk in response.aiter_stream():
        read += chunk
        if len(read) > MOST_BODY_BYTES:
            break
    return bytes(read[:MOST_BODY_BYTES])


def _refusal(response: httpcore.Response, body: bytes) -> str:
    status = response.status
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"HTTP {status}: redirects are not followed; change the webhook's URL"
    text = " ".join(body.decode(errors="replace").split())
    shown = "".join(each if each.isprintable() else "?" for each in text[:SHOWN_CHARACTERS])
    return f"HTTP {status}: {shown}" if shown else f"HTTP {status}"


def _failure(error: Exception) -> str:
    """The failure in words: some errors of httpcore have no message."""
    if isinstance(error, httpcore.ConnectTimeout):
        return f"not connected within {CONNECT_SECONDS:g} s"
    if isinstance(error, httpcore.ConnectError):
        return f"not connected: {reason_of(error)}"
    return f"the connection failed: {reason_of(error)}"


def _retry_after(response: httpcore.Response) -> float:
    """The seconds of Retry-After, which may be a date."""
    for name, value in response.headers:
        if name.lower() == b"retry-after":
            text = value.decode(errors="replace").strip()
            try:
                seconds = float(text)
            except ValueError:
                try:
                    seconds = (parsedate_to_datetime(text) - utc_now()).total_seconds()
                except (TypeError, ValueError):
                    return 0.0
            return min(max(0.0, seconds), LONGEST_RETRY_AFTER) if seconds == seconds else 0.0
    return 0.0
