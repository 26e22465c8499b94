"""gRPC over TLS: servers and channels whose new connections use the newest certificates."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from services.kit.runtime.certificates import check_authority
from services.kit.runtime.errors import PEER_NOT_ALLOWED
from services.kit.runtime.mesh_certificates import Material, MeshCertificates

NAMES: Final = "x509_subject_alternative_name"
Options = Sequence[tuple[str, Any]]


def server_credentials(certificates: MeshCertificates) -> grpc.ServerCredentials:
    """Returns the credentials of a server that wants a certificate of the mesh's authority from each client."""
    used = certificates.current()

    def configuration(material: Material) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(material.key, material.certificate)], root_certificates=material.authority
        )

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """Called before each handshake; None is the same as before."""
        nonlocal used
        newest = certificates.current()
        if newest is used:
            return None
        used = newest
        return configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        configuration(used),
        renewed,  # type: ignore[arg-type]  # None is allowed, its stubs just do not say so
        require_client_authentication=True,
    )


def check_peer(context: grpc.aio.ServicerContext[Any, Any], name: str) -> None:
    """Raises PEER_NOT_ALLOWED when the peer's certificate, which the handshake has verified, lacks the DNS name."""
    names = context.auth_context().get(NAMES, ())
    if name.encode() not in names:
        raise PEER_NOT_ALLOWED.error(f"expected a certificate of a service of the mesh, for the name {name!r}")


def authority_channel(target: str, options: Options, authorities: Path) -> grpc.aio.Channel:
    """Returns a channel to a server whose certificate one of these authorities has signed.

    Raises StartError when the file, that of TRADEUL_TLS_CA_FILE, holds none.
    """
    check_authority("TRADEUL_TLS_CA_FILE", authorities)
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authorities.read_bytes()), options)


class MeshChannel(grpc.aio.Channel):
    """A channel between services. Calls that begin after a renewal of the certificate are on a new connection.

    gRPC's credentials of a client cannot be changed. Calls that are under way stay on the connection before, which is
    closed with this channel, or at the next renewal but one.
    """

    def __init__(self, target: str, options: Options, certificates: MeshCertificates) -> None:
        self._target = target
        self._options = (*options, ("grpc.ssl_target_name_override", certificates.settings.name))
        self._certificates = certificates
        self._material = certificates.current()
        self._channel = self._open()
        self._before: grpc.aio.Channel | None = None

    async def __aenter__(self) -> "MeshChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for channel in (self._before, self._channel):
            if channel is not None:
                await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method(lambda channel: channel.unary_unary(*arguments, **named))

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method(lambda channel: channel.unary_stream(*arguments, **named))

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._method(lambda channel: channel.stream_unary(*arguments, **named))

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._method(lambda channel: channel.stream_stream(*arguments, **named))

    def current(self) -> grpc.aio.Channel:
        """Returns the channel for a new call."""
        newest = self._certificates.current()
        if newest is not self._material:
            # Closed when nothing refers to it any more, calls included.
            self._before, self._material = self._channel, newest
            self._channel = self._open()
        return self._channel

    def _open(self) -> grpc.aio.Channel:
        material = self._material
        credentials = grpc.ssl_channel_credentials(material.authority, material.key, material.certificate)
        return grpc.aio.secure_channel(self._target, credentials, self._options)

    def _method(self, make: "Callable[[grpc.aio.Channel], Any]") -> "_Method":
        return _Method(self, make)


class _Method:
    """A method of a channel: callable as gRPC's own are, and made anew for another connection."""

    def __init__(self, channel: MeshChannel, make: Callable[[grpc.aio.Channel], Any]) -> None:
        self._owner = channel
        self._make = make
        self._channel: grpc.aio.Channel | None = None
        self._callable: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if (channel := self._owner.current()) is not self._channel:
            self._channel, self._callable = channel, self._make(channel)
        return self._callable(*arguments, **named)
