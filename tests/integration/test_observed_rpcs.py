"""What happens around every RPC of a server: counting, errors as google.rpc.Status, and nothing that costs more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from prometheus_client import REGISTRY

from services.kit.rpc.key_streams import KeyStreams
from services.kit.rpc.observed_rpcs import ObservedServer
from services.kit.runtime.errors import NOT_READY
from services.kit.runtime.settings import Address

SERVICE = "tradeul.tests.ObservedService"
# Nothing answers there: no request here has a key.
KEY_STREAMS = KeyStreams("test", Address("127.0.0.1", 1))

Context = grpc.aio.ServicerContext[Any, Any]


class Servicer:
    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def Answer(self, request: bytes, _: Context) -> bytes:
        return request

    async def Refuse(self, _: bytes, __: Context) -> bytes:
        raise NOT_READY.error("nothing is here yet", what="everything")

    async def Abort(self, _: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.DATA_LOSS, "by itself")
        return b""

    async def Fail(self, _: bytes, __: Context) -> bytes:
        raise ZeroDivisionError("of ours")

    async def Wait(self, _: bytes, __: Context) -> bytes:
        self.opened.set()
        await asyncio.Event().wait()
        return b""

    async def Yield(self, request: bytes, _: Context) -> AsyncIterator[bytes]:
        yield request
        yield request

    async def Write(self, request: bytes, context: Context) -> None:
        await context.write(request)

    async def RefuseLater(self, request: bytes, _: Context) -> AsyncIterator[bytes]:
        yield request
        raise NOT_READY.error("no more")

    async def RefuseWhileWriting(self, request: bytes, context: Context) -> None:
        """As a service does that writes in a task, and finds meanwhile that the client's requests are wrong."""
        if request == b"later":
            await context.write(request)
        writing = asyncio.create_task(cast(Any, context).write(request))
        # Its first step.
        await asyncio.sleep(0)
        assert not writing.done()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        raise NOT_READY.error("while writing")


UNARY = ("Answer", "Refuse", "Abort", "Fail", "Wait")
STREAMS = ("Yield", "Write", "RefuseLater", "RefuseWhileWriting")


class Recorded:
    """Instead of a grpc.aio.Server: what is added to it."""

    def __init__(self) -> None:
        self.generic: list[Any] = []
        self.registered: list[str] = []

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        self.generic += handlers

    def add_registered_method_handlers(self, service_name: str, _: object) -> None:
        self.registered.append(service_name)


