"""The RPCs of a sequencer that may stand by: those of its servicers while it leads, else NOT_LEADING."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple, NoReturn

import grpc.aio
from tradeul.v1 import bars_pb2, data_ingest_pb2, standby_pb2

from services.data_ingest.servicer import DataIngestServicer
from services.data_ingest.standby.journal_feed import JournalFeed
from services.data_ingest.stream.bar_stream import BarStream
from services.kit.rpc.server import add_servicer
from services.kit.runtime.errors import NOT_LEADING

SERVICES: Final = (
    data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"],
    bars_pb2.DESCRIPTOR.services_by_name["BarService"],
    standby_pb2.DESCRIPTOR.services_by_name["StandbyService"],
)
Context = grpc.aio.ServicerContext[Any, Any]


class Servicers(NamedTuple):
    """Of a sequencer that leads; `may_lead`: False while another one may."""

    frames: DataIngestServicer
    bars: BarStream
    journal: JournalFeed
    may_lead: Callable[[], bool]


class Door:
    """`open` it when the sequencer leads."""

    def __init__(self) -> None:
        self._servicers: Servicers | None = None
        # Gives the role until it leads.
        self.standing_by: Callable[[], standby_pb2.SequencerRole] = standby_pb2.SequencerRole

    def open(self, servicers: Servicers) -> None:
        """From now on its RPCs are these."""
        self._servicers = servicers

    def add_to(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds the services; returns their full names."""
        return tuple(add_servicer(server, service, self) for service in SERVICES)

    def _leading(self) -> Servicers:
        if self._servicers is None:
            _refuse("this sequencer stands by")
        if not self._servicers.may_lead():
            _refuse("this sequencer's lease has run out")
        return self._servicers

    async def SubscribeFrames(self, requests: AsyncIterator[Any], context: Context) -> None:
        await self._leading().frames.SubscribeFrames(requests, context)

    async def WatchClock(
        self, request: data_ingest_pb2.WatchClockRequest, context: Context
    ) -> AsyncIterator[data_ingest_pb2.WatchClockResponse]:
        async for response in self._leading().frames.WatchClock(request, context):
            yield response

    async def GetSequencerStatus(
        self, request: data_ingest_pb2.GetSequencerStatusRequest, context: Context
    ) -> data_ingest_pb2.SequencerStatus:
        return await self._leading().frames.GetSequencerStatus(request, context)

    async def WatchBars(self, request: bars_pb2.WatchBarsRequest, context: Context) -> AsyncIterator[bytes]:
        async for response in self._leading().bars.WatchBars(request, context):
            yield response

    async def GetSequencerRole(self, _: standby_pb2.GetSequencerRoleRequest, __: Context) -> standby_pb2.SequencerRole:
        if self._servicers is None:
            return self.standing_by()
        return self._servicers.journal.role() if self._servicers.may_lead() else standby_pb2.SequencerRole()

    async def FollowJournal(self, requests: AsyncIterator[Any], context: Context) -> None:
        await self._leading().journal.FollowJournal(requests, context)


def _refuse(reason: str) -> NoReturn:
    raise NOT_LEADING.error(f"{reason}: another one of TRADEUL_SEQUENCERS leads")
