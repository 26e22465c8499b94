from typing import Final

_Buffer = bytes | bytearray | memoryview

RECORD_BYTES: Final[int]
"""Bytes of one record: the old rank in 4, then a bit for each field number in 16; both little-endian."""

def changed_list_delta(message: _Buffer, changed: _Buffer) -> bytes:
    """Returns an encoded ListDelta whose updates have the changed fields only.

    `changed` has a record for each UPDATE of `message`, whose rows are complete; without any, all fields count as
    changed and ranks before are not known. An update's `data` lacks rank and symbol, `absent` names the changed fields
    that have no value, and `old_rank` is the rank before, where it is known. ValueError when the two do not belong
    together.
    """
