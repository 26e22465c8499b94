"""Memory that is there before a market needs it.

While symbols trade, their windows grow. The system hands out memory when it is first written to, which can take tens of
milliseconds on a virtual machine, and the trades of that moment would wait.
"""

import time
from threading import Thread
from typing import Final

from fastcore.block_stock import prepare_blocks
from services.kit.runtime.logging import get_logger
from services.kit.runtime.priority import let_others_go_first

log = get_logger(__name__)

# When there was no more memory.
RETRY_SECONDS: Final = 60.0
_preparing: Thread | None = None


def prepare_memory() -> None:
    """From now on keeps some memory prepared for the markets of this process, in one thread for all of them."""
    global _preparing
    if _preparing is None or not _preparing.is_alive():
        _preparing = Thread(target=_prepare, name="memory", daemon=True)
        _preparing.start()


def _prepare() -> None:
    let_others_go_first()
    while True:
        try:
            prepare_blocks()
        except MemoryError as error:
            log.error("markets get memory only when they need it", error=error)
        time.sleep(RETRY_SECONDS)
