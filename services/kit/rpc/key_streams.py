"""The streams of each key: counted by the services that serve them, limited, and ended with the right to them.

That is when the key is revoked, or when the token that opened them expires.

The gateway adds the name of a request's key and its limits to the request's metadata, and removes what clients send
under these names. Requests without a name, where keys are not required, are limited in all only.
"""

import asyncio
import contextlib
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import grpc.aio
from prometheus_client import Counter, Gauge
from tradeul.v1 import access_pb2, access_pb2_grpc

from services.kit.rpc.channel import Connection, StreamEnded, open_channel, reconnecting
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import NS_PER_SECOND, wall_ns
from services.kit.runtime.errors import INVALID_KEY, INVALID_TOKEN, TOO_MANY_STREAMS, ServiceError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

NAME_HEADER: Final = "x-tradeul-key-name"
STREAMS_HEADER: Final = "x-tradeul-key-streams"
SCANS_HEADER: Final = "x-tradeul-key-scans"
EXPIRES_HEADER: Final = "x-tradeul-key-expires"
# The wall clock is compared with the expiry at least so often: it may be set meanwhile.
EXPIRY_CHECK_SECONDS: Final = 600.0

# Where a request names none. Its stream is not counted either: the WebSocket server, which counts connections, follows
# scans at the scanner in the names of its clients' keys.
UNLIMITED: Final = 1_000_000
OPEN: Final = Gauge("tradeul_key_streams", "Open streams, by the key's name.", ["service", "key"])
REFUSED: Final = Counter(
    "tradeul_key_refused",
    "Requests refused because of a limit, by the key's name and reason.",
    ["service", "key", "reason"],
)


class RequestKey(NamedTuple):
    """The key of a request, as the gateway names it, with its limits.

    `expires`: the Unix time at which the right of a token ends, in seconds; 0 for keys, which are revoked.
    """

    name: str
    streams: int
    scans: int
    expires: float = 0.0

    @property
    def label(self) -> str:
        """Its name in metrics; subjects of tokens, of which there is no end, have one in common."""
        issuer, colon, _ = self.name.partition(":")
        return issuer + colon

    @classmethod
    def of(cls, metadata: Iterable[tuple[str, str | bytes]] | Mapping[str, str]) -> "RequestKey | None":
        """Returns the key of a request's metadata or headers; None for a request without one."""
        found = metadata if isinstance(metadata, Mapping) else dict(metadata)
        if not (name := str(found.get(NAME_HEADER, ""))):
            return None
        streams, scans = (int(found.get(header, UNLIMITED)) for header in (STREAMS_HEADER, SCANS_HEADER))
        return cls(name, streams, scans, float(found.get(EXPIRES_HEADER, 0)))

    @property
    def forwarded(self) -> "RequestKey":
        """The key, for the streams by which a service serves those of the key that it has counted."""
        return RequestKey(self.name, UNLIMITED, self.scans)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a forwarded key's requests."""
        return ((NAME_HEADER, self.name), (SCANS_HEADER, str(self.scans)))

    @classmethod
    def of_context(cls, context: "grpc.aio.ServicerContext[Any, Any]") -> "RequestKey | None":
        """Returns the key of an RPC."""
        return cls.of(context.invocation_metadata() or ())


def revoked_error() -> ServiceError:
    """Returns the error that ends streams of a revoked key."""
    return INVALID_KEY.error("the key is unknown or revoked")


def expired_error() -> ServiceError:
    """Returns the error that ends streams of an expired token."""
    return INVALID_TOKEN.error("the token has expired: open the stream again with a new one")


class _Stream:
    """An open stream: what ends it, with an error, and when."""

    def __init__(self, end: Callable[[ServiceError], object], expires: float) -> None:
        self.end = end
        self._expires = expires
        self._timer: asyncio.TimerHandle | None = None
        if expires:
            self._wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        seconds = min(max(0.0, seconds_until(self._expires)), EXPIRY_CHECK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        if seconds_until(self._expires) > 0:
            self._wait()
        else:
            self.end(expired_error())


def seconds_until(expires: float) -> float:
    """Returns the seconds from now to a Unix time."""
    return expires - wall_ns() / NS_PER_SECOND


class KeyStreams:
    """The open streams of one service by the names of their keys.

    From the first one on it follows revocations at the access service, whose address is `access`, until close().
    """

    def __init__(self, service: str, access: Address) -> None:
        self._service = service
        self._access = access
        self._following: asyncio.Task[None] | None = None
        self._open: dict[str, set[_Stream]] = {}
        self._counts: Counts[str] = Counts()
        self._revoked: set[str] = set()

    @contextlib.contextmanager
    def opened(self, key: RequestKey | None, end: Callable[[ServiceError], object]) -> Iterator[None]:
        """Counts a stream of `key` meanwhile; `end` is called with the error when the key is revoked or has expired.

        Raises TOO_MANY_STREAMS beyond the key's limit, INVALID_KEY for a revoked one, INVALID_TOKEN for an expired one.
        """
        if key is None:
            yield
            return
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name=f"{self._service}.revocations")
        self.check(key)
        streams = self._open.setdefault(key.name, set())
        streams.add(stream := _Stream(end, key.expires))
        count = key.streams < UNLIMITED
        self._counts[key.name] += count
        gauge = OPEN.labels(self._service, key.label)
        gauge.inc(count)
        try:
            yield
        finally:
            gauge.dec(count)
            self._counts[key.name] -= count
            stream.close()
            streams.remove(stream)
            if not streams:
                del self._open[key.name], self._counts[key.name]

    def check(self, key: RequestKey) -> None:
        """Raises what opened() would."""
        if key.name in self._revoked:
            raise revoked_error()
        if key.expires and seconds_until(key.expires) <= 0:
            raise expired_error()
        if self._counts[key.name] >= key.streams:
            raise TOO_MANY_STREAMS.error(
                f"limit reached: {key.streams} open streams of the key {key.name!r}", maximum=key.streams, key=key.name
            )

    def count_refusal(self, key: RequestKey | None, error: BaseException) -> None:
        """Counts a request of `key` that ends with `error` if that is a limit."""
        if key is not None and isinstance(error, ServiceError) and error.reason.code == "RESOURCE_EXHAUSTED":
            REFUSED.labels(self._service, key.label, error.reason.name).inc()

    def revoke(self, names: Iterable[str]) -> None:
        """Ends the open streams of these keys, and refuses further ones; a name is never given to another key."""
        for name in set(names) - self._revoked:
            self._revoked.add(name)
            for stream in list(self._open.get(name, ())):
                stream.end(revoked_error())

    async def close(self) -> None:
        """Stops following revocations."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self) -> None:
        """While the access service is away, revocations wait for it."""
        backoff = Backoff()
        channel = open_channel(self._access)
        stub = access_pb2_grpc.RevocationServiceStub(channel)

        async def follow() -> str:
            call = stub.WatchRevocations(access_pb2.WatchRevocationsRequest())
            try:
                with Connection[access_pb2.RevokedKeys](call, silence_seconds=None) as connection:
                    while True:
                        names = (await connection.read()).names
                        backoff.reset()
                        self.revoke(names)
            except StreamEnded as ended:
                return str(ended)

        def ended(reason: str, pause: float) -> None:
            log.info("revocations cannot be followed", service=self._service, reason=reason, again_in=pause)

        try:
            await reconnecting(follow, ended, backoff)
        finally:
            await channel.close(None)
