"""What a replay waits for, and reference data in one order."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.data_ingest.feed import replay_gate
from services.data_ingest.feed.replay_gate import ReplayGate
from services.data_ingest.reference import ReferenceBatch
from services.data_ingest.reference.batch import Baselines
from services.data_ingest.reference.holdings import Gathered
from services.kit.rpc.ring import Position, Ring


class Reference:
    loads = 0

    async def load_all(self, names: Sequence[str] = ()) -> None:
        self.loads += 1


class Stream:
    """A ring of small frames, and readers that are where a test puts them."""

    def __init__(self, frames: int, *sequences: int) -> None:
        self.ring = Ring(1, 1 << 16, 1 << 26)
        for _ in range(frames):
            self.ring.append(b"frame")
        self._readers = [SimpleNamespace(position=Position(1, sequence)) for sequence in sequences]
        self.looks = 0

    @property
    def readers(self) -> list[SimpleNamespace]:
        self.looks += 1
        return self._readers

    async def looked_at_again(self) -> None:
        """Returns when its readers have been looked at three times more."""
        enough = self.looks + 3
        while self.looks < enough:
            await asyncio.sleep(0)


def gate_of(stream: Stream) -> tuple[ReplayGate, Reference]:
    reference = Reference()
    gate: Any = ReplayGate(reference, stream)  # type: ignore[arg-type]
    return gate, reference


async def test_reference_data_are_loaded_once_before_the_first_batch() -> None:
    gate, reference = gate_of(Stream(10, 10))
    await gate.open()
    await gate.open()
    assert reference.loads == 1


async def test_a_market_that_has_its_reference_data_needs_none() -> None:
    reference = Reference()
    await ReplayGate(reference, Stream(10, 10), has_reference=True).open()  # type: ignore[arg-type]
    assert reference.loads == 0


async def test_it_tells_how_far_the_reference_data_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay_gate, "PROGRESS_SECONDS", 0.001)

    class Slow(Reference):
        def __init__(self) -> None:
            self.asked = 0

        @property
        def gathered_counts(self) -> dict[str, int]:
            self.asked += 1
            return {"symbols": self.asked}

        async def load_all(self, names: Sequence[str] = ()) -> None:
            while self.asked < 3:
                await asyncio.sleep(0)

    await ReplayGate(Slow(), Stream(10, 10)).open()  # type: ignore[arg-type]
    told = [line for line in capsys.readouterr().out.splitlines() if "waits for reference data" in line]
    assert len(told) == 3
    assert "symbols=3" in told[-1]


async def test_loading_that_fails_fails_the_replay() -> None:
    class Broken(Reference):
        async def load_all(self, names: Sequence[str] = ()) -> None:
            raise RuntimeError("no vendor")

    with pytest.raises(RuntimeError, match="no vendor"):
        await ReplayGate(Broken(), Stream(10, 10)).open()  # type: ignore[arg-type]


async def test_a_reader_that_is_behind_is_waited_for() -> None:
    stream = Stream(replay_gate.MAX_BEHIND_FRAMES + 10, 5, replay_gate.MAX_BEHIND_FRAMES + 10)
    gate, _ = gate_of(stream)
    opening = asyncio.create_task(gate.open())
    await stream.looked_at_again()
    assert not opening.done()
    stream.readers[0].position = Position(1, 10)
    await asyncio.wait_for(opening, 5)


async def test_bytes_count_as_frames_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_gate, "MAX_BEHIND_BYTES", 100)
    stream = Stream(50, 20)
    gate, _ = gate_of(stream)
    opening = asyncio.create_task(gate.open())
    await stream.looked_at_again()
    assert not opening.done()
    stream.readers[0].position = Position(1, 30)
    await asyncio.wait_for(opening, 5)


async def test_a_reader_that_takes_nothing_does_not_hold_the_day_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_gate, "PATIENCE_SECONDS", 0.05)
    stream = Stream(replay_gate.MAX_BEHIND_FRAMES + 10, 5)
    gate, _ = gate_of(stream)
    await asyncio.wait_for(gate.open(), 5)
    # Not again for each batch.
    monkeypatch.setattr(replay_gate, "PATIENCE_SECONDS", 1e9)
    await asyncio.wait_for(gate.open(), 5)


def batches() -> Iterator[ReferenceBatch]:
    for number in range(30):
        symbol = f"S{number}"
        yield ReferenceBatch([symbol, f"T{number}"], {"prev_close": np.array([1.0 + number, 2.0])})
        yield ReferenceBatch([symbol], {}, {"company_name": [f"{symbol} Inc."]})
        slots = np.full((1, 192), float(number))
        yield ReferenceBatch([symbol], baselines=Baselines(np.array([20], np.uint32), slots, slots, slots))


@pytest.mark.parametrize("seed", range(3))
def test_the_same_data_make_the_same_batches_in_whatever_order_they_came(seed: int) -> None:
    def encoded(each: list[ReferenceBatch]) -> list[bytes]:
        gathered = Gathered()
        for batch in each:
            gathered.add(batch)
        return [batch.encode(range(len(batch.symbols))) for batch in gathered.batches()]

    shuffled = list(batches())
    random.Random(seed).shuffle(shuffled)
    assert encoded(shuffled) == encoded(list(batches()))
    assert len(encoded(shuffled)) == 3


def test_the_last_value_holds_and_what_is_not_told_is_absent() -> None:
    gathered = Gathered()
    gathered.add(ReferenceBatch(["B", "A"], {"prev_close": np.array([1.0, 2.0])}))
    gathered.add(ReferenceBatch(["B"], {"prev_close": np.array([3.0]), "atr": np.array([0.5])}))
    (batch,) = gathered.batches()
    assert batch.symbols == ["A", "B"]
    assert batch.numbers["prev_close"].tolist() == [2.0, 3.0]
    assert np.isnan(batch.numbers["atr"][0]) and batch.numbers["atr"][1] == 0.5
    assert gathered.symbols == {"A", "B"}


def test_what_nobody_knows_is_forgotten() -> None:
    nothing = np.full((1, 192), np.nan)
    gathered = Gathered()
    for symbol, close, name, days in (
        ("A", 1.0, "", 0),
        ("B", np.nan, "B Inc.", 0),
        ("C", np.nan, "", 2),
        ("D", np.nan, "", 0),
    ):
        numbers = {"prev_close": np.array([close]), "is_etf": np.array([0.0])}
        gathered.add(ReferenceBatch([symbol], numbers, {"company_name": [name]}))
        slots = Baselines(np.array([days], np.uint32), nothing, nothing, nothing)
        gathered.add(ReferenceBatch([symbol], baselines=slots))
    gathered.forget_unknown(["A", "B", "C", "D", "NEVER"])
    assert gathered.symbols == {"A", "B", "C"}
    assert all("D" not in batch.symbols for batch in gathered.batches())
