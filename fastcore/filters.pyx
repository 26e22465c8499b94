# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Filters and orders: text to a program over the columns of a MarketState (docs/filters.md)."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy, memset

from fastcore cimport filter_kernels as kernels
from fastcore.change_log cimport ON_SYMBOLS, depends_of
from fastcore.market_state cimport MarketState
from fastcore.row_view cimport RowView

from fastcore.filter_ast import And, FieldValue, FilterError
from fastcore.filter_program import Combine, Op, lower_filter, lower_order
from fastcore.filter_types import check_filter, check_order

# The same numbers as in filter_program.py; checked below.
cdef enum:
    LOAD = 0
    SYMBOL_ORDER = 1
    FILL = 2
    ADD = 3
    SUBTRACT = 4
    MULTIPLY = 5
    DIVIDE = 6
    MIN = 7
    MAX = 8
    ABS = 9
    NEGATE = 10
    COMPARE = 20
    COMPARE_CONSTANT = 21
    HAS = 22
    HAS_TEXT = 23
    ALWAYS = 24
    IN_NUMBERS = 25
    IN_TEXTS = 26
    IN_SYMBOLS = 27
    SAME_TEXT = 28
    MASK = 29
    EVENT = 30

cdef enum:
    SET = 0
    AND = 1
    OR = 2

if [op.value for op in Op] != [*range(LOAD, NEGATE + 1), *range(COMPARE, EVENT + 1)] or list(Combine) != [SET, AND, OR]:
    raise ImportError("expected filters to know the instructions of filter_program.py: build fastcore anew")


cdef inline const double* values_at(Program program, const RowView* rows, int operand, int32_t first) noexcept nogil:
    """The block that an operand names: a register, or a part of a column."""
    if operand >= 0:
        return program.values + operand * <Py_ssize_t>BLOCK
    return rows.columns[-operand] + first


# Of a filter or order that came from another process.
_NOT_PARSED = object()


