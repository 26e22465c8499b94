"""What is written to Redis of a list, made of its stream's messages."""

import random

import pytest

from services.kit.rpc.envelope import LIST
from services.scanner.redis_entries import ListEntries, OrderScore
from tests.support.list_messages import ListModel

# Of the arguments: epoch, sequence, sequence before, entries to keep, name, kind, payload and snapshot come first.
HEAD = 8


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
        assert parts == [None, None]
        written = arguments[HEAD:]
        rows = {symbol: score.of(rank, members) for symbol, (rank, members) in entries._rows.rows.items()}
        assert dict(zip((b'"%b"' % bytes(each) for each in written[1::2]), written[::2], strict=True)) == rows  # type: ignore[arg-type]
        assert len(written) == 2 * len(model.rows)
        compared += len(rows)
    assert compared > 100
