"""Arguments that several commands share: names with the nearest one in errors, and their completion in a shell."""

import difflib
from collections.abc import Iterable
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

ALL: Final = "all"


def examples(*lines: str) -> str:
    """Returns the end of a command's help: its examples, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns `; did you mean '...'?` with the most similar name; empty when none is similar."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


class ListName(click.ParamType[str]):
    """The name of a list. The scanner knows which there are; completion offers the built-in ones."""

    name = "list"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from services.kit.lists.definitions import load_lists

        return [CompletionItem(each.name, help=each.title) for each in load_lists() if each.name.startswith(incomplete)]


class RuleNames(click.ParamType[str]):
    """Names of alert rules, by comma. The scanner knows which there are; completion offers the built-in ones."""

    name = "rules"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from services.kit.alerts.definitions import load_alerts
        from services.kit.lists.definitions import load_lists

        begun, comma, word = incomplete.rpartition(",")
        rules = load_alerts([each.name for each in load_lists()])
        return [
            CompletionItem(f"{begun}{comma}{rule.name}", help=rule.title)
            for rule in rules
            if rule.name.startswith(word)
        ]


class FieldNames(click.ParamType[list[str]]):
    """Fields of a row, by comma: price,rvol; `all` for every one."""

    name = "columns"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        from fastcore.fields import BY_NAME

        names = [name.strip() for name in str(value).split(",") if name.strip()]
        if names == [ALL]:
            return [name for name in BY_NAME if name != "symbol"]
        for name in names:
            if name not in BY_NAME and name != "rank":
                self.fail(f"there is no field {name!r}{nearest(name, BY_NAME)}", param, ctx)
        if not names:
            self.fail(f"expected fields like price,rvol or {ALL}, was {value!r}", param, ctx)
        return [name for name in dict.fromkeys(names) if name not in ("rank", "symbol")]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        begun, comma, word = incomplete.rpartition(",")
        return [CompletionItem(f"{begun}{comma}{name}", help=meaning) for name, meaning in field_names(word)]


class Order(click.ParamType[str]):
    """An order in the filter language; completion offers its first field, and the direction after it."""

    name = "order"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        field, space, direction = incomplete.partition(" ")
        if space:
            return [CompletionItem(f"{field} {way}") for way in ("desc", "asc") if way.startswith(direction)]
        return [CompletionItem(name, help=meaning) for name, meaning in field_names(field)]


class FilterText(click.ParamType[str]):
    """A filter; completion offers the field that its last word begins."""

    name = "filter"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        word = incomplete
        for index in range(len(incomplete) - 1, -1, -1):
            if not (incomplete[index].isalnum() or incomplete[index] == "_"):
                word = incomplete[index + 1 :]
                break
        begun = incomplete[: len(incomplete) - len(word)]
        return [CompletionItem(begun + name, help=meaning) for name, meaning in field_names(word)]


def field_names(beginning: str) -> list[tuple[str, str]]:
    """The fields whose names begin so, with their meanings."""
    from fastcore.fields import FIELDS

    return [(field.name, field.meaning) for field in FIELDS if field.name.startswith(beginning)]
