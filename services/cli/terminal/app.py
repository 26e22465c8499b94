"""The terminal's lists: tabs, a table, a log, and the state of the connection, all by keys."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.filter_ast import FilterError
from fastcore.filter_types import check_order
from services.cli.lists.client import INTERVAL_MS, Client
from services.cli.lists.columns import default_columns
from services.cli.terminal.bars import key_line, log_lines, status_line, tab_line
from services.cli.terminal.feed import MOST_ROWS, Feed
from services.cli.terminal.prompt import Prompt, Purpose
from services.cli.terminal.saved import SavedScan, load_saved, save
from services.cli.terminal.screens import ColumnScreen, HelpScreen, SymbolScreen
from services.cli.terminal.sheet import Sheet, filter_error, row_filter_error
from services.cli.terminal.table import DARK, LIGHT, ListTable
from services.kit.runtime.clock import monotonic

DRAW_SECONDS: Final = 0.25
# The heights of the log by its key, in lines; 0 hides it.
LOG_HEIGHTS: Final = (3, 8, 0)
DEFAULT_ORDER: Final = "volume_today desc"


def scan_sheet(filter_text: str, order_by: str, limit: int, columns: Sequence[str] = ()) -> Sheet:
    """A tab for a custom scan."""
    request = scanner_pb2.WatchScanRequest(
        filter=filter_text, order_by=order_by, limit=limit, min_interval_ms=INTERVAL_MS, changed_fields_only=True
    )
    return Sheet(filter_text or f"by {order_by}", request, columns)


def list_sheet(name: str, columns: Sequence[str] = ()) -> Sheet:
    """A tab for a list."""
    request = scanner_pb2.WatchListRequest(list=name, min_interval_ms=INTERVAL_MS, changed_fields_only=True)
    return Sheet(name, request, columns)


class TopApp(App[None]):
    """`tradeul top` in a terminal. Lists are followed from when they are first shown."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #tabs, #status, #keys { height: 1; width: 100%; }
    #tabs, #status, #keys, #log, OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
    #tabs { link-style: none; link-color: $foreground; link-background: $background; }
    #table { height: 1fr; }
    #log { border-top: solid $panel-lighten-2; padding: 0; }
    #prompt { height: 3; display: none; background: $panel; }
    #prompt Input { height: 1; }
    #prompt-hint.wrong { color: $warning; }
    ModalScreen { align: center middle; }
    .box { width: 96%; height: auto; max-height: 94%; background: $panel; padding: 0 1; border: round $primary; }
    .box OptionList { height: auto; max-height: 1fr; background: $panel; border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # Before those of the focused widget: keys that arrive together, as over a slow line, act in their order.
        Binding("tab,right_square_bracket", "next_list(1)", priority=True),
        Binding("shift+tab,left_square_bracket", "next_list(-1)", priority=True),
        *(Binding(str(number), f"show_list({number - 1})", priority=True) for number in range(1, 10)),
        Binding("up,k", "move(-1)", priority=True),
        Binding("down,j", "move(1)", priority=True),
        Binding("pageup", "page(-1)", priority=True),
        Binding("pagedown", "page(1)", priority=True),
        Binding("home,g", "move(-1000)", priority=True),
        Binding("end,G", "move(1000)", priority=True),
        Binding("left", "columns(-1)", priority=True),
        Binding("right", "columns(1)", priority=True),
        Binding("enter", "symbol", priority=True),
        Binding("slash", "filter", priority=True),
        Binding("escape", "clear_filter", priority=True),
        Binding("n", "scan", priority=True),
        Binding("x", "close_scan", priority=True),
        Binding("less_than_sign,comma", "sort(-1)", priority=True),
        Binding("greater_than_sign,full_stop", "sort(1)", priority=True),
        Binding("r", "reverse", priority=True),
        Binding("s", "own_order", priority=True),
        Binding("c", "choose_columns", priority=True),
        Binding("l", "log", priority=True),
        Binding("space", "hold", priority=True),
        Binding("t", "theme", priority=True),
        Binding("question_mark,h", "help", priority=True),
        Binding("q", "leave", priority=True),
        Binding("ctrl+c", "quit", priority=True),
    ]

    def __init__(self, client: Client, sheets: Sequence[Sheet], path: Path, active: int = 0) -> None:
        # Otherwise Textual makes greys of what has a colour; the terminal's own colours are wanted.
        super().__init__(ansi_color=bool(os.environ.get("NO_COLOR")))
        self.client = client
        self.feed = Feed(client, self._define)
        self.sheets = list(sheets)
        self.active = active
        self._path = path
        self._saved, self._note = load_saved(path)
        self._log_size = 0
        self._lines: dict[str, Text] = {}
        self.theme = "textual-dark"
        self.sheets += [
            scan_sheet(each.filter, each.order_by, MOST_ROWS, self._saved.columns_of(each.filter))
            for each in self._saved.scans
        ]
        for sheet in self.sheets:
            if sheet.columns == default_columns(sheet.name):
                sheet.columns = self._saved.columns_of(sheet.name) or sheet.columns

    @property
    def sheet(self) -> Sheet:
        """The list that is shown."""
        return self.sheets[self.active]

    @property
    def table(self) -> ListTable:
        return self.query_one(ListTable)

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    def compose(self) -> ComposeResult:
        yield Static(id="tabs")
        yield ListTable(monotonic, lambda: self.sheet.empty_reason(str(self.client.target), self.feed.status))
        yield Static(id="log")
        yield Prompt()
        yield Static(id="status")
        yield Static(id="keys")

    def on_mount(self) -> None:
        self.feed.start()
        self.set_interval(DRAW_SECONDS, self._draw_if_changed)
        self.table.focus()
        self.action_show_list(self.active)

    async def on_unmount(self) -> None:
        await self.feed.stop()

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def _define(self, response: scanner_pb2.ListListsResponse) -> None:
        """Takes the definitions of the scanner's lists; those that the tabs miss are added."""
        known = {sheet.name: sheet for sheet in self.sheets if not sheet.is_custom}
        end = next((index for index, sheet in enumerate(self.sheets) if sheet.is_custom), len(self.sheets))
        for definition in response.lists:
            sheet = known.get(definition.list)
            if sheet is None:
                sheet = list_sheet(definition.list, self._saved.columns_of(definition.list))
                self.sheets.insert(end, sheet)
                self.active += end <= self.active
                end += 1
            sheet.definition = definition

    # --- drawing

    def _draw_if_changed(self) -> None:
        if self.feed.is_changed:
            self.draw()

    def draw(self) -> None:
        """Draws everything that has changed."""
        if not self.is_running:
            return
        self.feed.is_changed = False
        sheet, width = self.sheet, self.size.width
        sheet.unseen = 0
        colours = LIGHT if self.theme.endswith("light") else DARK
        styles = {name: str(style.color.name) for name, style in colours.items() if style.color is not None}
        height = min(LOG_HEIGHTS[self._log_size], max(self.size.height - 14, 0))
        log = self.query_one("#log", Static)
        log.display = height > 0
        log.styles.height = height + 1
        self._write("log", log_lines(sheet.log, height, styles))
        self._write("tabs", tab_line(self.sheets, self.active, width))
        line = status_line(sheet, self.feed.status, self.feed.quiet_seconds, self._note, styles)
        self._write("status", line)
        self._write("keys", key_line(width))
        self.table.show(sheet)

    def _write(self, name: str, text: Text) -> None:
        """Sends a line if it differs from the one that is there."""
        if self._lines.get(name) != text:
            self._lines[name] = text
            self.query_one(f"#{name}", Static).update(text, layout=False)

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # The prompt and a box over the lists have keys of their own.
        return action not in KEY_ACTIONS or not (len(self.screen_stack) > 1 or self.prompt.display)

    def action_show_list(self, index: int) -> None:
        """Shows the list with this index, if there is one."""
        if 0 <= index < len(self.sheets):
            self.active = index
            self.feed.follow(self.sheet)
            self.draw()

    def action_next_list(self, step: int) -> None:
        """Shows the next list, or one before."""
        self.action_show_list((self.active + step) % len(self.sheets))

    def action_move(self, rows: int) -> None:
        self.table.move(rows)

    def action_page(self, pages: int) -> None:
        self.table.move(pages * self.table.page)

    def action_columns(self, step: int) -> None:
        self.table.scroll_columns(step)

    def action_symbol(self) -> None:
        if self.table.symbol:
            self.push_screen(SymbolScreen(self.table.symbol, self._row_of))

    def on_list_table_opened(self, event: ListTable.Opened) -> None:
        self.push_screen(SymbolScreen(event.symbol, self._row_of))

    def _row_of(self, symbol: str) -> TickerRow | None:
        return next((row for row in self.sheet.copy.rows() if row.symbol == symbol), None)

    def action_filter(self) -> None:
        sheet = self.sheet

        async def count(text: str) -> str:
            probe = Sheet(sheet.name, sheet.request)
            probe.copy, probe.held, probe.filter_text = sheet.copy, sheet.held, text
            return f"{len(probe.rows())} of {len(probe.all_rows())} rows match"

        self.prompt.ask(
            Purpose(f"Filter of {sheet.title}, or a part of a name", row_filter_error, self._filter, count),
            sheet.filter_text,
        )

    def _filter(self, text: str) -> None:
        self.sheet.filter_text = text.strip()
        self._draw_from_top()

    def action_clear_filter(self) -> None:
        self._note = ""
        self._filter("")

    def action_scan(self) -> None:
        purpose = Purpose(
            "New scan of the whole market: its filter", filter_error, self._order_of_scan, self.feed.count
        )
        self.prompt.ask(purpose, self.sheet.filter_text)

    def _order_of_scan(self, filter_text: str) -> None:
        label = f"Order of {filter_text or 'all symbols'}"
        purpose = Purpose(label, order_error, lambda order_by: self._open_scan(filter_text, order_by))
        self.prompt.ask(purpose, DEFAULT_ORDER)

    def _open_scan(self, filter_text: str, order_by: str) -> None:
        self.sheets.append(scan_sheet(filter_text.strip(), order_by.strip(), MOST_ROWS))
        self._saved.scans.append(SavedScan(filter=filter_text.strip(), order_by=order_by.strip()))
        self._note = save(self._saved, self._path)
        self.action_show_list(len(self.sheets) - 1)

    def action_close_scan(self) -> None:
        sheet = self.sheet
        if not isinstance(sheet.request, scanner_pb2.WatchScanRequest):
            self._note = "only custom scans can be closed"
            self.draw()
            return
        self.feed.leave(sheet)
        self.sheets.remove(sheet)
        closed = SavedScan(filter=sheet.request.filter, order_by=sheet.request.order_by)
        if closed in self._saved.scans:
            self._saved.scans.remove(closed)
            self._note = save(self._saved, self._path)
        self.action_show_list(min(self.active, len(self.sheets) - 1))

    def action_sort(self, step: int) -> None:
        sheet = self.sheet
        names = ["", "symbol", *sheet.columns]
        index = names.index(sheet.sort_field) if sheet.sort_field in names else 0
        sheet.sort_field = names[(index + step) % len(names)]
        self._draw_from_top()

    def action_reverse(self) -> None:
        self.sheet.is_descending = not self.sheet.is_descending
        self._draw_from_top()

    def action_own_order(self) -> None:
        self.sheet.sort_field = ""
        self._draw_from_top()

    def _draw_from_top(self) -> None:
        self.table.to_top()
        self.draw()

    def action_choose_columns(self) -> None:
        self.push_screen(ColumnScreen(self.sheet.columns, self._choose_columns))

    def _choose_columns(self, names: list[str]) -> None:
        self.sheet.columns = names
        self._saved.columns[self.sheet.name] = names
        self._note = save(self._saved, self._path)
        self.draw()

    def action_log(self) -> None:
        self._log_size = (self._log_size + 1) % len(LOG_HEIGHTS)
        self.draw()
        self.call_after_refresh(self.draw)

    def action_hold(self) -> None:
        self.sheet.hold()
        self.draw()

    def action_theme(self) -> None:
        self.theme = "textual-light" if self.theme == "textual-dark" else "textual-dark"
        self.call_after_refresh(self.draw)

    def action_leave(self) -> None:
        self.exit()

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    def on_prompt_closed(self, event: Prompt.Closed) -> None:
        # The order of a new scan follows its filter.
        if not self.prompt.display:
            self.table.focus()
        self.call_after_refresh(self.draw)


KEY_ACTIONS: Final = frozenset(
    binding.action.partition("(")[0]
    for binding in TopApp.BINDINGS
    if isinstance(binding, Binding) and binding.action != "quit"
)


def order_error(text: str) -> FilterError | None:
    """Returns what is wrong with an order; None when it can be used."""
    try:
        check_order(text)
    except FilterError as error:
        return error
    return None
