"""The scanner's answers: a symbol's live row, and the time of the market's newest event."""

from datetime import datetime
from typing import Any, Final, Literal

import grpc
import grpc.aio
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc, ticker_row_pb2

from services.kit.runtime.clock import utc_time, wall_ns
from services.kit.runtime.errors import CLOCK_UNKNOWN
from services.kit.runtime.logging import get_logger
from services.kit.runtime.tracing import outgoing
from services.ticker import metrics

log = get_logger(__name__)

ANSWER_SECONDS: Final = 1.0


class ScannerClient:
    """Asks the scanner. `clock`: whether the mesh's time is the wall's or the feed's (TRADEUL_CLOCK)."""

    def __init__(self, channel: grpc.aio.Channel, clock: Literal["wall", "feed"]) -> None:
        self._stub: Any = scanner_pb2_grpc.ScannerServiceStub(channel)
        self._is_wall = clock == "wall"
        # So that a flood of requests is not a flood of lines.
        self._is_away = False

    async def row(self, symbol: str) -> ticker_row_pb2.TickerRow | None:
        """The row of exactly this symbol; None when the scanner does not know it, or does not answer."""
        request = scanner_pb2.GetTickerRowRequest(symbol=symbol)
        try:
            row: ticker_row_pb2.TickerRow = await self._stub.GetTickerRow(
                request, timeout=ANSWER_SECONDS, metadata=outgoing()
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                self._is_away = False
                return None
            metrics.FAILURES.labels("scanner").inc()
            if not self._is_away:
                log.warning("scanner does not answer", code=error.code().name, details=error.details())
            self._is_away = True
            return None
        self._is_away = False
        return row

    async def market_time(self) -> datetime:
        """Now, UTC, rounded up to the microsecond; raises CLOCK_UNKNOWN before the first event, or without a scanner.

        In a replay this is before what is stored of its day: the newest stored bar would be the future.
        """
        ns = wall_ns() if self._is_wall else await self._event_ns()
        return utc_time(ns + 999)

    async def _event_ns(self) -> int:
        try:
            status = await self._stub.GetScannerStatus(
                scanner_pb2.GetScannerStatusRequest(), timeout=ANSWER_SECONDS, metadata=outgoing()
            )
        except grpc.aio.AioRpcError as error:
            metrics.FAILURES.labels("scanner").inc()
            raise CLOCK_UNKNOWN.error(
                f"the market's time is not known, the scanner answers {error.code().name}; `to` may name the end"
            ) from error
        if not status.HasField("event_time"):
            raise CLOCK_UNKNOWN.error("the market's time is not known before its first event; `to` may name the end")
        ns: int = status.event_time.ToNanoseconds()
        return ns
