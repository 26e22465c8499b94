"""A client that observes the measured mesh over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from tradeul.v1 import alerts_pb2_grpc, data_ingest_pb2, data_ingest_pb2_grpc, scanner_pb2, scanner_pb2_grpc

from services.kit.runtime.clock import monotonic
from tests.support.mesh import Mesh

CHECKED_SYMBOLS = 500
# A vendor on this machine needs no pause between two requests for companies' details.
DETAILS_AT_ONCE = {"POLYGON_DETAILS_PER_S": "2000"}
SETTLE_SECONDS = 900.0
SETTLED_FOR_SECONDS = 3.0
# The loader's last line.
LOADED = "reference data loaded"


class Observer:
    """A gRPC client of the mesh."""

    def __init__(self, mesh: Mesh, sequencer: grpc.aio.Channel, scanner: grpc.aio.Channel) -> None:
        self.mesh = mesh
        self.sequencer = data_ingest_pb2_grpc.DataIngestServiceStub(sequencer)
        self.scanner = scanner_pb2_grpc.ScannerServiceStub(scanner)
        self.alerts = alerts_pb2_grpc.AlertsServiceStub(scanner)

    async def sequencer_status(self) -> data_ingest_pb2.SequencerStatus:
        return await self.sequencer.GetSequencerStatus(data_ingest_pb2.GetSequencerStatusRequest())

    async def until_applied(self, trades: int) -> None:
        """Waits until the sequencer has admitted so many and the scanner has applied them."""
        while (status := await self.sequencer_status()).trades < trades:
            if any(status.rejected.values()):
                raise AssertionError(f"events were set aside: {dict(status.rejected)}")
            await asyncio.sleep(0.02)
        if status.trades != trades:
            raise AssertionError(f"expected {trades} trades, was {status.trades}")
        while True:
            position = (await self.scanner.GetScannerStatus(scanner_pb2.GetScannerStatusRequest())).position
            if (position.epoch, position.sequence) >= (status.position.epoch, status.position.sequence):
                return
            await asyncio.sleep(0.005)

    async def check_counts(self, counts: dict[str, int]) -> None:
        """The busiest symbols have every trade, by the scanner's own rows."""
        request = scanner_pb2.QueryScanRequest(
            filter="has(trades_today)", order_by="trades_today desc", limit=CHECKED_SYMBOLS
        )
        rows = (await self.scanner.QueryScan(request)).rows
        found = {row.symbol: int(row.trades_today) for row in rows}
        expected = {symbol: counts[symbol] for symbol in found}
        if len(found) != CHECKED_SYMBOLS or found != expected:
            raise AssertionError("the scanner's trade counts differ from what was sent")


@asynccontextmanager
async def observed(mesh: Mesh) -> AsyncIterator[Observer]:
    async with (
        grpc.aio.insecure_channel(mesh.address("data_ingest")) as sequencer,
        grpc.aio.insecure_channel(mesh.address("gateway")) as gateway,
    ):
        yield Observer(mesh, sequencer, gateway)


def has_loaded(mesh: Mesh) -> bool:
    """True once the loader of reference data has ended."""
    return LOADED in mesh.log_path.read_text(errors="replace")


async def settled(mesh: Mesh) -> None:
    """Waits until the loader of reference data has ended and nothing more arrives.

    Raises AssertionError when it takes too long, or volume by time of day or ATR are missing.
    """
    deadline = monotonic() + SETTLE_SECONDS
    while not has_loaded(mesh):
        if monotonic() > deadline:
            raise AssertionError(f"reference data still load after {SETTLE_SECONDS:g} s")
        await asyncio.sleep(0.5)
    before: dict[str, float] = {}
    async with observed(mesh) as observer:
        while (now := dict((await observer.sequencer_status()).reference)) != before:
            before = now
            await asyncio.sleep(SETTLED_FOR_SECONDS)
    if not (now.get("baseline") and now.get("atr")):
        raise AssertionError(f"expected baselines and ATR, was {now}")
