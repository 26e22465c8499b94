"""The connection to the scanner: the lists that are followed, its state now and then, counts of matches."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import grpc.aio
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

from services.cli.lists.client import Client
from services.cli.terminal.sheet import Sheet
from services.kit.lists.list_client import follow_responses
from services.kit.runtime.clock import monotonic

STATUS_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
MOST_ROWS: Final = 500
# Of today's, before the list was opened.
LOG_CHANGES: Final = 100


class Feed:
    """One channel to the scanner for all lists. `on_lists` gets the definitions of its lists, once."""

    def __init__(self, client: Client, on_lists: Callable[[scanner_pb2.ListListsResponse], None]) -> None:
        # None while the scanner does not answer.
        self.status: scanner_pb2.ScannerStatus | None = None
        # Set with everything that is to be drawn.
        self.is_changed = True
        self._client = client
        self._on_lists = on_lists
        self._following: dict[int, asyncio.Task[None]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._channel: grpc.aio.Channel | None = None
        # When the newest event time was seen to advance.
        self._moved_at = monotonic()

    @property
    def quiet_seconds(self) -> float:
        """How long the market's newest event has been the same; 0 while that is not known."""
        return monotonic() - self._moved_at if self.status is not None else 0.0

    def start(self) -> None:
        """Connects, and begins to read the scanner's state."""
        self._channel = self._client.open_channel()
        self._polling = asyncio.create_task(self._poll(), name="top.status")

    async def stop(self) -> None:
        """Ends all streams and the connection."""
        tasks = [*self._following.values(), *([self._polling] if self._polling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close(None)

    def follow(self, sheet: Sheet) -> None:
        """Keeps the sheet's copy current from now on."""
        if id(sheet) not in self._following:
            self._following[id(sheet)] = asyncio.create_task(self._follow(sheet), name=f"top.{sheet.name}")

    def leave(self, sheet: Sheet) -> None:
        """Ends what `follow` began."""
        if (task := self._following.pop(id(sheet), None)) is not None:
            task.cancel()

    async def count(self, text: str) -> str:
        """Returns, for people, how many symbols of the market match a filter."""
        request = scanner_pb2.QueryScanRequest(filter=text, limit=MOST_ROWS)
        try:
            ranked = await self._stub().QueryScan(request, metadata=self._client.metadata, timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            return str(error.details() or error.code().name)
        return f"{len(ranked.rows)}{' or more' if len(ranked.rows) == MOST_ROWS else ''} symbols match"

    def _stub(self) -> "scanner_pb2_grpc.ScannerServiceAsyncStub":
        assert self._channel is not None, "start() first"
        return scanner_pb2_grpc.ScannerServiceStub(self._channel)

    async def _follow(self, sheet: Sheet) -> None:
        assert self._channel is not None, "start() first"
        responses = follow_responses(self._channel, sheet.request, sheet.copy, self._client.api_key)
        is_begun = False
        try:
            async with contextlib.aclosing(responses):
                async for followed in responses:
                    sheet.take(followed, monotonic())
                    self.is_changed = True
                    if sheet.copy.is_loaded and not is_begun:
                        is_begun = True
                        await self._begin_log(sheet)
        except grpc.aio.AioRpcError as error:
            hint = "; TRADEUL_API_KEY or --key-file" if error.code() is grpc.StatusCode.UNAUTHENTICATED else ""
            sheet.refused = f"refused: {error.details()}{hint}"
            self.is_changed = True

    async def _begin_log(self, sheet: Sheet) -> None:
        """Puts what came and left before the first snapshot into the log; a scan has no such log."""
        if sheet.is_custom:
            return
        request = scanner_pb2.GetListLogRequest(list=sheet.name, limit=LOG_CHANGES)
        sequence = sheet.copy.sequence
        with contextlib.suppress(grpc.aio.AioRpcError):
            page = await self._stub().GetListLog(request, metadata=self._client.metadata, timeout=ANSWER_SECONDS)
            sheet.begin_log([change for change in page.changes if change.sequence <= sequence])

    async def _poll(self) -> None:
        is_defined = False
        while True:
            try:
                if not is_defined:
                    request = scanner_pb2.ListListsRequest()
                    lists = await self._stub().ListLists(
                        request, metadata=self._client.metadata, timeout=ANSWER_SECONDS
                    )
                    self._on_lists(lists)
                    is_defined = True
                self._take_status(
                    await self._stub().GetScannerStatus(
                        scanner_pb2.GetScannerStatusRequest(), metadata=self._client.metadata, timeout=ANSWER_SECONDS
                    )
                )
            except grpc.aio.AioRpcError:
                # The list's own line shows why; a state of before says nothing of now.
                self.status = None
            self.is_changed = True
            await asyncio.sleep(STATUS_SECONDS)

    def _take_status(self, status: scanner_pb2.ScannerStatus) -> None:
        if self.status is None or status.event_time != self.status.event_time:
            self._moved_at = monotonic()
        self.status = status
