"""Alert rules: what they may say, and what is said about a wrong one."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcore.alert_program import Kind
from fastcore.alert_rules import AlertRule, AlertRuleError, compile_rule, read_rules, rules_message
from fastcore.alert_text import AlertText
from fastcore.alert_types import MOST_SCANS, MOST_WORDS, check_rearm, check_when
from fastcore.filter_ast import WORDS, And, Event, FilterError, Or
from fastcore.filter_types import check_filter
from services.kit.alerts.definitions import AlertsError, load_alerts
from services.kit.lists.definitions import load_lists

LISTS = [spec.name for spec in load_lists()]


def words_of(text: str) -> list[str]:
    return [word.name for word in check_when(text).words]


def error_of(text: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        check_when(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rises(halted)", ["rises"]),
        ("FALLS(price > 5 AND rvol > 2)", ["falls"]),
        ("crosses_above(price, max(open, vwap) * 1.01)", ["crosses_above"]),
        ("grows(high) AND price > 5", ["grows"]),
        ("steps(-change_percent, 3, 1 / 2)", ["steps"]),
        ("held(price > vwap, 30s)", ["held"]),
        ("held(price > vwap, volume avg_volume_30d * 0.05)", ["held"]),
        ("count(crosses_above(price, vwap), 3, 5m)", ["crosses_above", "count"]),
        ('enters("gappers_up") OR leaves("gappers_up", 10)', ["enters", "leaves"]),
        ("enters(scan(price > 5, rvol desc, 20)) OR leaves(Scan(price > 5, rvol desc, 20), 10)", ["enters", "leaves"]),
        ("leaves(scan(has(rvol), 2 * price, -gap_percent, symbol desc, 5))", ["leaves"]),
        # A plain condition stands for the moment when it becomes true, as a whole or in each part of an OR.
        ("price > 5 AND rvol > 2", ["rises"]),
        ("price > 5 OR rvol > 2 OR grows(high)", ["rises", "rises", "grows"]),
        ("(price > 5 OR grows(high)) AND rvol > 2", ["rises", "grows"]),
        ("after(price < open, crosses_above(price, open), 390m)", ["rises", "crosses_above", "after"]),
        ("after(after(grows(high), price < high * 0.99, 10m), grows(high), 10m)",
         ["grows", "rises", "after", "grows", "after"]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_scan_is_the_same_however_it_is_written() -> None:
    def scans(text: str) -> set[str]:
        return {
            word.scan.key for word in compile_rule(AlertRule("a", "a", when=text)).when.words if word.scan is not None
        }

    one = scans("enters(scan(price > 5 AND rvol > 2, rvol desc, 20), 10)")
    assert len(one) == 1
    assert scans("LEAVES(scan( price>5 and rvol>2.0,rvol DESC,20 ))") == one
    others = [
        "price > 6 AND rvol > 2, rvol desc, 20",
        "price > 5 AND rvol > 2, rvol, 20",
        "price > 5, rvol desc, 20",
        "price > 5 AND rvol > 2, rvol desc, 21",
        "price > 5 AND rvol > 2, rvol desc, symbol desc, 20",
    ]
    keys = [scans(f"enters(scan({text}))") for text in others]
    assert len(set.union(one, *keys)) == len(others) + 1


def test_the_tree_names_its_words() -> None:
    tree = check_when("grows(high) AND price > 5 OR shrinks(low)").tree
    assert isinstance(tree, Or)
    first, second = tree.items
    assert isinstance(first, And)
    assert isinstance(first.items[0], Event)
    assert isinstance(second, Event)
    assert (first.items[0].number, second.number) == (0, 1)


def test_rearm_is_a_condition_with_words_or_without() -> None:
    plain, mixed = check_rearm("price < open"), check_rearm("price < open OR crosses_below(price, vwap)")
    assert plain is not None
    assert mixed is not None
    assert (len(plain.words), len(mixed.words)) == (0, 1)
    assert check_rearm(" ") is None


@pytest.mark.parametrize(
    ("text", "position", "says", "suggestion"),
    [
        ("", 0, "expected an event, was nothing", None),
        ("crosses_abov(price, open)", 0, "unknown function or word 'crosses_abov'", "crosses_above"),
        ("grows(hihg)", 6, "unknown field 'hihg'", "high"),
        ("grows(sector)", 6, "expected a number, was sector (text)", None),
        ("crosses_above(price)", 19, "expected ',', was ')'", None),
        ("rises(price)", 6, "expected a condition", None),
        ("rises(grows(high))", 6, "expected a condition without words in rises()", None),
        ("NOT grows(high)", 0, "expected a condition without words under NOT", None),
        ("grows(high) = true", 0, "expected a value, was a condition", None),
        ("steps(price, 1, 0)", 16, "expected steps of more than 0, was 0", None),
        ("steps(price, open, 1)", 13, "expected a number without fields", None),
        ("held(halted, 30)", 13, "expected a time like 30s, or volume", None),
        ("held(halted, 30x)", 15, "expected a number, was '30x'", None),
        ("after(halted, grows(high), 20h)", 27, "expected a time of 1s to 16h, was 20h", None),
        ("after(halted, grows(high))", 25, "expected ',', was ')'", None),
        ("count(grows(high), 1, 5m)", 19, "expected a whole number of 2 to 16, was '1'", None),
        ("count(grows(high), 2.5, 5m)", 19, "expected a whole number of 2 to 16", None),
        ("enters(gappers_up)", 7, "expected the name of a list in double quotes", None),
        ('enters("gappers_up", 0)', 21, "expected a whole number of 1 to 1000", None),
        ("enters(scan(price > 5))", 21, "expected ',', was ')'", None),
        ("enters(scan(price > 5, rvol))", 27, "expected asc, desc, or a comma and the number of rows, was ')'", None),
        ("enters(scan(price > 5, 20))", 25, "expected asc, desc, or a comma and the number of rows, was ')'", None),
        ("enters(scan(price > 5, rvol dsc, 20))", 28, "expected asc, desc, a comma or the end, was 'dsc'", "desc"),
        ("enters(scan(price > 5, rvol, 0))", 29, "expected a whole number of 1 to 1000", None),
        ("enters(scan(prices > 5, rvol, 20))", 12, "unknown field 'prices'", "price"),
        ("enters(scan(price > 5, sector, 20))", 23, "expected a number, a time, an enum or symbol to order by", None),
        ("enters(scan(grows(high), rvol, 20))", 7, "expected a condition without words in scan()", None),
        ("grows(high) AND scan(price > 5, rvol, 20)", 16, "unknown function or word 'scan'", None),
        (
            " OR ".join(f"enters(scan(price > {k}, rvol, 20))" for k in range(MOST_SCANS + 1)),
            81,
            "limit reached: 2 scans",
            None,
        ),
        ("price > 5m", 8, "expected a field or a value", None),
        (" OR ".join(["grows(high)"] * (MOST_WORDS + 1)), 15 * MOST_WORDS, f"limit reached: {MOST_WORDS} words", None),
    ],
)
def test_errors_say_where_and_what(text: str, position: int, says: str, suggestion: str | None) -> None:
    error = error_of(text)
    assert says in str(error)
    assert (error.position, error.suggestion) == (position, suggestion)


@pytest.mark.parametrize("word", WORDS)
def test_filters_have_no_words(word: str) -> None:
    with pytest.raises(FilterError, match=rf"expected {word}\(\) only in when and rearm") as caught:
        check_filter(f"price > 1 AND {word}(high)")
    assert caught.value.position == 14


PIECES = [*WORDS, *"( ) , AND OR NOT price high vwap > < 5 0.5 30s 10m volume halted".split(), '"gappers_up"']


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join))
def test_any_text_is_an_event_or_a_filter_error(text: str) -> None:
    try:
        check_when(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)


def test_the_same_word_is_one_word() -> None:
    """However it is written, and whichever rules have it."""
    texts = ("grows(high)", "grows( (high) ) AND price > 5")
    one, other = (compile_rule(AlertRule("a", "a", when=text)).when.words[0] for text in texts)
    assert one == other
    assert one.kind == Kind.GROWS
    assert compile_rule(AlertRule("a", "a", when="grows(low)")).when.words[0].key != one.key


def test_a_rule_is_another_one_when_its_alerts_may_be() -> None:
    rule = AlertRule("a", "a", when="grows(high)")
    key = compile_rule(rule).key
    assert compile_rule(rule._replace(title="b", text="at {price}")).key == key
    for change in ({"name": "b"}, {"where": "price > 1"}, {"once_a_day": True}, {"cooldown_seconds": 1}):
        assert compile_rule(rule._replace(**change)).key != key


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"when": "grows("}, "when"),
        ({"rearm": "price <"}, "rearm"),
        ({"where": "grows(high)"}, "where"),
        ({"quality": "price desc"}, "quality"),
        ({"quality": "price > 1"}, "quality"),
        ({"min_quality": 5.0}, "min_quality"),
        ({"text": "{pric}"}, "text"),
        ({"cooldown_seconds": 100_000}, "cooldown"),
        ({"sessions": ("OPEN",)}, "sessions"),
    ],
)
def test_a_wrong_rule_names_the_part(changes: dict[str, object], part: str) -> None:
    rule = AlertRule("a", "a", when="grows(high)")._replace(**changes)  # type: ignore[arg-type]
    with pytest.raises(AlertRuleError) as caught:
        compile_rule(rule)
    assert caught.value.part == part


def test_rules_travel_whole() -> None:
    rules = [
        AlertRule("a", "A", "grows(high)"),
        AlertRule("b", "B", "rises(halted)", "price > 1", "rvol", 2.0, True, 60, "price < 2", ("MARKET_OPEN",), "t"),
    ]
    assert read_rules(rules_message(rules)) == rules
    with pytest.raises(ValueError, match="expected an encoded AlertRules"):
        read_rules(b"\x0a\x05abc")


def test_texts() -> None:
    values = {"price": 10.5, "volume_today": 1234567.0, "halt_reason": "T1", "halted": True, "level": 3.0}
    text = AlertText("{price} {price:.2f} {volume_today:,.0f} {level} {halt_reason} {halted} {rvol} {rvol:.1f}")
    assert text.of(values) == "10.5 10.50 1,234,567 3 T1 True n/a n/a"


@pytest.mark.parametrize(
    ("template", "position", "suggestion"),
    [("at {pric}", 4, "price"), ("at {price:>10}", 10, None), ("at {price", 3, None), ("}", 0, None)],
)
def test_wrong_texts(template: str, position: int, suggestion: str | None) -> None:
    with pytest.raises(FilterError) as caught:
        AlertText(template)
    assert (caught.value.position, caught.value.suggestion) == (position, suggestion)


def test_the_shipped_rules_are_there() -> None:
    rules = load_alerts(LISTS)
    assert len(rules) >= 60
    assert [rule.name for rule in rules] == sorted({rule.name for rule in rules})
    assert all(rule.title and rule.text for rule in rules)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"expected at least one \[\[alerts\]\]"),
        ("a = 1\n[[alerts]]\nname = 'a'", r"expected \[\[alerts\]\] tables only"),
        ("[[alerts]]\nname = 'a'", "alert 'a': expected a title"),
        ("[[alerts]]\nname = 'A'\ntitle = 'a'\nwhen = 'grows(high)'", "name: expected a-z"),
        ("[[alerts]]\nname = 'a'\ntitle = 'a'\nwhen = 'grow(high)'", 'did you mean "grows"'),
        ("[[alerts]]\nname = 'a'\ntitle = 'a'\nwhen = 'enters(\"gapers_up\")'", "no list 'gapers_up'.*gappers_up"),
        ("[[alerts]]\nname = 'a'\ntitle = 'a'\nwhen = 'grows(high)'\ncooldown = '5'", "expected a cooldown like"),
        ("[[alerts]]\nname = 'a'\ntitle = 'a'\nwhen = 'grows(high)'\nonce = 'week'", 'expected once to be "day"'),
        ("[[alerts]]\nname = 'a'\ntitle = 'a'\nwhen = 'grows(high)'\nquality = 1", "expected quality to be str"),
        ("[[alerts]]\nname = 'a'\ntitle = 'a'\nwhen = 'grows(high)'\ncoldown = '5m'", "was 'coldown'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(AlertsError, match=says):
        load_alerts(LISTS, file)
