"""The sequenced stream's trades and minute bars into a day's files: a sink of the frame reader."""

import datetime
from pathlib import Path
from typing import Final

from tradeul.v1 import frame_pb2

from fastcore.market import state_of
from services.kit.rpc.frames import Frame, FrameError
from services.kit.rpc.ring import Position
from services.kit.runtime.logging import get_logger
from services.market import recorded_stream
from services.market.flat_files import MINUTE_BARS_KIND, TRADES_KIND
from services.market.recorded_market import VERSION, RecordedMarket
from services.record.files import STREAM_KIND, DayRecording, read_state
from services.record.rows import RowWriter
from services.record.stream import StreamCopy

log = get_logger(__name__)

_FRAME: Final = {field.name: field.number for field in frame_pb2.Frame.DESCRIPTOR.fields}
# Queued rows of this size are written at once.
MAX_WAITING_BYTES: Final = 1 << 20


class Recording:
    """See frame_reader.FrameSink. `folder` is where the vendor's tree of files begins.

    Continues with the recording under way there, and where the sequencer still has
    what came since, nothing is missing and nothing is there twice.

    `keeps_stream`: the stream itself is recorded, too; a recording under way goes on as it began.
    """

    def __init__(self, folder: Path, keeps_stream: bool = False) -> None:
        self.gaps = 0
        self.unhealthy_reason = ""
        self._folder = folder
        self._position: Position | None = None
        self._written: Position | None = None
        self._symbols: list[str] = []
        self._rows = RowWriter()
        self._day: DayRecording | None = None
        if (state := read_state(folder)) is not None:
            self._day = DayRecording(folder, state.date)
            self._day.go_on(state)
            self._position = self._written = Position(state.epoch, state.sequence)
            self._symbols = state.symbols
            self._rows = RowWriter(state.trade_number)
            self.gaps = state.gaps
            if keeps_stream != (keeps_stream := STREAM_KIND in state.sizes):
                log.warning("the recording under way goes on as it began", keeps_stream=keeps_stream)
        self._stream = StreamCopy() if keeps_stream else None
        if self._stream is not None and self._day is not None:
            self._stream.read(self._day.stream_path)

    @property
    def day(self) -> DayRecording | None:
        """The day being recorded; None before the first frame."""
        return self._day

    @property
    def position(self) -> Position | None:
        return self._position

    def apply(self, frame: Frame) -> None:
        if frame.begins_market:
            self._symbols = []
            self._position = frame.position._replace(sequence=frame.position.sequence - 1)
            if self._stream is not None:
                self._stream.begin(frame.position.epoch)
                self._keep_market()
        try:
            self._take(frame.kind, frame.body)
            if self._stream is not None:
                self._stream.apply(frame)
                if self._day is not None:
                    self._day.add_to_stream(recorded_stream.entry(recorded_stream.FRAME, frame.encoded))
        except (ValueError, IndexError, KeyError) as error:
            raise FrameError(f"frame {frame.position} cannot be recorded: {error}") from error
        self._position = frame.position
        if self._day is not None and self._day.waiting_bytes >= MAX_WAITING_BYTES:
            self.flush()

    def load(self, data: bytes, position: Position) -> None:
        try:
            state = state_of(data)
        except ValueError as error:
            raise FrameError(f"snapshot at {position} cannot be read: {error}") from error
        # In order: what is queued comes before the new position.
        self.flush()
        if self._stream is not None:
            self._stream.load(data)
            if self._day is not None and state.trading_date == str(self._day.date):
                self._keep_market()
        # With another day another stream begins, and nothing of this day is missing.
        if self._position is not None and (self._day is None or state.trading_date == str(self._day.date)):
            self.gaps += 1
            log.warning("the recording has a gap", after=str(self._position), goes_on_at=str(position))
        self._symbols = list(state.symbols)
        self._position = position
        if state.trading_date:
            date = datetime.date.fromisoformat(state.trading_date)
            head = RecordedMarket(VERSION, date, *position, state.now_ns, state.count)
            self._enter(date, head, data)

    def forget(self) -> None:
        self.flush()
        self._position = None

    def set_unhealthy_reason(self, reason: str) -> None:
        self.unhealthy_reason = reason

    def flush(self) -> None:
        """Writes what is queued."""
        if self._day is not None and self._position is not None and self._position != self._written:
            self._day.flush(self._position, self._rows.sequence, self._symbols, self.gaps)
            self._written = self._position

    def _keep_market(self) -> None:
        """The day's file of the stream goes on from the market as it is."""
        if self._stream is not None and self._day is not None:
            self._day.add_to_stream(self._stream.entry())

    def _take(self, kind: int, body: memoryview) -> None:
        if kind == _FRAME["trades"] and self._day is not None:
            self._day.add(TRADES_KIND, self._rows.trades(body, self._symbols))
        elif kind == _FRAME["bars"] and self._day is not None:
            self._day.add(MINUTE_BARS_KIND, self._rows.minute_bars(body, self._symbols))
        elif kind == _FRAME["symbols"]:
            table = frame_pb2.SymbolTable.FromString(bytes(body))
            self._symbols[table.first_id :] = table.symbols
        elif kind == _FRAME["trading_day"]:
            day = frame_pb2.TradingDay.FromString(bytes(body))
            self._enter(datetime.date.fromisoformat(day.trading_date))

    def _enter(self, date: datetime.date, head: RecordedMarket | None = None, market: bytes = b"") -> None:
        """The day of what follows, and the market that it comes after where the day is not at its beginning."""
        if self._day is not None and self._day.date == date:
            return
        if self._day is not None:
            self.flush()
            log.info("day recorded", date=str(self._day.date), **self._day.rows)
        self._day = DayRecording(self._folder, date)
        self._day.begin(head, market)
        self._rows = RowWriter()
        self._keep_market()
        assert self._position is not None, "there is a frame or a state"
        # From here on these files are ours.
        self._day.flush(self._position, 0, self._symbols, self.gaps)
        self._written = self._position
        begins_with = f"the market of {head.symbols} symbols" if head is not None else "the day"
        log.info("recording", date=str(date), folder=str(self._folder), begins_with=begins_with)
