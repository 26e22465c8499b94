# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The previously best rows, put in order again, merged with the best of the others."""


cdef inline bint _before(const Candidate* a, const Candidate* b, const LaterKeys* later) noexcept nogil:
    cdef int k
    cdef double x, y
    if a.key != b.key:
        return a.key < b.key
    for k in range(1, later.count):
        x = later.keys[k * later.stride + a.index]
        y = later.keys[k * later.stride + b.index]
        if x != y:
            return x < y
    return a.place < b.place


cdef inline void _swap(Candidate* a, Candidate* b) noexcept nogil:
    cdef Candidate kept = a[0]
    a[0] = b[0]
    b[0] = kept


cdef void _insertion_sort(Candidate* rows, Py_ssize_t count, const LaterKeys* later) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef Candidate row
    for i in range(1, count):
        row = rows[i]
        j = i
        while j > 0 and _before(&row, &rows[j - 1], later):
            rows[j] = rows[j - 1]
            j -= 1
        rows[j] = row


cdef void _sift_down(Candidate* rows, Py_ssize_t at, Py_ssize_t count, const LaterKeys* later) noexcept nogil:
    cdef Py_ssize_t child = 2 * at + 1
    while child < count:
        if child + 1 < count and _before(&rows[child], &rows[child + 1], later):
            child += 1
        if not _before(&rows[at], &rows[child], later):
            return
        _swap(&rows[at], &rows[child])
        at = child
        child = 2 * at + 1


cdef void _heap_sort(Candidate* rows, Py_ssize_t count, const LaterKeys* later) noexcept nogil:
    cdef Py_ssize_t i = count // 2
    while i > 0:
        i -= 1
        _sift_down(rows, i, count, later)
    i = count
    while i > 1:
        i -= 1
        _swap(&rows[0], &rows[i])
        _sift_down(rows, 0, i, later)


cdef inline void _median_to_front(Candidate* rows, Py_ssize_t count, const LaterKeys* later) noexcept nogil:
    cdef Candidate* low = &rows[1]
    cdef Candidate* middle = &rows[count // 2]
    cdef Candidate* high = &rows[count - 1]
    if _before(middle, low, later):
        _swap(middle, low)
    if _before(high, middle, later):
        _swap(high, middle)
        if _before(middle, low, later):
            _swap(middle, low)
    _swap(&rows[0], middle)


cdef void _sort(Candidate* rows, Py_ssize_t count, Py_ssize_t k, int depth, const LaterKeys* later) noexcept nogil:
    cdef Py_ssize_t i, j
    while count > 16:
        if depth == 0:
            # Only input made to be bad comes here: the heap keeps it from being quadratic.
            _heap_sort(rows, count, later)
            return
        depth -= 1
        _median_to_front(rows, count, later)
        i = 0
        j = count
        while True:
            i += 1
            while i < count and _before(&rows[i], &rows[0], later):
                i += 1
            j -= 1
            while _before(&rows[0], &rows[j], later):
                j -= 1
            if i >= j:
                break
            _swap(&rows[i], &rows[j])
        _swap(&rows[0], &rows[j])
        # rows[j] stands where it belongs; the right side matters only if k reaches beyond it.
        if k > j + 1:
            _sort(rows + j + 1, count - j - 1, k - j - 1, depth, later)
        count = j
    _insertion_sort(rows, count, later)


cdef void _sort_top(Candidate* rows, Py_ssize_t count, Py_ssize_t k, const LaterKeys* later) noexcept nogil:
    """Partial quicksort: the best `k` of the rows in order, the rest behind them in any order."""
    cdef int depth = 2
    cdef Py_ssize_t size = count
    while size > 1:
        depth += 2
        size >>= 1
    _sort(rows, count, k, depth, later)


cdef void _sort_again(Candidate* rows, Py_ssize_t count, const LaterKeys* later) noexcept nogil:
    """Insertion sort, given up for quicksort when too much is out of order."""
    cdef Py_ssize_t i, j
    cdef Py_ssize_t moves_left = 8 * count
    cdef Candidate row
    for i in range(1, count):
        if not _before(&rows[i], &rows[i - 1], later):
            continue
        row = rows[i]
        j = i
        while j > 0 and _before(&row, &rows[j - 1], later):
            rows[j] = rows[j - 1]
            j -= 1
        rows[j] = row
        moves_left -= i - j
        if moves_left < 0:
            _sort_top(rows, count, count, later)
            return


cdef int32_t best_rows(
    Candidate* members, Py_ssize_t member_count, Candidate* others, Py_ssize_t other_count, Py_ssize_t k,
    const LaterKeys* later, int32_t* best,
) noexcept nogil:
    cdef Py_ssize_t m = 0, o = 0, n = 0
    _sort_again(members, member_count, later)
    _sort_top(others, other_count, k, later)
    while n < k:
        if m < member_count and (o == other_count or _before(&members[m], &others[o], later)):
            best[n] = members[m].index
            m += 1
        elif o < other_count:
            best[n] = others[o].index
            o += 1
        else:
            break
        n += 1
    return <int32_t>n
