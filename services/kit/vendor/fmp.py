"""The second source of company metadata: Financial Modeling Prep's profiles."""

from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from services.kit.vendor.client import MALFORMED, VendorClient, VendorError
from services.kit.vendor.companies import MAX_SHARES
from services.market.companies import plain_text
from services.market.sectors import known_sector

REQUESTS_AT_ONCE: Final = 4
ATTEMPTS: Final = 4


class Profile(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A company by /api/v3/profile/{symbol}, as far as it is used."""

    symbol: str
    company_name: str | None = None
    sector: str | None = None
    industry: str | None = None
    mkt_cap: float | None = None
    beta: float | None = None
    is_etf: bool | None = None
    is_actively_trading: bool | None = None

    def columns(self) -> dict[str, Any]:
        """Returns columns of ticker_metadata that the first source may lack; empty texts are absent.

        Its exchange is no MIC, so it is not among them. A sector that is none of the eleven is absent.
        """
        return {
            "company_name": plain_text(self.company_name),
            "sector": known_sector(plain_text(self.sector)),
            "industry": plain_text(self.industry),
            "market_cap": self.mkt_cap,
            "beta": self.beta,
            "is_etf": self.is_etf,
            "is_actively_trading": self.is_actively_trading,
        }


class SharesFloat(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A symbol by /api/v4/shares_float, as far as it is used."""

    symbol: str
    float_shares: float | None = None


Row = TypeVar("Row", Profile, SharesFloat)


class FmpClient(VendorClient):
    """Client of the second source; retries, Retry-After and bounds are the vendor client's."""

    def __init__(self, base_url: str, api_key: str, **options: Any) -> None:
        super().__init__(base_url, "", **{"concurrency": REQUESTS_AT_ONCE, "attempts": ATTEMPTS, **options})
        # Sent in the query; log and errors show paths only.
        self._key = api_key

    async def profile(self, symbol: str) -> Profile | None:
        """Returns the profile, None for an unknown symbol; raises VendorError."""
        return await self._one(f"/api/v3/profile/{quote(symbol, safe='')}", {}, symbol, Profile)

    async def float_shares(self, symbol: str) -> float | None:
        """Returns the shares free to trade, None when unknown; raises VendorError."""
        row = await self._one("/api/v4/shares_float", {"symbol": symbol}, symbol, SharesFloat)
        return row.float_shares if row is not None and 0 < (row.float_shares or 0) < MAX_SHARES else None

    async def _one(self, path: str, query: dict[str, str], symbol: str, kind: type[Row]) -> Row | None:
        try:
            body = await self._get(path, {**query, "apikey": self._key})
        except VendorError as error:
            if error.status == 404:
                return None
            raise
        try:
            found: list[Row] = msgspec.json.decode(body, type=list[kind])  # type: ignore[valid-type]
        except MALFORMED as error:
            self._count(kind, error)
            return None
        return next((row for row in found if row.symbol == symbol), None)


def with_profile(columns: dict[str, Any], profile: Profile | None) -> dict[str, Any]:
    """Returns the first source's `columns`, completed by the second's, whose sector goes first."""
    if profile is None:
        return columns
    second = profile.columns()
    filled = {name: columns[name] if columns.get(name) is not None else value for name, value in second.items()}
    return {**columns, **filled, "sector": second["sector"] or columns.get("sector")}
