"""The addresses that webhooks may call: public ones, by https, unless the operator allows others.

A URL is checked when it is stored, and its address again at each connection, which goes to exactly the address that was
checked: a name that resolves to another one in between (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# Blocks: called in a thread. Returns the addresses of a name; raises OSError.
Lookup = Callable[[str, int], list[str]]

LONGEST_URL: Final = 2000
# Names are looked up side by side; a name server that does not answer holds up so many.
LOOKUPS: Final = 8
LOOKUP_SECONDS: Final = 5.0
# Networks that carry an IPv4 address in theirs, with the bits behind it: NAT64 and 6to4. Teredo's are not public.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4: Final = ipaddress.IPv6Network("2002::/16")
# IANA's registries of special purposes, since ipaddress.is_global knows other parts of them in each version; and a
# public address that only leads to the host of a virtual machine, with its credentials: Azure's.
_SPECIAL: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "168.63.129.16/32"),
            *("2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    )
)
# All that is given to anybody.
_GIVEN: Final = ipaddress.IPv6Network("2000::/3")


class AddressError(Exception):
    """The URL or its address may not be called; the message says why."""


class Target(NamedTuple):
    """A URL that may be called, if its address may."""

    url: str
    scheme: str
    host: str
    port: int

    @property
    def shown(self) -> str:
        """For logs: the path of a URL may be a secret, as those of Discord and Slack are."""
        return f"{self.scheme}://{self.host}:{self.port}"


def is_public(address: IpAddress) -> bool:
    """True for an address of the internet: not of this machine, of a private network, or of a cloud's host."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _carried(address)
        if inner is not None:
            return is_public(inner)
        if address not in _GIVEN:
            return False
    return address.is_global and not any(address in network for network in _SPECIAL)


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4:
        return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFF_FFFF)
    return None


def target_of(url: str, allows_private: bool) -> Target:
    """The parts of a URL; raises AddressError for one that webhooks cannot have."""
    if not 1 <= len(url) <= LONGEST_URL:
        raise AddressError(f"expected 1 to {LONGEST_URL} characters, was {len(url)}")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise AddressError("expected a URL of printable ASCII characters: encode others (%20, xn--)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"expected a URL: {error}") from None
    schemes = ("https", "http") if allows_private else ("https",)
    if parts.scheme not in schemes:
        raise AddressError(f"expected {' or '.join(f'{scheme}://' for scheme in schemes)}, was {_scheme(parts)}")
    if parts.username is not None or parts.password is not None:
        raise AddressError("expected no user or password in the URL: messages are signed instead")
    if parts.fragment:
        raise AddressError("expected no fragment (#), which is never sent")
    if not host:
        raise AddressError("expected a host, was none")
    if "%" in host:
        raise AddressError("expected a host without a zone (%)")
    if port == 0:
        raise AddressError("expected a port of 1 to 65535, was 0")
    return Target(url, parts.scheme, host, port or (443 if parts.scheme == "https" else 80))


def _scheme(parts: SplitResult) -> str:
    return f"{parts.scheme[:20]}://" if parts.scheme else "no scheme"


def looked_up(host: str, port: int) -> list[str]:
    """The addresses of a name, each once, in the system's order; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Finds addresses that may be called. `lookup` is another one in tests."""

    def __init__(self, allows_private: bool, lookup: Lookup = looked_up) -> None:
        self.allows_private = allows_private
        self._lookup = lookup
        # The event loop's own threads are for others, who should not wait for a name server.
        self._threads = ThreadPoolExecutor(LOOKUPS, "webhook-names")

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a host, of which none is private; raises AddressError, also when there is none."""
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            found = await self._of_name(host, port)
        self._check(host, map(ipaddress.ip_address, found))
        return found

    def close(self) -> None:
        """Waits for no lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _of_name(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await loop.run_in_executor(self._threads, self._lookup, host, port)
        except TimeoutError:
            raise AddressError(f"{host} was not resolved within {LOOKUP_SECONDS:g} s") from None
        except (OSError, UnicodeError) as error:
            raise AddressError(f"{host} cannot be resolved: {_reason(error)}") from None
        if not found:
            raise AddressError(f"{host} has no address")
        return found

    def _check(self, host: str, addresses: Iterable[IpAddress]) -> None:
        for address in addresses:
            if not (self.allows_private or is_public(address)):
                where = "" if str(address) == host else f" of {host}"
                allowing = "TRADEUL_WEBHOOK_PRIVATE=allow allows private ones"
                raise AddressError(f"expected a public address, was {address}{where} ({allowing})")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not a name"
