"""Alert rules in the slowest and plainest way: every symbol that is looked at, rule by rule, word by word."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from tradeul.v1 import frame_pb2

from fastcore.alert_rules import AlertRule, read_rules
from fastcore.reference.filters_twin import Row, Term, TermParser, matches, order_keys, ranked
from fastcore.reference.lists_twin import ListsTwin

_BATCHES: Final = ("trades", "bars", "vendor_snapshot")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_SECOND: Final = 1_000_000_000
_GRID: Final = 10 * _SECOND
_WORDS: Final = frozenset(
    "rises falls crosses_above crosses_below grows shrinks steps held after count enters leaves".split()
)


class TwinScan(NamedTuple):
    """Of scan()."""

    filter: str
    order_by: str
    limit: int


class Place(NamedTuple):
    """Of enters() and leaves()."""

    word: str
    list: str | TwinScan
    rank: int


class TwinAlert(NamedTuple):
    """One alert, as AlertEvent has it."""

    sequence: int
    rule: str
    symbol: str
    time_ns: int
    quality: float | None
    quality_rank: float | None
    level: float | None


class Look(NamedTuple):
    """All that a word may see of a symbol: its row, now, the extremes of its price since the last look, its moves.

    `moves`: "enters" or "leaves" by Place; `done`: what words of this look have come to, by their texts.
    `is_move_only`: nothing but a move is a reason to look, so that only words of moves do.
    """

    row: Row
    now: int
    high: float | None
    low: float | None
    moves: "dict[Place, str]"
    done: dict[str, tuple[bool, float | None]]
    is_move_only: bool


Event = Callable[[Look], bool | None]
Memory = dict[str, Any]


class AlertsTwin:
    """`apply` takes the frames; at watermarks it returns the alerts."""

    def __init__(self, lists: ListsTwin) -> None:
        self.market = lists.market
        self.lists = lists
        self.rules: list[AlertRule] = []
        self.sequence = 0
        # By word, then by symbol.
        self.memory: dict[str, dict[str, Memory]] = {}
        # By rule, then by symbol: when it last had an alert, and whether it waits for rearm.
        self.last: dict[AlertRule, dict[str, int]] = {}
        self.waiting: dict[AlertRule, set[str]] = {}
        self.qualities: dict[AlertRule, list[float]] = {}
        self._members: dict[Place, set[str]] = {}
        # What the price has moved to since the last watermark, and what it is.
        self._prices: dict[str, list[float]] = {}
        self._price: dict[str, float] = {}
        self._date = ""
        self._grid = -1

    def apply(self, encoded: bytes) -> list[TwinAlert]:
        for frame in _single_events(frame_pb2.Frame.FromString(encoded)):
            self.lists.apply(frame.SerializeToString())
            body = frame.WhichOneof("body")
            if body in _BATCHES:
                symbol = self.market.symbols[getattr(frame, body).symbol_id[0]]
                price = self.market.row(symbol).get("price")
                if price is not None and price != self._price.get(symbol):
                    self._prices.setdefault(symbol, []).append(float(price))
                    self._price[symbol] = float(price)
            elif body == "alert_rules":
                self._set_rules(read_rules(frame.alert_rules.SerializeToString()))
            elif body == "trading_day" and self.market.trading_date != self._date:
                self._forget()
                self._date = self.market.trading_date
            elif body == "watermark":
                alerts = self._look() if self._date else []
                self._prices.clear()
                return alerts
        return []

    def _forget(self) -> None:
        for held in (self.memory, self.last, self.waiting, self.qualities, self._members, self._prices, self._price):
            held.clear()

    def _set_rules(self, rules: list[AlertRule]) -> None:
        self.rules = rules
        keys = {_key(rule) for rule in rules}
        for held in (self.last, self.waiting, self.qualities):
            for gone in held.keys() - keys:
                del held[gone]
        words = {text for rule in rules for event in _events(rule, self.memory) if event for text in event.words}
        for text in self.memory.keys() - words:
            del self.memory[text]
        places = {place for rule in rules for event in _events(rule, self.memory) if event for place in event.lists}
        for place in self._members.keys() - places:
            del self._members[place]

    def _look(self) -> list[TwinAlert]:
        market = self.market
        grid = market.now_ns // _GRID
        # The windows move at the first watermark of a second, which a new 10 seconds begins with.
        moved, self._grid = grid != self._grid, grid
        if not self.rules:
            self._grid = -1
            return []
        rules = [(rule, *_events(rule, self.memory)) for rule in self.rules]
        moves = self._list_moves(rules)
        looked = set(market.marked)
        if moved:
            looked |= {symbol for symbol in market.symbols if "suspect_prints" in market.row(symbol)}
        found: list[tuple[int, str, float | None, float | None]] = []
        for symbol in sorted(looked | {symbol for found in moves.values() for symbol in found}):
            prices = self._prices.get(symbol, [])
            row = market.row(symbol)
            mine = {place: symbols[symbol] for place, symbols in moves.items() if symbol in symbols}
            look = Look(row, market.now_ns, max(prices, default=None), min(prices, default=None), mine, {},
                        symbol not in looked)  # fmt: skip
            # Words first, each of them once, whether or not its rule wants to know.
            for number, (rule, when, rearm) in enumerate(rules):
                is_now = when.term(look)
                is_rearmed = rearm.term(look) if rearm else None
                if look.is_move_only and not any(place.word == mine.get(place) for place in _places(when, rearm)):
                    continue
                alert = self._alert(rule, symbol, look, is_now is True, is_rearmed is True)
                if alert is not None:
                    levels = [look.done[text][1] for text in when.words if text.startswith("steps ")]
                    found.append((number, symbol, alert[0], next(iter(levels), None)))
        found.sort(key=lambda each: each[:2])
        return [self._event(*each) for each in found]

    def _alert(
        self, rule: AlertRule, symbol: str, look: Look, is_now: bool, is_rearmed: bool
    ) -> tuple[float | None] | None:
        waiting = self.waiting.setdefault(_key(rule), set())
        if is_rearmed:
            waiting.discard(symbol)
        if not is_now or not matches(rule.where, look.row) or symbol in waiting:
            return None
        if rule.sessions and self.market.session not in rule.sessions:
            return None
        last = self.last.get(_key(rule), {}).get(symbol)
        if last is not None and (rule.once_a_day or look.now - last < rule.cooldown_seconds * _SECOND):
            return None
        quality = order_keys(rule.quality)[0][0](look.row) if rule.quality else None
        if rule.min_quality is not None and (quality is None or quality < rule.min_quality):
            return None
        return (quality,)

    def _event(self, number: int, symbol: str, quality: float | None, level: float | None) -> TwinAlert:
        rule = self.rules[number]
        self.last.setdefault(_key(rule), {})[symbol] = self.market.now_ns
        if rule.rearm:
            self.waiting[_key(rule)].add(symbol)
        self.sequence += 1
        rank = None
        if quality is not None:
            earlier = self.qualities.setdefault(_key(rule), [])
            if len(earlier) >= 10:
                rank = 100 * sum(each < quality for each in earlier) / len(earlier)
            earlier.append(quality)
        return TwinAlert(self.sequence, rule.name, symbol, self.market.now_ns, quality, rank, level)

    def _list_moves(self, rules: "list[Any]") -> dict[Place, dict[str, str]]:
        """Who came into a list's first rows or left them."""
        moves: dict[Place, dict[str, str]] = {}
        for _, when, rearm in rules:
            for place in _places(when, rearm):
                if place in moves:
                    continue
                now = set(self._rows(place.list)[: place.rank])
                before = self._members.get(place, now)
                moves[place] = {s: "enters" for s in now - before} | {s: "leaves" for s in before - now}
                self._members[place] = now
        return moves

    def _rows(self, place: str | TwinScan) -> list[str]:
        """The symbols of a list or scan by rank."""
        if isinstance(place, str):
            return self.lists.published[place].members
        matching: list[Row] = [row for row in self.market.rows().values() if matches(place.filter, row)]
        return [str(row["symbol"]) for row in ranked(place.order_by, matching)[: place.limit]]


