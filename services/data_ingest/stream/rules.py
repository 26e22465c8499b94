"""The rules that the stream carries: which trades count, from the vendor, and the lists' filters, from PostgreSQL."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from fastcore.trade_rules import fallback_rules, read_rules, rules_from_conditions
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.stream.table_follower import TableFollower
from services.kit.lists.scan_filters import ScanFilter, ScanFilterError, default_filters, scan_filter
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.stores.notifications import SCANNER_FILTERS
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import Condition

log = get_logger(__name__)

# How long the start waits for the vendor, and how long until the next request.
FIRST_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 300.0

FILTERS_QUERY: Final = (
    "SELECT name, parameters::text AS parameters FROM scanner_filters WHERE enabled ORDER BY priority, name"
)


class TradeRulesFollower:
    """The sale conditions' rules: the vendor's, or the built-in ones while these cannot be had.

    Args:
        apply: gets the encoded TradeRules.
        take_suspect_prints: False holds prints whose price is far off.
    """

    def __init__(self, vendor: VendorClient, apply: Callable[[bytes], None], take_suspect_prints: bool) -> None:
        # A mask of the conditions that keep a trade from setting the price.
        self.forbids_last = 0
        self._vendor = vendor
        self._apply = apply
        self._take_suspect_prints = take_suspect_prints
        self._is_fallback = True

    async def load_first(self, known: Sequence[Condition] | None = None) -> None:
        """Applies the vendor's rules, or the built-in ones when the vendor does not give any soon.

        `known`: the vendor's conditions, where they are known already.
        """
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self._load(known)
        except (VendorError, ValueError, TimeoutError) as error:
            log.warning("the built-in trade rules hold", reason=described(error))
            self._set(fallback_rules(self._take_suspect_prints))

    async def run(self) -> None:
        """Tries until the vendor's are there; never returns."""
        while self._is_fallback:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._load()
            except (VendorError, ValueError) as error:
                log.warning("the built-in trade rules still hold", reason=described(error))
        await asyncio.get_running_loop().create_future()

    async def _load(self, known: Sequence[Condition] | None = None) -> None:
        conditions = known if known is not None else await self._vendor.conditions()
        rules = rules_from_conditions(conditions, self._take_suspect_prints)
        self._set(rules)
        self._is_fallback = False
        log.info("trade rules from the vendor")

    def _set(self, rules: bytes) -> None:
        self.forbids_last = read_rules(rules)["forbids_last"]
        log.info("trade rules", suspect_prints="take" if self._take_suspect_prints else "hold")
        self._apply(rules)


class FiltersFollower(TableFollower):
    """The enabled rows of scanner_filters: those read last; before the first reading of a new stream, the default ones.

    `stands_still`: True while no watermark may come, so that the lists have to be ranked by the new filters at once.
    """

    table: ClassVar = SCANNER_FILTERS
    query: ClassVar = FILTERS_QUERY
    what: ClassVar = "scanner filter"

    def __init__(self, url: str, sequencer: Sequencer, stands_still: Callable[[], bool] = lambda: False) -> None:
        super().__init__(url)
        self._sequencer = sequencer
        self._stands_still = stands_still

    def begin(self, is_alone: bool) -> None:
        """Adds the default filters; where there are filters already, those stay until the rows can be read."""
        if is_alone or not self._sequencer.market.list_filters_message:
            self._apply(default_filters())

    def take(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        filters: list[ScanFilter] = []
        left_out: dict[str, str] = {}
        for row in rows:
            try:
                filters.append(scan_filter(row["name"], row["parameters"]))
            except ScanFilterError as error:
                left_out[row["name"]] = reason_of(error)
        self._apply(filters)
        return left_out

    def _apply(self, filters: list[ScanFilter]) -> None:
        if self._sequencer.set_list_filters(filters):
            log.info("scanner filters", names=[each.name for each in filters])
            if self._stands_still():
                self._sequencer.add_watermark(0)
