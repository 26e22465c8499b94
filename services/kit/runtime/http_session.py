"""Sessions for HTTP requests to others: the vendor, the feed of halts, the keys of an issuer of tokens."""

import ssl
import urllib.request
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
from yarl import URL

from services.kit.runtime.certificates import usual_authorities

# What open_session() and a request raise.
REQUEST_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError)


def open_session(
    url: str,
    *,
    timeout_s: float,
    connect_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    connections: int = 1,
    uses_proxy: bool = True,
) -> aiohttp.ClientSession:
    """A session for requests to the host of `url`, which keeps its connections; to be made in a running event loop.

    Certificates are checked with the authorities of SSL_CERT_FILE, or certifi's. No cookies are kept.

    Args:
        timeout_s: the longest pause between two pieces of an answer.
        connect_s: the longest that a connection may take; the same when None.
        connections: the most that are open at once.
        uses_proxy: connects through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for this host, if any.

    Raises one of REQUEST_ERRORS for what is no URL, or when the authorities cannot be read.
    """
    try:
        parts = URL(url)
    except ValueError as error:
        raise aiohttp.InvalidURL(url, str(error)) from error
    # Reading a hundred authorities takes 20 ms.
    context = ssl.create_default_context(cafile=usual_authorities()) if parts.scheme == "https" else True
    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=connections, ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s or timeout_s, sock_read=timeout_s),
        proxy=_proxy_of(parts) if uses_proxy else None,
    )


class LateSession:
    """A session that is opened by its first request, for objects that are made before there is an event loop. Close it.

    Args:
        make: open_session() with its arguments.
    """

    def __init__(self, make: Callable[[], aiohttp.ClientSession]) -> None:
        self._make = make
        self._opened: aiohttp.ClientSession | None = None

    def opened(self) -> aiohttp.ClientSession:
        """The session, opened if it was not; raises what open_session() raises."""
        if self._opened is None:
            self._opened = self._make()
        return self._opened

    async def close(self) -> None:
        """Closes the connections, for good."""
        if self._opened is not None:
            await self._opened.close()


def _proxy_of(url: URL) -> str | None:
    # Not by aiohttp's trust_env: that reads ~/.netrc at each request, too, and refuses our key beside a password there.
    if url.host is None or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
