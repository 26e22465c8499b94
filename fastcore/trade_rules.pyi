from collections.abc import Iterable

def fallback_rules(take_suspect_prints: bool = False) -> bytes:
    """The built-in table as an encoded TradeRules message."""

def rules_from_conditions(conditions: Iterable[object], take_suspect_prints: bool = False) -> bytes:
    """The encoded TradeRules message of the rows of the vendor's /v3/reference/conditions.

    Rows are mappings or objects with the vendor's names: id, type, data_types, update_rules
    {consolidated {updates_high_low, updates_open_close, updates_volume}}. Rows that are not of
    trades are passed over; only sale conditions forbid anything, since other types of condition
    share their numbers. Several sale conditions of one number combine with AND. Official prints
    (15, 16) forbid everything whatever the vendor says: they set close and open alone.
    ValueError when an id is no int of 0 or more, or when no row of a sale condition has rules
    (an empty answer is no table: use fallback_rules).
    """

def read_rules(message: bytes | bytearray | memoryview) -> dict[str, int]:
    """The fields of an encoded TradeRules message by name; ValueError when it is malformed."""
