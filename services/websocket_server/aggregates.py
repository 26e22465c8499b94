"""Aggregate messages: the newest bar of each symbol in a watched list, from the sequencer's stream of bars."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final, NamedTuple

import msgspec
from tradeul.v1 import bars_pb2, bars_pb2_grpc, frame_pb2, market_data_pb2

from fastcore.row_json import instant_json
from services.kit.lists.list_json import text_json
from services.kit.rpc.channel import Connection, StreamEnded, reconnecting
from services.kit.rpc.sequencers import Sequencers
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address
from services.websocket_server import client_messages, metrics
from services.websocket_server.limits import Limits

log = get_logger(__name__)

SECOND: Final = market_data_pb2.SECOND
# A heartbeat comes at least every second.
SILENCE_SECONDS: Final = 10.0


class Bar(NamedTuple):
    """A bar by the names of the aggregate message; NaN is absent."""

    end_ns: int
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float
    vw: float
    av: float
    op: float


class BarBook:
    """Keeps bars that were not shown yet, of the symbols (as JSON) that are `wanted` when they come."""

    def __init__(self, wanted: Callable[[], Set[bytes]]) -> None:
        self._wanted = wanted
        # Symbols as JSON, by their ids in the present stream.
        self._symbols: list[bytes] = []
        # Ids that have bars of seconds: their minutes say nothing new.
        self._with_seconds: set[int] = set()
        # By symbol: the bar not shown yet, and the end of the last one shown.
        self._newest: dict[bytes, Bar] = {}
        self._shown_ns: dict[bytes, int] = {}

    def forget(self) -> None:
        """Drops everything: another stream begins, with ids of its own."""
        self._symbols.clear()
        self._with_seconds.clear()
        self._newest.clear()
        self._shown_ns.clear()

    def add_symbols(self, table: frame_pb2.SymbolTable) -> None:
        """Adds the names of further ids; raises ValueError when some are missing before them."""
        if table.first_id != len(self._symbols):
            raise ValueError(f"expected symbols from id {len(self._symbols)} on, was from {table.first_id}")
        self._symbols += [text_json(symbol) for symbol in table.symbols]

    def take(self, batch: market_data_pb2.BarBatch) -> None:
        """Takes a batch of bars; raises ValueError when its columns do not fit."""
        columns = (
            batch.open,
            batch.high,
            batch.low,
            batch.close,
            batch.volume,
            batch.vwap,
            batch.accumulated_volume,
            batch.official_open,
        )
        ids = batch.symbol_id
        fits = all(len(column) == len(ids) for column in (batch.end_ns, *columns))
        if not fits or max(ids, default=-1) >= len(self._symbols):
            raise ValueError(f"expected {len(ids)} bars of {len(self._symbols)} symbols, the columns do not fit")
        if batch.span == SECOND:
            self._with_seconds.update(ids)
        wanted = self._wanted()
        for row, symbol_id in enumerate(ids):
            symbol = self._symbols[symbol_id]
            if batch.span != SECOND and symbol_id in self._with_seconds:
                continue
            if symbol in wanted:
                self._keep(symbol, Bar(batch.end_ns[row], *[column[row] for column in columns]))

    def drain(self) -> dict[bytes, bytes]:
        """Takes out the framed aggregates of all symbols with a newer bar than at the last call, by symbol as JSON."""
        newest, self._newest = self._newest, {}
        for symbol, bar in newest.items():
            self._shown_ns[symbol] = bar.end_ns
        return {symbol: _frame(symbol, bar) for symbol, bar in newest.items()}

    def _keep(self, symbol: bytes, bar: Bar) -> None:
        """Keeps a bar unless it is older than the newest; one that is sent again replaces the earlier one."""
        shown_ns = self._shown_ns.get(symbol, 0)
        waiting = self._newest.get(symbol)
        if bar.end_ns >= (waiting.end_ns if waiting is not None else shown_ns):
            self._newest[symbol] = bar


class BarFollower:
    """Follows the sequencer's bars while `is_needed`, and hands the newest of each symbol to `show` once a second."""

    def __init__(
        self,
        target: Address | Sequence[Address],
        book: BarBook,
        is_needed: Callable[[], bool],
        show: Callable[[dict[bytes, bytes]], None],
        limits: Limits,
    ) -> None:
        self._sequencers = Sequencers(target)
        self._book = book
        self._is_needed = is_needed
        self._show = show
        self._limits = limits
        self._backoff = self._sequencers.backoff()

    async def run(self) -> None:
        """Follows and shows until cancelled."""
        loop = asyncio.get_running_loop()
        following: asyncio.Task[None] | None = None
        needed_at = 0.0
        try:
            while True:
                await asyncio.sleep(self._limits.aggregate_seconds)
                if self._is_needed():
                    needed_at = loop.time()
                    if following is None:
                        following = asyncio.create_task(self._follow(), name="websocket_server.bars")
                elif following is not None and loop.time() - needed_at > self._limits.linger_seconds:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    following = None
                if following is not None and following.done():
                    # It never ends without a defect, which is raised here.
                    await following
                if aggregates := self._book.drain():
                    self._show(aggregates)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        async with self._sequencers:
            await reconnecting(self._read_bars, self._ended, self._backoff)

    def _ended(self, reason: str, pause: float) -> None:
        is_usual = self._sequencers.are_several
        (log.info if is_usual else log.warning)("stream of bars ended", reason=reason, again_in=pause)

    async def _read_bars(self) -> str:
        """Reads one connection to its end; returns why it ended."""
        self._book.forget()
        stub = bars_pb2_grpc.BarServiceStub(self._sequencers.channel)
        call = stub.WatchBars(bars_pb2.WatchBarsRequest(watcher=metrics.SERVICE))
        try:
            seconds = self._sequencers.silence_seconds(SILENCE_SECONDS)
            with Connection[bars_pb2.WatchBarsResponse](call, seconds) as connection:
                while True:
                    self._take(await connection.read())
                    self._backoff.reset()
        except StreamEnded as ended:
            self._sequencers.next(ended.is_silence)
            return str(ended)
        except ValueError as error:
            metrics.rejected("invalid_bars")
            return str(error)

    def _take(self, response: bars_pb2.WatchBarsResponse) -> None:
        """Raises ValueError."""
        kind = response.WhichOneof("response")
        if kind == "symbols":
            self._book.add_symbols(response.symbols)
        elif kind == "bars":
            self._book.take(response.bars)
        elif kind is None:
            raise ValueError("expected symbols, bars, heartbeat or going_away, was nothing")


def _frame(symbol: bytes, bar: Bar) -> bytes:
    data = {name: _number(value) for name, value in _values(bar) if math.isfinite(value)}
    return client_messages.aggregate(symbol, msgspec.json.encode(data), instant_json(bar.end_ns))


def _values(bar: Bar) -> Iterable[tuple[str, float]]:
    return zip(Bar._fields[1:], bar[1:], strict=True)


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value
