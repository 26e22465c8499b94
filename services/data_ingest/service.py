"""The service: one feed in, one sequenced stream out; parts.py makes its parts."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Final, NoReturn

import grpc.aio
from tradeul.v1 import bars_pb2, data_ingest_pb2, market_session_pb2_grpc

from services.data_ingest.feed.feed_health import SetAsideWatch
from services.data_ingest.feed.market_clock import MarketClock
from services.data_ingest.feed.vendor_clock import VendorClock
from services.data_ingest.parts import Parts, Sources, make_parts, sequencer_name
from services.data_ingest.reference import ReferenceSource
from services.data_ingest.standby.candidate import Candidate, TakenOver
from services.data_ingest.standby.door import Door, Servicers
from services.data_ingest.standby.lease import Leadership, LeaseStore
from services.data_ingest.standby.synchronous import Synchronous
from services.data_ingest.standby.takeover import goes_on, note_lease
from services.data_ingest.startup import (
    is_behind_clock,
    is_now,
    keep_gaps,
    open_directory,
    open_sequencer,
    starting_point,
    taken_over,
)
from services.data_ingest.stream.sequencer import LAST_SEQUENCE, Sequencer
from services.data_ingest.vendor_snapshot.source import SnapshotSource
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import add_servicer
from services.kit.runtime.errors import StartError
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.memory import prepare_memory
from services.kit.runtime.settings import Settings
from services.kit.stores.database import DATABASE_ERRORS
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
        self._sequencer: Sequencer | None = None
        # Of several sequencers: all None or unused for the only one.
        self._candidate: Candidate | None = None
        self._door = Door()
        self._leadership: Leadership | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def parts(self) -> Parts:
        """RuntimeError before start(), and while this sequencer stands by."""
        if self._parts is None:
            raise RuntimeError("expected this sequencer to lead, did not")
        return self._parts

    async def start(self) -> None:
        prepare_memory()
        settings, resources = self.settings, self._resources
        if settings.standby == "sync" and len(settings.sequencers) < 2:
            named = ",".join(map(str, settings.sequencers)) or "none"
            raise StartError(f"expected TRADEUL_SEQUENCERS to name two with TRADEUL_STANDBY=sync, was {named}")
        if (directory := open_directory(settings)) is not None:
            resources.callback(directory.close)
        self._directory = directory
        polygon = settings.polygon
        self._vendor = await resources.enter_async_context(
            VendorClient(polygon.rest_url, polygon.api_key, attempts=VENDOR_ATTEMPTS, retry_max_s=VENDOR_PAUSE_SECONDS)
        )
        channel = await resources.enter_async_context(open_channel(settings.address("market_session")))
        self._calendars = CalendarClient(market_session_pb2_grpc.MarketSessionServiceStub(channel))
        if len(settings.sequencers) < 2 or settings.is_replay:
            await self._lead()
            return
        self._store = store = LeaseStore(settings.database_url, sequencer_name(settings))
        resources.callback(store.close)
        self._candidate = Candidate(settings, store, self._calendars, self._vendor, self.set_unhealthy_reason)
        self._door.standing_by = self._candidate.role
        if (claimed := await self._candidate.claim_first()) is not None:
            await self._lead(TakenOver(claimed, None, False, b"", None, None))
        else:
            self.set_unhealthy_reason("no leader is followed yet")

    async def _lead(self, taken: TakenOver | None = None) -> None:
        """Begins the stream, or goes on with it; `taken`: where there is a lease, with which to lead."""
        settings, resources = self.settings, self._resources
        leadership: Leadership | None = None
        after_epoch: int | None = None
        clock = MarketClock()
        if settings.clock == "wall" and not (taken is not None and taken.copied is not None and is_now(taken.copied)):
            await VendorClock(self._vendor, clock).compare()
        if taken is not None:
            self._leadership = leadership = Leadership(self._store, taken.claimed, self._epoch)
            self._renewing = asyncio.create_task(leadership.run(), name="data_ingest.lease")
            if taken.copied is not None and not is_behind_clock(settings, taken.copied, clock):
                taken = taken._replace(copied=None, has_all=False)
                after_epoch = taken.claimed.epoch
            else:
                after_epoch = None if goes_on(settings, taken) else taken.claimed.epoch
        if taken is not None and taken.copied is not None:
            keep_gaps(settings, taken.gaps)
            start = await taken_over(taken.copied, self._calendars, taken.calendar)
        else:
            start = await starting_point(settings, self._directory, self._calendars, self._vendor, clock)
        sequencer, journal = await open_sequencer(settings, self._directory, start, self._last_sequence, after_epoch)
        self._sequencer = sequencer
        if taken is not None:
            note_lease(settings, taken.claimed.fencing_number)
        if journal is not None:
            resources.callback(journal.close)
        parts = make_parts(
            settings,
            resources,
            self._sources,
            start,
            sequencer,
            journal,
            self._vendor,
            self._calendars,
            clock,
            self.set_unhealthy_reason,
            self.traces,
            leadership,
            self._synchronous(sequencer, leadership),
        )
        parts.feed.days.begin(start.calendar, start.day)
        await parts.trade_rules.load_first(taken.conditions if taken is not None else None)
        await parts.filters.load_first()
        await parts.alert_rules.load_first()
        sequencer.add_watermark(start.first_watermark_ns)
        self._parts = parts
        if leadership is not None and parts.journal_feed is not None:
            self._door.open(Servicers(parts.servicer, parts.bars, parts.journal_feed, leadership.is_sure))

    def _synchronous(self, sequencer: Sequencer, leadership: Leadership | None) -> Synchronous | None:
        if leadership is None or self.settings.standby != "sync":
            return None
        return Synchronous(sequencer, self._store, leadership.fencing_number, leadership.superseded)

    def _epoch(self) -> int:
        return self._sequencer.position.epoch if self._sequencer is not None else 0

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        if self._candidate is not None:
            return self._door.add_to(server)
        service = data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"]
        bars = bars_pb2.DESCRIPTOR.services_by_name["BarService"]
        return (
            add_servicer(server, service, self.parts.servicer),
            add_servicer(server, bars, self.parts.bars),
        )

    async def run(self) -> None:
        if self._parts is None:
            assert self._candidate is not None, "it stands by"
            await self._lead(await self._candidate.stand_by())
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, run in self.parts.background.items():
                    tasks.create_task(run(), name=f"data_ingest.{name}")
                if self._leadership is not None:
                    tasks.create_task(_until_lost(self._leadership), name="data_ingest.until_lost")
        except BaseExceptionGroup as errors:
            # What ends the process is the loss, whatever else comes of it.
            if (lost := errors.subgroup(StartError)) is not None:
                raise lost.exceptions[0] from None
            raise

    async def drain(self) -> None:
        if self._parts is not None:
            self.parts.servicer.close("data_ingest is stopping")
            self.parts.bars.close("data_ingest is stopping")
            if self.parts.journal_feed is not None:
                self.parts.journal_feed.close("data_ingest is stopping")

    async def stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        try:
            await self._resources.aclose()
        finally:
            await self._release()

    async def _release(self) -> None:
        """Lets another sequencer take over at once, now that nothing more comes of this one."""
        if self._leadership is not None and not self._leadership.lost.done():
            with contextlib.suppress(*DATABASE_ERRORS):
                await self._store.release(self._leadership.fencing_number)
            self._store.close()


async def _until_lost(leadership: Leadership) -> NoReturn:
    """Raises StartError when another sequencer leads: this process ends, and stands by when it is started again."""
    raise StartError(f"this sequencer does not lead any more: {await leadership.lost}")


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return DataIngest(settings)
