"""The boxes that open over the lists: the keys, the choice of columns, and all that is known of a symbol."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import FIELDS
from services.cli.lists.columns import cell, column

HELP: Final = """\
Tab, Shift+Tab  next, previous list       1-9     list by number
Up, Down, PgUp, PgDn, Home, End           move in the list
Left, Right     columns that did not fit  Enter   all fields of the symbol
/               filter the rows           Escape  clear the filter
< >             sort by another column    r       reverse the order
s               the list's own order      c       choose columns
n               new scan of the market    x       close the scan
space           hold the rows, or resume  l       size of the log
t               dark or light             q       quit

Marks  + entered in the last 10 s   H halted   ! a print is suspect
       (n) in a tab: n symbols entered since you last looked there

Filters: gap_percent > 4 AND float_shares < 20000000
         halted OR chg_5m > 3      sector = "Technology"      has(rvol)

Escape closes this."""

# A field's name and its value; two of them fit into 80 characters.
FACT_WIDTH: Final = 36
# Texts may be long: they are in the line of the company.
WORDS: Final = ("exchange", "security_type", "sector", "industry")
WORDS_SHOWN: Final = frozenset({"company_name", *WORDS})


class Sheetlike(ModalScreen[None]):
    """A box over the lists that Escape closes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss_box", "back")]

    def action_dismiss_box(self) -> None:
        self.dismiss(None)


class HelpScreen(Sheetlike):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "dismiss_box", "back", show=False)]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box"):
            yield Static(HELP, markup=False)


class SymbolScreen(Sheetlike):
    """All fields of a symbol, live while it is in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "dismiss_box", "back", show=False)]

    def __init__(self, symbol: str, find: Callable[[str], TickerRow | None]) -> None:
        super().__init__()
        self._symbol = symbol
        self._find = find

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box"):
            yield Static("", id="facts", markup=False)

    def on_mount(self) -> None:
        self._draw()
        self.set_interval(0.5, self._draw)

    def _draw(self) -> None:
        facts = self.query_one("#facts", Static)
        if (row := self._find(self._symbol)) is None:
            left = f"\n\n{self._symbol} has left the list." if "has left" not in str(facts.content) else ""
            facts.update(f"{facts.content}{left}")
            return
        facts.update("\n".join(fact_lines(row, max(self.size.width - 8, 40))))


def fact_lines(row: TickerRow, width: int) -> list[str]:
    """Returns a symbol's known fields in as many columns as fit."""
    known = [field for field in FIELDS if field.name != "symbol" and row.HasField(field.name)]  # type: ignore[arg-type]
    room = FACT_WIDTH - 2
    words = [cell(row, name) for name in ("company_name", *WORDS) if row.HasField(name)]
    texts = [f"{field.name:<25} {cell(row, field.name)}"[:room] for field in known if field.name not in WORDS_SHOWN]
    count = max(width // FACT_WIDTH, 1)
    height = -(-len(texts) // count)
    lines = ["".join(f"{text:<{FACT_WIDTH}}" for text in texts[start::height]).rstrip() for start in range(height)]
    return [f"{row.symbol}  {', '.join(words)}", "", *lines]


class ColumnScreen(Sheetlike):
    """Every field: the chosen ones in their order, then the others. Space chooses, + and - move, a letter finds."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "choose", "choose", priority=True),
        Binding("plus,right", "move(-1)", "forward"),
        Binding("minus,left", "move(1)", "back"),
    ]

    def __init__(self, chosen: Sequence[str], choose: Callable[[list[str]], None]) -> None:
        super().__init__()
        self._chosen = list(chosen)
        self._choose = choose
        self._names = [*self._chosen, *(field.name for field in FIELDS if field.name not in {*chosen, "symbol"})]

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static("Space chooses, + and - move a column, a letter finds one, Escape goes back", markup=False)
            yield OptionList(*self._options(), markup=False, compact=True)

    def on_key(self, event: events.Key) -> None:
        """A letter moves to the next field that begins with it."""
        letter = (event.character or "").lower()
        options = self.query_one(OptionList)
        if not letter.isalpha() or options.highlighted is None:
            return
        event.stop()
        count, start = len(self._names), options.highlighted + 1
        places = ((start + step) % count for step in range(count))
        found = next((place for place in places if self._names[place].startswith(letter)), None)
        if found is not None:
            options.highlighted = found

    def _options(self) -> list[Option]:
        meanings = {field.name: field.meaning for field in FIELDS}
        return [
            Option(f"{'[x]' if name in self._chosen else '[ ]'} {column(name).heading:<10} {name:<25} {meanings[name]}")
            for name in self._names
        ]

    def action_choose(self) -> None:
        """Adds the field under the cursor, or takes it away; one column stays."""
        options = self.query_one(OptionList)
        if (index := options.highlighted) is None:
            return
        name = self._names[index]
        if name not in self._chosen:
            self._chosen.append(name)
        elif len(self._chosen) > 1:
            self._chosen.remove(name)
        self._show(index)

    def action_move(self, step: int) -> None:
        """Moves the chosen field under the cursor."""
        options = self.query_one(OptionList)
        if (index := options.highlighted) is None or (name := self._names[index]) not in self._chosen:
            return
        before = self._chosen.index(name)
        after = min(max(before + step, 0), len(self._chosen) - 1)
        self._chosen.insert(after, self._chosen.pop(before))
        self._names = [*self._chosen, *(each for each in self._names if each not in self._chosen)]
        self._show(self._names.index(name))

    def _show(self, index: int) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(self._options())
        options.highlighted = index
        self._choose(list(self._chosen))
