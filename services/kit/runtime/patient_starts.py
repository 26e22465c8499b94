"""Starts workers also where that is not possible for a while: what they are for then comes later, and not never."""

import asyncio
import errno
from typing import Final

from prometheus_client import Counter

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.workers import start_worker

log = get_logger(__name__)

RETRY_SECONDS: Final = 1.0
# No open file, process or memory is left, of this process or of the machine.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
FAILED_STARTS: Final = Counter(
    "tradeul_worker_starts_failed", "Failed starts of child processes; each is retried.", ["module"]
)


async def start_worker_patiently(module: str, first_input: bytes) -> asyncio.subprocess.Process:
    """As start_worker(), but waits while there are no open files, processes or memory for it.

    Raises OSError for what no waiting helps against.
    """
    failures = 0
    while True:
        try:
            process = await start_worker(module, first_input)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            FAILED_STARTS.labels(module).inc()
            if not failures:
                log.warning("a worker waits to be started", module=module, reason=reason_of(error))
            failures += 1
        else:
            if failures:
                log.warning("a worker is started after all", module=module, failures=failures)
            return process
        await asyncio.sleep(RETRY_SECONDS)
