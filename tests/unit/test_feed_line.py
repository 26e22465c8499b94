"""The vendor's line as the scanner shows it: what the sequencer answers, and silence of the sequencer itself."""

from types import SimpleNamespace
from typing import Any

from tradeul.v1 import data_ingest_pb2, session_pb2, stream_pb2

from services.scanner.feed_line import SILENCE_SECONDS, FeedLine


def test_stale_seconds_are_the_sequencers_and_count_on_while_it_does_not_answer() -> None:
    now = 100.0
    state = SimpleNamespace(session=session_pb2.MARKET_OPEN)
    core: Any = SimpleNamespace(is_loaded=True, market=SimpleNamespace(state=state))
    line = FeedLine("127.0.0.1:1", core, lambda: now)
    assert (line.stale_seconds(), list(line.gaps)) == (0.0, [])
    gap = stream_pb2.FeedLineGap(reason="closed")
    line.take(data_ingest_pb2.SequencerStatus(stale_seconds=4.0, gaps=[gap]))
    assert (line.stale_seconds(), list(line.gaps)) == (4.0, [gap])
    now += SILENCE_SECONDS - 1
    assert line.stale_seconds() == 4.0
    now += 2
    assert line.stale_seconds() == 4.0 + SILENCE_SECONDS + 1
    # Nothing is expected of a closed market.
    state.session = session_pb2.CLOSED
    assert line.stale_seconds() == 0.0
    line.take(data_ingest_pb2.SequencerStatus())
    assert (line.stale_seconds(), list(line.gaps)) == (0.0, [])
