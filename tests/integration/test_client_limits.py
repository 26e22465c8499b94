"""What one client address may do at the gateway: requests per second, over REST and gRPC alike."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

from tests.support.gateway import Gateway, gateway_settings

LIMIT = 5


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    settings = gateway_settings(tmp_path, {"TRADEUL_CLIENT_REQUESTS_PER_S": str(LIMIT)})
    async with Gateway(settings) as gateway:
        yield gateway


async def test_each_address_has_its_own_requests_per_second(gateway: Gateway) -> None:
    """Refusals are complete, counted, and concern nobody else; those who wait go on."""
    async with other_address(gateway) as other:
        # Side by side: one after the other, a busy machine may not do more than the limit.
        responses = await asyncio.gather(*(gateway.client.get("/openapi.json") for _ in range(5 * LIMIT)))
        assert (await other.get("/openapi.json")).status_code == httpx.codes.OK
    refused = [response for response in responses if response.status_code == httpx.codes.TOO_MANY_REQUESTS]
    assert len(responses) - len(refused) >= LIMIT
    assert {response.status_code for response in responses} == {httpx.codes.OK, httpx.codes.TOO_MANY_REQUESTS}
    assert refused[0].headers["retry-after"] == "1"
    message = f"limit reached: {LIMIT} requests per second of one address"
    assert refused[0].json() == {
        "code": 8,
        "message": message,
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "TOO_MANY_REQUESTS",
                "domain": "tradeul",
                "metadata": {"maximum": str(LIMIT)},
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ],
    }

    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = scanner_pb2_grpc.ScannerServiceStub(channel)
        while (error := await refusal(stub)).code() == grpc.StatusCode.UNAVAILABLE:
            assert error.details() != message
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, message)
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three methods that are used
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.metadata["maximum"], retry.retry_delay.seconds) == ("TOO_MANY_REQUESTS", str(LIMIT), 1)

    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{gateway.metrics}/stats/prometheus")).text
    counted = [float(line.split()[-1]) for line in text.splitlines() if "http_local_rate_limit_enforced{" in line]
    assert sum(counted) >= len(refused) + 1


def other_address(gateway: Gateway) -> httpx.AsyncClient:
    """A client with another address of this machine."""
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    return httpx.AsyncClient(base_url=f"http://{gateway.address}", transport=transport)


async def refusal(stub: Any) -> grpc.aio.AioRpcError:
    """How a request ends; there is no scanner behind the gateway."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetScannerStatus(scanner_pb2.GetScannerStatusRequest())
    return caught.value