cdef class Program:
    """A flat program, its constants and its registers."""

    def __cinit__(self, lowered):
        cdef int i
        self.length = len(lowered.steps)
        self.texts = lowered.texts
        self.instructions = <Instruction*>PyMem_Calloc(max(self.length, 1), sizeof(Instruction))
        self.values = <double*>PyMem_Calloc(lowered.value_registers * BLOCK, sizeof(double))
        # One mask more: what a condition makes before it joins its target.
        self.masks = <uint8_t*>PyMem_Calloc((lowered.mask_registers + 1) * BLOCK, 1)
        self.numbers = <double*>PyMem_Calloc(max(len(lowered.numbers), 1), sizeof(double))
        self.codes = <int32_t*>PyMem_Calloc(max(len(lowered.texts), 1), sizeof(int32_t))
        if not (self.instructions and self.values and self.masks and self.numbers and self.codes):
            raise MemoryError("no memory for a filter's program")
        self.loose_mask = lowered.mask_registers
        for i, number in enumerate(lowered.numbers):
            self.numbers[i] = number
        for i, step in enumerate(lowered.steps):
            self.instructions[i] = Instruction(
                op=step.op,
                target=step.target,
                left=step.left,
                right=step.right,
                relation=step.relation,
                combine=step.combine,
                constant=step.constant,
                first=step.first,
                length=step.length,
            )
            if step.left < 0:
                self._read(-step.left)
            if step.right < 0:
                self._read(-step.right)
            if step.op == SYMBOL_ORDER:
                self.depends |= ON_SYMBOLS
            if step.op == EVENT:
                self.event_count += 1
                if not 0 <= step.first < MOST_EVENTS:
                    raise ValueError(f"expected a word below {MOST_EVENTS}, was {step.first}")

    def __dealloc__(self):
        PyMem_Free(self.instructions)
        PyMem_Free(self.values)
        PyMem_Free(self.masks)
        PyMem_Free(self.numbers)
        PyMem_Free(self.codes)

    cdef void _read(self, int field) noexcept:
        cdef int k
        for k in range(self.column_count):
            if self.reads[k] == field:
                return
        self.reads[self.column_count] = field
        self.column_count += 1
        self.depends |= depends_of(field)

    cdef int bind(self, MarketState state) except -1:
        cdef int i
        cdef int32_t code
        state.need_windows()
        for i in range(len(self.texts)):
            text, is_symbol = self.texts[i]
            if is_symbol:
                code = state.symbol_id(text)
            else:
                code = state.text_code(text)
                if code == 0:  # the code of "absent" is no text's
                    code = -1
            self.codes[i] = code
        return 0

    cdef int bind_whole(self, MarketState state) except -1:
        self.bind(state)
        state.bring_columns(self.reads, self.column_count)
        return 0

    cdef void run(self, const RowView* rows, const int32_t* picks, int32_t first, int32_t n) noexcept nogil:
        cdef int at
        for at in range(self.length):
            if self.instructions[at].op <= NEGATE:
                self.run_value(&self.instructions[at], rows, picks, first, n)
            else:
                self.run_mask(&self.instructions[at], rows, first, n)

    cdef void run_value(
        self, const Instruction* step, const RowView* rows, const int32_t* picks, int32_t first, int32_t n
    ) noexcept nogil:
        cdef double* out = self.values + step.target * <Py_ssize_t>BLOCK
        cdef const double* x
        cdef const double* y
        cdef int32_t i
        if step.op == LOAD:
            if picks == NULL:
                memcpy(out, rows.columns[-step.left] + first, n * sizeof(double))
            else:
                kernels.gather(rows.columns[-step.left], picks + first, out, n)
            return
        if step.op == SYMBOL_ORDER:
            for i in range(n):
                out[i] = rows.symbol_order[first + i if picks == NULL else picks[first + i]]
            return
        if step.op == FILL:
            kernels.fill(step.constant, out, n)
            return
        x = values_at(self, rows, step.left, first)
        if step.op == ABS:
            kernels.absolute(x, out, n)
            return
        if step.op == NEGATE:
            kernels.negate(x, out, n)
            return
        y = values_at(self, rows, step.right, first)
        if step.op == ADD:
            kernels.add(x, y, out, n)
        elif step.op == SUBTRACT:
            kernels.subtract(x, y, out, n)
        elif step.op == MULTIPLY:
            kernels.multiply(x, y, out, n)
        elif step.op == DIVIDE:
            kernels.divide(x, y, out, n)
        elif step.op == MIN:
            kernels.least(x, y, out, n)
        else:
            kernels.greatest(x, y, out, n)

    cdef void run_mask(self, const Instruction* step, const RowView* rows, int32_t first, int32_t n) noexcept nogil:
        cdef uint8_t* target = self.masks + step.target * <Py_ssize_t>BLOCK
        cdef uint8_t* out = target if step.combine == SET else self.masks + self.loose_mask * <Py_ssize_t>BLOCK
        if step.op == MASK:
            out = self.masks + step.left * <Py_ssize_t>BLOCK
        elif step.op == COMPARE_CONSTANT:
            kernels.compare_constant(step.relation, values_at(self, rows, step.left, first), step.constant, out, n)
        elif step.op == COMPARE:
            kernels.compare(
                step.relation,
                values_at(self, rows, step.left, first),
                values_at(self, rows, step.right, first),
                out,
                n,
            )
        elif step.op == HAS:
            kernels.has_number(step.relation, values_at(self, rows, step.left, first), out, n)
        elif step.op == HAS_TEXT:
            kernels.has_text(step.relation, rows.text_columns[-step.left] + first, out, n)
        elif step.op == IN_NUMBERS:
            kernels.in_numbers(
                step.relation,
                values_at(self, rows, step.left, first),
                self.numbers + step.first,
                step.length,
                out,
                n,
            )
        elif step.op == IN_TEXTS:
            kernels.in_texts(
                step.relation,
                rows.text_columns[-step.left] + first,
                self.codes + step.first,
                step.length,
                out,
                n,
            )
        elif step.op == SAME_TEXT:
            kernels.same_text(
                step.relation,
                rows.text_columns[-step.left] + first,
                rows.text_columns[-step.right] + first,
                out,
                n,
            )
        elif step.op == EVENT:
            memcpy(out, self.events[step.first], n)
        elif step.op == IN_SYMBOLS:
            kernels.in_symbols(step.relation, rows.ids, first, self.codes + step.first, step.length, out, n)
        else:
            memset(out, step.constant != 0, n)
        if step.combine == AND:
            kernels.mask_and(out, target, n)
        elif step.combine == OR:
            kernels.mask_or(out, target, n)


cdef class Filter:
    """A filter ready for any state: `text` as given; made by compile_filter and all_of."""

    def __init__(self):
        raise TypeError("expected compile_filter(text) or all_of(filters), was Filter()")

    def __repr__(self):
        return f"Filter({self.text!r})"

    def __reduce__(self):
        return _filter_of, (self.text, self.lowered)

    @property
    def tree(self):
        if self.parsed is _NOT_PARSED:
            self.parsed = check_filter(self.text)
        return self.parsed

    cdef int bind(self, MarketState state) except -1:
        return self.program.bind(state)

    cdef int bind_whole(self, MarketState state) except -1:
        return self.program.bind_whole(state)

    cdef void evaluate(self, const RowView* rows, uint8_t* match, int32_t n) noexcept nogil:
        cdef int32_t first = 0, count
        while first < n:
            count = min(n - first, <int32_t>BLOCK)
            self.program.run(rows, NULL, first, count)
            memcpy(match + first, self.program.masks, count)
            first += count

    cdef void narrow(self, const RowView* rows, uint8_t* match, int32_t n) noexcept nogil:
        cdef int32_t first = 0, count
        while first < n:
            count = min(n - first, <int32_t>BLOCK)
            self.program.run(rows, NULL, first, count)
            kernels.mask_and(self.program.masks, match + first, count)
            first += count

    def match(self, MarketState state not None):
        """The ids of the rows that match, ascending."""
        cdef int32_t i, n = state.count
        cdef bytearray matches = bytearray(n)
        cdef uint8_t* match = <uint8_t*><char*>matches
        cdef RowView rows = state.view()
        self.bind_whole(state)
        with nogil:
            self.evaluate(&rows, match, n)
        return [i for i in range(n) if match[i]]


