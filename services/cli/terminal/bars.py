"""The lines around the table: tabs, log, state of the connection, keys."""

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from tradeul.v1.scanner_pb2 import ScannerStatus
from tradeul.v1.session_pb2 import CLOSED, Session

from services.cli.lists.columns import cell
from services.cli.terminal.sheet import LogLine, Sheet, short_reason
from services.kit.runtime.clock import new_york_time

KEYS: Final = (
    ("Tab", "list"), ("/", "filter"), ("n", "scan"), ("< >", "sort"), ("c", "columns"), ("←→", "more"),
    ("Enter", "symbol"), ("?", "keys"), ("q", "quit"), ("space", "hold"), ("l", "log"), ("x", "close"),
)  # fmt: skip
LIVE, AWAY, STALE = "●", "○", "!"
# A session in which nothing happened for so long is stale.
STALE_SECONDS: Final = 15.0
Styles = dict[str, str]


def tab_line(sheets: Sequence[Sheet], active: int, width: int) -> Text:
    """The tabs around the active one that fit, with an arrow where there are more."""
    labels = [
        f" {number} {sheet.title}{_unseen(sheet, number - 1 == active)} " for number, sheet in enumerate(sheets, 1)
    ]
    first, last = active, active
    used = cell_len(labels[active])
    # An arrow on each side.
    room = width - 2
    while True:
        grown = False
        for index in (last + 1, first - 1):
            if 0 <= index < len(labels) and used + cell_len(labels[index]) <= room:
                used += cell_len(labels[index])
                first, last, grown = min(first, index), max(last, index), True
        if not grown:
            break
    line = Text("<" if first else " ", no_wrap=True)
    for index in range(first, last + 1):
        style = Style(reverse=True, bold=True) if index == active else Style()
        # A click calls the action.
        line.append(labels[index], style + Style(meta={"@click": f"app.show_list({index})"}))
    line.append(">" if last < len(labels) - 1 else "")
    return line


def _unseen(sheet: Sheet, is_active: bool) -> str:
    return f" ({sheet.unseen})" if sheet.unseen and not is_active else ""


def log_lines(log: Sequence[LogLine], height: int, styles: Styles) -> Text:
    """The newest lines of a log, the newest last."""
    text = Text(no_wrap=True, overflow="ellipsis")
    shown = list(log)[-height:] if height > 0 else []
    for number, line in enumerate(shown):
        row = line.row
        text.append("\n" if number else "")
        text.append(f"{line.time} ", "dim")
        text.append(line.sign, f"bold {styles['up'] if line.sign == '+' else styles['down']}")
        rank = f"#{row.rank}" if row.HasField("rank") else ""
        # The scanner's own log has no more than price and change.
        volume = f"vol {cell(row, 'volume_today'):>7}" if row.HasField("volume_today") else ""
        values = f"{cell(row, 'price'):>9} {cell(row, 'change_percent'):>8} %  {volume}"
        text.append(f" {row.symbol:<7} {rank:<4} {values}  {row.company_name}")
    if not shown and height > 0:
        text.append("nobody has entered or left yet", "dim")
    return text


def status_line(sheet: Sheet, status: ScannerStatus | None, quiet_seconds: float, note: str, styles: Styles) -> Text:
    """The state of the rows: current, or since when they are not; then the session, the lag and counts."""
    text = Text(no_wrap=True, overflow="ellipsis")
    reason = sheet.refused or sheet.copy.unhealthy_reason
    if reason:
        since = f" rows of {sheet.time}" if sheet.copy.is_loaded else ""
        text.append(f"{AWAY} not connected,{since or ' no rows yet'}: ", f"bold {styles['down']}")
        text.append(short_reason(reason))
        return text
    if not sheet.copy.is_loaded:
        text.append(f"{AWAY} loading", styles["mark"])
        return text
    session = Session.Name(status.session) if status is not None and status.HasField("session") else ""
    if status is not None and status.problem:
        text.append(f"{STALE} not current: {status.problem}; rows of {sheet.time}", f"bold {styles['down']}")
    elif quiet_seconds > STALE_SECONDS and session and status is not None and status.session != CLOSED:
        last = f"{new_york_time(status.event_time.ToNanoseconds()):%H:%M:%S}"
        text.append(f"{STALE} stale: nothing traded since {last} ({quiet_seconds:.0f} s)", f"bold {styles['down']}")
    else:
        text.append(f"{LIVE} live", styles["good"])
    if sheet.held is not None:
        text.append(f"  HELD, {sheet.waiting} changes wait", f"bold {styles['mark']}")
    parts = [market_time(sheet, status), session.lower().replace("_", " ")]
    if status is not None and status.HasField("lag_ms"):
        parts.append(f"lag {status.lag_ms:.0f} ms")
    total, shown = len(sheet.all_rows()), len(sheet.rows()) if sheet.filter_text else None
    parts.append(f"{total} rows" if shown is None else f"{shown} of {total} rows: {sheet.filter_text}")
    text.append("  " + "  ".join(part for part in parts if part))
    if note:
        text.append(f"  {note}", styles["mark"])
    return text


def market_time(sheet: Sheet, status: ScannerStatus | None) -> str:
    """Returns the New York time of the market, which goes on while the list does not change."""
    known = status.event_time.ToNanoseconds() if status is not None else 0
    return f"{new_york_time(max(known, sheet.copy.timestamp_ns)):%H:%M:%S}"


def key_line(width: int) -> Text:
    """The keys that fit, the most important first."""
    text = Text(no_wrap=True)
    for key, meaning in KEYS:
        part = f"{key} {meaning}  "
        if cell_len(text.plain) + cell_len(part) > width:
            break
        text.append(key, "bold")
        text.append(f" {meaning}  ", "dim")
    return text
