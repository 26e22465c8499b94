"""The built-in lists, and what is said about a wrong file."""

from pathlib import Path

import pytest

from fastcore.filter_types import check_filter, check_order
from services.kit.lists.definitions import ListsError, load_lists

BASE = "price >= 0.5 AND volume_today > 0 AND age_seconds <= 600"


def test_all_built_in_lists_are_there() -> None:
    assert [spec.name for spec in load_lists()] == [
        "gappers_up",
        "gappers_down",
        "winners",
        "losers",
        "momentum_up",
        "momentum_down",
        "high_volume",
        "anomalies",
        "new_highs",
        "new_lows",
        "reversals",
        "post_market",
        "halts",
        "filtered",
    ]


def test_their_filters_and_orders_can_be_used() -> None:
    for spec in load_lists():
        assert spec.filter or spec.name == "filtered"
        check_filter(spec.filter)
        assert check_order(spec.order_by)
        assert spec.stay == ""


def test_halts_alone_has_no_base_filter() -> None:
    for spec in load_lists():
        assert (spec.base_filter, spec.uses_scanner_filters) == (("", False) if spec.name == "halts" else (BASE, True))


def test_rows_kept_and_rows_asked_for() -> None:
    for spec in load_lists():
        assert (spec.limit, spec.max_limit) == ((1000, 1000) if spec.name == "filtered" else (100, 500))


def test_mirror_images() -> None:
    lists = {spec.name: spec for spec in load_lists()}
    mirror = {">=": "<=", "<=": ">=", ">": "<"}
    for up, down in (("gappers_up", "gappers_down"), ("winners", "losers"), ("new_highs", "new_lows")):
        mirrored = []
        for term in lists[up].filter.split(" AND "):
            field, sign, value = term.split()
            if field not in ("rvol", "volume_today"):
                field, sign, value = field.replace("high", "low"), mirror[sign], str(-float(value)).removesuffix(".0")
            mirrored.append(f"{field} {sign} {value}")
        assert " AND ".join(mirrored) == lists[down].filter
        assert lists[up].order_by.removesuffix(" desc") == lists[down].order_by.removesuffix(" asc")


ROW = '[[lists]]\nname = "a"\ntitle = "A"\n'


def load(tmp_path: Path, text: str) -> list[object]:
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8")
    return list(load_lists(file))


def test_defaults_of_an_own_file(tmp_path: Path) -> None:
    (spec,) = load(tmp_path, ROW)
    assert spec == ("a", "A", "", "", "", "", True, 100, 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected at least one [[lists]] table"),
        ("lists = 5", "expected at least one [[lists]] table"),
        ("lists = [5]", "lists[0]: expected a table, was 5"),
        ("= 5", "expected TOML"),
        ("limits = 5\n" + ROW, "top level: expected one of base_filter, limit, max_limit, was 'limits'"),
        ('base_filter = "prise > 1"\n' + ROW, "top level: base_filter: unknown field 'prise' at position 0; did you"),
        ("base_filter = 5\n" + ROW, "top level: expected base_filter to be str, was 5"),
        (ROW + 'orderby = "price"', "list 'a': expected one of name, title"),
        (ROW + 'filter = "price >"', "list 'a': filter: expected a field or a value, was the end at position 7"),
        (ROW + 'stay = "price"', "list 'a': stay: expected a condition"),
        (ROW + 'order_by = "sector"', "list 'a': order_by: expected a number"),
        (ROW + "limit = 0", "list 'a': expected limit to be 1 to 1000, was 0"),
        (ROW + "limit = 1001", "expected limit to be 1 to 1000, was 1001"),
        (ROW + "limit = true", "expected limit to be int, was True"),
        (ROW + "limit = 10\nmax_limit = 5", "expected max_limit to be at least limit (10), was 5"),
        (ROW + "base = 1", "expected base to be bool, was 1"),
        (ROW + ROW, "list 'a': expected a name of its own, was there already"),
        ('[[lists]]\nname = "a"', "list 'a': expected a title, was none"),
        ('[[lists]]\ntitle = "a"', "list 0: expected a name, was none"),
        ('[[lists]]\nname = "A b"\ntitle = "x"', "expected a name of a-z"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ListsError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith("own.toml: ")
    assert says in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_lists(tmp_path / "none.toml")
