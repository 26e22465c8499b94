"""A sequencer that does not lead: it follows the one that does, and takes the lease when that has run out."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tradeul.v1 import standby_pb2

from services.data_ingest.journal import Recovered
from services.data_ingest.standby.journal_follower import JournalFollower
from services.data_ingest.standby.lease import COLD_SECONDS, LOOK_SECONDS, Claimed, LeaseStore
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.runtime.settings import Settings
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import Condition
from services.market.calendar import Calendar
from services.market.calendar_client import CalendarClient

log = get_logger(__name__)

# A store that was away finds the lease run out; whoever leads has so long to renew it.
GRACE_SECONDS: Final = 2.0
# How often what a takeover needs from others is made sure of.
PREPARE_SECONDS: Final = 5.0


class TakenOver(NamedTuple):
    """The beginning of a takeover; `copied` is None for one without a copy of the leader's market.

    `has_all`: nobody was shown a frame that the copy lacks.
    """

    claimed: Claimed
    copied: Recovered | None
    has_all: bool
    gaps: bytes
    calendar: Calendar | None
    # The vendor's sale conditions; None where they could not be had.
    conditions: Sequence[Condition] | None


class Candidate:
    """`stand_by()` returns when this sequencer leads. Raises StartError when the settings do not name it."""

    def __init__(
        self,
        settings: Settings,
        store: LeaseStore,
        calendars: CalendarClient,
        vendor: VendorClient,
        set_unhealthy_reason: Callable[[str | None], None],
    ) -> None:
        own = settings.address("data_ingest")
        others = [each for each in settings.sequencer_addresses if each != own]
        if len(others) == len(settings.sequencer_addresses):
            named = ",".join(map(str, settings.sequencers))
            raise StartError(f"expected TRADEUL_SEQUENCERS to name TRADEUL_DATA_INGEST_ADDRESS, {own}, was {named}")
        self._store = store
        self._calendars = calendars
        self._vendor = vendor
        self._follower = JournalFollower(others, store.holder, set_unhealthy_reason)
        self._calendar: Calendar | None = None
        self._conditions: Sequence[Condition] | None = None

    def role(self) -> standby_pb2.SequencerRole:
        """Returns this sequencer's role while it stands by."""
        copy = self._follower.copy
        return standby_pb2.SequencerRole(
            role=standby_pb2.SequencerRole.STANDBY,
            position=copy.position.message() if copy is not None else None,
            lag_seconds=self._follower.lag_seconds,
        )

    async def claim_first(self) -> Claimed | None:
        """Takes the lease if nobody has it; None if somebody has. Waits for a store that is away."""
        is_away = False
        while True:
            try:
                return await self._store.claim(COLD_SECONDS)
            except DATABASE_ERRORS as error:
                if not is_away:
                    log.warning("the store of the lease does not answer: nobody can lead", reason=described(error))
                is_away = True
                await asyncio.sleep(LOOK_SECONDS)

    async def stand_by(self) -> TakenOver:
        """Follows the leader until its lease is ours."""
        tasks = [
            asyncio.create_task(self._follower.run(), name="data_ingest.journal_follower"),
            asyncio.create_task(self._prepare(), name="data_ingest.prepare"),
        ]
        try:
            claimed = await self._until_claimed(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        copy, session = self._follower.copy, self._follower.session
        has_all = copy is not None and session is not None and claimed.synced == session
        log.warning(
            "takes over: another sequencer's lease has run out",
            fencing_number=claimed.fencing_number,
            position=str(copy.position) if copy is not None else None,
            has_all=has_all,
        )
        copied = copy.recovered() if copy is not None else None
        return TakenOver(claimed, copied, has_all, self._follower.gaps, self._calendar, self._conditions)

    async def _until_claimed(self, tasks: "list[asyncio.Task[None]]") -> Claimed:
        is_away = False
        not_before = float("-inf")
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for task in tasks:
                if task.done():
                    # Neither ends without a defect.
                    task.result()
            try:
                if is_away:
                    await self._store.ping()
                    is_away, not_before = False, monotonic() + GRACE_SECONDS
                if monotonic() < not_before:
                    continue
                claimed = await self._claim()
            except DATABASE_ERRORS as error:
                if not is_away:
                    log.warning("the store of the lease does not answer: nobody can take over", reason=described(error))
                is_away = True
                continue
            if claimed is not None:
                return claimed

    async def _claim(self) -> Claimed | None:
        follower = self._follower
        # A synchronous leader records whether somebody has what it shows, and what polygon_ws forgets. Without that
        # record it is better to wait for it.
        is_warm = follower.is_warm and not follower.is_synchronous
        return await self._store.claim(
            COLD_SECONDS,
            follower.session,
            is_leader_gone=follower.is_leader_gone,
            followed=follower.fencing_number if is_warm else None,
        )

    async def _prepare(self) -> None:
        """Has what would keep a takeover waiting: the calendar of the leader's day, and the sale conditions."""
        looked_at = float("-inf")
        while True:
            day = self._follower.copy.day if self._follower.copy is not None else None
            if day is not None and (self._calendar is None or self._calendar.find(day.date) is None):
                self._calendar = await self._calendars.calendar(day.date)
            if self._conditions is None and monotonic() - looked_at > PREPARE_SECONDS:
                looked_at = monotonic()
                try:
                    self._conditions = await self._vendor.conditions()
                except (VendorError, ValueError) as error:
                    log.info("no sale conditions from the vendor yet", reason=described(error))
            await asyncio.sleep(LOOK_SECONDS)
