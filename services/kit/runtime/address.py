"""Where a service listens and is found."""

import ipaddress
import re
from typing import Final, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from services.kit.runtime.setting_groups import MeshTlsSettings

HIGHEST_PORT = 65535
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


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


def check_redis_url(url: str) -> None:
    """Raises ValueError for what is no URL of Redis, or names its database by something else than a number."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("expected a redis://, rediss:// or unix:// URL")
    check_port(url)
    path = urlsplit(url).path
    # The client would use database 0.
    if not url.startswith("unix://") and re.fullmatch("/?[0-9]*", path) is None:
        raise ValueError(f"expected the number of a database behind the host, was {path[1:80]!r}")


def check_database_url(url: str) -> None:
    """Raises ValueError for what is no URL of PostgreSQL, or has an `sslmode` that PostgreSQL does not have."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("expected a postgresql:// URL")
    check_port(url)
    for mode in parse_qs(urlsplit(url).query).get("sslmode", ()):
        if mode not in SSL_MODES:
            raise ValueError(f"expected sslmode to be one of {', '.join(SSL_MODES)}, was {mode[:80]!r}")


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
