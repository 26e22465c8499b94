"""The benchmarks' own parts: what watchers note of messages, and plots."""

from typing import Any
from xml.etree import ElementTree

import pytest

from bench.plot import HEIGHT, WIDTH, Plot, round_up, short, svg
from bench.scale_bench import plots, table
from bench.watchers import Arrivals


def test_each_watcher_counts_each_price_once() -> None:
    arrivals = Arrivals()
    reached = arrivals.add("first", lambda: [1000.0], 0.0)
    # The row comes again, unchanged, with another one's new price; for a second watcher all of it is new.
    reached = arrivals.add("second", lambda: [1000.01, 1000.0], reached)
    arrivals.add("second", lambda: pytest.fail("read twice"), 0.0)
    assert reached == 1000.01
    assert arrivals.has_all({1000.0: 0.0, 1000.01: 0.0}, 2) and not arrivals.has_all({1000.0: 0.0, 1000.02: 0.0}, 2)
    found = arrivals.delays({1000.0: 0.0, 1000.01: 0.0, 1000.02: 0.0})
    assert found["delivered"] == 4
    with pytest.raises(RuntimeError, match="no price came"):
        arrivals.delays({1000.0: 0.0})


@pytest.mark.parametrize(
    ("value", "least"), [(0.31, 0.4), (1.0, 1.0), (1.1, 2.0), (9.0, 10.0), (4100.0, 6000.0), (0.0, 1.0)]
)
def test_an_axis_ends_at_a_short_number(value: float, least: float) -> None:
    assert round_up(value) == pytest.approx(least)


def test_short_numbers() -> None:
    assert [short(each) for each in (12_000, 1_500_000, 0.25, 0)] == ["12k", "1.5M", "0.25", "0"]


def test_all_points_are_inside_the_image() -> None:
    lines = {"a < b": [(0, 0.5), (50, 0.7), (800, 3.1)], "c": [(0, 1.0), (50, 1.0), (800, 1.0)]}
    image = ElementTree.fromstring(svg([Plot("ms & more", "scans", lines)] * 4))
    size = float(image.attrib["width"]), float(image.attrib["height"])
    assert size == (3 * WIDTH, 2 * HEIGHT)
    circles = [each for each in image if each.tag.endswith("circle")]
    assert len(circles) == 4 * 6
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < size[0] and 0 < float(circle.attrib["cy"]) < size[1]
    first = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles[:3]]
    # Growth goes to the right, from 0 on, and what costs more is higher.
    assert first[0][0] < first[1][0] < first[2][0] and first[0][1] > first[1][1] > first[2][1]


def test_what_was_not_measured_is_shown_as_such() -> None:
    rows: list[dict[str, Any]] = [
        {"trades_per_s": 10_000, "p50_ms": 2.5, "p99_ms": 9.0, "seen": 3},
        {"trades_per_s": 400_000, "p50_ms": None, "p99_ms": None, "seen": 0},
    ]
    assert table(rows).splitlines()[2:] == ["| 10,000 | 2.5 | 9.0 | 3 |", "| 400,000 | - | - | 0 |"]
    (plot,) = plots({"rates": rows})
    assert plot.lines == {"p50": [(10_000, 2.5)], "p99": [(10_000, 9.0)]}
