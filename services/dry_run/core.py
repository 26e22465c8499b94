"""A day's events through the sequencer's own code, as fast as they go, and the alerts of one rule over them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fastcore.alert_rules import AlertRule, CompiledRule, compile_rule
from fastcore.alert_text import AlertText
from fastcore.market import Market
from fastcore.market_state import MarketState
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.alerts.encoding import encoded_alert
from services.kit.lists.definitions import ListSpec
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.ring import Position
from services.market.calendar import Calendar, TradingDay
from services.replay.core import QUIET_NS, Cut, cuts, encode
from services.replay.day_file import DayFile

EPOCH: Final = 1
# The 10-second grid on which windows stand, and with it the looks at symbols that nothing has come of.
GRID_NS: Final = 10_000_000_000
# Nobody reads the frames.
HELD_FRAMES: Final = 16


class RuleRun:
    """The alerts of a market with one rule: counted all, `keep` gets those of the wanted symbols up to the limit.

    `symbols`: those wanted, all if empty.
    """

    def __init__(self, rule: AlertRule, keep: Callable[[bytes], None], limit: int, symbols: frozenset[str]) -> None:
        self.count = 0
        self.by_symbol: Counter[str] = Counter()
        self._text = AlertText(rule.text)
        self._keep = keep
        self._limit = limit
        self._symbols = symbols

    def take(self, market: Market) -> None:
        """Takes the alerts of the watermark that the market was refreshed at."""
        for event in market.alert_events:
            if self._symbols and event.symbol not in self._symbols:
                continue
            self.count += 1
            self.by_symbol[event.symbol] += 1
            if self.count <= self._limit:
                self._keep(encoded_alert(event, market.state, self._text))


def lists_of(compiled: CompiledRule, lists: Sequence[ListSpec]) -> list[ListSpec]:
    """Those of `lists` that the rule's words name: no other one has to be ranked."""
    events = (compiled.when, compiled.rearm)
    named = {word.list for each in events if each is not None for word in each.words if word.list}
    return [spec for spec in lists if spec.name in named]


class DayMarket:
    """A sequencer without readers, journal or clock, at the begin of a day, with one rule.

    `recorded`: the market with which a recording begins, whose memory of the rule stays; None for an empty one.
    """

    def __init__(
        self,
        rule: AlertRule,
        lists: Sequence[ListSpec],
        calendar: Calendar,
        day: TradingDay,
        recorded: MarketState | None = None,
    ) -> None:
        named = lists_of(compile_rule(rule), lists)
        if recorded is None:
            self.market = Market(named, EPOCH)
        else:
            self.market = Market.of_state(named, EPOCH, recorded)
        self.sequencer = Sequencer(EPOCH, self.market, max_frames=HELD_FRAMES)
        self.feed = FeedInput(self.sequencer, "feed")
        self.has_lists = bool(named)
        self._rule = rule
        self._calendar = calendar
        self._day = day

    def begin(self) -> None:
        """Begins the trading day; the rules of trades and the scanner filters come after it."""
        self.feed.days.begin(self._calendar, self._day)

    def install(self, is_empty: bool) -> None:
        """Puts the rule in force; `is_empty`: there was nothing before the day's first event."""
        self.sequencer.set_alert_rules([self._rule])
        self.sequencer.add_watermark(self._day.pre_market_start_ns if is_empty else 0)

    def play(self, events: DayFile, run: RuleRun) -> Iterator[int]:
        """Plays the events; yields the time reached after each batch, ns since 1970 UTC."""
        self.feed.set_symbols(events.manifest.symbols)
        chosen = cuts(events) if self.has_lists else with_looks(cuts(events))
        for number, cut in enumerate(chosen, 1):
            _, batch = MARKET.positioned("batch", Position(EPOCH, number), encode(events, cut))
            self.feed.sequence(batch, 0)
            if cut.watermark_ns and self.market.alert_events:
                run.take(self.market)
            yield cut.time_ns


def with_looks(all_cuts: Iterator[Cut]) -> Iterator[Cut]:
    """The cuts without those watermarks of quiet seconds at which no rule looks at anything.

    Those stay with which the windows move, when rules look at every symbol that has traded, and the one that begins
    the second of the next events, to which the market's own values are brought then. Rules that follow lists need all:
    in every second values change by which lists are ranked.
    """
    last_ns = 0
    quiet: Cut | None = None
    for cut in all_cuts:
        if cut.first == cut.last:
            if cut.time_ns // GRID_NS > last_ns // GRID_NS:
                last_ns, quiet = cut.time_ns, None
                yield cut
            else:
                quiet = cut
            continue
        if quiet is not None and quiet.time_ns // QUIET_NS == cut.time_ns // QUIET_NS:
            yield quiet
        quiet = None
        last_ns = cut.time_ns
        yield cut
    if quiet is not None:
        yield quiet
