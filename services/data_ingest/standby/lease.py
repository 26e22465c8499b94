"""The lease under which one of several sequencers leads: a row of PostgreSQL, renewed by that server's clock.

A server's clock that was ahead, and was put back, leaves a lease until far in the future: one that nobody renews for
longer than a lease lasts has run out all the same.

The fencing number grows with each new leader. A leader also counts by its own clock, from before each renewal was sent:
what it may still believe ends before anybody else can take the lease, unless it stood still, and that it notices.

A store that is away ends nobody's leadership, for without it nobody takes over. The leader cannot tell such an outage
from one of its own line to the store. polygon_ws can: it ends the stream of the older number as soon as it
serves a newer one. So a leader without the store goes on while polygon_ws still serves it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

import asyncpg

from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

NAME: Final = "sequencer"
# What polygon_ws knows the leader by, whichever it is.
LEASE_CONSUMER: Final = "the holder of the sequencers' lease"
LEASE_SECONDS: Final = 1.5
RENEW_SECONDS: Final = 0.4
# How often a standby looks whether the lease has run out.
LOOK_SECONDS: Final = 0.2
# A statement that takes longer has failed.
ANSWER_SECONDS: Final = 0.75
# A failed renewal says so long that the store is away, and polygon_ws's last word that it serves us; its heartbeats
# come every 5 s.
AWAY_SECONDS: Final = 3.0
WITNESS_SECONDS: Final = 6.0
# One that has no copy of the leader's market leaves it so long to come back to its journal.
COLD_SECONDS: Final = 15.0

# A row that nobody has held yet; it begins high, so that the number does not go back with a new database.
CREATE: Final = """
    INSERT INTO sequencer_lease (name, holder, fencing_number, expires_at)
    VALUES ($1, '', extract(epoch FROM clock_timestamp())::bigint, '-infinity')
    ON CONFLICT (name) DO NOTHING
"""
# Who may take it: its holder; who finds it run out for long enough; who has followed its holder, once it has run out;
# and the standby that it names.
MAY_CLAIM: Final = """
    SELECT holder, epoch, synced
    FROM sequencer_lease
    WHERE name = $1 AND (
        holder IN ('', $2)
        OR expires_at < clock_timestamp() - $3 * interval '1 second'
        OR fencing_number = $6 AND expires_at < clock_timestamp()
        OR synced = $4 AND (expires_at < clock_timestamp() OR $5)
    )
"""
CLAIM: Final = """
    UPDATE sequencer_lease
    SET holder = $2, fencing_number = fencing_number + 1, synced = NULL, sync_change = 0,
        expires_at = clock_timestamp() + $3 * interval '1 second'
    WHERE name = $1
    RETURNING fencing_number
"""
RENEW: Final = """
    UPDATE sequencer_lease
    SET expires_at = clock_timestamp() + $3 * interval '1 second', epoch = greatest(epoch, $4)
    WHERE name = $1 AND fencing_number = $2
"""
NAME_STANDBY: Final = """
    UPDATE sequencer_lease
    SET synced = $3, sync_change = $4, epoch = greatest(epoch, $5)
    WHERE name = $1 AND fencing_number = $2 AND sync_change < $4
"""
# A lease that lasts for longer than one is given.
FAR_AHEAD: Final = """
    SELECT fencing_number, expires_at
    FROM sequencer_lease
    WHERE name = $1 AND expires_at > clock_timestamp() + $2 * interval '1 second'
"""
END_FAR_AHEAD: Final = """
    UPDATE sequencer_lease SET expires_at = clock_timestamp()
    WHERE name = $1 AND fencing_number = $2 AND expires_at = $3
