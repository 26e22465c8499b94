"""What time the market has: the wall clock's, or that of its newest event, which the scanner knows."""

from datetime import datetime
from typing import Final, Literal

import grpc
import grpc.aio
from tradeul.v1 import scanner_pb2

from services.kit.runtime.clock import utc_time, wall_ns
from services.kit.runtime.errors import CLOCK_UNKNOWN
from services.ticker import metrics

METHOD: Final = "/tradeul.v1.ScannerService/GetScannerStatus"
ANSWER_SECONDS: Final = 1.0


class MarketTime:
    """`clock`: whose time it is (TRADEUL_CLOCK)."""

    def __init__(self, clock: Literal["wall", "feed"], scanner: grpc.aio.Channel) -> None:
        self._is_wall = clock == "wall"
        self._get = scanner.unary_unary(
            METHOD,
            request_serializer=scanner_pb2.GetScannerStatusRequest.SerializeToString,
            response_deserializer=scanner_pb2.ScannerStatus.FromString,
        )

    async def now(self) -> datetime:
        """Now, UTC, rounded up to the microsecond; raises CLOCK_UNKNOWN before the first event, or without a scanner.

        A replay stands before what is stored of its day: the newest stored bar would be the future.
        """
        ns = wall_ns() if self._is_wall else await self._event_ns()
        return utc_time(ns + 999)

    async def _event_ns(self) -> int:
        try:
            status = await self._get(scanner_pb2.GetScannerStatusRequest(), timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            metrics.FAILURES.labels("scanner").inc()
            raise CLOCK_UNKNOWN.error(
                f"the market's time is not known, the scanner answers {error.code().name}; `to` may say up to when"
            ) from error
        if not status.HasField("event_time"):
            raise CLOCK_UNKNOWN.error("the market's time is not known before its first event; `to` may say up to when")
        ns: int = status.event_time.ToNanoseconds()
        return ns
