"""The service: one feed in, one sequenced stream out; parts.py makes its parts."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import grpc.aio
from tradeul.v1 import bars_pb2, data_ingest_pb2, market_session_pb2_grpc

from services.data_ingest.feed.feed_health import SetAsideWatch
from services.data_ingest.parts import Parts, Sources, make_parts
from services.data_ingest.reference import ReferenceSource
from services.data_ingest.startup import open_directory, open_sequencer, starting_point
from services.data_ingest.stream.sequencer import LAST_SEQUENCE
from services.data_ingest.vendor_snapshot.source import SnapshotSource
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import add_servicer
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Settings
from services.kit.vendor.client import VendorClient
from services.market.calendar_client import CalendarClient

# Few attempts a request: whoever makes it tries again, and so notices soon that the vendor is back.
VENDOR_ATTEMPTS: Final = 3
VENDOR_PAUSE_SECONDS: Final = 5.0


class DataIngest(Service):
    """See data_ingest.proto. For tests the sources of reference data and snapshots and the limits can be others."""

    name = "data_ingest"

    def __init__(
        self,
        settings: Settings,
        reference: ReferenceSource | None = None,
        snapshots: SnapshotSource | None = None,
        last_sequence: int = LAST_SEQUENCE,
        set_aside: SetAsideWatch | None = None,
    ) -> None:
        super().__init__(settings)
        self._sources = Sources(reference, snapshots, set_aside or SetAsideWatch())
        self._last_sequence = last_sequence
        self._resources = AsyncExitStack()
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """RuntimeError before start()."""
        if self._parts is None:
            raise RuntimeError("expected start() to have been called, was not")
        return self._parts

    async def start(self) -> None:
        settings, resources = self.settings, self._resources
        if (directory := open_directory(settings)) is not None:
            resources.callback(directory.close)
        polygon = settings.polygon
        vendor = await resources.enter_async_context(
            VendorClient(polygon.rest_url, polygon.api_key, attempts=VENDOR_ATTEMPTS, retry_max_s=VENDOR_PAUSE_SECONDS)
        )
        channel = await resources.enter_async_context(open_channel(settings.address("market_session")))
        calendars = CalendarClient(market_session_pb2_grpc.MarketSessionServiceStub(channel))
        start = await starting_point(settings, directory, calendars, vendor)
        sequencer, journal = await open_sequencer(settings, directory, start, self._last_sequence)
        if journal is not None:
            resources.callback(journal.close)
        self._parts = parts = make_parts(
            settings,
            resources,
            self._sources,
            start,
            sequencer,
            journal,
            vendor,
            calendars,
            self.set_unhealthy_reason,
            self.traces,
        )
        parts.feed.days.begin(start.calendar, start.day)
        await parts.trade_rules.load_first()
        await parts.filters.load_first()
        await parts.alert_rules.load_first()
        sequencer.add_watermark(start.first_watermark_ns)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"]
        bars = bars_pb2.DESCRIPTOR.services_by_name["BarService"]
        return (
            add_servicer(server, service, self.parts.servicer),
            add_servicer(server, bars, self.parts.bars),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, run in self.parts.background.items():
                tasks.create_task(run(), name=f"data_ingest.{name}")

    async def drain(self) -> None:
        self.parts.servicer.close("data_ingest is stopping")
        self.parts.bars.close("data_ingest is stopping")

    async def stop(self) -> None:
        await self._resources.aclose()


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return DataIngest(settings)
