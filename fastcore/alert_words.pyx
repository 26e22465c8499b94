# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Words of alert rules; docs/alerts.md says what each of them means."""

from libc.math cimport floor, isnan, rint
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastcore cimport alert_kernels as kernels
from fastcore.alert_memory cimport Slot
from fastcore.filters cimport BLOCK, Program
from fastcore.memory cimport ROOM, grow_zeroed

from fastcore.alert_program import Kind

# The same numbers as in alert_program.py; checked below.
cdef enum:
    RISES = 0
    FALLS = 1
    CROSSES_ABOVE = 2
    CROSSES_BELOW = 3
    GROWS = 4
    SHRINKS = 5
    STEPS = 6
    HELD = 7
    AFTER = 8
    COUNT = 9
    ENTERS = 10
    LEAVES = 11

# States of a symbol. 0: nothing is known yet.
cdef enum:
    WAS_FALSE = 1
    WAS_TRUE = 2
    WAS_HELD = 3                # true, and for so long that it has been noted

cdef enum:
    LEFT = 1
    CAME = 2

if [kind.value for kind in Kind] != [*range(RISES, LEAVES + 1)]:
    raise ImportError("expected the words of alert_program.py: build fastcore anew")

# Of what the loops over a block return.
cdef enum:
    HAS_EVENT = 1
    HAS_CHANGE = 2

cdef double NAN = float("nan")
# What division leaves behind does not keep a level from being reached.
cdef double ALMOST = 1e-9


cdef int numbers_of(object lowered) except -1:
    cdef int kind = lowered.kind
    if kind == COUNT:
        return <int>lowered.numbers[0] - 1
    return 1 if kind in (GROWS, SHRINKS, STEPS, HELD, AFTER) else 0


