"""A copy of the leader: its market, and what the journal notes beside frames, for a takeover to go on with."""

from collections.abc import Sequence
from typing import Final

from tradeul.v1 import frame_pb2, journal_pb2

from fastcore.market import Market
from fastcore.wire import fields, only_field
from services.data_ingest.journal import Recovered
from services.data_ingest.standby.newest_bytes import NewestBytes
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frames import read_frame
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.market.calendar import TradingDay

_ENTRY: Final = {name: field.number for name, field in journal_pb2.JournalEntry.DESCRIPTOR.fields_by_name.items()}
_TRADING_DAY: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["trading_day"].number
# Messages for readers who are behind, and identities of the newest trades.
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
MAX_IDENTITY_BYTES: Final = 32 * 1024 * 1024


def frames_of(entry: memoryview) -> list[bytes]:
    """Returns the messages of an entry's frames."""
    return [bytes(entry[first:end]) for number, first, _, end in fields(entry) if number == _ENTRY["frames"]]


class StandbyCopy:
    """The leader's market of now. ValueError of any method: this copy is of no more use.

    `earlier`: messages of the frames before it, as far as they are known.
    """

    def __init__(self, state: bytes, earlier: Sequence[bytes] = ()) -> None:
        head = message_of(journal_pb2.JournalState, state)
        self.position = Position.of(head.head.position)
        self.feed = Position.of(head.feed) if head.HasField("feed") else None
        self._market = Market.from_bytes(load_lists(), head.market, encode_deltas=False)
        self._is_refresh_due = False
        self._day = TradingDay.of_frame(head.trading_day) if head.HasField("trading_day") else None
        self._messages = NewestBytes(MAX_MESSAGE_BYTES)
        for message in earlier:
            self._messages.add(message)
        self._identities = NewestBytes(MAX_IDENTITY_BYTES)
        self._identities.add(head.trade_identities)
        self._alerts = RecentAlerts(alert.SerializeToString() for alert in head.alerts)

    @property
    def day(self) -> TradingDay | None:
        """The trading day in force; None before the first."""
        return self._day

    def add(self, entry: memoryview) -> None:
        """Takes the next entry of the journal."""
        for number, first, start, end in fields(entry):
            if number == _ENTRY["frames"]:
                self._apply(bytes(entry[first:end]))
            elif number == _ENTRY["feed"]:
                self.feed = Position.of(message_of(journal_pb2.JournalEntry, entry[first:end]).feed)
            elif number == _ENTRY["trade_identities"]:
                self._identities.add(bytes(entry[start:end]))

    def refresh(self) -> None:
        """Ranks the lists of the last watermark, if they are not; the next entry does it otherwise."""
        if self._is_refresh_due:
            self._is_refresh_due = False
            self._market.refresh()
            self._alerts.take(self._market)

    def check(self, position: Position, number: int) -> None:
        """Compares the copy with the leader's market at `position`."""
        if position != self.position:
            raise ValueError(f"expected to be at {position}, was at {self.position}")
        self.refresh()
        if (own := self._market.hash()) != number:
            raise ValueError(f"expected the hash {number:016x} at {position}, was {own:016x}")

    def recovered(self) -> Recovered | None:
        """The market that a takeover continues with, its numbering included; None when no day had begun."""
        if self._day is None:
            return None
        self.refresh()
        return Recovered(
            self.position,
            self._market.state,
            self._market,
            list(self._messages.pieces),
            self._day,
            self.feed,
            self._identities.joined(),
            self._alerts.all(),
            None,
        )

    def _apply(self, message: bytes) -> None:
        frame = read_frame(only_field(message)[1])
        if frame.position != (self.position.epoch, self.position.sequence + 1):
            raise ValueError(f"expected the frame after {self.position}, was {frame.position}")
        self.refresh()
        self._is_refresh_due = self._market.take(memoryview(frame.encoded))
        if frame.kind == _TRADING_DAY:
            self._day = TradingDay.of_frame(message_of(frame_pb2.TradingDay, frame.body))
        self.position = frame.position
        self._messages.add(message)
