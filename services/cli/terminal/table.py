"""The rows of a sheet, drawn line by line: only lines that differ go over the wire, which may be a slow ssh."""

import textwrap
from collections.abc import Callable
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.cli.lists.columns import Column, cell, column, fitted, that_fit, tone
from services.cli.terminal.sheet import Sheet

# Blue and orange, which colour-blind people can tell, as on the dashboard (theme.css); signs say the same.
DARK: Final = {
    "up": Style(color="#56b4ff"),
    "down": Style(color="#ff9d4d"),
    "mark": Style(color="#f2c744"),
    "good": Style(color="#4cc38a"),
}
LIGHT: Final = {
    "up": Style(color="#0a5fb4"),
    "down": Style(color="#a84a00"),
    "mark": Style(color="#7a5b00"),
    "good": Style(color="#14724a"),
}
HEAD: Final = Style(bold=True, underline=True)
SORTED: Final = Style(bold=True, underline=True, italic=True)
FAINT: Final = Style(dim=True)
BOLD: Final = Style(bold=True)
CURSOR: Final = Style(reverse=True)
RANK_WIDTH: Final = 3
SYMBOL_WIDTH: Final = 7
# Rank, a space, the mark and the symbol stay when the columns move.
FIXED_WIDTH: Final = RANK_WIDTH + 1 + 1 + SYMBOL_WIDTH
HALTED: Final = "H"
ENTERED: Final = "+"
SUSPECT: Final = "!"


