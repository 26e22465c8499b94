"""Compiles the texts of custom scans in a process of its own, so that neither they nor the interpreter's lock hold up
the lists.
"""

import asyncio
from typing import Final

from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import NOT_READY
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.runtime.worker_messages import framed, read_message
from services.kit.runtime.workers import end_worker, send, start_worker
from services.scanner import metrics
from services.scanner.compiled_scan import CompiledScan, request_of, scan_of

log = get_logger(__name__)

WORKER: Final = "services.scanner.compiled_scan"
# The longest texts take some 10 ms of a processor that is free.
LONGEST_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 1.0

Request = tuple[bytes, "asyncio.Future[CompiledScan]"]


class ScanCompiler:
    """Compiles one request at a time, in the order in which they came, while run() runs."""

    def __init__(self) -> None:
        self.pid: int | None = None
        """The process's, while there is one."""
        self._requests: asyncio.Queue[Request] = asyncio.Queue()

    async def compile(self, filter_text: str, order_by: str) -> CompiledScan:
        """Returns the compiled texts. Raises what compile_scan() raises, and NOT_READY when that cannot be now."""
        compiled: asyncio.Future[CompiledScan] = asyncio.get_running_loop().create_future()
        self._requests.put_nowait((request_of(filter_text, order_by), compiled))
        return await compiled

    async def run(self) -> None:
        """Keeps the process, and starts another one when it ends, until cancelled."""
        is_missing = False
        while True:
            try:
                process = await start_worker(WORKER, b"")
            except OSError as error:
                if not is_missing:
                    log.error("scans cannot be compiled", reason=reason_of(error))
                is_missing = True
                self._fail_all(f"it cannot be started: {reason_of(error)}")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if is_missing:
                log.warning("scans can be compiled again")
            is_missing = False
            self.pid = process.pid
            serving = asyncio.create_task(self._serve(process), name="scanner.compiling")
            ended = asyncio.create_task(process.wait(), name="scanner.compiler")
            try:
                await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    serving.result()
            finally:
                self.pid = None
                for task in (serving, ended):
                    task.cancel()
                await asyncio.gather(serving, ended, return_exceptions=True)
                await end_worker(process)
            log.error("the process that compiles scans ended", code=process.returncode)

    async def _serve(self, process: asyncio.subprocess.Process) -> None:
        """Lets the process compile what is requested; returns when it can no longer."""
        while True:
            request, compiled = await self._requests.get()
            if compiled.done():
                # Its client has gone.
                continue
            began = monotonic()
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    answer = await _exchange(process, request)
            except (OSError, EOFError, TimeoutError) as error:
                _fail(compiled, described(error))
                return
            except asyncio.CancelledError:
                _fail(compiled, "the process that compiles it ended")
                raise
            metrics.SCAN_COMPILE_SECONDS.observe(monotonic() - began)
            if not compiled.done():
                try:
                    compiled.set_result(scan_of(answer))
                except Exception as error:  # noqa: BLE001  whatever it is, it is for who has requested it
                    compiled.set_exception(error)

    def _fail_all(self, reason: str) -> None:
        while not self._requests.empty():
            _fail(self._requests.get_nowait()[1], reason)


async def _exchange(process: asyncio.subprocess.Process, request: bytes) -> bytes:
    """Returns the answer to a request. Raises OSError or EOFError when the process has ended."""
    send(process, framed(request))
    return await read_message(process)


def _fail(compiled: "asyncio.Future[CompiledScan]", reason: str) -> None:
    if not compiled.done():
        compiled.set_exception(NOT_READY.error(f"the scan cannot be compiled now: {reason}"))
