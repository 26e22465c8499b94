"""Partial quicksort: the first k rows sorted, the rest left behind them in any order."""


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


cdef void sort_top(Candidate* rows, Py_ssize_t count, Py_ssize_t k, const LaterKeys* later) noexcept nogil:
    """Brings the best `k` of the `count` rows to the front, in order."""
    cdef int depth = 2
    cdef Py_ssize_t size = count
    while size > 1:
        depth += 2
        size >>= 1
    _sort(rows, count, k, depth, later)