class ListTable(Widget, can_focus=True):
    """The table of one sheet: a heading, and as many rows and columns as fit."""

    class Opened(Message):
        """A row was chosen with Enter or a second click."""

        def __init__(self, symbol: str) -> None:
            super().__init__()
            self.symbol = symbol

    def __init__(self, now: Callable[[], float], empty_reason: Callable[[], str]) -> None:
        super().__init__(id="table")
        self._now = now
        self._empty_reason = empty_reason
        self._sheet: Sheet | None = None
        self._rows: list[TickerRow] = []
        self._strips: list[Strip] = []
        self._first_row = 0
        # The symbol under the cursor, which it stays on while ranks change.
        self.symbol = ""
        self._first_column = 0

    @property
    def first_column(self) -> int:
        """How many of the sheet's columns are to the left of the window."""
        return self._first_column

    @property
    def cursor(self) -> int:
        """The index of the row under the cursor; 0 when it has left."""
        return next((index for index, row in enumerate(self._rows) if row.symbol == self.symbol), 0)

    def show(self, sheet: Sheet) -> None:
        """Shows another sheet, or another state of the same one."""
        if sheet is not self._sheet:
            self._sheet, self._first_row, self._first_column, self.symbol = sheet, 0, 0, ""
        before = self.cursor if self.symbol else 0
        self._rows = sheet.rows()
        if self._rows and not any(row.symbol == self.symbol for row in self._rows):
            self.symbol = self._rows[min(before, len(self._rows) - 1)].symbol
        self.draw()

    def to_top(self) -> None:
        """Moves the cursor to the first row: the order, or which rows there are, has changed."""
        self.symbol, self._first_row = "", 0

    def visible_columns(self) -> list[Column]:
        """The columns that fit, from the first one of the window on."""
        if self._sheet is None:
            return []
        columns = [column(name) for name in self._sheet.columns[self._first_column :]]
        room = self.size.width - FIXED_WIDTH
        count = that_fit(columns, room)
        # The last one takes what is left, if that is enough to read it.
        if count < len(columns):
            left = room - sum(each.width + 1 for each in columns[:count]) - 1
            if columns[count].is_left and left >= SYMBOL_WIDTH:
                return [*columns[:count], columns[count]._replace(width=left)]
        return columns[:count]

    def draw(self) -> None:
        """Draws anew and sends the lines that differ."""
        strips = [self._strip(y) for y in range(self.size.height)]
        width = self.size.width
        for y, strip in enumerate(strips):
            if y >= len(self._strips) or strip != self._strips[y]:
                self.refresh(Region(0, y, width, 1))
        self._strips = strips

    def render_line(self, y: int) -> Strip:
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def on_resize(self) -> None:
        self._strips = []
        self.draw()

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def move(self, rows: int) -> None:
        """Moves the cursor by so many rows."""
        if self._rows:
            index = min(max(self.cursor + rows, 0), len(self._rows) - 1)
            self.symbol = self._rows[index].symbol
            self.draw()

    def scroll_columns(self, step: int) -> None:
        """Moves the window of columns, as far as there are more."""
        if self._sheet is None:
            return
        beyond = self._first_column + len(self.visible_columns()) < len(self._sheet.columns)
        if step < 0 or beyond:
            self._first_column = max(self._first_column + step, 0)
            self.draw()

    @property
    def page(self) -> int:
        """How many rows fit."""
        return max(self.size.height - 1, 1)

    def on_click(self, event: events.Click) -> None:
        index = self._first_row + event.y - 1
        if event.y > 0 and index < len(self._rows):
            symbol = self._rows[index].symbol
            if symbol == self.symbol and event.chain > 1:
                self.post_message(self.Opened(symbol))
            self.symbol = symbol
            self.draw()

    def on_mouse_scroll_down(self) -> None:
        self.move(3)

    def on_mouse_scroll_up(self) -> None:
        self.move(-3)

    # --- lines

    def _strip(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if self._sheet is None:
            return Strip.blank(width, base)
        if y == 0:
            self._scroll_to_cursor()
            segments = self._heading(self._sheet)
        elif not self._rows:
            lines = textwrap.wrap(self._empty_reason(), max(width - 2, 1))
            text = lines[y - 1] if y <= len(lines) else ""
            segments = [Segment(fitted(f" {text}", width, True), FAINT)]
        elif self._first_row + y - 1 < len(self._rows):
            segments = self._row(self._sheet, self._rows[self._first_row + y - 1])
        else:
            segments = []
        return Strip(segments).apply_style(base).simplify().adjust_cell_length(width, base)

    def _scroll_to_cursor(self) -> None:
        cursor, page = self.cursor, self.page
        first = min(max(self._first_row, cursor - page + 1), cursor)
        self._first_row = max(min(first, len(self._rows) - page), 0)

    def _heading(self, sheet: Sheet) -> list[Segment]:
        segments = [Segment(fitted("#", RANK_WIDTH, False) + fitted("  symbol", SYMBOL_WIDTH + 2, True), HEAD)]
        for each in self.visible_columns():
            is_sorted = each.name == sheet.sort_field
            sign = ("▼" if sheet.is_descending else "▲") if is_sorted else " "
            style = SORTED if is_sorted else HEAD
            segments.append(Segment(sign, style))
            segments.append(Segment(fitted(each.heading, each.width, each.is_left), style))
        return segments

    def _row(self, sheet: Sheet, row: TickerRow) -> list[Segment]:
        tones = LIGHT if self.app.theme.endswith("light") else DARK
        over = CURSOR if row.symbol == self.symbol else Style()
        mark = HALTED if row.halted else ENTERED if sheet.is_new(row.symbol, self._now()) else " "
        if mark == " " and row.suspect_prints:
            mark = SUSPECT
        segments = [
            Segment(fitted(str(row.rank), RANK_WIDTH, False), FAINT + over),
            Segment(f" {mark}", tones["mark"] + BOLD + over),
            Segment(fitted(row.symbol, SYMBOL_WIDTH, True), BOLD + over),
        ]
        for each in self.visible_columns():
            text = fitted(cell(row, each.name), each.width, each.is_left)
            direction = tone(row, each.name)
            segments.append(Segment(f" {text}", (tones[direction] if direction else Style()) + over))
        used = sum(len(segment.text) for segment in segments)
        segments.append(Segment(" " * max(self.size.width - used, 0), over))
        return segments
