"""Random filters and orders as text, over the fields that tests/support/filter_rows.py fills."""

from hypothesis import strategies as st

from fastcore.fields import GAP_SIZES, SECTORS, SESSIONS

NUMBERS = (
    "price",
    "prev_close",
    "change_percent",
    "avg_volume_10d",
    "avg_volume_30d",
    "float_shares",
    "market_cap",
    "beta",
    "volume_today",
    "open",
)
TEXTS = ("company_name", "exchange", "security_type", "industry")
BOOLEANS = ("is_etf", "halted")
ENUMS = {"gap_size": GAP_SIZES, "session": SESSIONS}
WORDS = ("", "a", "b", "A", 'quo"te', "back\\slash", "nowhere")
COMPARISONS = st.sampled_from(("=", "!=", "<", "<=", ">", ">="))
EQUALITIES = st.sampled_from(("=", "!="))

numbers = st.sampled_from(("0", "1", "2", "0.5", ".25", "10", "1e3", "3.0e-2", "-1", "-2.5"))
number_fields = st.sampled_from(NUMBERS)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def joined(*parts: object) -> st.SearchStrategy[str]:
    """The parts, texts or strategies of texts, with spaces between."""
    strategies = [part if isinstance(part, st.SearchStrategy) else st.just(str(part)) for part in parts]
    return st.tuples(*strategies).map(" ".join)


def _larger_value(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        joined("(", inner, st.sampled_from("+-*/"), inner, ")"),
        joined(inner, st.sampled_from("+-*/"), inner),
        joined("- (", inner, ")"),
        joined("abs (", inner, ")"),
        joined(st.sampled_from(("min", "max")), "(", inner, ",", inner, ")"),
    )


values = st.recursive(st.one_of(number_fields, number_fields, numbers), _larger_value, max_leaves=6)

_texts = st.sampled_from(WORDS).map(quoted)
_symbols = st.integers(0, 700).map(lambda i: f'"S{i}"')
_negation = st.sampled_from(("", "NOT"))


def _list_of(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, min_size=1, max_size=5).map(lambda found: f"({', '.join(found)})")


_enum_conditions = st.one_of(
    *(
        st.one_of(
            joined(name, COMPARISONS, st.sampled_from(texts)),
            joined(st.sampled_from(texts), COMPARISONS, name),
            joined(name, _negation, "IN", _list_of(st.sampled_from(texts))),
            joined(name, _negation, "BETWEEN", st.sampled_from(texts), "AND", st.sampled_from(texts)),
        )
        for name, texts in ENUMS.items()
    )
)
leaves = st.one_of(
    joined(values, COMPARISONS, values),
    joined(values, _negation, "IN", _list_of(numbers)),
    joined(values, _negation, "BETWEEN", values, "AND", values),
    joined(st.sampled_from(TEXTS), EQUALITIES, _texts),
    joined(_texts, EQUALITIES, st.sampled_from(TEXTS)),
    joined(st.sampled_from(TEXTS), EQUALITIES, st.sampled_from(TEXTS)),
    joined(st.sampled_from(TEXTS), _negation, "IN", _list_of(_texts)),
    joined("sector", EQUALITIES, st.sampled_from(SECTORS[:3]).map(quoted)),
    joined("sector", _negation, "IN", _list_of(st.sampled_from(SECTORS[:3]).map(quoted))),
    joined("sector", EQUALITIES, "industry"),
    joined("symbol", EQUALITIES, _symbols),
    joined("symbol", _negation, "IN", _list_of(_symbols)),
    st.sampled_from(BOOLEANS),
    joined(st.sampled_from(BOOLEANS), EQUALITIES, st.sampled_from(("true", "false", *BOOLEANS))),
    st.sampled_from((*NUMBERS, *TEXTS, *BOOLEANS, *ENUMS, "symbol")).map(lambda name: f"has({name})"),
    _enum_conditions,
)


def _larger_condition(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        joined(inner, st.sampled_from(("AND", "OR")), inner),
        joined("(", inner, st.sampled_from(("AND", "OR")), inner, ")"),
        joined("NOT (", inner, ")"),
        joined("NOT", inner),
    )


filters = st.recursive(leaves, _larger_condition, max_leaves=8).filter(lambda text: len(text) <= 2000)

_order_values = st.one_of(values, st.sampled_from((*BOOLEANS, "updated_at"))).filter(
    lambda text: any(name in text for name in (*NUMBERS, *BOOLEANS, "updated_at"))
)
_order_keys = joined(_order_values, st.sampled_from(("", "asc", "desc")))
orders = st.lists(_order_keys, max_size=3).map(", ".join)
