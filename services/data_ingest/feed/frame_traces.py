"""The sequencer's part of traces: from a batch's arrival to the watermark by which the lists show its events."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.tracing import Refresh

if TYPE_CHECKING:
    from services.kit.runtime.spans import Traces

# Between two acknowledgements.
MAX_TRACED: Final = 64
EVENTS: Final = frozenset({"trades", "bars", "quotes", "limits"})


class TracedBatch(NamedTuple):
    """The first batch whose events a traced refresh shows."""

    position: Position
    refresh: Refresh


class FrameTraces:
    """Adds the spans. `received_ns` is the arrival of the batch that is being sequenced, 0 between batches."""

    def __init__(self, traces: "Traces", sequencer: Sequencer, feed: FeedInput) -> None:
        self.received_ns = 0
        self._traces = traces
        self._sequencer = sequencer
        self._feed = feed
        # The first batch with events since the last watermark, and when it came.
        self._first: tuple[Position, int] | None = None
        self._traced: deque[TracedBatch] = deque(maxlen=MAX_TRACED)
        self._newest_ns = 0
        sequencer.listen(self._frame_added)

    def take_traced(self) -> Iterator[TracedBatch]:
        """Yields the batches of traced refreshes, each once: polygon_ws adds its own spans."""
        while self._traced:
            yield self._traced.popleft()

    def _frame_added(self, body: str, content: bytes) -> None:
        if body == "watermark":
            self._watermark_added()
        elif body in EVENTS and self._first is None and self.received_ns and self._feed.position is not None:
            self._first = self._feed.position, self.received_ns

    def _watermark_added(self) -> None:
        first, self._first = self._first, None
        position, time_ns = self._sequencer.position, self._sequencer.now_ns
        # While no time passes, a watermark changes nothing.
        if time_ns == self._newest_ns:
            return
        self._newest_ns = time_ns
        if (refresh := self._traces.sampled(position.epoch, time_ns)) is None:
            return
        now_ns = wall_ns()
        attributes = {"tradeul.position": str(position)}
        if first is not None:
            self._traced.append(TracedBatch(first[0], refresh))
            attributes["tradeul.batch"] = str(first[0])
        self._traces.add(
            "data_ingest",
            refresh,
            first[1] if first is not None else now_ns,
            now_ns,
            attributes,
            parent="batch" if first is not None else None,
            step="frame",
        )
