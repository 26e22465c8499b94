# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The scanner of the vendor's JSON: the elements that are plain, and nothing else.
#
# Plain is an object with text of printable ASCII without escapes, numbers of up
# to 19 digits (or decimal fractions of up to 40 characters) without sign and
# exponent, arrays of small integers, and no key of ours twice. Whole values are
# read into slots first and the kind of event is looked at afterwards, so keys
# may come in any order. What is not plain is left to fastcore.feed_elements.

from libc.math cimport NAN as ABSENT
from libc.stdint cimport int64_t, uint32_t, uint64_t

ctypedef const unsigned char* text_ptr

# Kinds of slots.
cdef enum:
    NOTHING = 0
    INTEGER = 1         # `integer` and `number`
    REAL = 2            # `number`
    TEXT = 3            # `text`, `length`
    IDS = 4             # `integer`, a mask of condition ids

cdef struct Value:
    int kind
    uint64_t integer
    double number
    text_ptr text
    size_t length

# The keys that mean something, one slot each whatever the kind of event.
cdef enum:
    EV, SYM, TICKER, X, I, P, S, DS, C, T, TRFI, V, DV, AV, DAV, OP, VW, A, O, H, L, E, Z, BP, BS, AP, AS
    SLOTS
    OTHER               # every other key: its value is checked and forgotten


# Where the object that begins at pos ends, its values in `slots`, which of them in
# `seen`; NULL when it is not plain. Numbers are rounded once, to the nearest double.
cdef text_ptr plain_element(text_ptr pos, text_ptr end, Value* slots, uint32_t* seen) noexcept nogil
cdef text_ptr plain_number(text_ptr pos, text_ptr end, Value* value) noexcept nogil
# Behind the JSON value that begins at pos, found by brackets and quotes alone. Of
# whole JSON it is the end, of anything else some place up to `end`, or NULL.
cdef text_ptr value_end(text_ptr pos, text_ptr end) noexcept nogil


cdef inline text_ptr skip_space(text_ptr pos, text_ptr end) noexcept nogil:
    while pos < end and (pos[0] == c' ' or pos[0] == c'\n' or pos[0] == c'\r' or pos[0] == c'\t'):
        pos += 1
    return pos


# The value of a slot, 0 when its text is not plain for that.

cdef inline int time_of(const Value* value, int64_t* time_ns) noexcept nogil:
    """Nanoseconds, the unit distinguished by magnitude; 0 when it is not plain."""
    cdef uint64_t t = value.integer
    if value.kind != INTEGER or t == 0:
        return 0
    if t < 100_000_000_000u:
        if t > 9_223_372_036u:
            return 0
        time_ns[0] = <int64_t>(t * 1_000_000_000u)
    elif t < 100_000_000_000_000u:
        if t > 9_223_372_036_854u:
            return 0
        time_ns[0] = <int64_t>(t * 1_000_000u)
    elif t < 100_000_000_000_000_000u:
        if t > 9_223_372_036_854_775u:
            return 0
        time_ns[0] = <int64_t>(t * 1_000u)
    else:
        if t > 9_223_372_036_854_775_807u:
            return 0
        time_ns[0] = <int64_t>t
    return 1


cdef inline int number_of(const Value* value, double* number) noexcept nogil:
    number[0] = value.number
    return value.kind == INTEGER or value.kind == REAL


cdef inline int optional_of(const Value* slots, uint32_t seen, int slot, double* number) noexcept nogil:
    if not seen >> slot & 1:
        number[0] = ABSENT
        return 1
    return number_of(&slots[slot], number)


cdef inline int amount_of(const Value* slots, uint32_t seen, int exact, int whole, double* amount) noexcept nogil:
    """Shares by the decimal text, else by the number; 0 when neither is plain."""
    cdef Value value
    cdef text_ptr end
    if seen >> exact & 1:
        if slots[exact].kind != TEXT:
            return 0
        end = slots[exact].text + slots[exact].length
        if plain_number(slots[exact].text, end, &value) != end:
            return 0
        amount[0] = value.number
        return 1
    if not seen >> whole & 1:
        return 0
    return number_of(&slots[whole], amount)


cdef inline int venue_of(const Value* slots, uint32_t seen, int slot, int64_t* venue) noexcept nogil:
    venue[0] = 0
    if seen >> slot & 1:
        if slots[slot].kind != INTEGER or slots[slot].integer > 0x7FFFFFFF:
            return 0
        venue[0] = <int64_t>slots[slot].integer
    return 1


cdef inline int mask_of(const Value* slots, uint32_t seen, int slot, uint64_t* mask) noexcept nogil:
    mask[0] = 0
    if seen >> slot & 1:
        mask[0] = slots[slot].integer
        return slots[slot].kind == IDS
    return 1
