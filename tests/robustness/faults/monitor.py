"""What is wrong at the moment, and for how long each of it has been."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any, Final

import httpx

from services.kit.runtime.clock import monotonic, ns_of
from tests.robustness.faults.rig import SPEED, TOLERANCE, Rig
from tests.support.scripted_day import FLUSH
from tests.support.watchers import ShownRow

SAMPLE_SECONDS: Final = 0.25
# Lists are so far behind the vendor on a busy machine, without anything being wrong: seconds.
LATE_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 4.0
# Of the market's time: what may be on its way.
ON_ITS_WAY_MS: Final = 1000 * SPEED
STEADY_SAMPLES: Final = 4


class Monitor:
    """Asks the gateway several times a second, as an operator and a client do.

    `wrong` counts seconds since reset(), by what was wrong:

        process  one of the mesh's processes does not run
        gateway  no answer with a list
        health   /health is not healthy
        late     the list is more than 2 s behind the vendor
        clients  a watcher has had no rows for more than 4 s
        values   a row lacks shares, a high or a low that the vendor has
        fell     a row shows fewer shares than before
    """

    def __init__(self, rig: Rig) -> None:
        self.wrong: Counter[str] = Counter()
        self.now_wrong: set[str] = set()
        self._rig = rig
        self._right_samples = 0
        self._shown: dict[str, float] = {}
        # Processes that have to be others than these.
        self._ended: set[int] = set()

    @property
    def is_right(self) -> bool:
        """True when nothing has been wrong for a second."""
        return self._right_samples >= STEADY_SAMPLES

    def reset(self) -> None:
        self.wrong.clear()
        self._right_samples = 0

    def expect_others(self, pids: set[int]) -> None:
        """As long as one of these processes runs, its successor does not."""
        self._ended = pids

    def forget_shown(self) -> None:
        """Rows may show less than before."""
        self._shown.clear()

    async def run(self) -> None:
        """Samples until cancelled."""
        last = monotonic()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.now_wrong = await self._sample()
            now = monotonic()
            for kind in self.now_wrong:
                self.wrong[kind] += now - last  # type: ignore[assignment]
            self._right_samples = 0 if self.now_wrong else self._right_samples + 1
            last = now

    async def _sample(self) -> set[str]:
        rig = self._rig
        if rig.feed.is_paused:
            return set()
        body = await self._get("/api/v1/scanner/filtered?limit=1000")
        now, market_ms = monotonic(), rig.market.now_ms
        wrong = set() if await self._is_healthy() else {"health"}
        running = rig.running()
        if self._ended & set(running) or rig.expected - set(running.values()):
            wrong.add("process")
        if any(now - watcher.rows_at > QUIET_SECONDS for watcher in rig.watchers):
            wrong.add("clients")
        if body is None:
            return wrong | {"gateway"}
        rows = [shown(row) for row in body.get("tickers", ())]
        rig.ledger.check(rows, "REST")
        if "timestamp" not in body:
            return wrong | {"values"}
        time_ms = ns_of(datetime.fromisoformat(body["timestamp"])) // 1_000_000
        if market_ms - time_ms > LATE_SECONDS * 1000 * SPEED:
            wrong.add("late")
        if self._lacks(rows, min(time_ms, market_ms) - ON_ITS_WAY_MS):
            wrong.add("values")
        if self._fell(rows):
            wrong.add("fell")
        return wrong

    def _lacks(self, rows: list[ShownRow], time_ms: int) -> bool:
        found = {row.symbol: row for row in rows}
        for symbol, truth in self._rig.market.truth.items():
            if symbol == FLUSH or not (volume := truth.volumes.at(time_ms)):
                continue
            row = found.get(symbol)
            if row is None or row.volume is None or row.high is None or row.low is None:
                return True
            if row.volume < volume - TOLERANCE or row.high < truth.highs.at(time_ms) - TOLERANCE:
                return True
            if row.low > truth.lows.at(time_ms) + TOLERANCE:
                return True
        return False

    def _fell(self, rows: list[ShownRow]) -> bool:
        fell = False
        for row in rows:
            if row.volume is not None:
                fell = fell or row.volume < self._shown.get(row.symbol, 0.0) - TOLERANCE
                self._shown[row.symbol] = row.volume
        return fell

    async def _is_healthy(self) -> bool:
        health = await self._get("/health")
        return health is not None and health["status"] == "healthy"

    async def _get(self, path: str) -> dict[str, Any] | None:
        """The answer; None where there is none that is right."""
        try:
            response = await self._rig.http.get(path)
        except httpx.HTTPError:
            return None
        if response.status_code != httpx.codes.OK:
            return None
        body: dict[str, Any] = response.json()
        return body


def shown(row: dict[str, Any]) -> ShownRow:
    """A row of REST's."""
    get = row.get
    return ShownRow(row["symbol"], get("volume_today"), get("trades_today"), get("intraday_high"), get("intraday_low"))
