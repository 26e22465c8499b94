"""What sale conditions forbid: from the vendor, or the built-in table while that cannot be had."""

import asyncio
from collections.abc import Callable
from typing import Final

from fastcore.trade_rules import fallback_rules, rules_from_conditions
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.vendor.client import VendorClient, VendorError

log = get_logger(__name__)

# How long the start waits for the vendor, and how long until it is asked again.
FIRST_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 300.0


class RulesFollower:
    """`take` gets the encoded TradeRules, which also say whether suspect prints are held."""

    def __init__(self, vendor: VendorClient, take: Callable[[bytes], None], take_suspect_prints: bool) -> None:
        self._vendor = vendor
        self._take = take
        self._take_suspect_prints = take_suspect_prints
        self._is_fallback = True

    async def first(self) -> None:
        """Takes the vendor's rules, or the built-in ones when the vendor does not give any soon."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self._load()
        except (VendorError, ValueError, TimeoutError) as error:
            log.warning("the built-in trade rules hold", reason=f"{described(error)}")
            self._take(fallback_rules(self._take_suspect_prints))

    async def run(self) -> None:
        """Tries until the vendor's are there; returns never."""
        while self._is_fallback:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._load()
            except (VendorError, ValueError) as error:
                log.warning("the built-in trade rules still hold", reason=f"{described(error)}")
        await asyncio.get_running_loop().create_future()

    async def _load(self) -> None:
        rules = rules_from_conditions(await self._vendor.conditions(), self._take_suspect_prints)
        self._take(rules)
        self._is_fallback = False
        log.info("trade rules from the vendor")
