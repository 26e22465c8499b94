"""A scanner's core without a hub: it looks for a watermark's alerts at once."""

from fastcore.ranked_list import ListUpdate
from services.kit.rpc.frames import Frame
from services.scanner.core import ScannerCore


class SettledCore(ScannerCore):
    def apply(self, frame: Frame) -> list[ListUpdate]:
        updates = super().apply(frame)
        self.market.refresh_alerts()
        return updates
