from typing import Literal, overload

_Buffer = bytes | bytearray | memoryview

@overload
def read_ranked_list(
    message: _Buffer, by_field: Literal[False] = False
) -> tuple[int, int, bytes, list[tuple[bytes, int, bytes]]]: ...
@overload
def read_ranked_list(
    message: _Buffer, by_field: Literal[True]
) -> tuple[int, int, bytes, list[tuple[bytes, int, dict[int, bytes]]]]:
    """An encoded RankedList as (epoch, sequence, timestamp, rows).

    `timestamp` is JSON, b"" when absent. Each row is (symbol as JSON, rank, members): the members
    of the row's JSON object but its rank, `by_field` as a dict. ValueError when the bytes are no RankedList.
    """

@overload
def read_list_delta(
    message: _Buffer, by_field: Literal[False] = False
) -> tuple[int, int, int, bytes, list[tuple[int, bytes, int, int, bytes]]]: ...
@overload
def read_list_delta(
    message: _Buffer, by_field: Literal[True]
) -> tuple[int, int, int, bytes, list[tuple[int, bytes, int, int, dict[int, bytes | None]]]]:
    """An encoded ListDelta as (epoch, previous_sequence, sequence, timestamp, changes).

    `timestamp` is JSON, b"" when absent. Each change is (action, symbol as JSON, old rank, rank
    afterwards, members): action as in ListChange.Action, ranks 0 when absent, the members of the
    row's JSON object but its rank, none without a row. A field that has become absent is null, `by_field`
    None. ValueError when the bytes are no ListDelta.
    """

def instant_json(ns: int) -> bytes:
    """Nanoseconds since 1970 UTC as RFC 3339 in UTC, JSON; ValueError beyond the years 1 to 9999."""
