"""Writing the journal: entries as they come, and now and then the market, from which they count."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tradeul.v1 import journal_pb2

from fastcore.prepared_buffer import PreparedBuffer
from fastcore.wire import field_head, wrap
from services.data_ingest import metrics
from services.data_ingest.journal.files import (
    PIECE_BYTES,
    JournalDirectory,
    JournalFile,
    Kind,
    Pace,
    head,
    remove,
    write_large_record,
    write_record,
)
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.open_files import is_out_of_files
from services.kit.runtime.priority import Pacer, thread_behind_the_others
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

# When the market is written again: so much is to be read, and so many lists are to be ranked, by who continues from it.
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_FRAMES: Final = 10_000
LOOK_SECONDS: Final = 1.0
# A journal that could not be written begins again after so long.
RETRY_SECONDS: Final = 60.0
# The system writes at most 1024 parts at once.
MAX_PARTS: Final = 512

_ENTRY: Final = {name: field.number for name, field in journal_pb2.JournalEntry.DESCRIPTOR.fields_by_name.items()}
_STATE: Final = {name: field.number for name, field in journal_pb2.JournalState.DESCRIPTOR.fields_by_name.items()}


class MarketAt(NamedTuple):
    """The market at a position, as Market.to_bytes() writes it."""

    position: Position
    # The encoded TradingDay; None before the first.
    trading_day: bytes | None
    data: bytes | memoryview
    # The newest alerts before, encoded.
    alerts: Sequence[bytes] = ()


class MarketSource(Protocol):
    """Has the market: the sequencer does."""

    def market_at(self, with_baselines: bool, buffer: PreparedBuffer | None = None) -> MarketAt:
        """The market as of the newest frame; its data in the buffer, if there is one."""
        ...

    def expected_size(self, with_baselines: bool) -> int:
        """How many bytes of data that would be, or somewhat more."""
        ...


class Written(NamedTuple):
    """A state file, and what its baselines are made of."""

    state: JournalFile
    # The state that has the baselines of before, if any are left of them.
    base: JournalFile | None
    baselines: JournalFile

    def files(self) -> list[JournalFile]:
        return [self.state, self.baselines] + ([self.base] if self.base is not None else [])


class Journal:
    """Entries are on their way to the disk when commit() returns; it never raises.

    A journal that cannot be written is removed, so that nobody continues from a part
    of the truth, and begins again later: the stream does not wait for it.

    Args:
        directory: where, held by this process.
        source: gives what has the market.
        max_bytes, max_frames: after so many the market is written again.
    """

    def __init__(
        self,
        directory: JournalDirectory,
        source: Callable[[], MarketSource],
        *,
        max_bytes: int = MAX_BYTES,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        # Bytes and entries written since the start.
        self.bytes = 0
        self.entries = 0
        self._directory = directory
        self._source = source
        self._max_bytes = max_bytes
        self._max_frames = max_frames
        # The files that are written to; none while the journal is not kept.
        self._files: dict[Kind, int] = {}
        self._frames: list[bytes] = []
        self._baselines: list[bytes] = []
        self._written: Written | None = None
        # As in Written, of the market of now.
        self._base: JournalFile | None = None
        # Baselines have changed otherwise than by their frames since all of them were written.
        self._is_base_due = False
        self._baselines_at = Position(0, 0)
        self._feed: Position | None = None
        self._bytes_since = 0
        self._frames_since = 0
        # Writes the market: a burst of work, and in no hurry.
        self._thread = thread_behind_the_others("journal")
        self._pacer = Pacer()
        # Held while files are begun, and by who begins a new epoch: its frames may not follow those of before.
        self.beginning = asyncio.Lock()

    @property
    def is_kept(self) -> bool:
        return bool(self._files)

    # --- entries

    def add(self, body: str, message: bytes) -> None:
        """A frame, as SubscribeFrames sends it."""
        (self._baselines if body == "baselines" else self._frames).append(message)

    def commit(self, feed: Position | None = None, trade_identities: bytes = b"") -> None:
        """Writes what was added since the last call as one entry."""
        frames, baselines = self._frames, self._baselines
        if feed is not None:
            self._feed = feed
        if self._files:
            try:
                if baselines:
                    self._write(self._open_baselines(), baselines)
                if frames or feed is not None:
                    self._bytes_since += self._write(
                        self._files["frames"], [*frames, *entry_notes(feed, trade_identities)]
                    )
                    self._frames_since += len(frames)
            except OSError as error:
                self._give_up(error)
        if frames:
            self._frames = []
        if baselines:
            self._baselines = []

    def day_began(self, position: Position, is_first: bool) -> None:
        """The frame at `position` begins another date, and some symbols lose their baselines by it.

        So those that were written before are not those of the market any more: the next market has them in it.
        Before the first day there are none.
        """
        self._base = None
        self._is_base_due = not is_first
        self._put_baselines_at(position)

    def _write(self, file: int, parts: list[bytes]) -> int:
        size = write_record(file, parts if len(parts) <= MAX_PARTS else [b"".join(parts)])
        self.bytes += size
        self.entries += 1
        return size

    # --- files

    def begin(
        self, feed: Position | None, trade_identities: bytes = b"", goes_on_from: JournalFile | None = None
    ) -> Awaitable[None]:
        """Begins with the market of now, which has `feed` and these trades in it; to be awaited once.

        Entries that follow the call count from there. What was there before is removed, but for the frames since a
        state of this epoch from which it continues.
        """
        self._feed = feed
        self._written = None
        return self._write_market(True, trade_identities, goes_on_from)

    async def run(self) -> None:
        """Writes the market again when that is due, until cancelled."""
        retry_at = 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._files:
                retry_at = monotonic() + RETRY_SECONDS
                if self._bytes_since >= self._max_bytes or self._frames_since >= self._max_frames:
                    async with self.beginning:
                        await self.write_market()
            elif monotonic() >= retry_at:
                log.info("journal begins again")
                async with self.beginning:
                    await self.begin(self._feed)
                retry_at = monotonic() + RETRY_SECONDS

    async def write_market(self) -> None:
        """The market of now, from which the entries that follow count. Only copying it keeps the stream waiting."""
        pacer = self._pacer = Pacer()
        size = self._source().expected_size(self._is_base_due)
        buffer = await asyncio.get_running_loop().run_in_executor(self._thread, self._prepared, size, pacer)
        if self._files:
            await self._write_market(False, buffer=buffer)

    @staticmethod
    def _prepared(size: int, pacer: Pacer) -> PreparedBuffer:
        buffer = PreparedBuffer(size, is_prepared=False)
        for begin in pacer.paced(range(0, size, PIECE_BYTES)):
            buffer.prepare(begin, PIECE_BYTES)
        return buffer

    def _write_market(
        self,
        with_baselines: bool,
        trade_identities: bytes = b"",
        goes_on_from: JournalFile | None = None,
        buffer: PreparedBuffer | None = None,
    ) -> Awaitable[None]:
        """Copies the market of now; the result, to be awaited, writes it: at once, or with pauses from a buffer."""
        began = monotonic()
        with_baselines = with_baselines or self._is_base_due
        is_rotation = bool(self._files) and self._written is not None
        now = self._source().market_at(with_baselines, buffer)
        metrics.JOURNAL_MARKET_SECONDS.observe(monotonic() - began)
        state = JournalFile(now.position, "state")
        before = self._written
        if before is not None and state == before.state:
            return asyncio.sleep(0)
        try:
            self._open_frames(now.position)
        except OSError as error:
            if is_rotation and is_out_of_files(error):
                self._put_off(error)
            else:
                self._give_up(error)
            return asyncio.sleep(0)
        if with_baselines:
            self._is_base_due = False
            self._base = state
            self._put_baselines_at(now.position)
        written = Written(state, self._base, JournalFile(self._baselines_at, "baselines"))
        message = self._state_message(now, written, trade_identities)
        pace = iter if buffer is None else self._pacer.paced
        return self._store(written, [*message, now.data], now.alerts, before, goes_on_from, pace)

    async def _store(
        self,
        written: Written,
        parts: list[bytes | memoryview],
        alerts: Sequence[bytes],
        before: Written | None,
        goes_on_from: JournalFile | None,
        pace: Pace,
    ) -> None:
        """Writes a copied state, and removes what nobody continues from any more."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._write_state, written.state, parts, alerts, pace)
            if not self._files:
                # Abandoned meanwhile.
                remove(self._directory.others())
                return
            self._written = written
            older = self._older(before or written, goes_on_from or (before or written).state)
            await loop.run_in_executor(self._thread, remove, older)
        except OSError as error:
            if before is not None and self._files and is_out_of_files(error):
                # One continues from the state before, whose frames are all here.
                self._is_base_due = True
                self._put_off(error)
            elif self._files:
                self._give_up(error)

    def _put_off(self, error: OSError) -> None:
        """Entries go on in the file that is open; the market is written again when this process may open files."""
        log.error("journal's market cannot be written for now", reason=reason_of(error))
        metrics.JOURNAL_FAILURES.inc()
        # Looked at again then, not at once.
        self._frames_since = self._bytes_since = 0

    def _older(self, oldest: Written, frames_from: JournalFile) -> list[Path]:
        """Files that are older than `oldest`, from which one could continue, should a newer one not be readable.

        Frames are kept from another state on.
        """
        assert self._written is not None, "a state was written"
        keep = {*oldest.files(), *self._written.files()}
        keep.update(file for file in self._directory.files("frames") if file.position >= frames_from.position)
        keep.update(file for file in self._directory.files("baselines") if file.position > oldest.baselines.position)
        return self._directory.others(keep)

    def _state_message(self, now: MarketAt, written: Written, trade_identities: bytes) -> list[bytes]:
        """An encoded JournalState, up to the market's bytes."""
        message = journal_pb2.JournalState(
            head=head(now.position),
            feed=self._feed.message() if self._feed is not None else None,
            trade_identities=trade_identities,
            baselines_in=written.base.position.sequence if written.base is not None else None,
            baselines_after=written.baselines.position.sequence,
        )
        if now.trading_day is not None:
            message.trading_day.ParseFromString(now.trading_day)
        return [message.SerializeToString(), field_head(_STATE["market"], len(now.data))]

    def _write_state(
        self, file: JournalFile, parts: list[bytes | memoryview], alerts: Sequence[bytes], pace: Pace
    ) -> None:
        """Writes by one rename, so that the file is complete or not there. Takes the parts out of their list."""
        parts.append(b"".join(wrap(_STATE["alerts"], alert) for alert in alerts))
        path = self._directory.path_of(file)
        fresh = path.with_suffix(".new")
        try:
            with fresh.open("wb", buffering=0) as target:
                write_large_record(target.fileno(), parts, pace)
                os.fsync(target.fileno())
        finally:
            # To give back so much memory takes milliseconds: here, and not in the event loop.
            parts.clear()
        os.replace(fresh, path)

    def _open_frames(self, position: Position) -> None:
        opened = self._open(JournalFile(position, "frames"))
        if (file := self._files.pop("frames", None)) is not None:
            os.close(file)
        self._files["frames"] = opened
        self._bytes_since = self._frames_since = 0

    def _put_baselines_at(self, position: Position) -> None:
        if (file := self._files.pop("baselines", None)) is not None:
            os.close(file)
        self._baselines_at = position

    def _open_baselines(self) -> int:
        if (file := self._files.get("baselines")) is None:
            file = self._files["baselines"] = self._open(JournalFile(self._baselines_at, "baselines"))
        return file

    def _open(self, file: JournalFile) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC
        opened = os.open(self._directory.path_of(file), flags, 0o644)
        try:
            write_record(opened, [head(file.position).SerializeToString()])
        except OSError:
            os.close(opened)
            raise
        return opened

    # --- the end

    def abandon(self, reason: str) -> None:
        """Removes the journal: nobody is to continue from it."""
        log.error("journal is abandoned", reason=reason)
        metrics.JOURNAL_FAILURES.inc()
        self._close_files()
        self._remove()

    def hurry(self) -> None:
        """Finishes what is being written without pauses: somebody waits."""
        self._pacer.stop_pausing()

    def close(self) -> None:
        """Leaves it to the next process, once what is being written has been."""
        self.hurry()
        self._thread.shutdown()
        self._close_files()
        self._directory.close()

    def _give_up(self, error: OSError) -> None:
        self.abandon(f"it cannot be written: {reason_of(error)}")

    def _remove(self) -> None:
        try:
            remove(self._directory.others())
        except OSError as error:
            log.error("journal cannot be removed: a restart must not find it", error=reason_of(error))

    def _close_files(self) -> None:
        files, self._files = self._files, {}
        for file in files.values():
            os.close(file)


def entry_notes(feed: Position | None, trade_identities: bytes) -> list[bytes]:
    """Returns the fields of an entry behind its frames, encoded."""
    notes = []
    if feed is not None:
        notes.append(wrap(_ENTRY["feed"], feed.message().SerializeToString()))
    if trade_identities:
        notes.append(wrap(_ENTRY["trade_identities"], trade_identities))
    return notes
