"""What a service says when it refuses a request."""

from typing import NamedTuple

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class Refusal(NamedTuple):
    """An error of services/kit/runtime/errors.py as a client sees it."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str]


def refusal(error: BaseException) -> Refusal:
    """The google.rpc.Status of a failed call, which must carry one ErrorInfo of ours first."""
    assert isinstance(error, grpc.aio.AioRpcError), error
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three methods that are used
    assert status is not None, f"expected a google.rpc.Status, was {error.code()}: {error.details()}"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "tradeul"
    return Refusal(error.code(), info.reason, status.message, dict(info.metadata))
