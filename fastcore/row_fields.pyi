_Buffer = bytes | bytearray | memoryview

def select_ranked_list(message: _Buffer, kept: bytes) -> bytes:
    """Returns an encoded RankedList whose rows have the kept fields only; ValueError when the bytes are none."""

def select_list_delta(message: _Buffer, kept: bytes) -> bytes:
    """Returns an encoded ListDelta whose rows have the kept fields only; ValueError when the bytes are none."""

def select_row(row: _Buffer, kept: bytes) -> bytes:
    """Returns an encoded TickerRow with the kept fields only; ValueError when the bytes are none."""
