"""One symbol's live row, from the scanner."""

from typing import Final

import grpc
import grpc.aio
from tradeul.v1 import scanner_pb2, ticker_row_pb2

from services.kit.runtime.logging import get_logger
from services.ticker import metrics

log = get_logger(__name__)

METHOD: Final = "/tradeul.v1.ScannerService/GetTickerRow"
ANSWER_SECONDS: Final = 1.0


class LiveRows:
    """Asks the scanner; while it is away no symbol has a live row."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # So that a flood of requests is not a flood of lines.
        self._is_away = False
        self._get = channel.unary_unary(
            METHOD,
            request_serializer=scanner_pb2.GetTickerRowRequest.SerializeToString,
            response_deserializer=ticker_row_pb2.TickerRow.FromString,
        )

    async def row(self, symbol: str) -> ticker_row_pb2.TickerRow | None:
        """The row of exactly this symbol; None when the market does not know it, or does not answer."""
        try:
            row: ticker_row_pb2.TickerRow = await self._get(
                scanner_pb2.GetTickerRowRequest(symbol=symbol), timeout=ANSWER_SECONDS
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
