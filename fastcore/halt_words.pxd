# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# A symbol's halts of today: every announcement, and the resulting state.
#
# Each source says when trading stopped or goes on: LULD messages (17, 18), the
# items of the trade-halt feed, a trade. These words are kept in the order of
# their own times, not of their arrival, so that it makes no difference which
# source was faster. docs/semantics.md, "Halts".

from libc.stdint cimport int64_t

from fastcore.wire cimport Cursor, Writer

cdef enum:
    # Kinds of words.
    LIMIT_HALT = 0              # LULD 17
    LIMIT_RESUME = 1            # LULD 18
    LISTED_HALT = 2             # an item of the feed
    LISTED_RESUME = 3           # the resumption that it announces
    TRADED = 4                  # a trade after a halt that nothing else had ended
    WORD_KINDS = 5
    MOST_WORDS = 256            # the oldest are summed up beyond

cdef struct HaltWord:
    int64_t time_ns
    int64_t kind
    int64_t item_ns             # of LISTED_RESUME: when its halt began; else 0
    int64_t reason              # of LISTED_HALT: code of the text; else 0

# The newest halt; what fields.md says of the fields of these names.
cdef struct Halt:
    int64_t halted              # -1 unknown, 0, 1
    int64_t reason              # code of the text, 0 without one
    int64_t halted_at           # -1 before the first
    int64_t resumes_at          # -1 until it is announced
    int64_t count               # that began today

cdef struct HaltWords:
    Halt before                 # what the words up to `before_ns` came to, which are no longer kept
    int64_t before_ns           # -1 while all are
    int64_t count
    int64_t capacity
    HaltWord* words             # [0 .. count), ascending; of equal times in order of arrival


cdef HaltWords* new_words() except NULL nogil
cdef void free_words(HaltWords* words) noexcept nogil

# Takes a word in; nothing when it is older than what was summed up. `now_ns` and
# `start_ns` (04:00) matter when that happens.
cdef int add_word(HaltWords* words, const HaltWord* word, int64_t now_ns, int64_t start_ns) except -1 nogil
# Takes in an item of the feed: what was announced before under the same `halted_at` no longer counts.
cdef int add_listed(
    HaltWords* words, int64_t halted_at, int64_t resumes_at, int64_t reason, int64_t now_ns, int64_t start_ns
) except -1 nogil
cdef inline int64_t newest_word(const HaltWords* words) noexcept nogil:
    return words.words[words.count - 1].time_ns if words.count else words.before_ns


cdef bint has_trade(const HaltWords* words, int64_t time_ns) noexcept nogil

# Writes the state after the words up to now to `halt`; returns when the next word takes effect, INT64_MAX for never.
cdef int64_t halt_of(const HaltWords* words, int64_t now_ns, int64_t start_ns, Halt* halt) noexcept nogil

# NULL is written as nothing. ValueError unless what is read could have been written; `codes`: of texts.
cdef int write_words(Writer* writer, const HaltWords* words) except -1
cdef int read_words(Cursor* cursor, HaltWords** words, int64_t codes) except -1
