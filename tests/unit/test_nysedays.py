"""services/market/nyse.toml is what exchange_calendars says, and covers what is asked of it."""

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from services.kit.runtime.clock import new_york_today
from services.market.calendar import NYSE_FIRST, NYSE_YEARS_AHEAD
from services.market.nyse import exchange_days
from services.modules import MODULES
from services.simulator.calendar import YEARS_AHEAD
from tools import nysedays


def test_the_file_is_current() -> None:
    assert nysedays.main(["--check"]) == 0


def test_a_stale_file_is_told_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nyse.toml"
    assert nysedays.main(["--check"], file) == 1
    assert "tools.nysedays" in capsys.readouterr().err
    assert not file.exists()
    assert nysedays.main([], file) == 0
    assert nysedays.main(["--check"], file) == 0


def test_the_file_reaches_twenty_years_beyond_what_is_asked_of_it() -> None:
    days = exchange_days()
    assert days.first <= NYSE_FIRST
    assert days.last.year >= new_york_today().year + max(NYSE_YEARS_AHEAD, YEARS_AHEAD) + 20


def test_dates_outside_of_the_file_are_refused() -> None:
    days = exchange_days()
    with pytest.raises(ValueError, match="expected dates from 2000-01-01 to 2100-12-31, was 2099-01-01 to 2101-01-01"):
        days.trading_dates(datetime.date(2099, 1, 1), datetime.date(2101, 1, 1))


def test_no_service_loads_pandas() -> None:
    """It is tens of megabytes in each process, and a second of its start."""
    names = [module.factory.partition(":")[0] for module in MODULES]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print('pandas' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
