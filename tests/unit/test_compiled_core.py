"""The compiled core's sources and its face to Python: directives, stubs, refused arguments."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastcore.admission import Admission
from fastcore.changed_fields import changed_list_delta
from fastcore.market import Market, state_of
from fastcore.market_state import MarketState
from fastcore.measures import slot_of_now
from fastcore.minute_bars import MinuteBars
from fastcore.row_fields import select_list_delta, select_ranked_list, select_row
from fastcore.row_json import read_list_delta, read_ranked_list
from fastcore.trade_rules import read_rules
from fastcore.wire import read_fields

ROOT = Path(__file__).parents[2]
DIRECTIVES = "# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True\n"
# By regular expression: what Cython adds to every module, and what modules of the core lend each other.
NOT_IN_STUBS = r"""
fastcore\..*\.__(test|pyx_capi)__
fastcore\..*\.__(reduce|setstate)_cython__
fastcore\.admission\.REASONS
fastcore\.alert_book\.(AlertBook|Rule)
fastcore\.columns\.KEPT_NAMES
fastcore\.feed_decoder\.(KINDS|MALFORMED)
fastcore\.filters\.Program
fastcore\.ranked_list\.(Base|Members|Workspace)
fastcore\.(changed_fields|row_fields)\.FIELDS
fastcore\.row_json\.FIELD(S|_COUNT)
fastcore\.row_numbers\.BY_NAME
# Cython shows no signature of these.
fastcore\.columns\.\w*Columns\.__init__
fastcore\.filters\.(Filter|Order)\.__init__
"""


def test_directives_stand_in_the_files() -> None:
    """A file that relied on the build's would come to other results when it is compiled in another way."""
    sources = [path for path in (ROOT / "fastcore").glob("*.p[yx][xd]") if path.suffix == ".pyx" or _has_code(path)]
    assert len(sources) > 40
    assert not [path.name for path in sources if not path.read_text(encoding="utf-8").startswith(DIRECTIVES)]


def _has_code(path: Path) -> bool:
    return re.search(r"\binline\b", path.read_text(encoding="utf-8")) is not None


def test_stubs_say_what_the_modules_are(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(NOT_IN_STUBS)
    modules = [f"fastcore.{path.stem}" for path in (ROOT / "fastcore").glob("*.pyi")]
    assert modules
    command = (sys.executable, "-m", "mypy.stubtest", "--concise", "--allowlist", str(allowed), *modules)
    environment = {**os.environ, "MYPYPATH": "protos"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def admit(kind: str, **given: None) -> Callable[[], object]:
    arguments: dict[str, Any] = {"batch": b"", "id_map": memoryview(b"").cast("i"), **given}
    return lambda: getattr(Admission(), f"admit_{kind}")(**arguments)


NOTHING: Any = None
REFUSED = {
    **{
        f"admit_{kind}: {name}": (name, admit(kind, **{name: None}))
        for kind in ("trades", "bars", "quotes", "limits")
        for name in ("batch", "id_map")
    },
    "Market.apply": ("frame", lambda: Market([], 1).apply(NOTHING)),
    "Market.take": ("frame", lambda: Market([], 1).take(NOTHING)),
    "Market.from_bytes": ("data", lambda: Market.from_bytes([], NOTHING)),
    "Market.of_state": ("state", lambda: Market.of_state([], 1, NOTHING)),
    "state_of": ("data", lambda: state_of(NOTHING)),
    "MarketState.apply": ("frame", lambda: MarketState().apply(NOTHING)),
    "MarketState.from_bytes": ("data", lambda: MarketState.from_bytes(NOTHING)),
    "MarketState.take_baselines": ("earlier", lambda: MarketState().take_baselines(NOTHING)),
    "slot_of_now": ("state", lambda: slot_of_now(NOTHING)),
    "MinuteBars": ("state", lambda: MinuteBars(NOTHING)),
    "MinuteBars.apply": ("frame", lambda: MinuteBars(MarketState()).apply(NOTHING)),
    "read_ranked_list": ("message", lambda: read_ranked_list(NOTHING)),
    "read_list_delta": ("message", lambda: read_list_delta(NOTHING)),
    "select_ranked_list": ("message", lambda: select_ranked_list(NOTHING, bytes(128))),
    "select_list_delta": ("kept", lambda: select_list_delta(b"", NOTHING)),
    "changed_list_delta": ("message", lambda: changed_list_delta(NOTHING, b"")),
    "changed_list_delta: changed": ("changed", lambda: changed_list_delta(b"", NOTHING)),
    "select_row": ("row", lambda: select_row(NOTHING, bytes(128))),
    "read_rules": ("message", lambda: read_rules(NOTHING)),
    "read_fields": ("message", lambda: read_fields(NOTHING)),
}


@pytest.mark.parametrize("name, call", REFUSED.values(), ids=REFUSED)
def test_nothing_is_no_argument(name: str, call: Callable[[], object]) -> None:
    """TypeError that names it, instead of reading what is not there."""
    with pytest.raises(TypeError, match=rf"\b{name}\b"):
        call()
