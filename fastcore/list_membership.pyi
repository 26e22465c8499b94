_Buffer = bytes | bytearray | memoryview

def membership_changes(list_delta: _Buffer) -> list[tuple[str, int]]:
    """The entries and removals of an encoded ListDelta, in its order: (symbol, rank), rank 0 for a removal.

    ValueError when the bytes are no ListDelta.
    """
