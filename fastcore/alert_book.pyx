# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Alerts: at every watermark each rule looks at the rows that were touched, and at all active ones when the windows moved.

What is remembered between looks is the state's (alert_memory.pyx), so that alerts are a function of the stream.
Most words can find something new only in a row that was touched, and are not run over the others when the windows move.
"""

from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memmove

from fastcore.alert_kernels cimport any_of
from fastcore.alert_memory cimport AlertMemory, Slot
from fastcore.alert_words cimport IS_LOOKED_AT, IS_TOUCHED, Looks, Word, numbers_of
from fastcore.changed_rows cimport ChangedRows
from fastcore.day_table cimport PriceSpan
from fastcore.filters cimport BLOCK, Program
from fastcore.list_book cimport ListBook
from fastcore.market_state cimport MarketState
from fastcore.memory cimport ROOM, grow_array, grow_zeroed
from fastcore.ranked_list cimport RankedList

from fastcore.alert_rules import AlertRuleError, compile_rule, read_rules

cdef enum:
    LEAST_RANKED = 10           # earlier alerts of a rule that a quality is compared with, at least
    WAITS = 1                   # state of a symbol that a rule's `rearm` has not matched since its alert

cdef double NAN = float("nan")
cdef double NS = 1e9


cdef class Rule:
    """A rule with its programs; `slot`: the time of each symbol's last alert, and the qualities of the day in order."""

    def __init__(self, compiled, Slot slot, list words, list rearm_words):
        cdef int k
        cdef Word word
        rule = compiled.rule
        self.name = rule.name
        self.slot = slot
        self.words = words
        self.moves = [word for word in words + rearm_words if (<Word>word).ranked is not None]
        self.when = Program(compiled.when.program)
        for k, word in enumerate(words):
            self.when.events[k] = word.mask
        if compiled.rearm is not None:
            self.rearm = Program(compiled.rearm.program)
            for k, word in enumerate(rearm_words):
                self.rearm.events[k] = word.mask
        self.where = Program(compiled.where)
        if compiled.quality is not None:
            self.quality = Program(compiled.quality)
        for word, lowered in zip(words, compiled.when.words):
            if self.steps is None and lowered.kind.name == "STEPS":
                self.steps = word
        self.sessions = compiled.sessions
        self.cooldown_ns = rule.cooldown_seconds * NS
        self.is_once_a_day = rule.once_a_day
        self.min_quality = NAN if rule.min_quality is None else rule.min_quality

    cdef void rearm_where(self, const Looks* looks, int32_t first, int32_t n, bint is_move_only) noexcept:
        """Ends the wait of symbols that `rearm` matches; with `is_move_only` only of those that moved in the rule's lists."""
        cdef Word word
        cdef bint is_seen
        cdef int32_t i
        self.rearm.run(looks.rows, NULL, first, n)
        for i in range(n):
            is_seen = not is_move_only
            for word in self.moves:
                is_seen |= word.mask[i]
            if is_seen and self.rearm.masks[i]:
                self.slot.states[looks.ids[first + i] * self.slot.state_stride] = 0

    cdef int look(
        self, const Looks* looks, int32_t first, int32_t n, uint32_t session, const int32_t* symbol_order, list found,
    ) except -1:
        """Adds (number, index in symbol order, symbol id, quality, level) for every alert in the rows [first, first + n).

        One of its words is true of one of them.
        """
        cdef int32_t i, symbol_id
        cdef double quality, last
        if self.sessions and not self.sessions & session:
            return 0
        self.when.run(looks.rows, NULL, first, n)
        if not any_of(self.when.masks, n):
            return 0
        self.where.run(looks.rows, NULL, first, n)
        if self.quality is not None:
            self.quality.run(looks.rows, NULL, first, n)
        for i in range(n):
            if not (self.when.masks[i] and self.where.masks[i]):
                continue
            symbol_id = looks.ids[first + i]
            last = self.slot.numbers[symbol_id * self.slot.number_stride]
            if self.slot.states[symbol_id * self.slot.state_stride] == WAITS:
                continue
            if not isnan(last) and (self.is_once_a_day or looks.now - last < self.cooldown_ns):
                continue
            quality = NAN if self.quality is None else self.quality.values[i]
            if not isnan(self.min_quality) and not quality >= self.min_quality:
                continue
            found.append((
                self.number, symbol_order[symbol_id], symbol_id, quality,
                self.steps.level[i] if self.steps is not None and self.steps.mask[i] else NAN,
            ))
        return 0

    cdef object _rank(self, double quality):
        """The percentage of the day's earlier qualities that are lower; the quality is one of them from now on."""
        cdef Py_ssize_t low = 0, count = self.slot.other_count, high = count, middle
        if isnan(quality):
            return None
        while low < high:
            middle = (low + high) // 2
            if self.slot.others[middle] < quality:
                low = middle + 1
            else:
                high = middle
        self.slot.reserve_others(count + 1)
        memmove(self.slot.others + low + 1, self.slot.others + low, (count - low) * sizeof(double))
        self.slot.others[low] = quality
        self.slot.other_count = count + 1
        return 100.0 * low / count if count >= LEAST_RANKED else None

    cdef AlertEvent take(self, int32_t symbol_id, double quality, double level, double now):
        """Remembers an alert."""
        cdef AlertEvent event = AlertEvent.__new__(AlertEvent)
        event.rule = self.name
        event.symbol_id = symbol_id
        event.quality = None if isnan(quality) else quality
        event.quality_rank = self._rank(quality)
        event.level = None if isnan(level) else level
        self.slot.numbers[symbol_id * self.slot.number_stride] = now
        self.slot.event_count += 1
        if self.rearm is not None:
            self.slot.states[symbol_id * self.slot.state_stride] = WAITS
        return event


