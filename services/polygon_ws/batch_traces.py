"""polygon_ws's part of traces: from the vendor's message to the batch with its events."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.ring import Position
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.tracing import Refresh

if TYPE_CHECKING:
    from services.kit.runtime.spans import Traces

# The sequencer says which batch is traced a moment after it has it.
MAX_BATCHES: Final = 1024


class _Times(NamedTuple):
    # By the wall clock, in nanoseconds since 1970 UTC.
    received_ns: int
    batched_ns: int
    # The newest trade's own time; 0 before the first.
    trade_ns: int


class BatchTraces:
    """Adds the spans of traced batches. `is_wall`: True if trades' times can be compared with the wall clock."""

    def __init__(self, traces: "Traces", is_wall: bool) -> None:
        self._traces = traces
        self._is_wall = is_wall
        # Of the first message since the last batch; 0 for none.
        self._received_ns = 0
        self._times: OrderedDict[Position, _Times] = OrderedDict()

    def received(self) -> None:
        """A message of the vendor's has come."""
        if not self._received_ns:
            self._received_ns = wall_ns()

    def batched(self, position: Position, trade_ns: int) -> None:
        """All that has come is a batch now, the one at `position`."""
        now_ns = wall_ns()
        self._times[position] = _Times(self._received_ns or now_ns, now_ns, trade_ns)
        self._received_ns = 0
        if len(self._times) > MAX_BATCHES:
            self._times.popitem(last=False)

    def traced(self, batch: polygon_ws_pb2.TracedBatch) -> None:
        """The sequencer traces a refresh of the lists that shows this batch's events."""
        times = self._times.get(position := Position.of(batch.position))
        if times is None:
            return
        refresh, add = Refresh(batch.epoch, batch.time_ns), self._traces.add
        has_line = self._is_wall and 0 < times.trade_ns <= times.received_ns
        if has_line:
            add("line", refresh, times.trade_ns, times.received_ns, {}, parent=None, step="line")
        add(
            "polygon_ws",
            refresh,
            times.received_ns,
            times.batched_ns,
            {"tradeul.batch": str(position)},
            parent="line" if has_line else None,
            step="batch",
        )
