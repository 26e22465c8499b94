"""Follows the notifications that reference data have changed in PostgreSQL."""

from collections.abc import Callable

import msgspec

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.notifications import REFERENCE_DATA, ReferenceChange, follow_notifications

log = get_logger(__name__)


class ReferenceNotices:
    """`on_change` gets each change; `on_lost` is called when some may have been lost with their connection."""

    def __init__(self, url: str, on_change: Callable[[ReferenceChange], None], on_lost: Callable[[], None]) -> None:
        self.wrong = 0
        self._url = url
        self._on_change = on_change
        self._on_lost = on_lost

    async def run(self) -> None:
        """Follows them until cancelled; without a database there is nothing to follow."""
        await follow_notifications(self._url, REFERENCE_DATA, self._receive, on_listening=self._listening)

    def _listening(self, is_again: bool) -> None:
        if is_again:
            self._on_lost()

    def _receive(self, payload: str) -> None:
        try:
            change = ReferenceChange.decode(payload)
        except msgspec.MsgspecError as error:
            self.wrong += 1
            log.warning("expected a change of reference data", payload=payload[:200], error=reason_of(error))
        else:
            self._on_change(change)
