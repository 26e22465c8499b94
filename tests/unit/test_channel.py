"""One streaming call as a connection: every way in which it ends has a reason, and coming back has a pause."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kit.rpc.channel import Connection, StreamEnded, reconnecting
from services.kit.runtime.backoff import Backoff


def error_of(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, "")


class ScriptedCall:
    """Answers with what a test says; an exception is raised, None waits for good."""

    def __init__(self, *responses: Any, write: Exception | None = None) -> None:
        self.is_cancelled = False
        self.written: list[Any] = []
        self._responses = list(responses)
        self._write = write

    def __aiter__(self) -> "ScriptedCall":
        return self

    async def __anext__(self) -> Any:
        response = self._responses.pop(0) if self._responses else StopAsyncIteration()
        if response is None:
            await asyncio.get_running_loop().create_future()
        if isinstance(response, Exception):
            raise response
        return response

    async def write(self, request: Any) -> None:
        if self._write is not None:
            raise self._write
        self.written.append(request)

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    async def details(self) -> str:
        return "gone"

    def cancel(self) -> None:
        self.is_cancelled = True


async def test_responses_are_read_until_the_server_ends_the_call_and_the_call_is_cancelled() -> None:
    call = ScriptedCall(1, 2)
    with Connection[int](call, 1.0) as connection:
        await connection.write("open")
        assert [await connection.read(), await connection.read()] == [1, 2]
        with pytest.raises(StreamEnded, match="ended by the server: gone") as ended:
            await connection.read()
    assert (call.written, call.is_cancelled, ended.value.is_refusal) == (["open"], True, False)


async def test_silence_ends_it_and_the_first_response_may_take_longer() -> None:
    with (
        Connection[int](ScriptedCall(1, None), 0.02, 10.0) as connection,
        pytest.raises(StreamEnded, match=r"nothing was received for 0\.02 s"),
    ):
        assert await connection.read() == 1
        await connection.read()
    with (
        Connection[int](ScriptedCall(None), 10.0, 0.02) as connection,
        pytest.raises(StreamEnded, match=r"for 0\.02 s"),
    ):
        await connection.read()


@pytest.mark.parametrize(
    ("code", "is_refusal"),
    [
        (grpc.StatusCode.UNAVAILABLE, False),
        (grpc.StatusCode.INVALID_ARGUMENT, True),
        (grpc.StatusCode.NOT_FOUND, True),
        (grpc.StatusCode.UNIMPLEMENTED, True),
    ],
)
async def test_an_error_says_whether_the_request_is_wrong(code: grpc.StatusCode, is_refusal: bool) -> None:
    for call in (ScriptedCall(error_of(code, "no")), ScriptedCall(write=error_of(code, "no"))):
        with Connection[int](call, 1.0) as connection, pytest.raises(StreamEnded) as ended:
            await connection.write("open")
            await connection.read()
        assert (str(ended.value), ended.value.is_refusal) == (f"{code.name}: no", is_refusal)


async def test_writing_to_a_call_that_has_ended_says_why_it_ended() -> None:
    call = ScriptedCall(write=asyncio.InvalidStateError())
    with Connection[int](call, 1.0) as connection, pytest.raises(StreamEnded, match="ended with UNAVAILABLE: gone"):
        await connection.write("ack")


async def test_it_comes_back_after_a_pause_that_starts_small_again_when_something_came_of_it() -> None:
    backoff = Backoff(0.001, 0.016)
    reasons = iter(["a", "b", "c", "d"])
    ends: list[tuple[str, float]] = []

    async def follow() -> str:
        reason = next(reasons, None)
        if reason is None:
            raise ValueError("a defect")
        if reason == "d":
            backoff.reset()
        return reason

    with pytest.raises(ValueError, match="a defect"):
        await reconnecting(follow, lambda reason, pause: ends.append((reason, pause)), backoff)
    assert [reason for reason, _ in ends] == ["a", "b", "c", "d"]
    assert 0.001 <= ends[1][1] <= 0.002 <= ends[2][1] <= 0.004
    assert ends[3][1] <= 0.001
