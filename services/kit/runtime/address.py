"""Where a service listens and is found."""

import ipaddress
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from services.kit.runtime.setting_groups import MeshTlsSettings

HIGHEST_PORT = 65535


class Address(NamedTuple):
    """A service's host and port, where it listens and its peers connect. Port 0 binds a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host:port`, `[ipv6]:port`; raises ValueError for anything else."""
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
            raise ValueError(f"expected host:port, was {text!r}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


def check_port(url: str) -> None:
    """Raises ValueError when the URL's port is none. The URL may hold a password, so it is not shown."""
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise ValueError(f"expected a port of 0 to {HIGHEST_PORT}: {error}") from error


def is_loopback(host: str) -> bool:
    """True for an address or name that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class ServiceAddress(Address):
    """The address of a service of the mesh. `tls`: the certificates by which it is reached; None for plain text."""

    tls: MeshTlsSettings | None = None

    @classmethod
    def of(cls, address: Address, tls: MeshTlsSettings | None) -> Self:
        made = cls(*address)
        made.tls = tls
        return made
