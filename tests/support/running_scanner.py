"""The real scanner in this process, following a scripted sequencer, and clients of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio
from prometheus_client import REGISTRY
from tradeul.v1 import alerts_pb2_grpc, scanner_pb2, scanner_pb2_grpc

from services.kit.lists.list_client import ListCopy
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.scanner.service import ScannerService
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer


class ListReader:
    """A client of a list stream: keeps a copy, and what kinds of messages came."""

    def __init__(self, call: Any, copy: ListCopy | None = None) -> None:
        self.call = call
        self.copy = copy or ListCopy()
        self.kinds: list[str] = []

    async def read(self) -> scanner_pb2.WatchListResponse:
        """The next response, applied; raises AioRpcError, EOFError at the end."""
        response = await self.call.read()
        if not isinstance(response, scanner_pb2.WatchListResponse):
            raise EOFError
        self.copy.apply(response)
        self.kinds.append(str(response.WhichOneof("response")))
        return response

    async def until(self, kind: str) -> scanner_pb2.WatchListResponse:
        """Reads on to the next response of a kind."""
        while (response := await self.read()).WhichOneof("response") != kind:
            pass
        return response

    async def until_sequence(self, sequence: int) -> None:
        """Reads on until the copy stands at that change of the list."""
        while self.copy.sequence != sequence:
            await self.read()


class RunningScanner:
    """A scanner that serves, with a client."""

    def __init__(self, service: ScannerService, port: int, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.hub = service.hub
        self.address = f"127.0.0.1:{port}"
        self.alerts = alerts_pb2_grpc.AlertsServiceStub(channel)
        self.alert_log = service.alerts
        self.stub = scanner_pb2_grpc.ScannerServiceStub(channel)

    def watch(self, name: str, copy: ListCopy | None = None, *, is_outside: bool = False, **request: Any) -> ListReader:
        """WatchList, from where `copy` stands; `is_outside`: as the gateway passes a client's request on."""
        if copy is not None:
            request |= {"epoch": copy.epoch, "sequence": copy.sequence}
        metadata = (("x-forwarded-for", "192.0.2.1"),) if is_outside else ()
        return ListReader(
            self.stub.WatchList(scanner_pb2.WatchListRequest(list=name, **request), metadata=metadata), copy
        )

    def watch_scan(self, filter_text: str, order_by: str = "", **request: Any) -> ListReader:
        message = scanner_pb2.WatchScanRequest(filter=filter_text, order_by=order_by, **request)
        return ListReader(self.stub.WatchScan(message))

    async def get(self, name: str, **request: Any) -> scanner_pb2.RankedList:
        answer: scanner_pb2.RankedList = await self.stub.GetList(scanner_pb2.GetListRequest(list=name, **request))
        return answer

    async def status(self) -> scanner_pb2.ScannerStatus:
        answer: scanner_pb2.ScannerStatus = await self.stub.GetScannerStatus(scanner_pb2.GetScannerStatusRequest())
        return answer

    async def until_at(self, sequencer: ScriptedSequencer) -> None:
        """Waits until it has applied all that the sequencer has sent, and found the alerts."""
        position = (sequencer.tape.epoch, sequencer.market.sequence)
        while self.hub.position != position or self.hub.unhealthy_reason or not self.hub.is_settled:
            await asyncio.sleep(POLL_SECONDS)

    async def until_subscribers(self, count: int) -> None:
        while self.hub.subscribers != count:
            await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def running_scanner(
    sequencer: ScriptedSequencer, environment: Mapping[str, str] | None = None, **limits: int
) -> AsyncIterator[RunningScanner]:
    """Serves the scanner; `limits` are those of ListHub. When it is left, no subscriber may be left."""
    settings = Settings.load(
        {
            "TRADEUL_SCANNER_ADDRESS": "127.0.0.1:0",
            "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            **(environment or {}),
        }
    )
    service = ScannerService(settings, **limits)
    host = Host(service)
    await host.start()
    channel = open_channel(f"127.0.0.1:{host.port}")
    try:
        yield RunningScanner(service, host.port, channel)
    finally:
        await channel.close(None)
        await host.stop()
    check_nothing_is_left(service)


def check_nothing_is_left(service: ScannerService) -> None:
    """Subscribers, slow ones and own lists: all gone, in the numbers and in the metrics."""
    hub = service.hub
    assert (hub.subscribers, hub.slow_subscribers, len(hub.scans)) == (0, 0, 0)
    for stream in hub._streams.values():
        assert not (stream.subscribers or stream.waiting or stream.pausing or stream.sending)
    for family in REGISTRY.collect():
        if family.name in ("tradeul_subscribers", "tradeul_slow_subscribers", "tradeul_open_scans"):
            # Other services of this process's tests have theirs.
            ours = [sample for sample in family.samples if sample.labels.get("service", "scanner") == "scanner"]
            assert [sample for sample in ours if sample.value] == []
