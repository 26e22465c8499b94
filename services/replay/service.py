"""The service: a day's events as PolygonWsService, in place of polygon_ws."""

import asyncio
import datetime
from pathlib import Path
from typing import ClassVar, Final

import asyncpg
import grpc.aio
from tradeul.v1 import polygon_ws_pb2, replay_pb2

from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import NEW_YORK, ns_of
from services.kit.runtime.errors import StartError
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.stores.database import DATABASE_ERRORS
from services.replay import metrics
from services.replay.control import ReplayControl
from services.replay.core import Pace
from services.replay.prepare import prepare
from services.replay.servicer import ReplayServicer

log = get_logger(__name__)

# As the vendor's minute_aggs_v1, and the bars' own average prices.
STORED_BARS: Final = """
    SELECT symbol AS ticker, volume, open, close, high, low,
        (extract(epoch FROM time) * 1000000000)::bigint AS window_start, trades AS transactions, vwap
    FROM aggregates_1min WHERE time >= $1 AND time < $2 ORDER BY symbol, time
"""


class Replay(Service):
    """See polygon_ws.proto; the day and its pace are those of the settings."""

    name: ClassVar[str] = "replay"

    async def start(self) -> None:
        replay = self.settings.replay
        if replay.date is None:
            raise StartError("expected TRADEUL_REPLAY_DATE to name the day, was not set; `tradeul replay` sets it")
        path = replay.file or await self._stored(replay.date)
        day = self.day = await asyncio.to_thread(prepare, path, cache_of(self.settings))
        if day.manifest.date != replay.date:
            raise StartError(f"{path}: expected a file of {replay.date}, was of {day.manifest.date}")
        for reason, rows in day.manifest.set_aside.items():
            metrics.rejected(reason, rows)
        self.pace = Pace(replay.speed, given_ns(replay.start) or 0)
        until_ns = given_ns(replay.until)
        self._servicer = ReplayServicer(day, self.pace, until_ns)
        self._control = ReplayControl(day, self.pace, until_ns, self._servicer.market.wake)
        log.info(
            "replay",
            date=str(day.manifest.date),
            source=day.manifest.source,
            kind=day.manifest.kind,
            events=day.manifest.rows,
            symbols=len(day.manifest.symbols),
            set_aside=day.manifest.set_aside,
        )

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = polygon_ws_pb2.DESCRIPTOR.services_by_name["PolygonWsService"]
        control = replay_pb2.DESCRIPTOR.services_by_name["ReplayService"]
        return (add_servicer(server, service, self._servicer), add_servicer(server, control, self._control))

    async def drain(self) -> None:
        self._servicer.market.go_away("replay is stopping")

    async def _stored(self, date: datetime.date) -> Path:
        """The stored minute bars of a day as a file; raises StartError when there are none."""
        cache = cache_of(self.settings)
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"stored-{date}.csv"
        if not await dump(self.settings.database_url, date, path):
            raise StartError(f"{date}: no minute bars of that day are stored, and no file was named")
        return path


async def dump(url: str, date: datetime.date, to: Path) -> int:
    """Writes the stored minute bars of a day as a flat file; returns how many there are, raises StartError."""
    start, end = (
        datetime.datetime.combine(day, datetime.time(), NEW_YORK) for day in (date, date + datetime.timedelta(days=1))
    )
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            copied: str = await connection.copy_from_query(
                STORED_BARS, start, end, output=to, format="csv", header=True
            )
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise StartError(f"the stored minute bars of {date} cannot be read: {reason_of(error)}") from error
    return int(copied.rpartition(" ")[2])


def cache_of(settings: Settings) -> Path:
    """Where prepared days are."""
    return settings.market_dir / "replay" / "days"


def given_ns(time: datetime.datetime | None) -> int | None:
    """ns since 1970 UTC; New York time without an offset."""
    if time is None:
        return None
    return ns_of(time if time.tzinfo is not None else time.replace(tzinfo=NEW_YORK))


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return Replay(settings)
