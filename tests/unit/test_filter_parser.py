"""Filter texts to checked trees, and what is said about the wrong ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcore.fields import BY_NAME, FIELDS, SECTORS
from fastcore.filter_ast import And, Arithmetic, Compare, Constant, FieldValue, FilterError, Has, Membership, Not, Or
from fastcore.filter_parser import MAX_DEPTH, MAX_LENGTH, MAX_ORDER_KEYS
from fastcore.filter_types import check_filter, check_order


def error_of(text: str, check: object = check_filter) -> FilterError:
    with pytest.raises(FilterError) as caught:
        check(text)  # type: ignore[operator]
    assert 0 <= caught.value.position <= len(text)
    return caught.value


def test_empty_texts_say_nothing() -> None:
    assert check_filter("") is None
    assert check_filter(" \n ") is None
    assert check_order("  ") == []


def test_and_binds_stronger_than_or_and_not_strongest() -> None:
    tree = check_filter("NOT halted OR price > 1 AND price < 5")
    assert isinstance(tree, Or)
    assert isinstance(tree.items[0], Not)
    assert isinstance(tree.items[1], And)


def test_products_before_sums_and_left_to_right() -> None:
    tree = check_filter("price - open * 2 - low > 0")
    assert isinstance(tree, Compare) and isinstance(tree.left, Arithmetic)
    assert [op for op, _ in tree.left.rest] == ["-", "-"]
    assert isinstance(tree.left.rest[0][1], Arithmetic)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("price > 1 and not halted", "price > 1 AND NOT halted"),
        ("price not in (1, 2)", "NOT price IN (1, 2)"),
        ("price NOT BETWEEN 1 AND 2", "NOT price BETWEEN 1 AND 2"),
        ("price between 1 and 2 and halted", "(price BETWEEN 1 AND 2) AND halted"),
        ("halted = true", "halted"),
        ("halted = TRUE", "halted"),
        ('gap_size = "LARGE"', "gap_size = LARGE"),
        ("price > .5", "price > 0.5"),
        ("ABS(price) > 1e3", "abs(price) > 1000"),
        ("price>-1", "price > -1"),
        ("((price)) > ((1))", "price > 1"),
    ],
)
def test_ways_to_write_the_same(text: str, same: str) -> None:
    assert without_positions(check_filter(text)) == without_positions(check_filter(same))


def without_positions(node: object) -> object:
    if isinstance(node, tuple):
        return tuple(without_positions(item) for item in node)
    if hasattr(node, "__dataclass_fields__"):
        parts = {name: getattr(node, name) for name in node.__dataclass_fields__ if name != "position"}
        return type(node).__name__, tuple((name, without_positions(part)) for name, part in parts.items())
    return node


def test_constants_take_the_kind_of_what_they_are_compared_with() -> None:
    tree = check_filter('session = POST_MARKET AND updated_at >= "2026-01-05T14:30:00Z" AND industry = "LARGE"')
    assert isinstance(tree, And)
    constants = [item.right for item in tree.items if isinstance(item, Compare)]
    assert [(c.kind, c.value) for c in constants if isinstance(c, Constant)] == [
        ("enum", 3.0),
        ("time", 1767623400e9),
        ("text", "LARGE"),
    ]


def test_a_time_with_another_offset_is_the_same_moment() -> None:
    east = check_filter('updated_at = "2026-01-05T09:30:00-05:00"')
    utc = check_filter('updated_at = "2026-01-05T14:30:00Z"')
    assert isinstance(east, Compare) and isinstance(utc, Compare)
    assert without_positions(east.right) == without_positions(utc.right)


def test_texts_keep_their_escapes() -> None:
    tree = check_filter(r'company_name = "say \"hi\" \\ (AND)"')
    assert isinstance(tree, Compare) and isinstance(tree.right, Constant)
    assert tree.right.value == r'say "hi" \ (AND)'


def test_membership_and_has() -> None:
    tree = check_filter('symbol IN ("A", "B") AND has(rvol) AND gap_size IN (SMALL, "LARGE")')
    assert isinstance(tree, And)
    symbols, has, sizes = tree.items
    assert isinstance(symbols, Membership) and isinstance(sizes, Membership)
    assert has == Has(BY_NAME["rvol"], has.position)
    assert [value.value for value in sizes.values if isinstance(value, Constant)] == [1.0, 3.0]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_can_be_named(field: object) -> None:
    name = field.name  # type: ignore[attr-defined]
    tree = check_filter(f"has({name}) AND {name} != {name}" if name != "symbol" else 'has(symbol) AND symbol != ""')
    assert isinstance(tree, And)


def test_orders() -> None:
    keys = check_order("abs(gap_percent) + abs(change_from_open) desc, symbol, updated_at ASC, gap_size DESC, halted")
    assert [key.descending for key in keys] == [True, False, False, True, False]
    assert isinstance(keys[1].value, FieldValue)


@pytest.mark.parametrize(
    ("text", "position", "says", "suggestion"),
    [
        ("rvoll > 2", 0, "unknown field 'rvoll'", "rvol"),
        ("RVOL > 2", 0, "unknown field 'RVOL'", "rvol"),
        ("rvol > 2 AND gap_percnt > 1", 13, "unknown field 'gap_percnt'", "gap_percent"),
        ("has(pric)", 4, "unknown field 'pric'", "price"),
        ("foo = bar", 0, "unknown field 'foo'", None),
        ("sqrt(price) > 1", 0, "unknown function 'sqrt'", None),
        ("mix(price, 1) > 1", 0, "unknown function 'mix'", "min"),
        ("gap_size = BIG", 11, "expected one of SMALL, MEDIUM, LARGE, EXTREME, was 'BIG'", None),
        ("gap_size = large", 11, "expected one of SMALL", "LARGE"),
        ("gap_size = 3", 11, "expected one of SMALL, MEDIUM, LARGE, EXTREME, was a number", None),
        ("session = gap_size", 10, "was gap_size (enum)", None),
        ("rvol > ", 7, "expected a field or a value, was the end", None),
        ("rvol", 0, "expected a condition", None),
        ("rvol AND price > 1", 0, "expected a condition", None),
        ('"a"', 0, "expected a condition", None),
        ("rvol > 2 price > 1", 9, "expected AND, OR or the end, was 'price'", None),
        ("1 < price < 5", 10, "was a chain", None),
        ("rvol == 2", 6, "expected a field or a value, was '='", None),
        ("rvol > 2 && price > 1", 9, "was '&'", None),
        ("rvol ! 2", 5, "expected != or NOT", None),
        ("rvol > 2)", 8, "expected AND, OR or the end, was ')'", None),
        ("(rvol > 2", 9, "expected ')', was the end", None),
        ('sector = "a', 9, "closing double quote", None),
        ("sector = 'a'", 9, "single quote", None),
        ("sector = Technology", 9, "text in double quotes", None),
        ("sector = industri", 9, "text in double quotes", "industry"),
        ('industry < "a"', 9, "expected = or != with a text, was <", None),
        ('industry BETWEEN "a" AND "b"', 9, "expected = or != with a text, was BETWEEN", None),
        ('sector = "Tech"', 9, f"expected one of {', '.join(SECTORS)}, was 'Tech'", "Technology"),
        ('"energy" != sector', 0, f"expected one of {', '.join(SECTORS)}, was 'energy'", "Energy"),
        ('sector IN ("Energy", "Health Care")', 21, "was 'Health Care'", "Healthcare"),
        ('sector NOT IN ("")', 15, f"expected one of {', '.join(SECTORS)}, was ''", None),
        ("halted > false", 7, "expected = or != with true or false", None),
        ("symbol = company_name", 7, "expected symbol to be compared with a text", None),
        ('price = "a"', 8, "expected a number, was the text 'a'", None),
        ("price = sector", 8, "expected a number, was sector (text)", None),
        ("sector + 1 > 2", 0, "expected a number, was sector (text)", None),
        ("halted + 1 > 2", 0, "expected a number, was halted (boolean)", None),
        ("(price > 1) + 1 > 2", 7, "expected a value, was a condition", None),
        ('"a" = "b"', 4, "expected a field on one side", None),
        ("price IN ()", 10, "expected a value, was ')'", None),
        ("price IN (1, open)", 13, "was the field 'open'", None),
        ('price IN (1, "a")', 13, "expected a number, was the text", None),
        ("price IN 1", 9, "expected '(', was '1'", None),
        ("price NOT 5", 10, "expected IN or BETWEEN, was '5'", None),
        ("price BETWEEN 1 OR 2", 16, "expected AND, was 'OR'", None),
        ("min(price) > 1", 0, "expected 2 value(s) in min(), was 1", None),
        ("price > 12abc", 10, "expected a number, was '12a'", None),
        ("price > 1e999", 8, "expected a number below", None),
        ('updated_at > "yesterday"', 13, "expected a time like", None),
        ('updated_at > "2026-01-05T14:30:00"', 13, "without an offset", None),
        ("updated_at > 5", 13, "expected a time, was a number", None),
    ],
)
def test_errors_say_where_and_what(text: str, position: int, says: str, suggestion: str | None) -> None:
    error = error_of(text)
    assert says in str(error)
    assert (error.position, error.suggestion) == (position, suggestion)
    assert f"at position {position}" in str(error)


@pytest.mark.parametrize(
    ("text", "position", "suggestion"),
    [
        ("rvol dsc", 5, "desc"),
        ("rvol desc,", 10, None),
        ("rvol desc price", 10, None),
        ("rvoll", 0, "rvol"),
        ("sector", 0, None),
        ("5", 0, None),
        ("rvol > 2", 5, None),
        (", ".join(["rvol"] * (MAX_ORDER_KEYS + 1)), 6 * MAX_ORDER_KEYS, None),
    ],
)
def test_errors_of_orders(text: str, position: int, suggestion: str | None) -> None:
    error = error_of(text, check_order)
    assert (error.position, error.suggestion) == (position, suggestion)


def test_bounds() -> None:
    longest = "price > 1" + " " * (MAX_LENGTH - 9)
    check_filter(longest)
    assert error_of(longest + " ").position == MAX_LENGTH
    check_filter("(" * MAX_DEPTH + "price > 1" + ")" * MAX_DEPTH)
    for opening, closing in (("(", ")"), ("NOT ", ""), ("NOT(", ")")):
        deep = opening * (MAX_DEPTH + 1) + "price > 1" + closing * (MAX_DEPTH + 1)
        assert "levels" in str(error_of(deep))
    assert "levels" in str(error_of("-" * (MAX_DEPTH + 1) + "price > 1"))
    assert "levels" in str(error_of("abs(" * (MAX_DEPTH + 1) + "price" + ")" * (MAX_DEPTH + 1) + " > 1"))


SIGNS = [*"()+-*/,<>=!", "<=", ">=", "!=", '"text"', '"', "'", "\\", "\0", "\u00e9", "\u0663", "5", "1e3"]
KEYWORDS = "AND OR NOT IN BETWEEN has abs min max asc desc"
NAMES = "price rvol sector symbol halted gap_size LARGE true updated_at nonsense"
WORDS = st.sampled_from([*SIGNS, *KEYWORDS.split(), *NAMES.split()])


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=30).map(" ".join), st.lists(WORDS, max_size=30).map("".join), st.text()))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    for check in (check_filter, check_order):
        try:
            check(text)
        except FilterError as error:
            assert 0 <= error.position <= len(text)
            assert error.suggestion is None or error.suggestion
