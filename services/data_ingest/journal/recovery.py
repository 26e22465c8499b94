"""Reading the journal: the market as the process before left it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tradeul.v1 import frame_pb2, journal_pb2

from fastcore.market import Market, state_of
from fastcore.market_state import MarketState
from fastcore.wire import fields, only_field
from services.data_ingest.journal.files import (
    VERSION,
    Damaged,
    JournalDirectory,
    JournalFile,
    Kind,
    boot_id,
    read_records,
)
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import ListSpec
from services.kit.rpc.frames import read_frame
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.market.calendar import TradingDay

log = get_logger(__name__)

_ENTRY: Final = {name: field.number for name, field in journal_pb2.JournalEntry.DESCRIPTOR.fields_by_name.items()}
_TRADING_DAY: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["trading_day"].number
_WATERMARK: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["watermark"].number


class Recovered(NamedTuple):
    """The market that the next process continues with."""

    # Of the last frame that was written.
    position: Position
    rows: MarketState
    # The rows with their lists, where the numbering may continue: on the same start of the machine, with the
    # same lists. Else None, and the rows continue under a new epoch.
    market: Market | None
    # The messages before it that are still known, for readers who are behind.
    messages: list[bytes]
    day: TradingDay
    # The last batch of polygon_ws that is in it.
    feed: Position | None
    # By what duplicates of its last trades are recognised.
    trade_identities: bytes
    # The newest alerts, encoded. Where the numbering cannot continue, those since the state are unknown.
    alerts: Sequence[bytes]
    # The state it was read from; None for what a standby has of the leader.
    state: JournalFile | None


def recover(directory: JournalDirectory, definitions: Sequence[ListSpec]) -> Recovered | None:
    """The market of the newest state and the entries since; None when there is none that can be read."""
    for file in reversed(directory.files("state")):
        try:
            return _Reader(directory, file, definitions).read()
        except (OSError, ValueError) as error:
            reason = reason_of(error)
        try:
            found = _Reader(directory, file, None).read()
        except (OSError, ValueError) as error:
            log.warning("journal: state cannot be read", file=file.name, reason=reason_of(error))
        else:
            log.warning("journal: numbering cannot continue", file=file.name, reason=reason)
            return found
    return None


class _Reader:
    """Continues from one state; ValueError when that cannot be.

    With the lists' definitions the numbering continues, so that all that was written must be there; without,
    the rows do, as far as they can be read.
    """

    def __init__(self, directory: JournalDirectory, file: JournalFile, definitions: Sequence[ListSpec] | None) -> None:
        self._directory = directory
        state = _read_state(directory, file)
        self._file = file
        self._state = state
        self._epoch = file.position.epoch
        self._first = self._sequence = file.position.sequence
        self._market = self._market_of(state, file.position, definitions) if definitions is not None else None
        self._rows = self._market.state if self._market is not None else state_of(state.market)
        # Without lists, too, alert rules remember what they did, but for those that name lists.
        market = self._market or Market.of_state((), self._epoch, self._rows, encode_deltas=False)
        self._apply: Callable[[memoryview], object] = market.apply
        self._alerts = RecentAlerts(alert.SerializeToString() for alert in state.alerts)
        self._messages: list[bytes] = []
        self._day = TradingDay.of_frame(state.trading_day) if state.HasField("trading_day") else None
        self._feed = Position.of(state.feed) if state.HasField("feed") else None
        self._identities = [state.trade_identities]
        # Messages of baselines that follow, by sequence.
        self._baselines: dict[int, bytes] = {}

    def read(self) -> Recovered:
        self._read_baselines()
        try:
            self._read_messages_before()
            self._apply_entries()
        except Damaged as error:
            if self._market is not None:
                raise
            log.warning("journal: later entries cannot be read", after=self._sequence, reason=reason_of(error))
        if self._day is None:
            raise ValueError("expected a trading day to have begun, had none")
        return Recovered(
            Position(self._epoch, self._sequence),
            self._rows,
            self._market,
            self._messages,
            self._day,
            self._feed,
            b"".join(self._identities),
            self._alerts.all(),
            self._file,
        )

    @staticmethod
    def _market_of(state: journal_pb2.JournalState, position: Position, definitions: Sequence[ListSpec]) -> Market:
        if not state.head.boot_id or state.head.boot_id != boot_id():
            raise ValueError("the machine was restarted since it was written, the last entries may be missing")
        market = Market.from_bytes(definitions, state.market, encode_deltas=False)
        if (market.epoch, market.sequence) != position:
            raise ValueError(f"expected the market at {position}, was at {market.epoch}/{market.sequence}")
        return market

    def _later(self, kind: Kind, sequence: int) -> Iterator[JournalFile]:
        """The files of a kind and this epoch from `sequence` on, the oldest first."""
        for file in self._directory.files(kind):
            if file.position.epoch == self._epoch and file.position.sequence >= sequence:
                yield file

    # --- baselines

    def _read_baselines(self) -> None:
        """Those of before go into the rows, the others wait for their turn."""
        state = self._state
        # Applied to a copy: the market's own rows are touched by what comes after the state only.
        rows = state_of(state.market)
        if state.HasField("baselines_in") and state.baselines_in != self._first:
            base = JournalFile(Position(self._epoch, state.baselines_in), "state")
            rows.take_baselines(state_of(_read_state(self._directory, base).market))
        for file in self._later("baselines", state.baselines_after):
            for entry in _records(self._directory.path_of(file)):
                for number, first, start, end in fields(entry):
                    if number != _ENTRY["frames"]:
                        continue
                    sequence = read_frame(entry[start:end]).position.sequence
                    if sequence > self._first:
                        self._baselines[sequence] = bytes(entry[first:end])
                    elif file.position.sequence == state.baselines_after:
                        rows.apply(entry[start:end])
        self._rows.take_baselines(rows)

    def _apply_baselines_before(self, sequence: int | None) -> None:
        """Applies the baselines that come before `sequence`; None for all that follow without a hole."""
        while (next_sequence := self._sequence + 1) != sequence and next_sequence in self._baselines:
            self._apply_frame(self._baselines[next_sequence])

    # --- entries

    def _read_messages_before(self) -> None:
        """Reads what led to the state, as far as it is there: for readers, and to recognise duplicates."""
        newest = 0
        for file in self._directory.files("frames"):
            if file.position.epoch != self._epoch or file.position.sequence >= self._first:
                continue
            for entry in _records(self._directory.path_of(file)):
                for number, first, start, end in fields(entry):
                    if number == _ENTRY["frames"]:
                        sequence = read_frame(entry[start:end]).position.sequence
                        if sequence != newest + 1:
                            # Baselines are elsewhere: who needs them gets a snapshot.
                            self._messages.clear()
                        self._messages.append(bytes(entry[first:end]))
                        newest = sequence
                    elif number == _ENTRY["trade_identities"]:
                        self._identities.append(bytes(entry[start:end]))
        if newest != self._first:
            self._messages.clear()

    def _apply_entries(self) -> None:
        for file in self._later("frames", self._first):
            # The last frames before the file was begun may have been baselines.
            self._apply_baselines_before(file.position.sequence + 1)
            if file.position.sequence != self._sequence:
                raise Damaged(f"expected the frames after {self._sequence}, the next file is {file.name}")
            for entry in _records(self._directory.path_of(file)):
                self._apply_entry(entry)
        self._apply_baselines_before(None)

    def _apply_entry(self, entry: memoryview) -> None:
        for number, first, start, end in fields(entry):
            if number == _ENTRY["frames"]:
                self._apply_baselines_before(read_frame(entry[start:end]).position.sequence)
                self._apply_frame(bytes(entry[first:end]))
            elif number == _ENTRY["feed"]:
                self._feed = Position.of(message_of(journal_pb2.JournalEntry, entry[first:end]).feed)
            elif number == _ENTRY["trade_identities"]:
                self._identities.append(bytes(entry[start:end]))

    def _apply_frame(self, message: bytes) -> None:
        frame = read_frame(only_field(message)[1])
        if frame.position != (self._epoch, self._sequence + 1):
            raise Damaged(f"expected frame {self._epoch}/{self._sequence + 1}, was {frame.position}")
        self._apply(frame.encoded)
        if frame.kind == _WATERMARK and self._market is not None:
            self._alerts.take(self._market)
        if frame.kind == _TRADING_DAY:
            self._day = TradingDay.of_frame(message_of(frame_pb2.TradingDay, frame.body))
        self._sequence = frame.position.sequence
        self._messages.append(message)


def _read_state(directory: JournalDirectory, file: JournalFile) -> journal_pb2.JournalState:
    data = directory.path_of(file).read_bytes()
    record = next(read_records(memoryview(data)), None)
    if record is None:
        raise ValueError("expected a complete record, was less")
    state = message_of(journal_pb2.JournalState, record)
    if state.head.version != VERSION:
        raise ValueError(f"expected version {VERSION}, was {state.head.version}")
    if (position := Position.of(state.head.position)) != file.position:
        raise ValueError(f"expected the market at {file.position}, was at {position}")
    return state


def _records(path: Path) -> Iterator[memoryview]:
    """A file's entries, its head left out. None when not even that was written."""
    records = read_records(memoryview(path.read_bytes()))
    if (first := next(records, None)) is None:
        return
    version = message_of(journal_pb2.JournalHead, first).version
    if version != VERSION:
        raise ValueError(f"{path.name}: expected version {VERSION}, was {version}")
    yield from records
