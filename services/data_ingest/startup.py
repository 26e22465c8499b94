"""The start of the stream: its first day, and the market that it continues with, from the journal or a recording."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastcore.market import Market
from fastcore.market_state import MarketState
from fastcore.measures import measures
from services.data_ingest.feed.day_in_force import AHEAD_NS
from services.data_ingest.feed.line_gaps import FILE as GAPS_FILE
from services.data_ingest.feed.market_clock import AGREE_NS, MarketClock
from services.data_ingest.journal import Journal, JournalDirectory, Recovered, begin_with, recover
from services.data_ingest.stream.epochs import FILE, next_epoch, read_last, write_last
from services.data_ingest.stream.sequencer import LAST_SEQUENCE, Sequencer
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import load_lists
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import new_york_date, ns_of, wall_ns
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.vendor.client import VendorClient, VendorError
from services.market.calendar import Calendar, TradingDay
from services.market.calendar_client import CalendarClient
from services.market.dates import server_time
from services.market.recorded_market import read

log = get_logger(__name__)

DIRECTORY: Final = "journal"
# So long after a day's beginning its reference data are surely its own.
SETTLED_NS: Final = 600_000_000_000
# Of the symbols with a previous close, so many have a baseline once all is loaded, and so many an
# ATR: a symbol of less than 14 days has none, and neither has one that the vendor failed to answer for.
WITH_BASELINE: Final = 0.98
WITH_ATR: Final = 0.9


@dataclass(frozen=True)
class StartingPoint:
    """The beginning of the stream: its first day, the journal's market of that day, or the recorded one.

    `now_ns`: the feed's time; `alerts`: the newest ones before, also of another day.
    """

    calendar: Calendar
    day: TradingDay
    now_ns: int
    found: Recovered | None
    recorded: MarketState | None
    alerts: Sequence[bytes] = ()

    @property
    def first_watermark_ns(self) -> int:
        """The feed's time until its first event comes. A market that continues waits for what polygon_ws has kept."""
        return self.now_ns if self.found is None and self.recorded is None else 0

    @property
    def has_reference(self) -> bool:
        """True if the market begins with all its reference data."""
        return self.recorded is not None and has_reference(self.recorded, self.day)


def keep_gaps(settings: Settings, gaps: bytes) -> None:
    """Keeps the gaps of the vendor's line, as another sequencer had them, as those of an earlier process."""
    if not gaps:
        return
    try:
        (settings.market_dir / GAPS_FILE).write_bytes(gaps)
    except OSError as error:
        log.warning("the gaps of the vendor's line cannot be kept", error=reason_of(error))


async def taken_over(copied: Recovered, calendars: CalendarClient, known: Calendar | None) -> StartingPoint:
    """The beginning of a standby that takes over with this copy; `known`: the newest calendar that it has."""
    if known is None or known.find(copied.day.date) is None:
        known = await calendars.calendar(copied.day.date)
    return StartingPoint(
        known, known.find(copied.day.date) or copied.day, copied.rows.now_ns, copied, None, copied.alerts
    )


async def starting_point(
    settings: Settings,
    directory: JournalDirectory | None,
    calendars: CalendarClient,
    vendor: VendorClient,
    clock: MarketClock,
) -> StartingPoint:
    """Raises StartError when the calendar does not know the first day, or the recording cannot be read."""
    replayed = settings.replay.date
    now_ns = 0
    if replayed is None:
        now_ns = clock.now_ns() if settings.clock == "wall" else await vendor_now_ns(vendor)
    date = replayed or new_york_date(now_ns)
    calendar = await calendars.calendar(date)
    if replayed is not None:
        day = calendar.find(date)
    else:
        day = calendar.in_force(now_ns) if settings.clock == "wall" else calendar.startup_day(now_ns)
    if day is None:
        raise StartError(f"expected market_session to know the trading day of {date}, knew none")
    now_ns = now_ns or day.pre_market_start_ns
    left = await asyncio.to_thread(recover, directory, load_lists()) if directory is not None else None
    found = left if left is not None and is_of_now(left, day, now_ns) else None
    alerts = left.alerts if left is not None else ()
    return StartingPoint(calendar, day, now_ns, found, await recorded_market(settings), alerts)


def open_directory(settings: Settings) -> JournalDirectory | None:
    """None for a replay, which begins its day again; raises StartError when another process writes there."""
    return None if settings.is_replay else JournalDirectory(settings.market_dir / DIRECTORY)


def is_now(copied: Recovered) -> bool:
    """True if the leader that this copy is of had this machine's time: nobody else need be asked."""
    return abs(copied.rows.now_ns - wall_ns()) < AGREE_NS


def is_behind_clock(settings: Settings, copied: Recovered, clock: MarketClock) -> bool:
    """False if the leader that this copy is of went by a clock that is ahead of ours: its market is of no use."""
    if settings.clock == "feed" or copied.rows.now_ns <= clock.now_ns() + AHEAD_NS:
        return True
    log.warning("the leader's market is ahead of this machine's clock: the stream begins again")
    return False


