"""Traces a sampled refresh of the lists on its way through the mesh, and a sampled request on its way.

A refresh is known to all services by its epoch and its time, which the changes of lists carry. From these follow
whether it is sampled, and the ids of its trace: no message has to say so, and all services choose the same refreshes.
Its spans, each a child of the one before:

    line -> polygon_ws -> data_ingest -+-> scanner, analytics
                                       +-> websocket_server, for each list

Requests are sampled by the gateway, whose `traceparent` a service continues.
"""

import zlib
from contextvars import ContextVar
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

HEADER: Final = "traceparent"
# What others continue; one process alone makes each of them.
Step = Literal["line", "batch", "frame"]

# Of the request that the present task answers; "" while that is not traced.
traceparent: ContextVar[str] = ContextVar("traceparent", default="")


class Refresh(NamedTuple):
    """One refresh of the lists: a watermark of the stream, and the changes of lists that follow from it."""

    epoch: int
    # Of the watermark, in nanoseconds since 1970 UTC.
    time_ns: int

    def is_sampled(self, one_of: int) -> bool:
        """Returns True for one of so many refreshes, the same in every process; for none if that is 0."""
        return one_of > 0 and zlib.crc32(b"%d %d" % self) % one_of == 0

    @property
    def trace_id(self) -> int:
        return self._id("trace", 16)

    def span_id(self, step: Step) -> int:
        """Returns the id of a span that others continue."""
        return self._id(step, 8)

    def _id(self, name: str, size: int) -> int:
        digest = blake2b(b"%d %d %b" % (*self, name.encode()), digest_size=size).digest()
        # Zero is no id.
        return int.from_bytes(digest) or 1


def outgoing() -> tuple[tuple[str, str], ...]:
    """Returns the metadata that makes a call to another service part of the present request's trace."""
    return ((HEADER, parent),) if (parent := traceparent.get()) else ()
