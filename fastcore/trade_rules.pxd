# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# What sale conditions forbid, as bit masks over the vendor's condition ids: docs/semantics.md, "Sale conditions".
# A trade may do what none of its conditions forbids. Condition 12 (Form T) counts in regular hours only, so callers
# leave it out of a trade's conditions outside of them. Official prints, 15 and 16, are the caller's as well: all masks
# forbid them everything.

from libc.stdint cimport uint64_t

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


# The content of a TradeRules message; bit i stands for condition id i.
cdef struct RuleMasks:
    uint64_t known
    uint64_t forbids_last
    uint64_t forbids_high_low
    uint64_t forbids_volume
    uint64_t takes_suspects     # 1 when no print is suspect, else 0


# The built-in table, and the reading of a TradeRules message (ValueError when
# it is malformed). Each replaces all masks.
cdef void builtin_rules(RuleMasks* rules) noexcept nogil
cdef int parse_rules(const unsigned char* data, size_t length, RuleMasks* rules) except -1 nogil
