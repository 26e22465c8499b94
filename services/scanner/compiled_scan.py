"""Custom scans as clients write them, compiled; and the process that does it, because the longest texts take 10 ms.

Run as a module it compiles what it reads from its input, until that ends. It gives way to the services beside it.
"""

import pickle
import sys
from collections.abc import Callable
from typing import BinaryIO, Final, NamedTuple, TypeVar

import msgspec

from fastcore.filters import Filter, FilterError, Order, compile_filter, compile_order
from services.kit.runtime.errors import INVALID_FILTER, INVALID_ORDER, SCAN_TOO_COSTLY, Reason, ServiceError
from services.kit.runtime.worker_messages import read_input, write_message

# A comparison of a field is a step, an operator another, and each value of a list. On one core a step takes
# 12,000 rows about 10 us, at every refresh.
MAX_STEPS: Final = 200
# What can be wrong with a scan's texts.
MISTAKES: Final = {reason.name: reason for reason in (INVALID_FILTER, INVALID_ORDER, SCAN_TOO_COSTLY)}

Compiled = TypeVar("Compiled", Filter, Order)


class CompiledScan(NamedTuple):
    """The filter and the order of a custom scan."""

    filter: Filter
    order: Order

    @property
    def steps(self) -> int:
        """Steps that each row costs it."""
        return self.filter.cost + self.order.cost


def compile_scan(filter_text: str, order_by: str) -> CompiledScan:
    """Returns the compiled texts.

    Raises INVALID_FILTER or INVALID_ORDER, with the position of the mistake and what was probably meant, and
    SCAN_TOO_COSTLY beyond MAX_STEPS.
    """
    scan = CompiledScan(
        _compiled(compile_filter, filter_text, INVALID_FILTER), _compiled(compile_order, order_by, INVALID_ORDER)
    )
    if scan.steps > MAX_STEPS:
        raise SCAN_TOO_COSTLY.error(
            f"limit reached: {MAX_STEPS} steps for each row, this scan takes {scan.steps}",
            steps=scan.steps,
            maximum=MAX_STEPS,
        )
    return scan


def _compiled(compile_text: Callable[[str], Compiled], text: str, reason: Reason) -> Compiled:
    try:
        return compile_text(text)
    except FilterError as error:
        metadata = {"position": error.position, "text": text[:200]}
        if error.suggestion:
            metadata["suggestion"] = error.suggestion
        raise reason.error(str(error), **metadata) from error


# --- the process


def request_of(filter_text: str, order_by: str) -> bytes:
    """Returns the message to the process that has these compiled."""
    return msgspec.msgpack.encode((filter_text, order_by))


def answer_to(request: bytes) -> bytes:
    """Returns the answer to a request: the pickled filter and order, or what was raised."""
    texts = msgspec.msgpack.decode(request, type=tuple[str, str])
    try:
        return pickle.dumps(tuple(compile_scan(*texts)))
    except ServiceError as error:
        return pickle.dumps((error.reason.name, error.message, error.metadata))


def scan_of(answer: bytes) -> CompiledScan:
    """Returns the scan of an answer of our own process. Raises what compile_scan() raised there."""
    parts = pickle.loads(answer)
    if isinstance(parts[0], str):
        reason, message, metadata = parts
        raise ServiceError(MISTAKES[reason], message, metadata)
    return CompiledScan(*parts)


def answer_all(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers each request in its turn, until there are no more."""
    while (request := read_input(requests)) is not None:
        write_message(answers, answer_to(request))


if __name__ == "__main__":
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