cdef class Word:
    """`lowered`: of alert_program.py; `uses`: the words of the same rule before it."""

    def __init__(self, lowered, Slot slot, list uses, ranked):
        cdef int k
        cdef Word used
        self.kind = lowered.kind
        self.slot = slot
        self.uses = uses
        self.ranked = ranked
        self.is_moving = ranked is not None
        for used in uses:
            self.is_moving |= used.is_moving
        self.moved = []
        self.rules = []
        self.looks_at_price = lowered.looks_at_price
        for k, number in enumerate(lowered.numbers):
            self.numbers[k] = number
        if lowered.conditions:
            self.first = Program(lowered.conditions[0])
        if len(lowered.conditions) > 1:
            self.second = Program(lowered.conditions[1])
        if lowered.values is not None:
            self.values = Program(lowered.values)
        for program in (self.first, self.second):
            if program is not None:
                for k, used in enumerate(uses):
                    (<Program>program).events[k] = used.mask
        self.needs_touch = self._needs_touch()

    def __dealloc__(self):
        free(self.moves)

    cdef bint _needs_touch(self) noexcept:
        cdef Program program
        cdef Word used
        if self.kind > COUNT or self.kind == HELD:
            return False
        for program in (self.first, self.second, self.values):
            if program is None:
                continue
            if self.kind != AFTER and self.kind != COUNT:
                # These remember of a row what the values of now make of it, so that the same values change nothing.
                if program.depends or program.event_count:
                    return False
                continue
            # These remember when they last looked at a condition that was true. Of a plain condition that may be now; of
            # an event it is when its word looked, which must be one that needs a touch.
            if program.length != 1 or not program.event_count:
                return False
            used = self.uses[program.instructions[0].first]
            if not used.needs_touch:
                return False
        return True

    cdef int compare(self, int32_t count) except -1:
        """Notes who came into the list or left it since the last watermark; nobody when that is not known.

        The list has been ranked at this watermark.
        """
        cdef int32_t rank, symbol_id, n
        cdef Py_ssize_t at
        cdef int32_t most = <int32_t>self.numbers[0]
        cdef double member
        for symbol_id in self.moved:
            self.moves[symbol_id] = 0
        self.moved = []
        if self.move_room < count:
            grow_zeroed(<void**>&self.moves, self.move_room, count + ROOM)
            self.move_room = count + ROOM
        n = min(self.ranked.ordered.count, min(self.ranked.limit, most))
        if self.slot.other_count:
            for at in range(1, self.slot.other_count):
                member = self.slot.others[at]
                if 0 <= member < count:
                    self.moves[<int32_t>member] = LEFT
                    self.moved.append(<int32_t>member)
            for rank in range(n):
                symbol_id = self.ranked.ordered.ids[rank]
                if self.moves[symbol_id] == LEFT:
                    self.moves[symbol_id] = 0
                else:
                    self.moves[symbol_id] = CAME
                    self.moved.append(symbol_id)
            self.moved = [symbol_id for symbol_id in self.moved if self.moves[symbol_id]]
        self.slot.reserve_others(n + 1)
        self.slot.others[0] = n
        for rank in range(n):
            self.slot.others[rank + 1] = self.ranked.ordered.ids[rank]
        self.slot.other_count = n + 1
        return 0

    cdef void skip(self) noexcept:
        """Is true nowhere in the next block, and remembers nothing of it."""
        memset(self.mask, 0, sizeof(self.mask))
        self.is_any = False

    cdef void look(self, Looks* looks, int32_t first, int32_t n) noexcept:
        """Looks at the rows [first, first + n), at most BLOCK."""
        cdef const int32_t* ids = looks.ids + first
        if self.first is not None:
            self.first.run(looks.rows, NULL, first, n)
        if self.second is not None:
            self.second.run(looks.rows, NULL, first, n)
        if self.values is not None:
            self.values.run(looks.rows, NULL, first, n)
        if self.kind == RISES or self.kind == FALLS:
            self.is_any = self._change(looks, ids, n, self.kind == RISES)
        elif self.kind == CROSSES_ABOVE or self.kind == CROSSES_BELOW:
            self.is_any = self._cross(looks, ids, n)
        elif self.kind == GROWS or self.kind == SHRINKS:
            self.is_any = self._grow(ids, n)
        elif self.kind == STEPS:
            self.is_any = self._step(looks, ids, n)
        elif self.kind == HELD:
            self.is_any = self._hold(ids, n, looks.now)
        elif self.kind == AFTER:
            self.is_any = self._follow(ids, n, looks.now)
        elif self.kind == COUNT:
            self.is_any = self._count(ids, n, looks.now)
        else:
            self.is_any = self._move(ids, n)

    cdef void _fetch_states(self, Looks* looks, const int32_t* ids, int32_t n) noexcept:
        cdef const uint8_t* states = self.slot.states
        cdef Py_ssize_t stride = self.slot.state_stride
        cdef int32_t i
        for i in range(n):
            looks.before[i] = states[ids[i] * stride]

    cdef void _put_states(self, const Looks* looks, const int32_t* ids, int32_t n) noexcept:
        cdef uint8_t* states = self.slot.states
        cdef Py_ssize_t stride = self.slot.state_stride
        cdef int32_t i
        for i in range(n):
            states[ids[i] * stride] = looks.after[i]

    cdef bint _change(self, Looks* looks, const int32_t* ids, int32_t n, bint is_rise) noexcept:
        cdef int found
        self._fetch_states(looks, ids, n)
        found = kernels.change_states(
            self.first.masks, self.second.masks, WAS_FALSE if is_rise else WAS_TRUE, is_rise,
            looks.before, looks.after, self.mask, n)
        if found & HAS_CHANGE:
            self._put_states(looks, ids, n)
        return found & HAS_EVENT

    cdef bint _cross(self, Looks* looks, const int32_t* ids, int32_t n) noexcept:
        cdef bint is_above = self.kind == CROSSES_ABOVE
        cdef const double* a = self.values.values
        cdef const double* extreme = a
        cdef int found
        if self.looks_at_price:
            extreme = &looks.highs[0] if is_above else &looks.lows[0]
        self._fetch_states(looks, ids, n)
        found = kernels.cross_states(
            a, a + BLOCK, extreme, 1.0 if is_above else -1.0, looks.before, looks.after, self.mask, n)
        if found & HAS_CHANGE:
            self._put_states(looks, ids, n)
        return found & HAS_EVENT

    cdef bint _grow(self, const int32_t* ids, int32_t n) noexcept:
        cdef const double* x = self.values.values
        cdef Py_ssize_t stride = self.slot.number_stride
        cdef double* last
        cdef bint is_any = False
        cdef int32_t i
        for i in range(n):
            last = self.slot.numbers + ids[i] * stride
            self.mask[i] = x[i] > last[0] if self.kind == GROWS else x[i] < last[0]
            is_any |= self.mask[i]
            if not isnan(x[i]):
                last[0] = x[i]
        return is_any

    cdef bint _step(self, Looks* looks, const int32_t* ids, int32_t n) noexcept:
        """Remembers the greatest step that has been reached, -1 for none."""
        cdef const double* x = self.values.values
        cdef double* greatest = self.slot.numbers
        cdef Py_ssize_t stride = self.slot.number_stride
        cdef double step
        cdef bint is_any = False
        cdef int32_t i
        for i in range(n):
            looks.remembered[i] = greatest[ids[i] * stride]
        if not kernels.may_step(x, self.numbers[0], self.numbers[1], ALMOST, looks.remembered, self.mask, n):
            return False
        for i in range(n):
            if not self.mask[i]:
                continue
            step = max(floor((x[i] - self.numbers[0]) / self.numbers[1] + ALMOST), -1.0)
            self.mask[i] = step > looks.remembered[i]
            if self.mask[i]:
                is_any = True
                self.level[i] = rint((self.numbers[0] + step * self.numbers[1]) * 1e6) / 1e6
            if not (step <= looks.remembered[i]):
                greatest[ids[i] * stride] = step
        return is_any

    cdef bint _hold(self, const int32_t* ids, int32_t n, double now) noexcept:
        """Remembers when, or at which volume, the condition became true."""
        cdef const uint8_t* is_true = self.first.masks
        cdef const uint8_t* is_false = self.second.masks
        cdef bint is_volume = self.values is not None
        cdef uint8_t* state
        cdef double* since
        cdef double place, enough
        cdef bint is_any = False
        cdef int32_t i
        for i in range(n):
            state = self.slot.states + ids[i] * self.slot.state_stride
            self.mask[i] = 0
            if is_false[i]:
                if state[0] != WAS_FALSE:
                    state[0] = WAS_FALSE
                    self.slot.numbers[ids[i] * self.slot.number_stride] = NAN
            elif is_true[i] and state[0] != WAS_HELD:
                state[0] = WAS_TRUE
                since = self.slot.numbers + ids[i] * self.slot.number_stride
                place = self.values.values[i] if is_volume else now
                enough = self.values.values[BLOCK + i] if is_volume else self.numbers[0]
                if isnan(since[0]):
                    since[0] = place
                elif place - since[0] >= enough:
                    self.mask[i] = 1
                    is_any = True
                    state[0] = WAS_HELD
        return is_any

    cdef bint _follow(self, const int32_t* ids, int32_t n, double now) noexcept:
        """Remembers when the first event was last."""
        cdef const uint8_t* is_first = self.first.masks
        cdef const uint8_t* is_second = self.second.masks
        cdef double* when
        cdef bint is_any = False
        cdef int32_t i
        memset(self.mask, 0, n)
        if not (kernels.any_of(is_first, n) or kernels.any_of(is_second, n)):
            return False
        for i in range(n):
            if is_first[i] or is_second[i]:
                when = self.slot.numbers + ids[i] * self.slot.number_stride
                self.mask[i] = is_second[i] and now - when[0] <= self.numbers[0]
                is_any |= self.mask[i]
                if is_first[i]:
                    when[0] = now
        return is_any

    cdef bint _count(self, const int32_t* ids, int32_t n, double now) noexcept:
        """Remembers the last times, the newest last; none of those that have been counted."""
        cdef const uint8_t* is_event = self.first.masks
        cdef int earlier = self.slot.number_count
        cdef double* times
        cdef bint is_any = False
        cdef int32_t i
        cdef int k
        for i in range(n):
            self.mask[i] = 0
            if not is_event[i]:
                continue
            times = self.slot.numbers + ids[i] * self.slot.number_stride
            if now - times[0] <= self.numbers[1]:
                self.mask[i] = 1
                is_any = True
                for k in range(earlier):
                    times[k] = NAN
                continue
            for k in range(earlier - 1):
                times[k] = times[k + 1]
            times[earlier - 1] = now
        return is_any

    cdef bint _move(self, const int32_t* ids, int32_t n) noexcept:
        cdef uint8_t move = CAME if self.kind == ENTERS else LEFT
        cdef bint is_any = False
        cdef int32_t i
        for i in range(n):
            self.mask[i] = self.moves[ids[i]] == move
            is_any |= self.mask[i]
        return is_any
