"""Parameters of scanner_filters to filter text."""

import json
import re
from typing import Any, get_args

import pytest

from fastcore.fields import SECTORS
from fastcore.filter_types import check_filter
from services.kit.lists.scan_filters import (
    DEFAULT_ROWS,
    ScanFilter,
    ScanFilterError,
    ScanFilterParameters,
    Sector,
    default_filters,
    parse_parameters,
    scan_filter,
)
from services.kit.runtime.packaged import MIGRATIONS


@pytest.mark.parametrize(
    ("parameters", "expression"),
    [
        ({}, ""),
        ({"min_price": 1}, "price >= 1"),
        ({"max_price": 20.5}, "price <= 20.5"),
        ({"min_price": 1, "max_price": 1}, "price >= 1 AND price <= 1"),
        ({"min_volume": 1e5}, "volume_today >= 100000"),
        ({"min_change_percent": -2, "max_change_percent": 0.1}, "change_percent >= -2 AND change_percent <= 0.1"),
        ({"min_market_cap": 1e9, "max_market_cap": 1e22}, "market_cap >= 1000000000 AND market_cap <= 1e+22"),
        ({"min_float": 0, "max_float": 2e7}, "float_shares >= 0 AND float_shares <= 20000000"),
        ({"min_rvol": 2}, "(NOT has(rvol) OR rvol >= 2)"),
        ({"max_rvol": 9.5}, "(NOT has(rvol) OR rvol <= 9.5)"),
        ({"sectors": ["Energy", "Real Estate", "Energy"]}, 'sector IN ("Energy", "Real Estate")'),
        ({"industries": ["A\\B", 'Real "Estate"']}, r'industry IN ("A\\B", "Real \"Estate\"")'),
        (
            {"security_types": ["CS", "ADRC"], "sectors": ["Technology"]},
            'sector IN ("Technology") AND security_type IN ("CS", "ADRC")',
        ),
        ({"exchanges": ["XNAS"], "sectors": []}, 'exchange IN ("XNAS")'),
        ({"expression": " price > open OR halted "}, "price > open OR halted"),
        ({"expression": "price > open OR halted", "min_price": 1}, "price >= 1 AND (price > open OR halted)"),
        ({"min_price": None, "expression": ""}, ""),
    ],
)
def test_expressions(parameters: dict[str, Any], expression: str) -> None:
    for given in (parameters, json.dumps(parameters), json.dumps(parameters).encode()):
        assert scan_filter("x", given) == ScanFilter("x", expression, ())
    check_filter(expression)


def test_sectors_are_the_eleven() -> None:
    assert get_args(Sector) == SECTORS and len(SECTORS) == 11


def test_sessions_once_each() -> None:
    sessions = {"apply_to_sessions": ["POST_MARKET", "PRE_MARKET", "POST_MARKET"]}
    assert scan_filter("x", sessions).sessions == ("POST_MARKET", "PRE_MARKET")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"min_prise": 1}, "the nearest is 'min_price'"),
        ({"min_prise": 1, "max_price": "x"}, "; "),
        ({"min_price": "1"}, "min_price: input should be a valid number, was '1'"),
        ({"min_price": True}, "min_price: input should be a valid number, was True"),
        ({"min_price": -1}, "min_price: input should be greater than or equal to 0, was -1"),
        ({"min_price": 5, "max_price": 1}, "expected min_price to be at most max_price (1), was 5"),
        ({"max_volume": 5}, "was 'max_volume'"),
        ({"sectors": "Energy"}, "sectors: input should be a valid list, was 'Energy'"),
        ({"sectors": [""]}, "sectors.0: "),
        ({"sectors": ["Tech"]}, f"sectors.0: input should be {', '.join(map(repr, SECTORS[:-1]))} or 'Utilities'"),
        ({"sectors": ["technology"]}, "was 'technology'"),
        ({"expression": 'sector = "Manufacturing"'}, f"expected one of {', '.join(SECTORS)}, was 'Manufacturing'"),
        ({"industries": ["a\0b"]}, "industries.0: "),
        ({"security_types": ["a\0b"]}, "security_types.0: "),
        ({"expression": 'industry = "a\0b"'}, "expression: "),
        ({"industries": [f"industry {i:04}" for i in range(200)]}, "expected at most 2000 characters"),
        ({"apply_to_sessions": ["LUNCH"]}, "apply_to_sessions.0: input should be 'PRE_MARKET'"),
        ({"expression": "prise > 1"}, "expression: unknown field 'prise' at position 0; did you mean \"price\"?"),
        ({"expression": "halted) OR (is_etf", "min_price": 1}, "expression: expected AND, OR or the end, was ')'"),
        ("[1]", "parameters: input should be an object, was [1]"),
        ("{", "invalid JSON"),
        ('{"min_price": NaN}', "min_price: input should be a finite number"),
    ],
)
def test_wrong_parameters(parameters: Any, says: str) -> None:
    with pytest.raises(ScanFilterError) as caught:
        scan_filter("mine", parameters)
    assert str(caught.value).startswith("scanner filter 'mine': ")
    assert says in str(caught.value)


def test_a_long_input_is_not_repeated_whole() -> None:
    with pytest.raises(ScanFilterError) as caught:
        parse_parameters({"min_price": "9" * 1000})
    assert len(str(caught.value)) < 200


def test_default_rows() -> None:
    assert default_filters() == [
        ScanFilter("price_range", "price >= 1", ()),
        ScanFilter("volume_min", "volume_today >= 100000", ("MARKET_OPEN", "POST_MARKET")),
        ScanFilter("volume_min_premarket", "volume_today >= 5000", ("PRE_MARKET",)),
    ]
    assert [row.name for row in DEFAULT_ROWS if not row.enabled] == ["rvol_high"]
    assert parse_parameters(DEFAULT_ROWS[3].parameters) == ScanFilterParameters(min_rvol=2)


def test_a_new_database_begins_with_the_default_rows() -> None:
    sql = "".join(file.read_text(encoding="utf-8") for file in sorted(MIGRATIONS.path().glob("*.sql")))
    head = r"INSERT INTO scanner_filters \(name, enabled, priority, parameters\) VALUES"
    rows = re.search(rf"{head}(.*?);", sql, re.DOTALL)
    assert rows is not None
    found = re.findall(r"\('(\w+)', (TRUE|FALSE), (\d+), '(.*?)'\)", rows.group(1))
    assert [(name, enabled == "TRUE", int(priority), json.loads(text)) for name, enabled, priority, text in found] == [
        (row.name, row.enabled, row.priority, dict(row.parameters)) for row in DEFAULT_ROWS
    ]
