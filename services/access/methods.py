"""The right that each request needs, by its path: as the protos declare it, and for the few other paths."""

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf import descriptor_pb2
from tradeul.v1 import rights_pb2

from services.kit.runtime.packaged import DESCRIPTOR_SET


class Right(enum.IntEnum):
    """The right that a request needs, or a key has: each includes those before it."""

    PUBLIC = rights_pb2.RIGHT_PUBLIC
    READ = rights_pb2.RIGHT_READ
    ADMIN = rights_pb2.RIGHT_ADMIN

    @property
    def label(self) -> str:
        """Returns its name in the database and on the command line."""
        return self.name.lower()


class Need(NamedTuple):
    """The requirement of a path. `takes_ticket`: it is a stream, which a ticket can open in place of a key."""

    right: Right
    takes_ticket: bool = False


# Paths that are not a method of ours. Health checks come from load balancers; the document describes what is public.
OTHERS: Final = {
    "/grpc.health.v1.Health/Check": Need(Right.PUBLIC),
    "/grpc.health.v1.Health/Watch": Need(Right.PUBLIC),
    "/openapi.json": Need(Right.PUBLIC),
    "/ws/scanner": Need(Right.READ, takes_ticket=True),
}
OURS: Final = "/tradeul."


def declared_needs() -> dict[str, Need]:
    """Returns what every method of the gateway's descriptor set needs, by its gRPC path."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.path().read_bytes()).file
    return {
        f"/{file.package}.{service.name}/{method.name}": _need(method)
        for file in files
        for service in file.service
        for method in service.method
    }


def _need(method: descriptor_pb2.MethodDescriptorProto) -> Need:
    right = Right(method.options.Extensions[rights_pb2.right] or Right.ADMIN)
    return Need(right, takes_ticket=method.server_streaming and right is Right.READ)


def need_of(path: str, declared: Mapping[str, Need]) -> Need:
    """Returns what a request of `path`, which may have a query, needs.

    A method of ours that the table does not have is of a newer version: it needs the highest right. Anything else needs
    some key: Envoy answers it by itself, or it is gRPC reflection.
    """
    name = path.partition("?")[0]
    if (need := declared.get(name) or OTHERS.get(name)) is not None:
        return need
    return Need(Right.ADMIN if name.startswith(OURS) else Right.READ)
