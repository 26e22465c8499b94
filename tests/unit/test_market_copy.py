"""A copy of the market follows the sequencer's frames, and says when it is current and why it is not."""

import asyncio

import pytest
from prometheus_client import REGISTRY, Gauge

from fastcore.market import Market
from services.kit.rpc.frames import FrameError, StreamHole, next_frame
from services.kit.rpc.market_copy import NEW_EPOCH, MarketCopy
from services.kit.rpc.ring import Position
from services.scanner.core import ScannerCore
from tests.support.tape import EPOCH, Tape, a_list, apply_next

SPECS = [a_list("risers")]
IS_CURRENT = Gauge("test_copy_current", "1 while the copy follows.")


class WatchedCopy(MarketCopy[object]):
    """Keeps what its hooks were called with."""

    def __init__(self) -> None:
        self.replaced: list[str] = []
        self.applied: list[Position] = []
        super().__init__(ScannerCore(SPECS), "test_copy", IS_CURRENT)

    def frame_applied(self, frame: object, applied: object) -> None:
        assert self.position is not None
        self.applied.append(self.position)

    def market_replaced(self, reason: str) -> None:
        self.replaced.append(reason)

    def is_current(self) -> bool:
        return self._current.is_set()


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value("tradeul_frames_total", {"service": "test_copy", "kind": kind}) or 0.0


async def test_it_is_current_with_a_market_and_a_stream_that_is_followed() -> None:
    copy, tape = WatchedCopy(), Tape(["AAA"])
    copy.set_unhealthy_reason("")
    assert not copy.is_current()
    apply_next(copy, *tape.opening())
    async with asyncio.timeout(1):
        await copy.until_current()
    assert REGISTRY.get_sample_value("test_copy_current") == 1
    copy.set_unhealthy_reason("data_ingest is away")
    assert (copy.is_current(), copy.unhealthy_reason) == (False, "data_ingest is away")
    assert REGISTRY.get_sample_value("test_copy_current") == 0


async def test_its_hooks_are_called_after_frames_and_for_another_market() -> None:
    copy, tape = WatchedCopy(), Tape(["AAA"])
    before = counted("frame"), counted("snapshot")
    frames = tape.opening()
    apply_next(copy, *frames)
    assert copy.replaced == [NEW_EPOCH]
    assert copy.applied == [Position(EPOCH, sequence) for sequence in range(1, len(frames) + 1)]
    market = Market(SPECS, EPOCH)
    for frame in Tape(["AAA"]).opening():
        market.apply(frame)
    copy.load(market.to_bytes(), Position(EPOCH, 9))
    assert copy.position == (EPOCH, 9) and f"{EPOCH}/9" in copy.replaced[-1]
    apply_next(copy, *Tape(["BBB"], epoch=EPOCH + 1).opening())
    assert copy.replaced[2:] == [NEW_EPOCH]
    assert (counted("frame") - before[0], counted("snapshot") - before[1]) == (2 * len(frames), 1)


async def test_only_the_next_frame_is_applied() -> None:
    copy, tape = WatchedCopy(), Tape(["AAA"])
    apply_next(copy, *tape.opening())
    position = copy.position
    tape.watermark()
    with pytest.raises(StreamHole, match="expected the frame after"):
        apply_next(copy, tape.watermark())
    # An earlier epoch begins nothing.
    with pytest.raises(StreamHole):
        apply_next(copy, Tape(["AAA"], epoch=EPOCH - 1).watermark())
    assert copy.position == position


async def test_what_cannot_be_applied_or_read_is_a_frame_error() -> None:
    copy, tape = WatchedCopy(), Tape(["AAA"])
    with pytest.raises(FrameError, match="cannot be read"):
        copy.load(b"nothing", Position(EPOCH, 9))
    apply_next(copy, *tape.opening())
    with pytest.raises(FrameError, match="cannot be read"):
        next_frame(memoryview(b"\xff"), copy.position)
    trade = next_frame(memoryview(tape.trades({"AAA": 10.0})), copy.position)
    # A batch's columns end in the middle of a value.
    torn = trade._replace(encoded=trade.encoded[:-1])
    with pytest.raises(FrameError, match="cannot be applied"):
        copy.apply(torn)
    copy.forget()
    assert copy.position is None
