"""polygon_ws's core and the sequencer in a process of their own, wired as the services wire them, without the network.

What is measured of that process is theirs alone: no twin's memory, no simulator's.
"""

import gc
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tradeul.v1 import scanner_pb2

from services.kit.lists.scan_filters import default_filters
from services.market.calendar import TradingDay
from tests.support.pipeline import Pipeline
from tests.support.twin_frames import row_values

# Frames held for readers, of which there are none.
MAX_FRAMES = 64
PAGE_BYTES = 4096


class ServedPipeline(Pipeline):
    """A Pipeline of lists with the default scanner filters, and what it answers."""

    def __init__(self, days: Sequence[TradingDay]) -> None:
        super().__init__(days, max_frames=MAX_FRAMES)
        self.sequencer.set_list_filters(default_filters())

    def take(self, message: bytes, watermark_ns: int) -> None:
        """One message of the vendor's, and the watermark after it."""
        self.buffer.decode(message)
        self.pump()
        self.buffer.acknowledge(self.buffer.position)
        self.sequencer.add_watermark(watermark_ns)

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """Every list as published, by name."""
        return {name: self._rows(name) for name in self.market.list_names}

    def state(self) -> dict[str, Any]:
        """The day in force, how many have begun, trades_today by symbol, and this process's memory in bytes."""
        state = self.market.state
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "date": self.date,
            "days": self.feed.days.count,
            "trades": {symbol: state.row(symbol).get("trades_today") for symbol in state.symbols},
            "bytes": pages * PAGE_BYTES,
        }

    def _rows(self, name: str) -> list[dict[str, Any]]:
        snapshot = scanner_pb2.RankedList.FromString(self.market.snapshot(name))
        return [row_values(row) for row in snapshot.rows]


def _serve(connection: Connection, days: Sequence[TradingDay]) -> None:
    pipeline = ServedPipeline(days)
    while (call := connection.recv()) is not None:
        method, arguments = call
        connection.send(getattr(pipeline, method)(*arguments))


class PipelineProcess:
    """A ServedPipeline elsewhere: `ask("lists")` calls its method of that name. EOFError when it has died."""

    def __init__(self, days: Sequence[TradingDay]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, list(days)), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._connection.send(None)
        else:
            self._process.kill()
        self._process.join()
        self._connection.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Calls a method and returns its answer."""
        self._connection.send((method, arguments))
        return self._connection.recv()
