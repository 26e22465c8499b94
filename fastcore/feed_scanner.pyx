# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The scanner of the vendor's JSON; see feed_scanner.pxd."""

from libc.string cimport memcpy

cdef extern from "Python.h":
    # Python's own float(): rounded once and, unlike C's strtod, the same under every locale.
    double PyOS_string_to_double(const char* text, char** end, void* overflow) except? -1.0

cdef enum:
    MAX_NUMBER = 40     # characters of a number that is still plain

cdef double[23] POWERS
cdef signed char[128] KEYS_OF_ONE

cdef int fill_tables() except -1:
    cdef int i
    for i in range(23):
        POWERS[i] = float(f"1e{i}")
    for i in range(128):
        KEYS_OF_ONE[i] = OTHER
    for character, slot in (
        (b"T", TICKER), (b"x", X), (b"i", I), (b"p", P), (b"s", S), (b"c", C), (b"t", T), (b"v", V), (b"a", A),
        (b"o", O), (b"h", H), (b"l", L), (b"e", E), (b"z", Z),
    ):
        KEYS_OF_ONE[<int>character[0]] = slot
    return 0

fill_tables()


# ---- text ----

cdef inline text_ptr plain_text_end(text_ptr pos, text_ptr end) noexcept nogil:
    """The closing quote of the text that begins at pos; NULL unless it is printable ASCII without escapes."""
    while pos < end:
        if pos[0] == c'"':
            return pos
        if pos[0] < 0x20 or pos[0] >= 0x80 or pos[0] == c'\\':
            return NULL
        pos += 1
    return NULL


cdef text_ptr value_end(text_ptr pos, text_ptr end) noexcept nogil:
    cdef Py_ssize_t depth = 0
    while pos < end:
        if pos[0] == c'"':
            pos += 1
            while pos < end and pos[0] != c'"':
                pos += 2 if pos[0] == c'\\' else 1
            if pos >= end:
                return NULL
        elif pos[0] == c'{' or pos[0] == c'[':
            depth += 1
        elif pos[0] == c'}' or pos[0] == c']':
            if depth == 0:
                return pos
            depth -= 1
        elif pos[0] == c',' and depth == 0:
            return pos
        pos += 1
    return NULL


cdef inline int key_slot(text_ptr key, size_t length) noexcept nogil:
    if length == 1:
        return KEYS_OF_ONE[key[0]]
    if length == 2:
        if key[0] == c'e' and key[1] == c'v':
            return EV
        if key[0] == c'd':
            return DS if key[1] == c's' else DV if key[1] == c'v' else OTHER
        if key[0] == c'a':
            return AV if key[1] == c'v' else AP if key[1] == c'p' else AS if key[1] == c's' else OTHER
        if key[0] == c'b':
            return BP if key[1] == c'p' else BS if key[1] == c's' else OTHER
        if key[0] == c'o' and key[1] == c'p':
            return OP
        if key[0] == c'v' and key[1] == c'w':
            return VW
        return OTHER
    if length == 3:
        if key[0] == c's' and key[1] == c'y' and key[2] == c'm':
            return SYM
        if key[0] == c'd' and key[1] == c'a' and key[2] == c'v':
            return DAV
        return OTHER
    if length == 4 and key[0] == c't' and key[1] == c'r' and key[2] == c'f' and key[3] == c'i':
        return TRFI
    return OTHER


# ---- numbers ----

cdef double rounded(text_ptr text, Py_ssize_t length) noexcept with gil:
    """The nearest double to a decimal fraction of at most MAX_NUMBER characters."""
    cdef char[MAX_NUMBER + 1] copy
    memcpy(copy, text, length)
    copy[length] = 0
    return PyOS_string_to_double(copy, NULL, NULL)


cdef text_ptr plain_number(text_ptr pos, text_ptr end, Value* value) noexcept nogil:
    """Reads a number without sign or exponent; where it ends, NULL when it is not plain.

    Exact: one rounding, of the decimal value to the nearest double (Clinger's fast path where
    the digits are below 2**53 and the power of ten is a double, else Python's own float()).
    """
    cdef text_ptr begin = pos
    cdef uint64_t digits = 0
    cdef int whole, decimals = 0
    while pos < end and <unsigned char>(pos[0] - c'0') < 10:
        digits = digits * 10 + <unsigned char>(pos[0] - c'0')
        pos += 1
        if pos - begin > 19:
            return NULL
    whole = <int>(pos - begin)
    if whole == 0 or (begin[0] == c'0' and whole > 1):
        return NULL
    if pos < end and pos[0] == c'.':
        pos += 1
        while pos < end and <unsigned char>(pos[0] - c'0') < 10:
            digits = digits * 10 + <unsigned char>(pos[0] - c'0')
            pos += 1
            decimals += 1
            if decimals + whole > 19:
                return long_number(begin, pos, end, value)
        if decimals == 0:
            return NULL
        if pos < end and (pos[0] | 0x20) == c'e':
            return NULL
        value.kind = REAL
        if digits <= (<uint64_t>1 << 53):
            value.number = <double>digits / POWERS[decimals]
            return pos
        value.number = rounded(begin, pos - begin)
        return pos
    if pos < end and (pos[0] | 0x20) == c'e':
        return NULL
    value.kind = INTEGER
    value.integer = digits
    value.number = <double>digits
    return pos