cdef class AlertEvent:
    """One alert: the rule's name, the symbol's id, event time in ns; quality_rank in percent."""

    def __repr__(self):
        return f"AlertEvent({self.sequence}, {self.rule!r}, {self.symbol!r}, {self.time_ns})"


cdef class AlertBook:
    """The rules of the state that is refreshed."""

    def __cinit__(self):
        self.rules = []
        self.words = []
        self.programs = []
        self.scans = {}
        self.ignored = {}
        self.rows = ChangedRows()
        self.timed = ChangedRows()

    def __dealloc__(self):
        free(self.flags)
        free(self.ids)
        free(self.timed_ids)

    cdef list refresh(self, MarketState state, ListBook lists):
        """Looks at the rows of a watermark, with lists as they are published at it; returns the AlertEvents."""
        cdef AlertMemory memory = state.alerts
        cdef bint is_moved = memory.window_mark_ns != state.window_mark_ns
        cdef Rule rule
        cdef Word word
        cdef AlertEvent event
        cdef Looks looks
        cdef RankedList ranked
        cdef list found = [], events = []
        if self.memory is not memory or self.version != memory.version:
            self._build(state, lists)
        if not self.rules or not state.table.day.end:
            memory.window_mark_ns = -1
            return events
        memory.window_mark_ns = state.window_mark_ns
        memory.reserve(state.count)
        for ranked in self.scans.values():
            lists.rank_scan(state, ranked)
        for word in self.words:
            if word.ranked is not None:
                word.compare(state.count)
        self._reserve(state.count)
        # A row that changes alone is touched, and looked at for that.
        if state.changes.all_changed > self.place:
            self.is_settled = False
        self.place = state.changes.end
        self._select(state, is_moved)
        self._bind(state)
        looks.now = <double>(state.now_ns - state.table.day.start)
        self._look_at(state, &looks, self.rows, 0, self.common, Part.ALL, found)
        self._look_at(state, &looks, self.rows, self.common, self.rows.count, Part.MOVING, found)
        self._look_at(state, &looks, self.timed, 0, self.timed.count, Part.TIMED, found)
        # When the windows move, every word has now looked at every active row.
        self.is_settled |= is_moved
        found.sort()
        for number, _, symbol_id, quality, level in found:
            rule = self.rules[number]
            event = rule.take(symbol_id, quality, level, looks.now)
            memory.sequence += 1
            event.sequence = memory.sequence
            event.symbol = state.names[symbol_id]
            event.time_ns = state.now_ns
            events.append(event)
        return events

    cdef int _look_at(self, MarketState state, Looks* looks, ChangedRows rows, int32_t first, int32_t end, Part part,
                      list found) except -1:
        cdef int32_t at, n
        looks.rows = &rows.view
        looks.ids = rows.ids
        for at in range(first, end, BLOCK):
            n = min(end - at, <int32_t>BLOCK)
            self._look(state, looks, at, n, part, found)
        for at in range(first, end):
            self.flags[rows.ids[at]] = 0
        self.looks += end - first
        return 0

    cdef int _look(self, MarketState state, Looks* looks, int32_t first, int32_t n, Part part, list found) except -1:
        """Adds what Rule.look() finds in the rows [first, first + n) to `found`."""
        # What a rule looks at is the same whatever other rules there are.
        cdef bint is_move_only = part == Part.MOVING
        cdef Rule rule
        cdef Word word
        self.blocks += 1
        self._bind_block(state, looks, first, n)
        for word in self.words:
            if (is_move_only and not word.is_moving) or (part == Part.TIMED and word.needs_touch):
                word.skip()
            else:
                word.look(looks, first, n)
        for rule in self.rearmed:
            if rule.moves or not is_move_only:
                rule.rearm_where(looks, first, n, is_move_only)
        for word in self.words:
            if not word.is_any:
                continue
            for rule in word.rules:
                if rule.looked == self.blocks or (is_move_only and not rule.moves):
                    continue
                rule.looked = self.blocks
                rule.look(looks, first, n, <uint32_t>1 << state.session, state.symbol_order, found)
        return 0

    cdef int _reserve(self, int32_t count) except -1:
        if self.room < count:
            grow_zeroed(<void**>&self.flags, self.room, count + ROOM)
            grow_array(<void**>&self.ids, count + ROOM, sizeof(int32_t))
            grow_array(<void**>&self.timed_ids, count + ROOM, sizeof(int32_t))
            self.room = count + ROOM
        return 0

    cdef int _select(self, MarketState state, bint is_moved) except -1:
        """Takes the rows to look at."""
        cdef int32_t i, k, count = 0, timed_count = 0
        cdef Word word
        for k in range(state.table.marked_count):
            i = state.table.marked[k]
            self.flags[i] = IS_LOOKED_AT | IS_TOUCHED
            self.ids[count] = i
            count += 1
        if is_moved:
            for i in range(state.count):
                if self.flags[i] or not state.table.rows[i].any_message:
                    continue
                if self.is_settled:
                    self.timed_ids[timed_count] = i
                    timed_count += 1
                else:
                    self.ids[count] = i
                    count += 1
                self.flags[i] = IS_LOOKED_AT
        self.common = count
        for word in self.words:
            for i in word.moved:
                if not self.flags[i]:
                    self.flags[i] = IS_LOOKED_AT
                    self.ids[count] = i
                    count += 1
        self.rows.take_ids(state, self.ids, count)
        self.timed.take_ids(state, self.timed_ids, timed_count)
        return 0

    cdef int _bind(self, MarketState state) except -1:
        cdef Program program
        for program in self.text_programs:
            program.bind(state)
        for program in self.programs:
            self.rows.gather(state, program)
        if self.timed.count:
            for program in self.timed_programs:
                self.timed.gather(state, program)
        return 0

    cdef void _bind_block(self, MarketState state, Looks* looks, int32_t first, int32_t n) noexcept:
        """Fetches how far the prices of these rows went."""
        cdef const PriceSpan* span
        cdef int32_t i
        for i in range(n):
            looks.highs[i] = looks.lows[i] = NAN
            if self.flags[looks.ids[first + i]] & IS_TOUCHED:
                span = &state.table.spans[looks.ids[first + i]]
                looks.highs[i] = span.high
                looks.lows[i] = span.low

    cdef int _build(self, MarketState state, ListBook lists) except -1:
        """Makes the programs of the memory's rules; what stays as it was keeps its slot, the other slots go."""
        cdef AlertMemory memory = state.alerts
        cdef dict slots = {}
        cdef dict placed = {}
        cdef dict words = {}
        cdef dict scans = {}
        cdef set names = set()
        cdef list found
        cdef Rule rule
        cdef Word word
        self.rules = []
        self.ignored = {}
        for spec in read_rules(memory.rules):
            if spec.name in names:
                self.ignored[spec.name] = "expected one rule of that name, was another one"
                continue
            names.add(spec.name)
            try:
                rule = self._rule(compile_rule(spec), memory, slots, words, scans, lists)
                rule.number = <int>len(self.rules)
                self.rules.append(rule)
            except AlertRuleError as error:
                self.ignored[spec.name] = str(error)
            except KeyError as error:
                self.ignored[spec.name] = f"when: {error.args[0]}"
        self.words = list(words.values())
        self.programs, self.timed_programs = [], []
        for word in self.words:
            found = [each for each in (word.first, word.second, word.values) if each is not None]
            self.programs += found
            if not word.needs_touch:
                self.timed_programs += found
        for rule in self.rules:
            found = [each for each in (rule.when, rule.rearm, rule.where, rule.quality) if each is not None]
            self.programs += found
            if rule.rearm is not None or not all([(<Word>word).needs_touch for word in rule.words]):
                self.timed_programs += found
        self.text_programs = [each for each in self.programs if (<Program>each).texts]
        self.rearmed = [rule for rule in self.rules if (<Rule>rule).rearm is not None]
        for rule in self.rules:
            for word in rule.words:
                word.rules.append(rule)
        # What nearly every look visits comes first.
        for word in self.words:
            placed[word.slot.key] = word.slot
        for key, slot in slots.items():
            placed.setdefault(key, slot)
        memory.take_slots(placed)
        self.scans = scans
        self.memory = memory
        self.version = memory.version
        self.is_settled = False
        return 0

    cdef Rule _rule(self, object compiled, AlertMemory memory, dict slots, dict words, dict scans, ListBook lists):
        """A rule with its words; words that are there already are the same objects. KeyError for no such list."""
        cdef Slot slot
        cdef list found
        cdef list parts = []
        for events in (compiled.when, compiled.rearm):
            for lowered in events.words if events is not None else ():
                if lowered.list:
                    lists.get(lowered.list)
        for events in (compiled.when, compiled.rearm):
            found = []
            for lowered in events.words if events is not None else ():
                if lowered.key not in words:
                    slot = memory.slots.get(lowered.key)
                    if slot is None or slot.number_count != numbers_of(lowered):
                        slot = Slot(lowered.key, numbers_of(lowered))
                    slots[lowered.key] = slot
                    words[lowered.key] = Word(
                        lowered, slot, [words[key] for key in lowered.uses],
                        self._ranked(lowered, scans, lists),
                    )
                found.append(words[lowered.key])
            parts.append(found)
        key = compiled.key
        slot = memory.slots.get(key)
        if slot is None or slot.number_count != 1:
            slot = Slot(key, 1)
        slots[key] = slot
        return Rule(compiled, slot, *parts)

    cdef object _ranked(self, object lowered, dict scans, ListBook lists):
        """Returns what a word's symbols come into or leave: None, a list, or a scan, which words may share."""
        if lowered.list:
            return lists.get(lowered.list)
        scan = lowered.scan
        if scan is None:
            return None
        if scan.key not in scans:
            scans[scan.key] = self.scans.get(scan.key) or lists.scan_of_rules(
                scan.key, scan.filter, scan.order_by, scan.limit)
        return scans[scan.key]
