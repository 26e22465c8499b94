# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sale conditions: which of a symbol's values a trade may change."""

from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_FIXED64, WIRE_VARINT, Cursor, Field, Writer, bytes_ptr, cursor_of, next_field,
    raise_wire_error, write_fixed64_field, write_varint_field, writer_bytes, writer_free, writer_init,
)

from collections.abc import Iterable, Mapping

# Ids that a bit of a conditions column can stand for.
cdef enum:
    LARGEST_ID = 62

# The built-in table, for when the vendor's cannot be had: ids of the
# published sale conditions, and what they forbid.
_KNOWN = (*range(42), 52, 53)
_NOT_LAST = (5, 10, 22, 32, 33)
_VOLUME_ONLY = (2, 7, 12, 13, 20, 21, 29, 37, 52, 53)
_OFFICIAL = (15, 16)
_NOT_VOLUME = (38,)


cdef uint64_t _mask(ids) except? 0xDEAD:
    cdef uint64_t mask = 0
    cdef int condition
    for condition in ids:
        mask |= <uint64_t>1 << condition
    return mask


cdef RuleMasks BUILTIN
BUILTIN.known = _mask(_KNOWN)
BUILTIN.forbids_last = _mask(_NOT_LAST + _VOLUME_ONLY + _OFFICIAL)
BUILTIN.forbids_high_low = _mask(_VOLUME_ONLY + _OFFICIAL)
BUILTIN.forbids_volume = _mask(_OFFICIAL + _NOT_VOLUME)
BUILTIN.takes_suspects = 0


cdef void builtin_rules(RuleMasks* rules) noexcept nogil:
    rules[0] = BUILTIN


cdef int parse_rules(bytes_ptr data, size_t length, RuleMasks* rules) except -1 nogil:
    """A field that is left out is an empty mask; the last of several counts, as in protobuf."""
    cdef Cursor cursor = cursor_of(data, length)
    cdef Field field
    cdef RuleMasks masks
    masks.known = masks.forbids_last = masks.forbids_high_low = masks.forbids_volume = masks.takes_suspects = 0
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if 1 <= field.number <= 4:
            if field.wire_type != WIRE_FIXED64:
                with gil:
                    raise ValueError(
                        f"TradeRules: expected field {field.number} as fixed64, was wire type {field.wire_type}"
                    )
            if field.number == 1:
                masks.known = field.value
            elif field.number == 2:
                masks.forbids_last = field.value
            elif field.number == 3:
                masks.forbids_high_low = field.value
            else:
                masks.forbids_volume = field.value
        elif field.number == 5:
            if field.wire_type != WIRE_VARINT:
                with gil:
                    raise ValueError(f"TradeRules: expected field 5 as varint, was wire type {field.wire_type}")
            masks.takes_suspects = field.value != 0
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TradeRules")
    rules[0] = masks
    return 0


cdef bytes encode_rules(const RuleMasks* rules):
    cdef Writer writer
    writer_init(&writer, 64)
    try:
        if rules.known:
            write_fixed64_field(&writer, 1, rules.known)
        if rules.forbids_last:
            write_fixed64_field(&writer, 2, rules.forbids_last)
        if rules.forbids_high_low:
            write_fixed64_field(&writer, 3, rules.forbids_high_low)
        if rules.forbids_volume:
            write_fixed64_field(&writer, 4, rules.forbids_volume)
        if rules.takes_suspects:
            write_varint_field(&writer, 5, 1)
        return writer_bytes(&writer)
    finally:
        writer_free(&writer)


def fallback_rules(bint take_suspect_prints=False) -> bytes:
    """The built-in table as an encoded TradeRules message."""
    cdef RuleMasks masks = BUILTIN
    masks.takes_suspects = take_suspect_prints
    return encode_rules(&masks)


def rules_from_conditions(conditions: Iterable[object], bint take_suspect_prints=False) -> bytes:
    """The encoded TradeRules message of the rows of the vendor's /v3/reference/conditions.

    Rows are mappings or objects with the vendor's names: id, type, data_types, update_rules
    {consolidated {updates_high_low, updates_open_close, updates_volume}}. Rows that are not of
    trades are passed over; only sale conditions forbid anything, since other types of condition
    share their numbers. Several sale conditions of one number combine with AND. Official prints
    (15, 16) forbid everything whatever the vendor says: they set close and open alone.
    ValueError when an id is no int of 0 or more, or when no row of a sale condition has rules
    (an empty answer is no table: use fallback_rules).
    """
    cdef RuleMasks masks
    cdef uint64_t bit
    cdef bint some = False
    masks.known = masks.forbids_last = masks.forbids_high_low = masks.forbids_volume = 0
    masks.takes_suspects = take_suspect_prints
    for row in conditions:
        number = _get(row, "id")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ValueError(f"condition id: expected an int of 0 or more, was {number!r}")
        if "trade" not in (_get(row, "data_types") or ("trade",)):
            continue
        if number > LARGEST_ID:
            # Bit 63 stands for all of these, known or not; it must forbid nothing.
            continue
        bit = <uint64_t>1 << <int>number
        masks.known |= bit
        rules = _get(_get(row, "update_rules"), "consolidated")
        if rules is None or (_get(row, "type") or "sale_condition") != "sale_condition":
            continue
        some = True
        if _get(rules, "updates_open_close") is False:
            masks.forbids_last |= bit
        if _get(rules, "updates_high_low") is False:
            masks.forbids_high_low |= bit
        if _get(rules, "updates_volume") is False:
            masks.forbids_volume |= bit
    if not some:
        raise ValueError("conditions: expected sale conditions with update rules, was none")
    masks.known |= COND_OFFICIAL()
    masks.forbids_last |= COND_OFFICIAL()
    masks.forbids_high_low |= COND_OFFICIAL()
    masks.forbids_volume |= COND_OFFICIAL()
    return encode_rules(&masks)


def read_rules(const unsigned char[::1] message not None) -> dict[str, int]:
    """The fields of an encoded TradeRules message by name; ValueError when it is malformed."""
    cdef RuleMasks masks
    cdef const unsigned char* data = NULL
    if message.shape[0]:
        data = &message[0]
    parse_rules(data, message.shape[0], &masks)
    return {
        "known": masks.known, "forbids_last": masks.forbids_last,
        "forbids_high_low": masks.forbids_high_low, "forbids_volume": masks.forbids_volume,
        "take_suspect_prints": masks.takes_suspects,
    }


cdef _get(row, str name):
    if row is None:
        return None
    if isinstance(row, Mapping):
        return row.get(name)
    return getattr(row, name, None)