def _places(when: "_Parsed", rearm: "_Parsed | None") -> list[Place]:
    return [*when.lists, *(rearm.lists if rearm else ())]


def _key(rule: AlertRule) -> AlertRule:
    """Rules with the same key have the same alerts."""
    return rule._replace(title="", text="", owner="", version=0)


def _single_events(frame: frame_pb2.Frame) -> Iterator[frame_pb2.Frame]:
    """A frame as frames of one event each, where a batch's events may change prices."""
    body = frame.WhichOneof("body")
    if body not in _BATCHES:
        yield frame
        return
    batch = getattr(frame, body)
    for i in range(len(batch.symbol_id)):
        single = frame_pb2.Frame(position=frame.position)
        for field, value in batch.ListFields():
            target = getattr(single, body)
            if field.name == "span":
                target.span = value
            else:
                getattr(target, field.name).append(value[i])
        yield single


class _Parsed(NamedTuple):
    term: Event
    words: list[str]
    lists: list[Place]


def _events(rule: AlertRule, memory: dict[str, dict[str, Memory]]) -> tuple[_Parsed, _Parsed | None]:
    """The meaning of `when` and `rearm`."""
    when = _EventParser(rule.when, memory)
    parsed = _Parsed(when.event(), when.words, when.lists)
    if not rule.rearm:
        return parsed, None
    rearm = _EventParser(rule.rearm, memory)
    return parsed, _Parsed(rearm.whole(lambda parser: parser.condition()), rearm.words, rearm.lists)  # type: ignore[arg-type]