"""
RELEASE: Final = "UPDATE sequencer_lease SET expires_at = clock_timestamp() WHERE name = $1 AND fencing_number = $2"


class Claimed(NamedTuple):
    """A lease that was taken.

    `at`: monotonic seconds before it was. `epoch`: the last one of those who led before. `was_ours`: nobody else led
    since an earlier process of ours, or ever. `synced`: the session of the standby that had all that was shown; None
    for none. `is_first`: nobody ever led.
    """

    fencing_number: int
    at: float
    epoch: int
    was_ours: bool
    synced: str | None = None
    is_first: bool = False


class LeaseStore:
    """The row, over one connection that is opened again when it was lost. Every call raises DATABASE_ERRORS."""

    def __init__(self, url: str, holder: str) -> None:
        self.holder = holder
        self._url = url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        # A lease that was given by a clock that was ahead: its number and end, and since when they are as they are.
        self._far_ahead: tuple[asyncpg.Record, float] | None = None
        # A connection does one thing at a time.
        self._lock = asyncio.Lock()

    async def claim(
        self,
        patience_seconds: float,
        session: str | None = None,
        *,
        is_leader_gone: bool = False,
        followed: int | None = None,
    ) -> Claimed | None:
        """Takes a lease that ran out `patience_seconds` ago, or is ours by an earlier process; None otherwise.

        `followed`: the number of the leader that we have followed until now, whose lease is ours as soon as it has run
        out.

        `session`: under which we stand by; if the lease names it, nobody has been shown what we lack, and it is ours as
        soon as it has run out, or at once where the leader is known to be gone.
        """
        began = monotonic()
        asked = (NAME, self.holder, patience_seconds, session, is_leader_gone, followed)
        async with self._opened() as connection:
            if await connection.fetchrow(MAY_CLAIM, *asked) is None:
                if await connection.execute(CREATE, NAME) != "INSERT 0 1":
                    await self._end_far_ahead(connection)
                    return None
            async with connection.transaction():
                if (before := await connection.fetchrow(f"{MAY_CLAIM} FOR UPDATE", *asked)) is None:
                    return None
                number = await connection.fetchval(CLAIM, NAME, self.holder, LEASE_SECONDS)
        holder = before["holder"]
        was_ours = holder in ("", self.holder)
        return Claimed(number, began, before["epoch"], was_ours, before["synced"], is_first=not holder)

    async def _end_far_ahead(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Ends a lease of the far future that has not been renewed for longer than one lasts; its leader would have."""
        found = await connection.fetchrow(FAR_AHEAD, NAME, LEASE_SECONDS)
        now = monotonic()
        if found is None:
            self._far_ahead = None
        elif self._far_ahead is None or self._far_ahead[0] != found:
            self._far_ahead = found, now
        elif now - self._far_ahead[1] > LEASE_SECONDS:
            log.warning("the lease ends, since nobody renews it: the store's clock was ahead", until=str(found[1]))
            await connection.execute(END_FAR_AHEAD, NAME, *found)
            self._far_ahead = None

    async def renew(self, fencing_number: int, epoch: int) -> bool:
        """False if another one has taken it."""
        async with self._opened() as connection:
            tag = await connection.execute(RENEW, NAME, fencing_number, LEASE_SECONDS, epoch)
        return bool(tag == "UPDATE 1")

    async def name_standby(self, fencing_number: int, session: str | None, change: int, epoch: int) -> bool:
        """Names the standby without which nothing is shown, None for none; False if another one leads.

        `change` numbers the calls of one leader. After an error it may or may not have been done.
        """
        async with self._opened() as connection:
            tag = await connection.execute(NAME_STANDBY, NAME, fencing_number, session, change, epoch)
        return bool(tag == "UPDATE 1")

    async def ping(self) -> None:
        """Returns when the store answers."""
        async with self._opened() as connection:
            await connection.execute("SELECT 1")

    async def release(self, fencing_number: int) -> None:
        """Lets another one take it at once."""
        async with self._opened() as connection:
            await connection.execute(RELEASE, NAME, fencing_number)

    def close(self) -> None:
        """Drops the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    @contextlib.asynccontextmanager
    async def _opened(self) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
        async with self._lock:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await asyncpg.connect(self._url, timeout=ANSWER_SECONDS)
                    yield self._connection
            except BaseException:
                self.close()
                raise


class Leadership:
    """The leader's own view of its lease; `run` renews it.

    Args:
        epoch: gives the stream's, which is noted with each renewal.
        now: monotonic seconds.
    """

    def __init__(
        self,
        store: LeaseStore,
        claimed: Claimed,
        epoch: Callable[[], int],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.fencing_number = claimed.fencing_number
        # Why another one leads now; set once.
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._store = store
        self._epoch = epoch
        # Is called after each renewal, when what was held back may be shown.
        self.on_sure: Callable[[], None] = lambda: None
        self._now = now
        self._sure_until = claimed.at + LEASE_SECONDS
        # When the store last failed to answer, and when polygon_ws last said anything to us.
        self._failed_at = float("-inf")
        self._served_at = float("-inf")
        self._was_sure = True

    def is_sure(self) -> bool:
        """True while nobody else can lead: only then may anything be shown or acknowledged."""
        now = self._now()
        is_sure = not self.lost.done() and (
            now < self._sure_until or (now - self._failed_at < AWAY_SECONDS and now - self._served_at < WITNESS_SECONDS)
        )
        if is_sure != self._was_sure:
            self._was_sure = is_sure
            if not is_sure:
                log.warning("the lease could not be renewed in time: nothing is shown until it is")
        return is_sure

    async def until_sure(self) -> None:
        """Waits until it is."""
        # Nobody notifies of time that passes.
        while not self.is_sure():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def served(self) -> None:
        """polygon_ws has said something to us: it serves no newer number."""
        self._served_at = self._now()

    def superseded(self, reason: str) -> None:
        """Another one leads."""
        if not self.lost.done():
            self.lost.set_result(reason)

    async def run(self) -> None:
        """Renews until the lease is lost, or cancelled."""
        is_away = False
        while not self.lost.done():
            began = self._now()
            try:
                is_ours = await self._store.renew(self.fencing_number, self._epoch())
            except DATABASE_ERRORS as error:
                # Who stood still meanwhile finds a timeout that says nothing about the store.
                if self._now() - began < 2 * ANSWER_SECONDS:
                    self._failed_at = self._now()
                if not is_away:
                    log.warning("the store does not answer, the lease cannot be renewed", reason=described(error))
                is_away = True
            else:
                is_away = False
                if not is_ours:
                    self.superseded("another sequencer has taken the lease")
                    return
                self._sure_until = began + LEASE_SECONDS
                self._failed_at = float("-inf")
            if self.is_sure():
                self.on_sure()
            await asyncio.sleep(RENEW_SECONDS)
