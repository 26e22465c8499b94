from typing import Any

# By verdict, in the order in which they are checked; the first is none.
REASONS: tuple[str, ...]

def fault_of(kind: str, values: tuple[Any, ...]) -> str:
    """The reason ("price", "size", "bar_shape") for which a decoded event would be set aside whatever its symbol
    and time; empty for none. `kind` and `values` are those of feed_elements.Row; ValueError for another kind."""
