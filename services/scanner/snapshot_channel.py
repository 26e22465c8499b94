"""scanner:snapshots: the rows that changed, as a JSON array once a second, while somebody is subscribed."""

import asyncio
from array import array
from typing import Final

from tradeul.v1 import scanner_pb2

from fastcore.measures import touched_since
from fastcore.row_json import read_ranked_list
from services.kit.rpc.wire import wrap
from services.kit.stores.redis_channels import RedisChannels
from services.scanner.core import ScannerCore

CHANNEL: Final = "scanner:snapshots"
SECONDS: Final = 1.0
# Others wait for their turn.
MAX_ROWS: Final = 1000
_ROWS: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["rows"].number


class SnapshotChannel:
    """Makes nothing while nobody is subscribed; a new subscriber gets every row that has traded, a part a second."""

    def __init__(self, core: ScannerCore, channels: RedisChannels) -> None:
        self._core = core
        self._channels = channels
        self._seen = array("I")
        self._due: dict[int, None] = {}
        self._epoch = 0

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await asyncio.sleep(SECONDS)
            if not self._channels.is_wanted(CHANNEL) or not self._core.is_loaded:
                self._seen, self._due = array("I"), {}
            elif message := self.take():
                self._channels.publish(CHANNEL, message)

    def take(self) -> bytes:
        """The next message; empty when nothing has changed."""
        market = self._core.market
        if market.epoch != self._epoch:
            self._seen, self._due, self._epoch = array("I"), {}, market.epoch
        state = market.state
        self._due.update(dict.fromkeys(touched_since(state, self._seen)))
        ids = list(self._due)[:MAX_ROWS]
        for symbol_id in ids:
            del self._due[symbol_id]
        state.refresh()
        rows = [wrap(_ROWS, state.encode_row(symbol_id)) for symbol_id in ids]
        if not rows:
            return b""
        _, _, _, encoded = read_ranked_list(b"".join(rows))
        return b"[%b]" % b",".join([b"{%b}" % members for _, _, members in encoded])
