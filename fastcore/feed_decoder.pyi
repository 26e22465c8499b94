from typing_extensions import disjoint_base

from fastcore.feed_elements import Status

@disjoint_base
class FeedDecoder:
    """The vendor's JSON messages to columns.

    Symbols get dense ids in the order they come, at most `max_symbols` (ValueError unless 1 to
    2**24); events of further ones are set aside as symbol_table_full. A symbol gets its id with an
    event whose values may be: others of unknown symbols are set aside here (fastcore.bounds), those of
    known ones are the sequencer's to judge.
    """

    max_symbols: int
    rejected: dict[str, int]
    """Number of messages and events set aside, by reason: of whole messages not_an_array and malformed_json, of single
    events wrong_type, unknown_event, missing_field, symbol, time, encoding, symbol_table_full, and of
    unknown symbols price, size, bar_shape."""
    slow_elements: int
    """Number of elements that the slow parser had to read."""
    last_trade_ns: int
    """Time of the trade decoded last, in ns since 1970 UTC; 0 before the first."""
    def __init__(self, max_symbols: int = ...) -> None: ...
    @property
    def symbols(self) -> list[str]:
        """The symbol table: element i has the id i."""

    @property
    def symbol_count(self) -> int: ...
    @property
    def rows(self) -> int:
        """Events decoded and not yet taken."""

    @property
    def totals(self) -> dict[str, int]:
        """Events decoded since the beginning, by field of MarketBatch."""

    def decode(self, frame: bytes | bytearray | memoryview) -> list[Status]:
        """Adds the events of one message; returns what it says about the connection, in order.

        A message that is not whole JSON adds nothing; of any other only the malformed events
        are set aside.
        """

    def take(self) -> bytes:
        """The encoded MarketBatch, without position, of what was decoded since the last take.

        Empty bytes when there is nothing.
        """
