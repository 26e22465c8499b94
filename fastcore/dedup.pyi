from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class RecentTrades:
    """Identities in two generations of at most `max_remembered` each.

    A full current generation becomes the previous one, and what that held is forgotten: so
    between `max_remembered` and twice as many of the newest are known. Each generation is 256
    open-addressing tables that grow on their own, by half, at three quarters full: starting
    costs 16 KB, and growing never stops the stream for longer than one small table takes.
    ValueError when max_remembered is not 1 to 2**31.
    """

    max_remembered: int
    def __new__(cls, max_remembered: int = ...) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Bytes of all tables."""

    def add(self, symbol_id: int, trade_key: int, day_ns: int = ...) -> bool:
        """True if this trade is new on the day that `day_ns` names; key 0 is no identity and always new."""

def trade_key(exchange: int, trf: int, trade_id: str | None) -> int:
    """The identity of a trade as 64 bits: a hash of exchange, trade reporting facility (0 for none) and trade id.

    The same in every process and on every machine. 0, which is no identity, for the empty id or None.
    """