def is_of_now(found: Recovered, day: TradingDay, now_ns: int) -> bool:
    """True if the journal's market is of this day, and not ahead of the feed's time, `now_ns`."""
    if found.day.date != day.date:
        log.info("journal is of another day", date=str(found.day.date), today=str(day.date))
        return False
    if found.rows.now_ns > now_ns + AHEAD_NS:
        # A simulated market that began again.
        log.warning("journal is ahead of the feed's clock", seconds=(found.rows.now_ns - now_ns) / 1e9)
        return False
    return True


async def recorded_market(settings: Settings) -> MarketState | None:
    """Returns what the recording that is played again began with; raises StartError when it cannot be read."""
    replay = settings.replay
    if replay.market is None or replay.date is None:
        return None
    head, rows = await asyncio.to_thread(read, replay.market, replay.date)
    log.info(
        "the replay begins with the recorded market", symbols=head.symbols, position=f"{head.epoch}/{head.sequence}"
    )
    return rows


def has_reference(rows: MarketState, day: TradingDay) -> bool:
    """True if all reference data had been loaded when a market was recorded, so that they need not be again.

    They come in passes, previous closes first, and of an empty database symbol by symbol over minutes:
    what a recording that began meanwhile lacks would be absent for all of its replay. In the day's
    first minutes some may be those of the day before.
    """
    if rows.now_ns < day.pre_market_start_ns + SETTLED_NS:
        return False
    prev_close, atr = rows.column("prev_close"), rows.column("atr")
    closes = [symbol_id for symbol_id, value in enumerate(prev_close) if not math.isnan(value)]
    with_atr = sum(not math.isnan(atr[symbol_id]) for symbol_id in closes)
    with_baseline = sum(measures(rows, symbol_id).days is not None for symbol_id in closes)
    return (
        0 < rows.count <= 2 * len(closes)
        and with_atr >= WITH_ATR * len(closes)
        and with_baseline >= WITH_BASELINE * len(closes)
    )


async def open_sequencer(
    settings: Settings,
    directory: JournalDirectory | None,
    start: StartingPoint,
    last_sequence: int = LAST_SEQUENCE,
    after_epoch: int | None = None,
) -> tuple[Sequencer, Journal | None]:
    """Returns the sequencer, which has added no frame yet, and the journal that it keeps from here on.

    `after_epoch`: the last epoch of another sequencer, which led before this one: its numbering does not continue.
    """
    found, recorded = start.found, start.recorded
    sequencer: Sequencer
    messages: list[bytes] = []
    if found is not None and (after_epoch is not None or found.position.epoch < read_last(settings.market_dir / FILE)):
        # Readers may have had something that is not in it: of another sequencer, or of an epoch that began at the end.
        found = found._replace(market=None)
    if found is not None and found.market is not None:
        market, messages = found.market, found.messages
        log.info("journal: the stream goes on", position=str(found.position), frames=len(messages))
        if found.state is None:
            found = await _make_way(settings, directory, found)
    else:
        last = max(after_epoch, found.position.epoch if found is not None else 0) if after_epoch is not None else 0
        epoch = await next_epoch(settings.market_dir, last)
        if found is not None:
            market = Market.of_state(load_lists(), epoch, found.rows, encode_deltas=False)
            log.info("journal: the market goes on in a new epoch", epoch=epoch, was=str(found.position))
        elif recorded is not None:
            market = Market.of_state(load_lists(), epoch, recorded, encode_deltas=False)
        else:
            market = Market(load_lists(), epoch, encode_deltas=False)
    journal = Journal(directory, lambda: sequencer) if directory else None
    sequencer = Sequencer(
        market.epoch,
        market,
        journal=journal,
        day=found.day if found is not None else None,
        messages=messages,
        alerts=RecentAlerts(start.alerts),
        defer=asyncio.get_running_loop().call_soon,
        last_sequence=last_sequence,
    )
    if journal is not None:
        await begin_journal(journal, found)
    return sequencer, journal


async def _make_way(settings: Settings, directory: JournalDirectory | None, found: Recovered) -> Recovered:
    """Before this sequencer goes on with another one's numbering: its journal becomes what that one had.

    Its own is of a time when it led before, and the last frames of it were shown to nobody. The newest ones of the
    other go into it, for readers who are behind when this process ends soon, too.
    """
    position = found.position
    if directory is not None:
        try:
            found = found._replace(state=await asyncio.to_thread(begin_with, directory, position, found.messages))
        except OSError as error:
            log.warning("the frames before a takeover cannot be kept", error=reason_of(error))
    if read_last(path := settings.market_dir / FILE) < position.epoch:
        try:
            write_last(path, position.epoch)
        except OSError as error:
            log.warning("the epoch cannot be kept, the clock must not go back", path=str(path), error=reason_of(error))
    return found


async def begin_journal(journal: Journal, found: Recovered | None) -> None:
    """Begins the journal with the market that was found."""
    if found is None:
        await journal.begin(None)
    else:
        # Of another epoch the numbers mean nothing.
        await journal.begin(found.feed, found.trade_identities, found.state if found.market is not None else None)


async def vendor_now_ns(vendor: VendorClient) -> int:
    """The vendor's time, ns since 1970 UTC; tries again until it can be had."""
    backoff = Backoff()
    while True:
        try:
            return ns_of(server_time((await vendor.market_status()).server_time))
        except (VendorError, ValueError) as error:
            pause = backoff.next()
            log.warning("no market status from the vendor", reason=reason_of(error), again_in=pause)
            await asyncio.sleep(pause)