class Asked(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method


def handlers(servicer: Servicer) -> Any:
    made = {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in UNARY}
    made |= {name: grpc.unary_stream_rpc_method_handler(getattr(servicer, name)) for name in STREAMS}
    return grpc.method_handlers_generic_handler(SERVICE, made)


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def channel(servicer: Servicer) -> AsyncIterator[grpc.aio.Channel]:
    server = ObservedServer(grpc.aio.server(), KEY_STREAMS)
    server.add_generic_rpc_handlers((handlers(servicer),))
    reflection.enable_server_reflection((SERVICE,), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            yield opened
    finally:
        await server.stop(None)


def handled(method: str, code: str) -> float:
    labels = {"method": f"/{SERVICE}/{method}", "code": code}
    return REGISTRY.get_sample_value("tradeul_rpc_handled_total", labels) or 0.0


def under_way(method: str) -> float | None:
    return REGISTRY.get_sample_value("tradeul_rpc_open", {"method": f"/{SERVICE}/{method}"})


async def ask(channel: grpc.aio.Channel, method: str) -> bytes:
    call = cast(Callable[[bytes], Awaitable[bytes]], channel.unary_unary(f"/{SERVICE}/{method}"))  # type: ignore[call-arg]
    return await call(b"asked")


async def read(channel: grpc.aio.Channel, method: str) -> list[bytes]:
    call = channel.unary_stream(f"/{SERVICE}/{method}")  # type: ignore[call-arg]
    return [message async for message in call(b"asked")]


async def until_handled(method: str, code: str, count: float) -> None:
    """The client has its answer a moment before the server has counted it."""
    async with asyncio.timeout(60):
        while handled(method, code) != count:
            await asyncio.sleep(0.01)


async def test_answers_pass_through_and_are_counted(channel: grpc.aio.Channel) -> None:
    answered, taken = handled("Answer", "OK"), REGISTRY.get_sample_value
    labels = {"method": f"/{SERVICE}/Answer"}
    timed = taken("tradeul_rpc_seconds_count", labels) or 0.0
    assert [await ask(channel, "Answer") for _ in range(3)] == [b"asked"] * 3
    await until_handled("Answer", "OK", answered + 3)
    assert under_way("Answer") == 0
    assert taken("tradeul_rpc_seconds_count", labels) == timed + 3


@pytest.mark.parametrize(("method", "messages"), [("Yield", 2), ("Write", 1)])
async def test_streams_pass_through_and_are_counted(channel: grpc.aio.Channel, method: str, messages: int) -> None:
    before = handled(method, "OK")
    assert await read(channel, method) == [b"asked"] * messages
    await until_handled(method, "OK", before + 1)
    assert under_way(method) == 0


@pytest.mark.parametrize("method", ["Refuse", "RefuseLater"])
async def test_a_refusal_is_a_status_with_its_reason(channel: grpc.aio.Channel, method: str) -> None:
    before = handled(method, NOT_READY.code)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (ask if method in UNARY else read)(channel, method)
    assert refused.value.code().name == NOT_READY.code
    status = rpc_status.from_call(cast(grpc.Call, refused.value))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == NOT_READY.name
    await until_handled(method, NOT_READY.code, before + 1)
    assert under_way(method) == 0


async def test_a_defect_says_nothing_of_what_is_inside(
    channel: grpc.aio.Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    before = handled("Fail", "INTERNAL")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask(channel, "Fail")
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert failed.value.details() == "internal error: ZeroDivisionError"
    await until_handled("Fail", "INTERNAL", before + 1)
    logged = "".join(capsys.readouterr())
    assert "rpc failed" in logged
    assert "of ours" in logged


async def test_an_rpc_that_a_servicer_aborts_keeps_its_code(channel: grpc.aio.Channel) -> None:
    before = handled("Abort", "DATA_LOSS")
    with pytest.raises(grpc.aio.AioRpcError) as aborted:
        await ask(channel, "Abort")
    assert aborted.value.code() is grpc.StatusCode.DATA_LOSS
    await until_handled("Abort", "DATA_LOSS", before + 1)


async def test_an_rpc_that_the_client_leaves_is_counted_as_that(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    before = handled("Wait", "CANCELLED")
    asking = asyncio.create_task(ask(channel, "Wait"))
    await servicer.opened.wait()
    assert under_way("Wait") == 1
    asking.cancel()
    await until_handled("Wait", "CANCELLED", before + 1)
    assert under_way("Wait") == 0


async def test_an_unknown_method_stays_unknown(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await ask(channel, "Nothing")
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert under_way("Nothing") is None


async def test_reflection_takes_it_for_the_server_that_it_is(channel: grpc.aio.Channel) -> None:
    """It has other handlers for a server with threads."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answers = [answer async for answer in stub.ServerReflectionInfo(asked)]
    assert [service.name for service in answers[0].list_services_response.service] == [SERVICE]


def test_a_handler_is_wrapped_once(servicer: Servicer) -> None:
    recorded = Recorded()
    ObservedServer(cast(grpc.aio.Server, recorded), KEY_STREAMS).add_generic_rpc_handlers((handlers(servicer),))
    (added,) = recorded.generic
    first = added.service(Asked(f"/{SERVICE}/Answer"))
    assert first is added.service(Asked(f"/{SERVICE}/Answer"))
    assert added.service(Asked(f"/{SERVICE}/Nothing")) is None


def test_generated_code_registers_no_method_by_itself() -> None:
    """Each one would be a future more that the server waits for at every RPC."""
    recorded = Recorded()
    server = ObservedServer(cast(grpc.aio.Server, recorded), KEY_STREAMS)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    assert len(recorded.generic) == 1
    assert not recorded.registered


@pytest.mark.parametrize("request_", [b"at once", b"later"])
async def test_a_stream_that_is_refused_while_a_message_is_written_ends(
    channel: grpc.aio.Channel, request_: bytes
) -> None:
    """gRPC counts the headers as sent when the first message is, and cannot end an RPC while they are on their way."""
    call = channel.unary_stream(f"/{SERVICE}/RefuseWhileWriting")(request_)  # type: ignore[call-arg]
    async with asyncio.timeout(60):
        with pytest.raises(grpc.aio.AioRpcError, match="while writing"):
            [answer async for answer in call]
