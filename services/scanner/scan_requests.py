"""Requests for custom scans: compiled by a process of its own, and let at the market one at a time.

They must not hold up the built-in lists. Compiling the longest texts takes 10 ms, so a process with a lower priority
does it. Selecting and encoding the rows takes up to 3 ms on the event loop, in a turn.

What many request at once, such as clients that come back to the scan that they all watch, is done once: the others wait
for that, and do not count as requests under way.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from services.kit.runtime.errors import TOO_MANY_SCANS
from services.scanner import metrics
from services.scanner.compiled_scan import CompiledScan
from services.scanner.custom_scans import ScanKey
from services.scanner.scan_compiler import ScanCompiler
from services.scanner.turns import MAX_WAITING, MAX_WAITING_OF_KEY, Turns, Waiting

# The texts of recent requests, compiled: the same ones are often sent again.
MAX_COMPILED: Final = 256

Answer = TypeVar("Answer")


class ScanRequests:
    """The requests of one scanner, whose texts are compiled while run() runs."""

    def __init__(
        self, turns: Turns, max_waiting: int = MAX_WAITING, max_waiting_of_key: int = MAX_WAITING_OF_KEY
    ) -> None:
        self._turns = turns
        self._under_way = Waiting(TOO_MANY_SCANS, "requests for custom scans at once", max_waiting, max_waiting_of_key)
        self.compiler = ScanCompiler()
        self._compiled: OrderedDict[tuple[str, str], CompiledScan] = OrderedDict()
        # Held by who does what others wait for; there while anybody does.
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @property
    def waiting(self) -> int:
        """Requests under way."""
        return self._under_way.total

    async def compile(self, filter_text: str, order_by: str, key: str = "") -> CompiledScan:
        """Returns the compiled texts of a request of `key`.

        Raises what ScanCompiler raises, and TOO_MANY_SCANS.
        """
        texts = (filter_text, order_by)
        async with self._one_at_a_time(texts):
            if (scan := self._compiled.get(texts)) is not None:
                self._compiled.move_to_end(texts)
                return scan
            with self._under_way.counted(key):
                scan = await self.compiler.compile(*texts)
            self._compiled[texts] = scan
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            return scan

    async def take_turn(self, work: Callable[[], Answer], key: str = "") -> Answer:
        """Returns what `work` returns, which runs on the event loop in its turn.

        Raises what it raises, TOO_MANY_SCANS, TOO_MANY_REQUESTS.
        """

        def measured() -> Answer:
            with metrics.SCAN_REQUEST_SECONDS.time():
                return work()

        with self._under_way.counted(key):
            return await self._turns.take_counted(measured, key)

    async def open(
        self, scan: ScanKey, is_open: Callable[[], bool], work: Callable[[], Answer], key: str = ""
    ) -> Answer:
        """Returns what `work` returns, which opens a scan or joins it: in its turn, or at once when it is open.

        Raises as take_turn().
        """
        async with self._one_at_a_time(scan):
            return work() if is_open() else await self.take_turn(work, key)

    def _one_at_a_time(self, what: Hashable) -> asyncio.Lock:
        return self._locks.setdefault(what, asyncio.Lock())
