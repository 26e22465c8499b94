"""Custom scans that are watched: equal ones are one list, shared by all its subscribers.

They are refreshed after the built-in lists, a few at a time, so that what is published of those is on its way first.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from fastcore.market import Market
from fastcore.ranked_list import RankedList
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import TOO_MANY_SCANS
from services.scanner.compiled_scan import CompiledScan
from services.scanner.list_stream import ListStream

MAX_SCANS: Final = 200
# Steps for each row (see compiled_scan.MAX_STEPS) of all open scans: about 20 ms of a refresh of 12,000 rows.
MAX_STEPS: Final = 2_000
# So long are scans refreshed until everything else has its turn.
SLICE_SECONDS: Final = 0.002


class ScanKey(NamedTuple):
    """Two scans with the same key are one list."""

    filter: str
    order_by: str
    limit: int

    @classmethod
    def of(cls, compiled: CompiledScan, limit: int) -> "ScanKey":
        return cls(compiled.filter.text.strip(), compiled.order.text.strip(), limit)


class Scan:
    """One scan and its stream of changes. `handle` is its list in the present market."""

    stream: ListStream

    def __init__(self, key: ScanKey, compiled: CompiledScan, handle: RankedList) -> None:
        self.key = key
        self.compiled = compiled
        self.handle = handle
        self.watchers = 0


class CustomScans:
    """The custom scans of one scanner. `make_stream` makes the stream of a new one.

    All open scans take at most `max_steps` steps for each row, those of one key at most `max_key_steps`.
    """

    def __init__(
        self,
        make_stream: Callable[[Scan], ListStream],
        limit: int = MAX_SCANS,
        max_steps: int = MAX_STEPS,
        max_key_steps: int = MAX_STEPS,
    ) -> None:
        self._make_stream = make_stream
        self._limit = limit
        self._max_steps = max_steps
        self._max_key_steps = max_key_steps
        # The scans that each key watches, by its name, and how often.
        self._of_key: dict[str, Counter[Scan]] = {}
        self._scans: dict[ScanKey, Scan] = {}
        # Those to be refreshed, the next one first.
        self._due: dict[Scan, None] = {}

    def __len__(self) -> int:
        return len(self._scans)

    def __contains__(self, key: ScanKey) -> bool:
        return key in self._scans

    def __iter__(self) -> Iterator[Scan]:
        return iter(self._scans.values())

    @property
    def steps(self) -> int:
        """Steps that a row costs all open scans."""
        return sum(scan.compiled.steps for scan in self)

    def open(self, market: Market, compiled: CompiledScan, limit: int, watcher: RequestKey | None = None) -> Scan:
        """The scan for one more watcher, added to the market if it is the first. Raises TOO_MANY_SCANS.

        `watcher`: the key of its request.
        """
        key = ScanKey.of(compiled, limit)
        steps = compiled.steps
        scan = self._scans.get(key)
        if watcher is not None:
            self._check_share(watcher, scan, steps)
        if scan is None:
            if len(self._scans) >= self._limit:
                raise TOO_MANY_SCANS.error(f"limit reached: {self._limit} open scans", maximum=self._limit)
            if (total := self.steps + steps) > self._max_steps:
                raise TOO_MANY_SCANS.error(
                    f"limit reached: {self._max_steps} steps for each row in all open scans; "
                    f"with the {steps} of this one it would be {total}",
                    maximum=self._max_steps,
                    steps=steps,
                )
            scan = Scan(key, compiled, market.add_scan(*compiled, limit))
            scan.stream = self._make_stream(scan)
            self._scans[key] = scan
        scan.watchers += 1
        if watcher is not None:
            self._of_key.setdefault(watcher.name, Counter())[scan] += 1
        return scan

    def _check_share(self, watcher: RequestKey, scan: Scan | None, steps: int) -> None:
        watched = self._of_key.get(watcher.name, Counter())
        if watched.total() >= watcher.scans:
            raise TOO_MANY_SCANS.error(
                f"limit reached: {watcher.scans} open scans of the key {watcher.name!r}",
                maximum=watcher.scans,
                key=watcher.name,
            )
        total = sum(each.compiled.steps for each in watched) + (0 if scan in watched else steps)
        if total > self._max_key_steps:
            raise TOO_MANY_SCANS.error(
                f"limit reached: {self._max_key_steps} steps for each row in open scans of the key {watcher.name!r}; "
                f"with the {steps} of this one it would be {total}",
                maximum=self._max_key_steps,
                steps=steps,
                key=watcher.name,
            )

    def release(self, market: Market, scan: Scan, watcher: RequestKey | None = None) -> None:
        """Takes one watcher away; the last one takes the list out of the market."""
        if watcher is not None:
            watched = self._of_key[watcher.name]
            watched[scan] -= 1
            if not watched[scan]:
                del watched[scan]
            if not watched:
                del self._of_key[watcher.name]
        scan.watchers -= 1
        if scan.watchers == 0:
            del self._scans[scan.key]
            self._due.pop(scan, None)
            market.remove_scan(scan.handle)

    def begin_refresh(self) -> None:
        """Makes all scans due; those that are still come first."""
        self._due.update(dict.fromkeys(self))

    def refresh(self, market: Market) -> int:
        """Refreshes, for about SLICE_SECONDS, scans that are due; returns how many have changed."""
        changes = 0
        ends_at = monotonic() + SLICE_SECONDS
        while self._due:
            scan = next(iter(self._due))
            del self._due[scan]
            if (update := market.refresh_scan(scan.handle)) is not None:
                scan.stream.publish(update.previous_sequence, update.sequence, update.message, update.changed)
                changes += 1
            if monotonic() >= ends_at:
                break
        return changes

    @property
    def is_due(self) -> bool:
        """True while scans are to be refreshed."""
        return bool(self._due)

    def replace_market(self, market: Market, position_of: Callable[[RankedList], Position], reason: str) -> None:
        """Rebuilds every scan in another market; its subscribers get a reset and a snapshot."""
        for scan in self._scans.values():
            scan.handle = market.add_scan(*scan.compiled, scan.key.limit)
            scan.stream.restart(position_of(scan.handle), reason)

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away."""
        for scan in self._scans.values():
            scan.stream.close(reason)