cdef text_ptr long_number(text_ptr begin, text_ptr pos, text_ptr end, Value* value) noexcept nogil:
    """A decimal fraction of more than 19 digits, read so far to pos."""
    while pos < end and <unsigned char>(pos[0] - c'0') < 10:
        pos += 1
        if pos - begin > MAX_NUMBER:
            return NULL
    if pos < end and (pos[0] | 0x20) == c'e':
        return NULL
    value.kind = REAL
    value.number = rounded(begin, pos - begin)
    return pos


cdef text_ptr plain_ids(text_ptr pos, text_ptr end, Value* value) noexcept nogil:
    """Reads an array of small integers from behind its bracket to a mask; NULL when it is anything else."""
    cdef uint64_t mask = 0
    cdef Value one
    pos = skip_space(pos, end)
    if pos < end and pos[0] == c']':
        value.kind = IDS
        value.integer = 0
        return pos + 1
    while True:
        pos = plain_number(skip_space(pos, end), end, &one)
        if pos == NULL or one.kind != INTEGER or one.integer > 1_000_000:
            return NULL
        mask |= <uint64_t>1 << (one.integer if one.integer < 63 else 63)
        pos = skip_space(pos, end)
        if pos >= end:
            return NULL
        if pos[0] == c']':
            value.kind = IDS
            value.integer = mask
            return pos + 1
        if pos[0] != c',':
            return NULL
        pos += 1


cdef inline text_ptr literal(text_ptr pos, text_ptr end, const char* word, size_t length) noexcept nogil:
    cdef size_t i
    if <size_t>(end - pos) < length:
        return NULL
    for i in range(length):
        if pos[i] != <unsigned char>word[i]:
            return NULL
    return pos + length


cdef inline text_ptr plain_value(text_ptr pos, text_ptr end, Value* value) noexcept nogil:
    """Reads one value; where it ends, NULL when it is not plain."""
    cdef text_ptr begin
    if pos >= end:
        return NULL
    if <unsigned char>(pos[0] - c'0') < 10:
        return plain_number(pos, end, value)
    if pos[0] == c'"':
        begin = pos + 1
        pos = plain_text_end(begin, end)
        if pos == NULL:
            return NULL
        value.kind = TEXT
        value.text = begin
        value.length = pos - begin
        return pos + 1
    if pos[0] == c'[':
        return plain_ids(pos + 1, end, value)
    return NULL


cdef text_ptr plain_element(text_ptr pos, text_ptr end, Value* slots, uint32_t* seen) noexcept nogil:
    """Reads an object into the slots, `seen` says which; where it ends, NULL when it is not plain."""
    cdef text_ptr key
    cdef size_t length
    cdef int slot
    cdef Value ignored
    seen[0] = 0
    if pos >= end or pos[0] != c'{':
        return NULL
    pos += 1
    while True:
        pos = skip_space(pos, end)
        if pos >= end or pos[0] != c'"':
            return NULL
        key = pos + 1
        pos = plain_text_end(key, end)
        if pos == NULL:
            return NULL
        length = pos - key
        pos = skip_space(pos + 1, end)
        if pos >= end or pos[0] != c':':
            return NULL
        pos = skip_space(pos + 1, end)
        slot = key_slot(key, length)
        if slot == OTHER:
            if pos < end and pos[0] == c't':
                pos = literal(pos, end, b"true", 4)
            elif pos < end and pos[0] == c'f':
                pos = literal(pos, end, b"false", 5)
            elif pos < end and pos[0] == c'n':
                pos = literal(pos, end, b"null", 4)
            else:
                pos = plain_value(pos, end, &ignored)
        else:
            if seen[0] >> slot & 1:
                return NULL
            seen[0] |= <uint32_t>1 << slot
            pos = plain_value(pos, end, &slots[slot])
        if pos == NULL:
            return NULL
        pos = skip_space(pos, end)
        if pos >= end:
            return NULL
        if pos[0] == c'}':
            return pos + 1
        if pos[0] != c',':
            return NULL
        pos += 1
