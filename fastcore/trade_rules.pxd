# What sale conditions forbid (SEMANTICS section 3), as bit masks over the
# vendor's condition ids. Conditions combine with AND: a trade may change what
# none of its conditions forbids.
#
# Condition 12 (Form T), 15 and 16 have meanings of their own, which are the
# caller's: with the built-in table 12 forbids last and high/low, and setting
# price and the intraday range outside regular hours is decided with
# forbids_*_beside(..., COND_FORM_T); 15 and 16 forbid everything here, and set
# close and open there.

from libc.stdint cimport int32_t, uint64_t

# Bits of a `conditions` column; enums hold no 64-bit values, hence functions.
cdef inline uint64_t COND_FORM_T() noexcept nogil:
    """Condition 12: traded in extended hours."""
    return <uint64_t>1 << 12

cdef inline uint64_t COND_EXTENDED() noexcept nogil:
    """Conditions 12 and 13: after the close a trade with neither is a regular one."""
    return (<uint64_t>1 << 12) | (<uint64_t>1 << 13)

cdef inline uint64_t COND_OFFICIAL_CLOSE() noexcept nogil:
    """Condition 15."""
    return <uint64_t>1 << 15

cdef inline uint64_t COND_OFFICIAL_OPEN() noexcept nogil:
    """Condition 16."""
    return <uint64_t>1 << 16

cdef inline uint64_t COND_OFFICIAL() noexcept nogil:
    """Conditions 15 and 16: official prints, which set close and open and nothing else."""
    return (<uint64_t>1 << 15) | (<uint64_t>1 << 16)

cdef inline uint64_t COND_UNKNOWN() noexcept nogil:
    """Bit 63: some condition id above 62."""
    return <uint64_t>1 << 63


# The content of a TradeRules message; bit i stands for condition id i.
cdef struct RuleMasks:
    uint64_t known
    uint64_t forbids_last
    uint64_t forbids_high_low
    uint64_t forbids_volume
    uint64_t takes_suspects     # 1 when no print is suspect, else 0


cdef inline bint forbids_last(const RuleMasks* rules, uint64_t conditions) noexcept nogil:
    return (rules.forbids_last & conditions) != 0


cdef inline bint forbids_high_low(const RuleMasks* rules, uint64_t conditions) noexcept nogil:
    return (rules.forbids_high_low & conditions) != 0


cdef inline bint forbids_volume(const RuleMasks* rules, uint64_t conditions) noexcept nogil:
    return (rules.forbids_volume & conditions) != 0


# The same with some conditions left out of account, such as Form T outside
# regular hours.

cdef inline bint forbids_last_beside(const RuleMasks* rules, uint64_t conditions, uint64_t beside) noexcept nogil:
    return (rules.forbids_last & conditions & ~beside) != 0


cdef inline bint forbids_high_low_beside(const RuleMasks* rules, uint64_t conditions, uint64_t beside) noexcept nogil:
    return (rules.forbids_high_low & conditions & ~beside) != 0


cdef inline bint has_unknown(const RuleMasks* rules, uint64_t conditions) noexcept nogil:
    """Whether some condition is not in the rules; it forbids nothing and is counted."""
    return (conditions & ~rules.known) != 0


# The built-in table, and the reading of a TradeRules message (ValueError when
# it is malformed). Each replaces all masks.
cdef void builtin_rules(RuleMasks* rules) noexcept nogil
cdef int parse_rules(const unsigned char* data, size_t length, RuleMasks* rules) except -1 nogil
