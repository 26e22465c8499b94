"""Which web pages may connect: a page's origin against TRADEUL_CORS_ORIGINS and the host that it calls."""

import re
from collections.abc import Iterable
from typing import Final

ANY: Final = "*"


def origin_pattern(origin: str) -> str:
    """Returns one of TRADEUL_CORS_ORIGINS as a regular expression (RE2's and Python's), to be matched whole.

    `:*` is any port or none, `*.` one name or more before the domain, `*` alone every origin.
    """
    if origin == ANY:
        return ".+"
    pattern = re.escape(origin)
    return pattern.replace(re.escape("*."), r"([a-z0-9-]+\.)+").replace(re.escape(":*"), "(:[0-9]+)?")


def origins_pattern(origins: Iterable[str]) -> str:
    """Returns all of them as one regular expression; one that nothing matches when there are none."""
    return "|".join(f"(?:{origin_pattern(origin)})" for origin in origins) or "[^\\s\\S]"


class OriginCheck:
    """Decides whether a page may connect. Browsers name their page's origin; other clients name none."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._allowed = re.compile(origins_pattern(origins))

    def allows(self, origin: str | None, host: str) -> bool:
        """True without an origin, for a page of `host` (with its port) itself, and for TRADEUL_CORS_ORIGINS."""
        if origin is None:
            return True
        origin = origin.lower()
        return origin.partition("://")[2] == host.lower() != "" or self._allowed.fullmatch(origin) is not None