cdef class Order:
    """An order ready for any state: `text` as given; made by compile_order."""

    def __init__(self):
        raise TypeError("expected compile_order(text), was Order()")

    def __dealloc__(self):
        PyMem_Free(self.descending)

    def __repr__(self):
        return f"Order({self.text!r})"

    def __reduce__(self):
        return _order_of, (self.text, self.lowered, self.directions, self.is_by_symbol)

    @property
    def tree(self):
        if self.parsed is _NOT_PARSED:
            self.parsed = tuple(check_order(self.text))
        return self.parsed

    cdef int bind(self, MarketState state) except -1:
        return self.program.bind(state)

    cdef int bind_whole(self, MarketState state) except -1:
        return self.program.bind_whole(state)

    cdef void evaluate(self, const RowView* rows, const int32_t* picks, int32_t count, double* keys) noexcept nogil:
        cdef int32_t first = 0, n, i
        cdef int k
        cdef double key
        cdef double* out
        cdef const double* values
        while first < count:
            n = min(count - first, <int32_t>BLOCK)
            self.program.run(rows, picks, first, n)
            for k in range(self.key_count):
                out = keys + k * <Py_ssize_t>count + first
                values = self.program.values + k * <Py_ssize_t>BLOCK
                for i in range(n):
                    key = -values[i] if self.descending[k] else values[i]
                    out[i] = key if key == key else INFINITY
            first += n

    def keys(self, MarketState state not None, ids=None):
        """The keys of the rows `ids` (all rows when None), a tuple a row: smaller is better, absent infinite."""
        cdef int32_t i, n, symbol_id
        cdef RowView rows = state.view()
        requested = range(state.count) if ids is None else list(ids)
        n = len(requested)
        cdef int32_t* wanted = <int32_t*>PyMem_Calloc(max(n, 1), sizeof(int32_t))
        cdef double* keys = <double*>PyMem_Calloc(max(n * self.key_count, 1), sizeof(double))
        try:
            if wanted == NULL or keys == NULL:
                raise MemoryError("no memory for an order's keys")
            for i in range(n):
                symbol_id = requested[i]
                if not 0 <= symbol_id < state.count:
                    raise IndexError(f"expected ids in [0, {state.count}), was {symbol_id}")
                wanted[i] = symbol_id
            self.bind_whole(state)
            with nogil:
                self.evaluate(&rows, wanted, n, keys)
            return [tuple([keys[k * n + i] for k in range(self.key_count)]) for i in range(n)]
        finally:
            PyMem_Free(wanted)
            PyMem_Free(keys)


cdef int cost_of(object lowered):
    return sum([1 + step.length for step in lowered.steps])


cdef Filter made(str text, object tree):
    cdef Filter result = _filter_of(text, lower_filter(tree))
    result.parsed = tree
    return result


cpdef Filter _filter_of(str text, object lowered):
    """The filter with this program, whose tree is parsed again when it is wanted."""
    cdef Filter result = Filter.__new__(Filter)
    result.text = text
    result.parsed = _NOT_PARSED
    result.lowered = lowered
    result.cost = cost_of(lowered)
    result.program = Program(lowered)
    return result


cpdef Filter compile_filter(str text):
    """The filter that `text` says; an empty one matches every row. FilterError when it cannot be used."""
    return made(text, check_filter(text))


cpdef Filter all_of(object filters):
    """The filter that matches what all of `filters` match; every row when there are none."""
    cdef list parts = [part for part in filters if (<Filter?>part).tree is not None]
    if len(parts) == 1:
        return parts[0]
    text = " AND ".join([f"({part.text})" for part in parts])
    return made(text, And(tuple([part.tree for part in parts]), 0) if parts else None)


cpdef Order compile_order(str text):
    """The order that `text` says; an empty one leaves all to the symbol. FilterError when it cannot be used."""
    cdef Order result
    keys = check_order(text)
    is_by_symbol = bool(keys) and isinstance(keys[0].value, FieldValue) and keys[0].value.field.name == "symbol"
    result = _order_of(text, lower_order(keys), tuple([bool(key.descending) for key in keys]), is_by_symbol)
    result.parsed = tuple(keys)
    return result


cpdef Order _order_of(str text, object lowered, tuple directions, bint is_by_symbol):
    """The order with this program, whose tree is parsed again when it is wanted."""
    cdef Order result = Order.__new__(Order)
    cdef int k
    result.text = text
    result.parsed = _NOT_PARSED
    result.lowered = lowered
    result.directions = directions
    result.is_by_symbol = is_by_symbol
    result.key_count = <int>len(directions)
    result.cost = cost_of(lowered)
    result.program = Program(lowered)
    result.descending = <uint8_t*>PyMem_Calloc(max(len(directions), 1), 1)
    if result.descending == NULL:
        raise MemoryError("no memory for an order")
    for k in range(len(directions)):
        result.descending[k] = directions[k]
    return result
