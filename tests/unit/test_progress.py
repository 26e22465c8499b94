"""Progress of long commands: lines where there is no terminal, a last line below the logs where there is one."""

import io

import pytest

from services.cli import progress as home
from services.cli.progress import LineBelow, progress, start_line


def test_without_a_terminal_each_step_and_now_and_then_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(home, "monotonic", lambda: now)
    with progress("load") as report:
        report.update("reading", 1, 20)
        report.update("reading", 2, 20, "1.5/s")
        now += home.LINE_SECONDS
        report.update("reading", 1500, 2000, "1.5/s, 0:12 left")
        report.update("writing")
    assert capsys.readouterr().err.splitlines() == [
        "load: reading, 1 of 20",
        "load: reading, 1,500 of 2,000, 1.5/s, 0:12 left",
        "load: writing",
    ]


def test_the_last_line_stays_below_the_logs() -> None:
    screen = io.StringIO()
    below = LineBelow(screen)
    below.write("first\n")
    below.show("3 of 14 ready")
    below.write("second\n")
    below.show("")
    below.write("third\n")
    erase = home.ERASE_LINE
    assert screen.getvalue() == f"first\n{erase}3 of 14 ready{erase}second\n3 of 14 ready{erase}third\n"


def test_a_start_shows_what_is_waited_for() -> None:
    assert start_line(0, 4, ["redis", "postgres"]) == "[....................] 0 of 4 ready; starting redis, postgres"
    assert start_line(4, 4, []) == "[####################] 4 of 4 ready"
