"""What is asked of a mesh over gRPC, and its rows beside the twin's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, scanner_pb2, scanner_pb2_grpc

from tests.support.mesh import Mesh
from tests.support.scripted_day import ms_at

WAIT_SECONDS = 60


class MeshView:
    """Asks the sequencer, and the scanner through the gateway."""

    def __init__(self, sequencer: grpc.aio.Channel, scanner: grpc.aio.Channel) -> None:
        self._sequencer = data_ingest_pb2_grpc.DataIngestServiceStub(sequencer)
        self._scanner = scanner_pb2_grpc.ScannerServiceStub(scanner)

    async def sequencer(self) -> data_ingest_pb2.SequencerStatus:
        return await self._sequencer.GetSequencerStatus(data_ingest_pb2.GetSequencerStatusRequest())

    async def until_reference(self, kind: str, symbols: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.sequencer()).reference.get(kind, 0) < symbols:
                await asyncio.sleep(0.05)

    async def until_shown(self, clock: str) -> None:
        """Waits until lists stand at that event time."""
        wanted = ms_at(clock) * 1_000_000
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.rows("filtered")).timestamp.ToNanoseconds() < wanted:
                await asyncio.sleep(0.02)

    async def rows(self, name: str) -> scanner_pb2.RankedList:
        return await self._scanner.GetList(scanner_pb2.GetListRequest(list=name))


@asynccontextmanager
async def mesh_view(mesh: Mesh) -> AsyncIterator[MeshView]:
    async with (
        grpc.aio.insecure_channel(mesh.address("data_ingest")) as sequencer,
        grpc.aio.insecure_channel(mesh.address("gateway")) as gateway,
    ):
        yield MeshView(sequencer, gateway)


def assert_rows_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]], where: str) -> None:
    assert [row["symbol"] for row in found] == [row["symbol"] for row in expected], where
    for ours, twins in zip(found, expected, strict=True):
        assert ours.keys() == twins.keys(), f"{where} {ours['symbol']}: {ours.keys() ^ twins.keys()}"
        for name, value in ours.items():
            assert value == (pytest.approx(twins[name], rel=1e-9) if isinstance(value, float) else twins[name]), (
                f"{where} {ours['symbol']}.{name}"
            )
