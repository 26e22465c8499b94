"""Days of every kind through the whole mesh: changes to and from daylight-saving time, holidays, early closes, and
days of which nothing came. The times are written here as New York's clocks show them; the offset from UTC is this
file's own arithmetic, not the mesh's calendar."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest

from tests.support.mesh import Mesh
from tests.support.vendor_server import VendorServer

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
# 2025-01-01T00:00:00Z, and days before each month of a common year.
NEW_YEAR_2025_MS: Final = 1_735_689_600_000
BEFORE_MONTH: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)

pytestmark = pytest.mark.timeout(300)


class Day(NamedTuple):
    """A trading day: year, month, day, hours that New York is behind UTC, and whether it closes at 13:00."""

    year: int
    month: int
    day: int
    behind_utc: int
    is_early: bool = False

    @property
    def date(self) -> str:
        return f"{self.year}-{self.month:02}-{self.day:02}"

    def at(self, clock: str) -> int:
        """Milliseconds since 1970 UTC of a New York time of day, HH:MM:SS.fff."""
        hours, minutes, seconds = clock.split(":")
        days = (self.year - 2025) * 365 + BEFORE_MONTH[self.month - 1] + self.day - 1
        since_midnight = (int(hours) * 60 + int(minutes)) * 60_000 + round(float(seconds) * 1000)
        return NEW_YEAR_2025_MS + days * DAY_MS + self.behind_utc * HOUR_MS + since_midnight

    @property
    def close(self) -> str:
        return "13:00" if self.is_early else "16:00"

    @property
    def end(self) -> str:
        return "17:00" if self.is_early else "20:00"


class Share(NamedTuple):
    """A trade of so many shares: each power of ten tells whether that trade was counted."""

    clock: str
    size: int
    conditions: list[int]
    session: str


def shares(day: Day) -> list[Share]:
    """One trade on either side of every edge of the day."""
    hour, _ = day.close.split(":")
    before_close = f"{int(hour) - 1}:59:59.999"
    before_end = f"{int(day.end[:2]) - 1}:59:59.999"
    return [
        Share("03:59:59.999", 1, [12], "aside"),
        Share("04:00:00", 10, [12], "PRE_MARKET"),
        Share("09:29:59.999", 100, [12], "PRE_MARKET"),
        Share("09:30:00", 1_000, [], "MARKET_OPEN"),
        Share(before_close, 10_000, [], "MARKET_OPEN"),
        Share(f"{day.close}:00", 100_000, [12], "POST_MARKET"),
        Share(before_end, 1_000_000, [12], "POST_MARKET"),
        Share(f"{day.end}:00", 10_000_000, [12], "aside"),
    ]


def rest(first: Day) -> Any:
    """A vendor without history, whose clock stands at the beginning of the first day."""

    def answer(path: str, _: dict[str, str]) -> Any:
        if path == "/v1/marketstatus/now":
            offset = f"-{first.behind_utc:02}:00"
            return {"market": "extended-hours", "serverTime": f"{first.date}T04:00:00{offset}"}
        if path == "/v1/marketstatus/upcoming":
            return []
        if path.startswith("/v2/snapshot"):
            return {"status": "OK", "tickers": []}
        return {"status": "OK", "results": []}

    return answer


class Line:
    """The vendor's line into the mesh, and what the mesh shows."""

    def __init__(self, vendor: VendorServer, client: httpx.AsyncClient) -> None:
        self._vendor = vendor
        self._client = client
        self._ids = itertools.count(1)

    async def send(self, day: Day, symbols: Sequence[str], share: Share) -> None:
        events = [
            {"ev": "T", "sym": symbol, "x": 4, "i": str(next(self._ids)), "z": 1, "p": 10.0, "s": share.size,
             "c": share.conditions, "t": day.at(share.clock), "q": 1}
            for symbol in symbols
        ]  # fmt: skip
        await self._vendor.send(json.dumps(events))

    async def get(self, path: str) -> dict[str, Any]:
        response = await self._client.get(path)
        return response.json() if response.status_code == httpx.codes.OK else {}

    async def until(self, path: str, **expected: Any) -> dict[str, Any]:
        """Asks until the answer holds these values; what it was last is in the error."""
        answer: dict[str, Any] = {}
        try:
            async with asyncio.timeout(60):
                while not expected.items() <= (answer := await self.get(path)).items():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            seen = {name: answer.get(name) for name in expected}
            raise AssertionError(f"{path}: expected {expected}, was {seen}") from None
        return answer

    async def play(self, day: Day) -> None:
        """A whole day: who sends first makes it begin, then one symbol trades on every edge."""
        await self.send(day, ["X1", "X2", "X3"], Share("04:00:00", 1, [12], "PRE_MARKET"))
        await self.until("/api/session/current", trading_date=day.date, current_session="PRE_MARKET")
        volume = 0
        for share in shares(day):
            await self.send(day, ["EDGE"], share)
            if share.session == "aside":
                continue
            volume += share.size
            row = await self.until("/api/v1/ticker/EDGE", volume_today=float(volume), session=share.session)
            # What comes later, and belongs to no session, changes nothing here.
            expected = {
                "premarket_volume": 10 + 100 * (volume >= 110),
                "postmarket_volume": 100_000 * (volume >= 100_000) + 1_000_000 * (volume >= 1_000_000),
            }
            assert {name: row[name] for name in expected} == expected, share
        # The last trade of all is out of session: one more that is not tells that it has been judged.
        await self.send(day, ["LAST"], Share(f"{int(day.end[:2]) - 1}:59:59.5", 1, [12], "POST_MARKET"))
        await self.until("/api/v1/ticker/LAST", volume_today=1.0)
        assert (await self.get("/api/v1/ticker/EDGE"))["volume_today"] == volume == 1_111_110
        session = await self.get("/api/session/current")
        assert session["trading_date"] == day.date
        assert session["is_early_close"] == day.is_early
        assert session["market_close"] == f"{day.close}:00"
        assert session["post_market_end"] == f"{day.end}:00"


AUTUMN: Final = [Day(2025, 10, 31, 4), Day(2025, 11, 3, 5)]
SPRING: Final = [Day(2026, 3, 6, 5), Day(2026, 3, 9, 4)]
# Nothing comes on Tuesday the 25th; the 27th is Thanksgiving, the 28th closes early.
THANKSGIVING: Final = [Day(2025, 11, 24, 5), Day(2025, 11, 26, 5), Day(2025, 11, 28, 5, True), Day(2025, 12, 1, 5)]


@pytest.mark.parametrize("days", [AUTUMN, SPRING, THANKSGIVING], ids=["autumn", "spring", "thanksgiving"])
async def test_every_edge_of_every_kind_of_day(days: list[Day], tmp_path: Path) -> None:
    async with VendorServer(rest(days[0])) as vendor:
        async with Mesh(tmp_path, {**vendor.environment, "TRADEUL_CLOCK": "feed"}) as mesh:
            async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
                await vendor.joined()
                line = Line(vendor, client)
                for day in days:
                    await line.play(day)
