"""What is written to Redis of a list, made of its stream's messages."""

import random

import msgspec
import pytest

from services.kit.rpc.envelope import LIST
from services.scanner.redis_entries import ListEntries, OrderScore
from tests.support.list_messages import ListModel


@pytest.mark.parametrize("order_by", ["price desc", "symbol"])
@pytest.mark.parametrize("seed", range(5))
def test_each_write_has_the_score_of_every_row_in_its_order(seed: int, order_by: str) -> None:
    """By symbol it is the rank, which changes while the row does not."""
    rng = random.Random(seed)
    model, entries, score = ListModel(), ListEntries("list", order_by), OrderScore(order_by)
    compared = 0
    for step in range(60):
        symbols = rng.sample("ABCDEFGH", rng.randint(1, 8))
        delta = model.change_to([(symbol, float(rng.randint(1, 3))) for symbol in symbols])
        if step % 20 == 0:
            parts = list(entries.take(LIST.wrap("snapshot", model.snapshot())))
        else:
            parts = list(entries.take(LIST.wrap("delta", delta)))
        arguments = parts.pop()
        assert arguments is not None
        assert set(parts) == {None}
        scores = arguments[-1]
        assert isinstance(scores, bytes)
        written = msgspec.msgpack.decode(scores)
        rows = {symbol: score.of(rank, members) for symbol, (rank, members) in entries._rows.rows.items()}
        assert {b'"%b"' % symbol.encode(): found for found, symbol in written} == rows
        assert len(written) == len(model.rows)
        compared += len(rows)
    assert compared > 100
