"""The line in which filters and orders are typed: completion, the error at its position, the number of matches."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from fastcore.fields import FIELDS
from fastcore.filter_ast import FilterError

# A count is asked for when nobody has typed for so long.
COUNT_SECONDS: Final = 0.3
WORDS: Final = (*(field.name for field in FIELDS), *dict.fromkeys(value for field in FIELDS for value in field.values))
KEYWORDS: Final = ("AND", "OR", "NOT", "BETWEEN", "has(")

Count = Callable[[str], Awaitable[str]]


class Purpose(NamedTuple):
    """One thing to type: its label, how it is checked, what is done with it, and how its matches are counted."""

    label: str
    check: Callable[[str], FilterError | None]
    accept: Callable[[str], None]
    matches: Count | None = None


class WordSuggester(Suggester):
    """Completes the last word by fields and their values."""

    async def get_suggestion(self, value: str) -> str | None:
        start = len(value)
        while start and (value[start - 1].isalnum() or value[start - 1] == "_"):
            start -= 1
        word = value[start:]
        if not word:
            return None
        found = next((each for each in (*WORDS, *KEYWORDS) if each.startswith(word) and each != word), None)
        return None if found is None else value[:start] + found


class Prompt(Vertical):
    """Hidden until `ask`; Enter accepts what can be used, Escape gives up."""

    class Closed(Message):
        """The prompt is hidden again."""

    def __init__(self) -> None:
        super().__init__(id="prompt")
        self._purpose: Purpose | None = None
        self._counting: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="prompt-label", markup=False)
        yield Input(compact=True, suggester=WordSuggester(case_sensitive=True))
        yield Static("", id="prompt-hint", markup=False)

    @property
    def input(self) -> Input:
        return self.query_one(Input)

    @property
    def hint(self) -> str:
        """The line below what is typed."""
        return str(self.query_one("#prompt-hint", Static).content)

    def ask(self, purpose: Purpose, text: str = "") -> None:
        """Shows the prompt with a text to begin with."""
        self._purpose = purpose
        self.query_one("#prompt-label", Static).update(purpose.label)
        self.display = True
        self.input.value = text
        self.input.cursor_position = len(text)
        # Now: `Input.focus` would do it after the keys that have arrived.
        self.screen.set_focus(self.input)
        self._check(text)

    def close(self) -> None:
        """Hides the prompt."""
        self._stop_counting()
        self.display = False
        self.post_message(self.Closed())

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self._check(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        purpose = self._purpose
        if purpose is None or purpose.check(event.value) is not None:
            return
        self.close()
        purpose.accept(event.value)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.close()
        elif event.key == "tab":
            # Completes, as in a shell; the right arrow does, too.
            event.stop()
            event.prevent_default()
            self.input.action_cursor_right()

    def _check(self, text: str) -> None:
        self._stop_counting()
        assert self._purpose is not None
        hint = self.query_one("#prompt-hint", Static)
        if (error := self._purpose.check(text)) is not None:
            hint.update(error_line(error, self.size.width))
            hint.add_class("wrong")
            return
        hint.remove_class("wrong")
        hint.update("Enter: use it   Tab: complete   Escape: back")
        if self._purpose.matches is not None:
            self._counting = asyncio.create_task(self._count(self._purpose.matches, text), name="top.count")

    async def _count(self, count: Count, text: str) -> None:
        await asyncio.sleep(COUNT_SECONDS)
        self.query_one("#prompt-hint", Static).update(f"{await count(text)}   Enter: use it   Tab: complete")

    def _stop_counting(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            self._counting = None


def error_line(error: FilterError, width: int) -> str:
    """Returns the error behind a caret below its position, or, where there is no room, with the position's number."""
    hint = f"; did you mean {error.suggestion}?" if error.suggestion else ""
    message = f"{error.problem}{hint}"
    if error.position + 2 + len(message) <= width:
        return f"{' ' * error.position}^ {message}"
    if len(message) + 2 <= error.position:
        return f"{' ' * (error.position - len(message) - 1)}{message} ^"
    return f"at {error.position + 1}: {message}"
