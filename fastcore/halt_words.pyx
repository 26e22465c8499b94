# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Halts of a symbol: words in the order of their times, and the newest of them."""

from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove

from fastcore.columns cimport is_time
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    LEAST_WORDS = 4

# Two sources may begin one halt so far apart.
cdef int64_t SAME_HALT_NS = 2_000_000_000


cdef HaltWords* new_words() except NULL nogil:
    cdef HaltWords* words = <HaltWords*>calloc(1, sizeof(HaltWords))
    if words == NULL:
        with gil:
            raise MemoryError("no memory for a symbol's halts")
    words.before_ns = -1
    words.before.halted = words.before.halted_at = words.before.resumes_at = -1
    return words


cdef void free_words(HaltWords* words) noexcept nogil:
    if words != NULL:
        free(words.words)
        free(words)


# ---- words ----

cdef int grow(HaltWords* words) except -1 nogil:
    cdef int64_t capacity = max(2 * words.capacity, <int64_t>LEAST_WORDS)
    cdef HaltWord* larger = <HaltWord*>realloc(words.words, capacity * sizeof(HaltWord))
    if larger == NULL:
        with gil:
            raise MemoryError("no memory for a symbol's halts")
    words.words = larger
    words.capacity = capacity
    return 0


cdef void remove(HaltWords* words, int64_t i) noexcept nogil:
    words.count -= 1
    memmove(&words.words[i], &words.words[i + 1], (words.count - i) * sizeof(HaltWord))


cdef int add_word(HaltWords* words, const HaltWord* word, int64_t now_ns, int64_t start_ns) except -1 nogil:
    cdef int64_t i = words.count
    if word.time_ns <= words.before_ns:
        return 0
    if words.count == MOST_WORDS:
        if words.words[0].time_ns > now_ns or word.time_ns < words.words[0].time_ns:
            return 0
        take(&words.before, &words.words[0], start_ns)
        words.before_ns = words.words[0].time_ns
        remove(words, 0)
        i -= 1
    elif words.count == words.capacity:
        grow(words)
    while i > 0 and words.words[i - 1].time_ns > word.time_ns:
        i -= 1
    memmove(&words.words[i + 1], &words.words[i], (words.count - i) * sizeof(HaltWord))
    words.words[i] = word[0]
    words.count += 1
    return 0


cdef int add_listed(
    HaltWords* words, int64_t halted_at, int64_t resumes_at, int64_t reason, int64_t now_ns, int64_t start_ns
) except -1 nogil:
    cdef HaltWord word
    cdef int64_t i
    cdef bint is_begun = False
    for i in range(words.count - 1, -1, -1):
        if words.words[i].kind == LISTED_HALT and words.words[i].time_ns == halted_at:
            words.words[i].reason = reason
            is_begun = True
        elif words.words[i].kind == LISTED_RESUME and words.words[i].item_ns == halted_at:
            if words.words[i].time_ns == resumes_at:
                resumes_at = 0
            else:
                remove(words, i)
    word.item_ns = 0
    if not is_begun:
        word.time_ns = halted_at
        word.kind = LISTED_HALT
        word.reason = reason
        add_word(words, &word, now_ns, start_ns)
    if resumes_at > 0:
        word.time_ns = resumes_at
        word.kind = LISTED_RESUME
        word.item_ns = halted_at
        word.reason = 0
        add_word(words, &word, now_ns, start_ns)
    return 0


cdef bint has_trade(const HaltWords* words, int64_t time_ns) noexcept nogil:
    cdef int64_t i
    for i in range(words.count):
        if words.words[i].kind == TRADED and words.words[i].time_ns == time_ns:
            return True
    return False


# ---- what they come to ----

cdef void take(Halt* halt, const HaltWord* word, int64_t start_ns) noexcept nogil:
    """The next word, in the order of time."""
    if word.kind == LIMIT_HALT or word.kind == LISTED_HALT:
        if halt.halted != 1:
            if halt.halted_at < 0 or word.time_ns > halt.halted_at + SAME_HALT_NS:
                halt.halted_at = word.time_ns
                halt.reason = 0
                halt.count += word.time_ns >= start_ns
            halt.halted = 1
            halt.resumes_at = -1
        if word.kind == LISTED_HALT:
            halt.reason = word.reason
    else:
        # After a trade an announcement still says when trading went on.
        if word.kind != TRADED and halt.halted_at >= 0 and halt.resumes_at < 0:
            halt.resumes_at = word.time_ns
        halt.halted = 0


cdef int64_t halt_of(const HaltWords* words, int64_t now_ns, int64_t start_ns, Halt* halt) noexcept nogil:
    cdef int64_t i = 0, next_ns
    halt[0] = words.before
    while i < words.count and words.words[i].time_ns <= now_ns:
        take(halt, &words.words[i], start_ns)
        i += 1
    if i == words.count:
        return INT64_MAX
    next_ns = words.words[i].time_ns
    if halt.halted_at >= 0 and halt.resumes_at < 0:
        for i in range(i, words.count):
            if words.words[i].kind == LISTED_RESUME and halt.halted_at <= words.words[i].item_ns <= now_ns:
                halt.resumes_at = words.words[i].time_ns
                break
    return next_ns


# ---- the state's bytes ----

cdef int write_words(Writer* writer, const HaltWords* words) except -1:
    cdef int64_t count = -1 if words == NULL else words.count
    write_block(writer, &count, sizeof(int64_t))
    if words != NULL:
        write_block(writer, &words.before, sizeof(Halt))
        write_block(writer, &words.before_ns, sizeof(int64_t))
        write_block(writer, words.words, count * sizeof(HaltWord))
    return 0


cdef bint is_halt(const Halt* halt, int64_t codes) noexcept nogil:
    return (
        -1 <= halt.halted <= 1 and 0 <= halt.reason < codes and (halt.halted_at == -1 or is_time(halt.halted_at))
        and (halt.resumes_at == -1 or is_time(halt.resumes_at)) and is_time(halt.count)
    )


cdef int read_words(Cursor* cursor, HaltWords** words, int64_t codes) except -1:
    cdef int64_t count, i, last_ns
    cdef HaltWords* read
    cdef HaltWord word
    words[0] = NULL
    read_block(cursor, &count, sizeof(int64_t))
    if count == -1:
        return 0
    if not 0 <= count <= MOST_WORDS:
        raise ValueError(f"state: expected at most {MOST_WORDS} words of halts, was {count}")
    read = words[0] = new_words()
    read_block(cursor, &read.before, sizeof(Halt))
    read_block(cursor, &read.before_ns, sizeof(int64_t))
    if not is_halt(&read.before, codes) or (read.before_ns != -1 and not is_time(read.before_ns)):
        raise ValueError("state: expected a halt, was something else")
    last_ns = read.before_ns
    for i in range(count):
        read_block(cursor, &word, sizeof(HaltWord))
        if not (
            is_time(word.time_ns) and word.time_ns >= last_ns and 0 <= word.kind < WORD_KINDS
            and is_time(word.item_ns) and 0 <= word.reason < codes
        ):
            raise ValueError("state: expected words of halts in the order of their times, was something else")
        if read.count == read.capacity:
            grow(read)
        read.words[i] = word
        read.count += 1
        last_ns = word.time_ns
    return 0