def _both(terms: list[Event], ends: bool) -> Event:
    """AND (ends: False) or OR (ends: True) of three-valued terms."""

    def value(look: Look) -> bool | None:
        values = [term(look) for term in terms]
        return ends if ends in values else None if None in values else not ends

    return value


class _EventParser(TermParser):
    """Terms get a Look instead of a row. `words`: the texts of the words met so far, in order.

    A duration is two tokens, a number and a word.
    """

    def __init__(self, text: str, memory: dict[str, dict[str, Memory]]) -> None:
        super().__init__(text)
        self.memory = memory
        self.words: list[str] = []
        self.lists: list[Place] = []

    def event(self) -> Event:
        """A condition that is true for single looks: each part without words stands for its rise."""
        terms = [self._event_part()]
        while self.take("OR"):
            terms.append(self._event_part())
        return _both(terms, True) if len(terms) > 1 else terms[0]

    def _event_part(self) -> Event:
        start, words = self.at, len(self.words)
        term = self.conjunction()
        if len(self.words) == words:
            return self._rises(term, self._text(start))  # type: ignore[arg-type]
        self.at = start
        del self.words[words:]
        terms = [self._event_item()]
        while self.take("AND"):
            terms.append(self._event_item())
        return _both(terms, False) if len(terms) > 1 else terms[0]

    def _event_item(self) -> Event:
        start, words = self.at, len(self.words)
        term: Event = self.negation()  # type: ignore[assignment]
        if len(self.words) == words or self.tokens[start][1] != "(":
            return term
        self.at = start + 1
        del self.words[words:]
        term = self.event()
        self.expect(")")
        return term

    def word(self, text: str) -> Term:
        if text in _WORDS and self.peek()[1] == "(":
            start = self.at - 1
            self.expect("(")
            make = self._read_word(text)
            self.expect(")")
            return make(self._text(start))
        if self.peek()[1] == "(" or text in ("true", "false"):
            plain = super().word(text)
            # The arguments have read their looks already.
            return _of_look(plain) if text in ("has", "true", "false") else plain
        return _of_look(super().word(text))

    def _text(self, start: int) -> str:
        return " ".join(token for _, token in self.tokens[start : self.at])

    def _noted(
        self, text: str, value: Callable[[Look, Memory], tuple[bool, float | None]], is_of_moves: bool = False
    ) -> Term:
        """A word: once a look, with the memory of its text and the symbol."""
        self.words.append(text)

        def term(look: Look) -> bool:
            if look.is_move_only and not is_of_moves:
                return False
            if text not in look.done:
                memory = self.memory.setdefault(text, {}).setdefault(str(look.row["symbol"]), {})
                look.done[text] = value(look, memory)
            return look.done[text][0]

        return term  # type: ignore[return-value]

    def _rises(self, term: Event, condition: str) -> Event:
        return self._changes(term, True)(f"rises ( {condition} )")  # type: ignore[return-value]

    def _duration(self) -> int:
        self.expect(",")
        (_, number), (_, unit) = self.tokens[self.at : self.at + 2]
        self.at += 2
        return int(number) * _SECONDS[unit] * _SECOND

    def _read_word(self, word: str) -> Callable[[str], Term]:
        if word in ("rises", "falls"):
            return self._changes(self.condition(), word == "rises")  # type: ignore[arg-type]
        if word in ("crosses_above", "crosses_below"):
            return self._crosses(word == "crosses_above")
        if word in ("grows", "shrinks"):
            return self._grows(self.sum(), word == "grows")  # type: ignore[arg-type]
        if word in ("enters", "leaves"):
            return self._moves(word)
        read: Callable[[], Callable[[str], Term]] = getattr(self, f"_{word}")
        return read()

    def _changes(self, term: Event, to: bool) -> Callable[[str], Term]:
        def value(look: Look, memory: Memory) -> tuple[bool, None]:
            now = term(look)
            before = memory.get("was")
            if now is not None:
                memory["was"] = now
            return (now is to and before is (not to)), None

        return lambda text: self._noted(text, value)

    def _crosses(self, above: bool) -> Callable[[str], Term]:
        is_price = [token for _, token in self.tokens[self.at : self.at + 2]] == ["price", ","]
        a = self.sum()
        self.expect(",")
        b = self.sum()
        sign = 1 if above else -1

        def value(look: Look, memory: Memory) -> tuple[bool, None]:
            x, y = a(look), b(look)  # type: ignore[arg-type]
            if x is None or y is None:
                return False, None
            extreme = look.high if above else look.low
            most = x if not is_price or extreme is None else max(sign * x, sign * extreme) * sign
            crossed = memory.get("beyond") is False and sign * most > sign * y
            memory["beyond"] = sign * x > sign * y
            return crossed, None

        return lambda text: self._noted(text, value)

    def _grows(self, x: Event, up: bool) -> Callable[[str], Term]:
        def value(look: Look, memory: Memory) -> tuple[bool, None]:
            now, last = x(look), memory.get("last")
            if now is None:
                return False, None
            memory["last"] = now
            return last is not None and (now > last if up else now < last), None

        return lambda text: self._noted(text, value)

    def _steps(self) -> Callable[[str], Term]:
        x = self.sum()
        self.expect(",")
        first = self.sum()({})
        self.expect(",")
        by = self.sum()({})

        def value(look: Look, memory: Memory) -> tuple[bool, float | None]:
            now = x(look)  # type: ignore[arg-type]
            if now is None:
                return False, None
            k = max(math.floor((now - first) / by + 1e-9), -1)
            greatest = memory.get("greatest")
            memory["greatest"] = k if greatest is None else max(k, greatest)
            if greatest is None or k <= greatest:
                return False, None
            return True, round((first + k * by) * 1e6) / 1e6

        return lambda text: self._noted(text, value)

    def _held(self) -> Callable[[str], Term]:
        condition = self.condition()
        if self.tokens[self.at + 1][1] == "volume":
            self.at += 2
            shares: Term | None = self.sum()
            span = 0
        else:
            shares, span = None, self._duration()

        def value(look: Look, memory: Memory) -> tuple[bool, None]:
            now = condition(look)  # type: ignore[arg-type]
            place: float | None = look.now if shares is None else look.row.get("volume_today")
            enough = span if shares is None else shares(look)  # type: ignore[arg-type]
            if now is False:
                memory.clear()
            if now is not True or memory.get("noted"):
                return False, None
            since = memory.get("since")
            if since is None:
                memory["since"] = place
                return False, None
            if place is not None and enough is not None and place - since >= enough:
                memory["noted"] = True
                return True, None
            return False, None

        return lambda text: self._noted(text, value)

    def _after(self) -> Callable[[str], Term]:
        lists = len(self.lists)
        first = self.event()
        self.expect(",")
        second = self.event()
        span = self._duration()

        def value(look: Look, memory: Memory) -> tuple[bool, None]:
            is_first, is_second = first(look), second(look)
            when = memory.get("when")
            if is_first is True:
                memory["when"] = look.now
            return is_second is True and when is not None and look.now - when <= span, None

        is_of_moves = len(self.lists) > lists
        return lambda text: self._noted(text, value, is_of_moves)

    def _count(self) -> Callable[[str], Term]:
        lists = len(self.lists)
        counted = self.event()
        self.expect(",")
        times = int(self.tokens[self.at][1])
        self.at += 1
        span = self._duration()

        def value(look: Look, memory: Memory) -> tuple[bool, None]:
            if counted(look) is not True:
                return False, None
            when = memory.setdefault("when", [])
            when.append(look.now)
            if len(when) >= times and look.now - when[-times] <= span:
                when.clear()
                return True, None
            return False, None

        is_of_moves = len(self.lists) > lists
        return lambda text: self._noted(text, value, is_of_moves)

    def _moves(self, word: str) -> Callable[[str], Term]:
        name: str | TwinScan = self.tokens[self.at][1]
        self.at += 1
        if name == "scan" and self.take("("):
            name = self._scan()
        rank = 1000
        if self.take(","):
            rank = int(self.tokens[self.at][1])
            self.at += 1
        place = Place(word, name, rank)
        self.lists.append(place)
        return lambda text: self._noted(text, lambda look, _: (look.moves.get(place) == word, None), True)

    def _scan(self) -> TwinScan:
        """Reads what is between the parentheses of a scan, by its commas: filter, keys of an order, number of rows."""
        parts: list[list[str]] = [[]]
        depth = 0
        while depth or self.peek()[1] != ")":
            kind, token = self.tokens[self.at]
            self.at += 1
            depth += {"(": 1, ")": -1}.get(token, 0)
            if token == "," and not depth:
                parts.append([])
            else:
                parts[-1].append(f'"{token}"' if kind == "text" else token)
        self.expect(")")
        texts = [" ".join(part) for part in parts]
        return TwinScan(texts[0], ", ".join(texts[1:-1]), int(texts[-1]))


def _of_look(term: Term) -> Term:
    def value(look: Any) -> Any:
        return term(look.row)

    value.texts = getattr(term, "texts", ())  # type: ignore[attr-defined]
    return value
