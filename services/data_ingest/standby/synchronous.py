"""TRADEUL_STANDBY=sync: readers get a frame when the standby has it that the lease names.

The rule, at every instant: nothing is shown that a standby lacks which the row of the lease may name. So a change of
the row counts from before it is sent, and what it replaces until it is confirmed. Who takes over and is named has all
that was shown, and goes on in the same epoch; who is not begins a new one (docs/adr/0015-a-synchronous-standby.md).
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Final, Protocol

from services.data_ingest import metrics
from services.data_ingest.standby.lease import LeaseStore
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

# A standby that owes an acknowledgement for so long is waited for no more.
WAIT_SECONDS: Final = 1.0
# It is waited for once it has kept up for so long, within the other.
SETTLED_SECONDS: Final = 2.0
NEAR_SECONDS: Final = 0.25
LOOK_SECONDS: Final = 0.05
# A store that failed is asked again after so long.
RETRY_SECONDS: Final = 0.2


class Standby(Protocol):
    """A standby that follows the leader's journal."""

    name: str
    session: str
    position: Position | None
    acknowledged: Position | None
    has_gone: bool

    @property
    def lag_seconds(self) -> float: ...


class Synchronous:
    """Decides which standby the lease names, and how far readers may see.

    Args:
        superseded: is called when the lease is another one's.
    """

    def __init__(
        self, sequencer: Sequencer, store: LeaseStore, fencing_number: int, superseded: Callable[[str], None]
    ) -> None:
        # All whom the row may name.
        self.waited_for: list[Standby] = []
        self._committed = sequencer.committed
        self._sequencer = sequencer
        self._store = store
        self._fencing_number = fencing_number
        self._superseded = superseded
        # Whom the row is to name, and whether it does.
        self._named: Standby | None = None
        self._is_recorded = True
        self._changes = 0
        # By who keeps up, since when.
        self._near_since: dict[Standby, float] = {}
        self._looked = asyncio.Event()
        self._is_joining = self._is_closed = False

    @property
    def is_in_sync(self) -> bool:
        """True if the row names a standby."""
        return self._named is not None and self._is_recorded

    def acknowledged(self, standby: Standby) -> None:
        """A standby has acknowledged more."""
        if standby in self.waited_for:
            self._limit()
            if self._is_joining:
                self.look()

    def look(self) -> None:
        """Who is waited for may have changed."""
        self._looked.set()

    def close(self) -> None:
        """The leader stops: who is named stays so, and may go on in its place."""
        self._is_closed = True

    async def run(self, followers: Collection[Standby]) -> None:
        """Waits for one of the followers that keeps up, or for nobody; until another one leads."""
        while not self._is_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._looked.wait()
            self._looked.clear()
            wanted = self._wanted(followers)
            is_other = wanted is not self._named
            if not is_other and self._is_recorded:
                continue
            if is_other and wanted is not None and not await self._has_what_was_shown(wanted):
                continue
            if self._is_closed or not await self._record(wanted):
                return

    # --- whom to wait for

    def _wanted(self, followers: Collection[Standby]) -> Standby | None:
        now = monotonic()
        self._near_since = {
            each: self._near_since.get(each, now)
            for each in followers
            if each.session and each.position is not None and each.lag_seconds < NEAR_SECONDS
        }
        named = self._named
        if named is not None and not named.has_gone and named.lag_seconds < WAIT_SECONDS:
            return named
        settled = (each for each, since in self._near_since.items() if now - since >= SETTLED_SECONDS)
        return next((each for each in settled if each is not named), None)

    async def _has_what_was_shown(self, standby: Standby) -> bool:
        """Shows nothing more that the standby lacks, and waits until it has what was shown; False if it does not."""
        shown = self._committed.position
        if standby not in self.waited_for:
            self.waited_for.append(standby)
        self._limit()
        self._is_joining = True
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while standby.position is None or standby.position < shown:
                    await self._looked.wait()
                    self._looked.clear()
                    if standby.has_gone:
                        raise TimeoutError
        except TimeoutError:
            # No change of the row was sent that names it.
            self.waited_for.remove(standby)
            self._near_since.pop(standby, None)
            self._limit()
            return False
        finally:
            self._is_joining = False
        return True

    async def _record(self, standby: Standby | None) -> bool:
        """Makes the row name it; False if another one leads."""
        self._named, self._is_recorded = standby, False
        self._changes += 1
        session = standby.session if standby is not None else None
        epoch = self._sequencer.position.epoch
        try:
            is_ours = await self._store.name_standby(self._fencing_number, session, self._changes, epoch)
        except DATABASE_ERRORS as error:
            log.warning("the store does not answer: who stands by cannot be changed", reason=described(error))
            await asyncio.sleep(RETRY_SECONDS)
            return True
        if not is_ours:
            self._superseded("another sequencer has taken the lease")
            return False
        self._is_recorded = True
        self.waited_for = [standby] if standby is not None else []
        self._limit()
        metrics.STANDBY_IN_SYNC.set(standby is not None)
        if standby is None:
            log.warning("no standby keeps up: frames are shown without one")
        else:
            log.info("in sync: frames are shown when the standby has them", standby=standby.name)
        return True

    def _limit(self) -> None:
        positions = [each.position or Position(0, 0) for each in self.waited_for]
        self._committed.set_limit(min(positions) if positions else None)
