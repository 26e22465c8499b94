"""The streams of each key: counted by the services that serve them, limited, and ended when the key is revoked.

The gateway adds the name of a request's key and its limits to the request's metadata, and removes what clients send
under these names. Requests without a name, where keys are not required, are limited in all only.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import grpc.aio
from prometheus_client import Counter, Gauge
from tradeul.v1 import access_pb2, access_pb2_grpc

from services.kit.rpc.channel import Connection, StreamEnded, open_channel, reconnecting
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.errors import INVALID_KEY, TOO_MANY_STREAMS, ServiceError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

NAME_HEADER: Final = "x-tradeul-key-name"
STREAMS_HEADER: Final = "x-tradeul-key-streams"
SCANS_HEADER: Final = "x-tradeul-key-scans"

# The gateway adds the client's address to it.
FORWARDED_HEADER: Final = "x-forwarded-for"

UNLIMITED: Final = 1_000_000
OPEN: Final = Gauge("tradeul_key_streams", "Open streams, by the key's name.", ["service", "key"])
REFUSED: Final = Counter(
    "tradeul_key_refused",
    "Requests refused because of a limit, by the key's name and reason.",
    ["service", "key", "reason"],
)


class RequestKey(NamedTuple):
    """The key of a request, as the gateway names it, with its limits."""

    name: str
    streams: int
    scans: int

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
        return cls(name, int(found.get(STREAMS_HEADER, UNLIMITED)), int(found.get(SCANS_HEADER, UNLIMITED)))

    @classmethod
    def of_context(cls, context: "grpc.aio.ServicerContext[Any, Any]") -> "RequestKey | None":
        """Returns the key of an RPC."""
        return cls.of(context.invocation_metadata() or ())


def is_through_gateway(context: "grpc.aio.ServicerContext[Any, Any]") -> bool:
    """True for the request of a client outside the mesh; one of the mesh's own services comes directly."""
    return any(name == FORWARDED_HEADER for name, _ in context.invocation_metadata() or ())


def revoked_error() -> ServiceError:
    """Returns the error that ends streams of a revoked key."""
    return INVALID_KEY.error("the key is unknown or revoked")


class KeyStreams:
    """The open streams of one service by the names of their keys.

    From the first one on it follows revocations at the access service, whose address is `access`, until close().
    """

    def __init__(self, service: str, access: Address) -> None:
        self._service = service
        self._access = access
        self._following: asyncio.Task[None] | None = None
        self._open: dict[str, dict[object, Callable[[], object]]] = {}
        self._revoked: set[str] = set()

    @contextlib.contextmanager
    def opened(self, key: RequestKey | None, end: Callable[[], object]) -> Iterator[None]:
        """Counts a stream of `key` meanwhile; `end` is called when the key is revoked.

        Raises TOO_MANY_STREAMS beyond the key's limit, and INVALID_KEY for a revoked one.
        """
        if key is None:
            yield
            return
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name=f"{self._service}.revocations")
        self.check(key)
        streams = self._open.setdefault(key.name, {})
        stream = object()
        streams[stream] = end
        gauge = OPEN.labels(self._service, key.label)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()
            del streams[stream]
            if not streams:
                self._open.pop(key.name, None)

    def check(self, key: RequestKey) -> None:
        """Raises what opened() would."""
        if key.name in self._revoked:
            raise revoked_error()
        if len(self._open.get(key.name, ())) >= key.streams:
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
            for end in list(self._open.get(name, {}).values()):
                end()

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
