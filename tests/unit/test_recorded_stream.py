"""The recorded stream of each day: what a dry run finds there is what the market had, over restarts and days."""

import datetime
import gzip
from collections import defaultdict
from pathlib import Path

import pytest

from fastcore.alert_text import AlertText
from fastcore.market import Market
from services.kit.alerts.encoding import encoded_alert
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frames import next_frame
from services.kit.runtime.errors import StartError
from services.market import recorded_stream
from services.market.flat_files import TRADES_KIND, file_name, stream_file_beside
from services.record.core import Recording
from tests.support.alert_frames import RULES, numbered
from tests.support.dry_runs import canonical, recorded_alerts
from tests.support.market_stream import EPOCH, MarketStream

LISTS = load_lists()


def frames_of(seed: int, **options: object) -> list[bytes]:
    return numbered(list(MarketStream(seed, **options).frames(10)), {0: RULES})  # type: ignore[arg-type]


def alerts_by_day(frames: list[bytes]) -> dict[str, dict[str, list[bytes]]]:
    """The alerts of the market itself, by day and rule."""
    market = Market(LISTS, EPOCH)
    found: dict[str, dict[str, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        if market.take(frame):
            market.refresh()
            for event in market.alert_events:
                found[market.state.trading_date][event.rule].append(encoded_alert(event, market.state, AlertText("")))
    return found


def record(recording: Recording, frames: list[bytes]) -> None:
    for frame in frames:
        recording.apply(next_frame(memoryview(frame), recording.position))


def stream_of(folder: Path, day: str) -> Path:
    return stream_file_beside(folder / file_name(TRADES_KIND, datetime.date.fromisoformat(day)))


@pytest.mark.parametrize("seed", [31, 32])
def test_every_day_has_its_alerts_over_a_crash(seed: int, tmp_path: Path) -> None:
    frames = frames_of(seed, length=1000)
    third = len(frames) // 3
    first = Recording(tmp_path, keeps_stream=True)
    record(first, frames[:third])
    first.flush()
    # Written without the state that says so: the recorder was killed.
    record(first, frames[third : third + 40])
    assert first.day is not None
    with first.day.stream_path.open("ab") as file:
        file.write(gzip.compress(b"cut off")[:-5])
    second = Recording(tmp_path)
    assert second.position == (EPOCH, third)
    record(second, frames[third:])
    second.flush()
    expected = alerts_by_day(frames)
    assert len(expected) == 2 and all(len(rules) > 12 for rules in expected.values())
    for day, by_rule in expected.items():
        for rule in RULES:
            found, market = recorded_alerts(rule, stream_of(tmp_path, day))
            assert not market.lacks
            assert found == canonical(by_rule[rule.name]), (day, rule.name)


def test_a_hole_and_a_file_that_breaks_off_are_named(tmp_path: Path) -> None:
    frames = frames_of(33, length=300, two_days=False)
    half = len(frames) // 2
    recording = Recording(tmp_path, keeps_stream=True)
    record(recording, frames[:half])
    market = Market(LISTS, EPOCH)
    for frame in frames[: half + 30]:
        market.apply(frame)
    recording.load(market.to_bytes(), recording.position._replace(sequence=half + 30))
    record(recording, frames[half + 30 :])
    recording.flush()
    assert recording.day is not None
    path = recording.day.stream_path
    _, played = recorded_alerts(RULES[0], path)
    (hole,) = played.lacks
    assert hole.startswith("frames after ") and hole.endswith(" are missing in the recording")
    broken = tmp_path / "broken.stream.gz"
    broken.write_bytes(path.read_bytes()[:-200])
    _, played = recorded_alerts(RULES[0], broken)
    assert "the recording breaks off" in played.lacks[-1]


def test_a_file_without_a_market_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "2026-03-10.stream.gz"
    path.write_bytes(gzip.compress(recorded_stream.entry(recorded_stream.FRAME, frames_of(1, length=20)[0])))
    with pytest.raises(StartError, match="expected the market first"):
        recorded_alerts(RULES[0], path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(StartError, match="expected a market, had none"):
        recorded_alerts(RULES[0], path)
