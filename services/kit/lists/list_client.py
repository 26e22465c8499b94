"""A client of the scanner's list streams: an exact copy of one list, kept across broken connections.

`ListCopy` applies the messages; `follow_list` keeps one current for good, `follow_responses` shows each message, too.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Container
from typing import Final, NamedTuple

import grpc.aio
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.kept_rows import ListHole
from services.kit.rpc.channel import Connection, StreamEnded, open_channel
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.settings import Address

# The scanner sends a heartbeat at least every 10 s.
SILENCE_SECONDS: Final = 30.0

ListChange = scanner_pb2.ListChange


class ListCopy:
    """One list, exactly as the scanner published it at `epoch` and `sequence`."""

    def __init__(self) -> None:
        self.list = ""
        self.epoch = 0
        self.sequence = 0
        # True once the catch-up is over.
        self.is_current = False
        # True once the server announced that it stops.
        self.is_going_away = False
        self.timestamp_ns = 0
        # The position in the sequencer's stream of this state of the list.
        self.market_position = (0, 0)
        self.snapshots = 0
        self.deltas = 0
        self.resets = 0
        # Why it does not follow the scanner; "" while it does.
        self.unhealthy_reason = ""
        self._rows: dict[str, TickerRow] = {}
        # True while the rows are those of the position, so that deltas are enough to continue.
        self._is_exact = False

    @property
    def is_loaded(self) -> bool:
        """True once a snapshot was received."""
        return self.snapshots > 0

    @property
    def can_resume(self) -> bool:
        """True if deltas after the position are enough to continue; else a snapshot is needed."""
        return self._is_exact

    def rows(self) -> list[TickerRow]:
        """The rows by rank."""
        return sorted(self._rows.values(), key=lambda row: row.rank)

    def apply(self, response: scanner_pb2.WatchListResponse) -> bool:
        """Takes the next message of the stream; True if the rows changed. Raises ListHole."""
        kind = response.WhichOneof("response")
        if kind == "snapshot":
            self._take_snapshot(response.snapshot)
        elif kind == "delta":
            self._take_delta(response.delta)
        else:
            if kind == "opened":
                self.list = response.opened.list
                self.is_current = False
                self.is_going_away = False
            elif kind == "current":
                self.is_current = True
            elif kind == "reset":
                self.resets += 1
            elif kind == "going_away":
                self.is_going_away = True
            return False
        return True

    def _take_snapshot(self, snapshot: scanner_pb2.RankedList) -> None:
        self._rows = {row.symbol: row for row in snapshot.rows}
        self.epoch = snapshot.epoch
        self.sequence = snapshot.sequence
        self.snapshots += 1
        self._is_exact = True
        self._take_time(snapshot)

    def _take_delta(self, delta: scanner_pb2.ListDelta) -> None:
        if (delta.epoch, delta.previous_sequence) != (self.epoch, self.sequence):
            raise ListHole(
                f"list {delta.list}: expected a delta from {self.epoch}/{self.sequence}, "
                f"was from {delta.epoch}/{delta.previous_sequence}"
            )
        rows = self._rows
        if (fault := _fault(rows, delta)) is not None:
            # The scanner would send the same delta again: one of the two has other rows at this position.
            self._is_exact = False
            raise ListHole(f"list {delta.list}: the delta to {delta.epoch}/{delta.sequence} {fault}")
        for change in delta.deltas:
            if change.action == ListChange.REMOVE:
                del rows[change.symbol]
            elif change.action == ListChange.RERANK:
                rows[change.symbol].rank = change.new_rank
            else:
                is_patch = change.action == ListChange.UPDATE and not change.data.symbol
                row = _patched(rows[change.symbol], change) if is_patch else change.data
                row.rank = change.rank
                rows[change.symbol] = row
        self.sequence = delta.sequence
        self.deltas += 1
        self._take_time(delta)

    def _take_time(self, message: scanner_pb2.RankedList | scanner_pb2.ListDelta) -> None:
        self.timestamp_ns = message.timestamp.ToNanoseconds()
        self.market_position = (message.position.epoch, message.position.sequence)


def _patched(row: TickerRow, change: scanner_pb2.ListChange) -> TickerRow:
    """Returns the row after an update with changed fields only, which lacks the symbol that complete rows have."""
    patched = TickerRow()
    patched.CopyFrom(row)
    # Whole values: MergeFrom() alone would leave the nanoseconds of a time that now has none.
    for name in (*(field.name for field, _ in change.data.ListFields()), *change.absent.paths):
        # One of a later version is not in this row.
        if name in TickerRow.DESCRIPTOR.fields_by_name:
            patched.ClearField(name)  # type: ignore[arg-type]  # any name, not a literal
    patched.MergeFrom(change.data)
    return patched


def _fault(rows: Container[str], delta: scanner_pb2.ListDelta) -> str | None:
    """Returns how a delta contradicts the rows that it changes; None when it does not."""
    members: dict[str, bool] = {}
    for change in delta.deltas:
        symbol = change.symbol
        is_member = members.get(symbol, symbol in rows)
        if is_member == (change.action == ListChange.ADD):
            what = "no member" if is_member else "a member"
            return f"has {ListChange.Action.Name(change.action)} of {symbol!r}: expected {what}"
        members[symbol] = change.action != ListChange.REMOVE
    return None


ListRequest = scanner_pb2.WatchListRequest | scanner_pb2.WatchScanRequest


def open_message(request: ListRequest, copy: ListCopy) -> scanner_pb2.SubscribeListRequest:
    """The first message of a subscription that continues after the position of `copy`."""
    if isinstance(request, scanner_pb2.WatchScanRequest):
        # A custom scan has no position to resume from.
        return scanner_pb2.SubscribeListRequest(open_scan=request)
    opening = scanner_pb2.WatchListRequest()
    opening.CopyFrom(request)
    if copy.can_resume:
        opening.epoch = copy.epoch
        opening.sequence = copy.sequence
    return scanner_pb2.SubscribeListRequest(open=opening)


class Followed(NamedTuple):
    """A response that has been applied, or None when the connection ended; `is_news` when the copy shows a change."""

    response: scanner_pb2.WatchListResponse | None
    is_news: bool


async def follow_responses(
    channel: grpc.aio.Channel, request: ListRequest, copy: ListCopy, api_key: str = ""
) -> AsyncGenerator[Followed, None]:
    """Yields every response once it is applied to `copy`, and the end of every connection; never ends by itself.

    Reconnects with the copy's position, at once after going_away, else with a
    growing jittered pause. Raises grpc.aio.AioRpcError when the server refuses
    the request for good (a wrong filter, an unknown list, no right). `api_key` is sent where it is not empty.
    """
    backoff = Backoff()
    metadata = (("x-api-key", api_key),) if api_key else None
    stub = scanner_pb2_grpc.ScannerServiceStub(channel)
    while True:
        copy.is_going_away = False
        try:
            call = stub.SubscribeList(None, metadata=metadata)
            with Connection[scanner_pb2.WatchListResponse](call, SILENCE_SECONDS) as connection:
                await connection.write(open_message(request, copy))
                while not copy.is_going_away:
                    response = await connection.read()
                    backoff.reset()
                    was_current, was_unhealthy = copy.is_current, copy.unhealthy_reason
                    changed = copy.apply(response)
                    copy.unhealthy_reason = ""
                    yield Followed(response, changed or bool(was_unhealthy) or copy.is_current != was_current)
            copy.unhealthy_reason = "the scanner is restarting"
        except ListHole as hole:
            copy.unhealthy_reason = str(hole)
        except StreamEnded as ended:
            if ended.is_refusal and ended.error is not None:
                raise ended.error from None
            copy.unhealthy_reason = str(ended)
        copy.is_current = False
        yield Followed(None, True)
        await asyncio.sleep(backoff.next())


async def follow_list(
    target: Address | str, request: ListRequest, copy: ListCopy | None = None, api_key: str = ""
) -> AsyncGenerator[ListCopy, None]:
    """Yields the same copy after every change of it, and when `copy.unhealthy_reason` changes; as follow_responses."""
    copy = copy or ListCopy()
    async with (
        open_channel(target) as channel,
        contextlib.aclosing(follow_responses(channel, request, copy, api_key)) as responses,
    ):
        async for followed in responses:
            if followed.is_news:
                yield copy
