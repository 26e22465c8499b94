"""Custom scans as clients send them: compiled off the event loop, and let at the market one at a time.

Requests must not hold up the built-in lists. Compiling the longest texts takes 10 ms, so a thread does it, which
hands the interpreter back every millisecond. Selecting and encoding the rows takes up to 3 ms on the
event loop. After either, the next request waits at least as long.
"""

import asyncio
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, TypeVar

from fastcore.filters import Filter, FilterError, Order, compile_filter, compile_order
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import INVALID_FILTER, INVALID_ORDER, SCAN_TOO_COSTLY, TOO_MANY_SCANS, Reason
from services.scanner import metrics

# A comparison of a field is a step, an operator another, and each value of a list. On one core a step takes
# 12,000 rows about 10 us, at every refresh.
MAX_STEPS: Final = 200
# Requests that may wait, of all clients and of one key.
MAX_WAITING: Final = 200
MAX_WAITING_OF_KEY: Final = 20
# The texts of recent requests, compiled: the same ones are often sent again.
MAX_COMPILED: Final = 256
SWITCH_SECONDS: Final = 0.001

Answer = TypeVar("Answer")
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


class ScanRequests:
    """The requests of one scanner; close() ends its thread."""

    def __init__(self, max_waiting: int = MAX_WAITING, max_waiting_of_key: int = MAX_WAITING_OF_KEY) -> None:
        # The event loop gets the interpreter back within this time, whatever the thread does.
        sys.setswitchinterval(SWITCH_SECONDS)
        self._max_waiting = max_waiting
        self._max_waiting_of_key = max_waiting_of_key
        self._compiler = ThreadPoolExecutor(1, "scan-compiler")
        self._compiled: OrderedDict[tuple[str, str], CompiledScan] = OrderedDict()
        self._waiting: Counter[str] = Counter()
        self._turn = asyncio.Lock()
        self._next_at = 0.0
        self._next_compile_at = 0.0

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return self._waiting.total()

    async def compile(self, filter_text: str, order_by: str, key: str = "") -> CompiledScan:
        """Returns the compiled texts of a request of `key`. Raises what compile_scan() raises, and TOO_MANY_SCANS."""
        texts = (filter_text, order_by)
        if (scan := self._compiled.get(texts)) is not None:
            self._compiled.move_to_end(texts)
            return scan
        async with self._counted(key):
            scan = await asyncio.get_running_loop().run_in_executor(self._compiler, self._compile, *texts)
        self._compiled[texts] = scan
        if len(self._compiled) > MAX_COMPILED:
            self._compiled.popitem(last=False)
        return scan

    async def take_turn(self, work: Callable[[], Answer], key: str = "") -> Answer:
        """Returns what `work` returns, which runs on the event loop in its turn. Raises what it raises, TOO_MANY_SCANS.

        Half of the event loop's time, at least, is left to everything else.
        """
        loop = asyncio.get_running_loop()
        async with self._counted(key), self._turn:
            await asyncio.sleep(max(0.0, self._next_at - loop.time()))
            began = loop.time()
            try:
                return work()
            finally:
                ended = loop.time()
                self._next_at = 2 * ended - began
                metrics.SCAN_REQUEST_SECONDS.observe(ended - began)

    def _compile(self, filter_text: str, order_by: str) -> CompiledScan:
        """Runs in the thread."""
        time.sleep(max(0.0, self._next_compile_at - monotonic()))
        began = monotonic()
        try:
            return compile_scan(filter_text, order_by)
        finally:
            self._next_compile_at = 2 * monotonic() - began

    def close(self) -> None:
        """Drops the requests that wait to be compiled."""
        self._compiler.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _counted(self, key: str) -> AsyncIterator[None]:
        if self.waiting >= self._max_waiting:
            raise TOO_MANY_SCANS.error(
                f"limit reached: {self._max_waiting} requests for custom scans at once", maximum=self._max_waiting
            )
        if key and self._waiting[key] >= self._max_waiting_of_key:
            most = self._max_waiting_of_key
            raise TOO_MANY_SCANS.error(
                f"limit reached: {most} requests for custom scans at once of the key {key!r}", maximum=most, key=key
            )
        self._waiting[key] += 1
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
