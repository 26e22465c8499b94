"""Trade rules against the contract's table and the vendor's answers."""

import random
from typing import Any

import pytest
from tradeul.v1 import frame_pb2

from fastcore.trade_rules import fallback_rules, read_rules, rules_from_conditions


def ids(mask: int) -> set[int]:
    return {i for i in range(64) if mask >> i & 1}


def test_fallback_is_the_contract() -> None:
    rules = frame_pb2.TradeRules.FromString(fallback_rules())
    high_low_only = {5, 10, 22, 32, 33}
    volume_only = {2, 7, 12, 13, 20, 21, 29, 37, 52, 53}
    nothing = {15, 16}
    assert ids(rules.forbids_last) == high_low_only | volume_only | nothing
    assert ids(rules.forbids_high_low) == volume_only | nothing
    assert ids(rules.forbids_volume) == nothing | {38}
    assert ids(rules.known) >= ids(rules.forbids_last) | ids(rules.forbids_volume)


def test_reader_and_generated_class_agree() -> None:
    rng = random.Random(5)
    for _ in range(200):
        masks = {name: rng.choice((0, rng.randrange(2**64))) for name in
                 ("known", "forbids_last", "forbids_high_low", "forbids_volume")}  # fmt: skip
        masks["take_suspect_prints"] = rng.randrange(2)
        assert read_rules(frame_pb2.TradeRules(**masks).SerializeToString()) == masks  # type: ignore[arg-type]
    encoded = fallback_rules()
    for length in range(len(encoded)):
        try:
            read = read_rules(encoded[:length])
        except ValueError:
            continue
        parsed = frame_pb2.TradeRules.FromString(encoded[:length])
        assert read == {name: getattr(parsed, name) for name in read}


def test_the_table_says_whether_prints_are_held() -> None:
    rows = [condition(37, False, False, True)]
    for take in (False, True):
        assert read_rules(fallback_rules(take))["take_suspect_prints"] == take
        assert read_rules(rules_from_conditions(rows, take))["take_suspect_prints"] == take
    assert not frame_pb2.TradeRules.FromString(fallback_rules()).take_suspect_prints


def condition(id_: int, high_low: bool, last: bool, volume: bool, **others: Any) -> dict[str, Any]:
    updates = {"updates_high_low": high_low, "updates_open_close": last, "updates_volume": volume}
    return {
        "id": id_,
        "type": "sale_condition",
        "name": f"condition {id_}",
        "asset_class": "stocks",
        "data_types": ["trade"],
        "update_rules": {"consolidated": updates, "market_center": dict.fromkeys(updates, True)},
        **others,
    }


def test_random_tables() -> None:
    rng = random.Random(11)
    for _ in range(50):
        rows = [
            condition(rng.randrange(0, 62), *(rng.random() < 0.5 for _ in range(3))) for _ in range(rng.randint(1, 60))
        ]
        forbids: dict[str, set[int]] = {name: {15, 16} for name in ("high_low", "open_close", "volume")}
        for row in rows:
            for name, forbidden in forbids.items():
                if not row["update_rules"]["consolidated"][f"updates_{name}"]:
                    forbidden.add(row["id"])
        rules = read_rules(rules_from_conditions(rows))
        assert ids(rules["forbids_last"]) == forbids["open_close"]
        assert ids(rules["forbids_high_low"]) == forbids["high_low"]
        assert ids(rules["forbids_volume"]) == forbids["volume"]
        assert ids(rules["known"]) >= {row["id"] for row in rows}


def test_quote_conditions_and_other_types_forbid_nothing() -> None:
    rows = [
        condition(1, True, True, True),
        condition(3, False, False, False, data_types=["quote"]),
        condition(4, False, False, False, type="trade_thru_exempt"),
    ]
    rules = read_rules(rules_from_conditions(rows))
    assert ids(rules["forbids_last"]) == ids(rules["forbids_volume"]) == {15, 16}
    assert 4 in ids(rules["known"])


def test_empty_answer_is_no_table() -> None:
    with pytest.raises(ValueError, match="expected"):
        rules_from_conditions([])


@pytest.mark.parametrize("wrong", [-1, "7", 1.5, None])
def test_id_must_be_a_number(wrong: Any) -> None:
    row = condition(1, True, True, True)
    row["id"] = wrong
    with pytest.raises(ValueError, match="id"):
        rules_from_conditions([row])
