"""What is traced, by which ids, and the spans of polygon_ws and of a WebSocket server's list."""

from typing import Any, cast

import pytest
from tradeul.v1 import polygon_ws_pb2, scanner_pb2

from services.kit.rpc.ring import Position
from services.kit.runtime.setting_groups import TraceSettings
from services.kit.runtime.settings import Settings
from services.kit.runtime.spans import Traces
from services.kit.runtime.tracing import Refresh, outgoing
from services.polygon_ws import batch_traces
from services.polygon_ws.batch_traces import MAX_BATCHES, BatchTraces
from services.websocket_server.list_traces import ListTraces
from tests.support.otlp import SpanReceiver

EPOCH = 1_790_000_000
TIME_NS = 1_773_149_700_000_000_000
STEP_NS = 40_000_000


class Added:
    """In place of a service's Traces: what is added to it."""

    def __init__(self, one_of: int = 1) -> None:
        self.spans: list[dict[str, Any]] = []
        self._one_of = one_of

    def sampled(self, epoch: int, time_ns: int) -> Refresh | None:
        refresh = Refresh(epoch, time_ns)
        return refresh if refresh.is_sampled(self._one_of) else None

    def add(self, name: str, refresh: Refresh, start_ns: int, end_ns: int, attributes: Any, **steps: Any) -> None:
        self.spans.append({"name": name, "refresh": refresh, "start": start_ns, "end": end_ns, **attributes, **steps})


def as_traces(added: Added) -> Traces:
    return cast(Traces, added)


def test_one_of_so_many_refreshes_is_sampled() -> None:
    refreshes = [Refresh(EPOCH, TIME_NS + number * STEP_NS) for number in range(20_000)]
    for one_of in (10, 100):
        count = sum(refresh.is_sampled(one_of) for refresh in refreshes)
        assert count == pytest.approx(20_000 / one_of, rel=0.2)
    assert all(refresh.is_sampled(1) for refresh in refreshes)
    assert not any(refresh.is_sampled(0) for refresh in refreshes)


def test_ids_differ_between_refreshes_and_steps() -> None:
    refreshes = [Refresh(epoch, TIME_NS + number) for epoch in (EPOCH, EPOCH + 1) for number in range(100)]
    assert len({refresh.trace_id for refresh in refreshes}) == 200
    assert len({refresh.span_id(step) for refresh in refreshes for step in ("line", "batch", "frame")}) == 600
    # Every process computes them, also one of another version.
    assert refreshes[0].trace_id == 0xB6A39372CFF75D924582A612FB379003


def test_polygon_ws_adds_the_line_where_trades_have_the_walls_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((100, 130, 200, 230))
    monkeypatch.setattr(batch_traces, "wall_ns", lambda: next(times))
    for is_wall in (True, False):
        added = Added()
        traces = BatchTraces(as_traces(added), is_wall)
        traces.received()
        traces.received()
        traces.batched(Position(7, 1), 60)
        traced = polygon_ws_pb2.TracedBatch(position=Position(7, 1).message(), epoch=EPOCH, time_ns=TIME_NS)
        traces.traced(traced)
        names = [(span["name"], span["parent"], span["step"]) for span in added.spans]
        if is_wall:
            assert names == [("line", None, "line"), ("polygon_ws", "line", "batch")]
            assert [(span["start"], span["end"]) for span in added.spans] == [(60, 100), (100, 130)]
        else:
            assert names == [("polygon_ws", None, "batch")]
        assert {span["refresh"] for span in added.spans} == {Refresh(EPOCH, TIME_NS)}


def test_polygon_ws_holds_the_times_of_so_many_batches() -> None:
    added = Added()
    traces = BatchTraces(as_traces(added), is_wall=False)
    for sequence in range(1, MAX_BATCHES + 2):
        traces.batched(Position(7, sequence), 0)
    for sequence in (1, 2, MAX_BATCHES + 1):
        traces.traced(polygon_ws_pb2.TracedBatch(position=Position(7, sequence).message(), epoch=1, time_ns=2))
    assert [span["tradeul.batch"] for span in added.spans] == ["7/2", f"7/{MAX_BATCHES + 1}"]


def test_a_lists_span_ends_when_all_clients_have_been_written_to() -> None:
    added = Added()
    traces = ListTraces(as_traces(added), "winners", lambda: 3)
    delta = scanner_pb2.ListDelta(list="winners", epoch=EPOCH, previous_sequence=4, sequence=5, change_count=1)
    delta.deltas.add(symbol="A")
    delta.timestamp.FromNanoseconds(TIME_NS)
    traces.received(memoryview(delta.SerializeToString()))
    assert added.spans == []
    traces.flushed()
    traces.flushed()
    (span,) = added.spans
    assert (span["refresh"], span["parent"], span["tradeul.subscribers"]) == (Refresh(EPOCH, TIME_NS), "frame", 3)
    assert span["start"] <= span["end"]


async def test_requests_without_a_sampled_parent_have_no_span() -> None:
    async with SpanReceiver() as receiver:
        traces = Traces(TraceSettings(otlp_url=receiver.url, refreshes=1), "here")
        parent = "0123456789abcdef0123456789abcdef-0123456789abcdef"
        for metadata in (
            (),
            (("traceparent", f"00-{parent}-00"),),
            (("traceparent", "nonsense"),),
            (("traceparent", b"\xff"),),
            (("traceparent", f"00-{parent}-01" * 100),),
        ):
            assert traces.begin_request("/a.B/C", metadata) is None
            assert outgoing() == ()
        span = traces.begin_request("/a.B/C", (("x", "y"), ("traceparent", f"00-{parent}-01")))
        assert span is not None
        ((name, continued),) = outgoing()
        assert (
            name == "traceparent"
            and continued.startswith(f"00-{parent[:32]}-")
            and not continued.endswith(f"-{parent[33:]}-01")
        )
        span.end("INTERNAL")
        refresh = Refresh(EPOCH, TIME_NS)
        traces.add("first", refresh, 1, 2, {}, parent=None, step="frame")
        traces.add("second", refresh, 3, 2, {"tradeul.list": "winners"}, parent="frame")
        await traces.close()
        (request,) = receiver.traces.pop(parent[:32])
        assert (request.service, request.name, request.parent) == ("here", "a.B/C", parent[33:])
        assert request.attributes["rpc.response.status_code"] == "INTERNAL"
        first, second = sorted(receiver.traces.pop(f"{refresh.trace_id:032x}"), key=lambda span: span.name)
        assert (first.parent, first.id, second.parent) == ("", f"{refresh.span_id('frame'):016x}", first.id)
        assert (second.start_ns, second.end_ns) == (3, 3)
        assert not receiver.traces


def test_a_wrong_url_is_a_wrong_setting() -> None:
    assert not Settings.load({}).trace.is_on
    with pytest.raises(Exception, match="TRADEUL_TRACE_OTLP_URL: expected an http:// or https:// URL"):
        Settings.load({"TRADEUL_TRACE_OTLP_URL": "collector:4317"})
