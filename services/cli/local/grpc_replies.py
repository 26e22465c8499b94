"""How gRPC clients get the gateway's own refusals: with a status and an ErrorInfo, as they get the services'.

Envoy derives a gRPC status from its HTTP status, in some cases UNKNOWN, and knows no details.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from google.rpc import code_pb2

from services.kit.rpc.observed_rpcs import status_of
from services.kit.rpc.server import MAX_REQUEST_BYTES
from services.kit.runtime.errors import (
    HOST_NOT_ALLOWED,
    ORIGIN_NOT_ALLOWED,
    REQUEST_TOO_LARGE,
    SERVICES_NOT_SERVING,
    TIMED_OUT,
    TOO_MANY_REQUESTS,
    UNKNOWN_ROUTE,
    Reason,
)
from services.kit.runtime.settings import Settings

# A message's size and whether it is compressed, before the message.
FRAME_BYTES: Final = 5
# The gateway's first filter makes the response's grpc-status of it.
STATUS_HEADER: Final = "x-tradeul-grpc-status"
# gRPC's own words for what HTTP says otherwise.
NO_METHOD: Final = UNKNOWN_ROUTE._replace(code="UNIMPLEMENTED")
TOO_LARGE: Final = REQUEST_TOO_LARGE._replace(code="RESOURCE_EXHAUSTED")


def largest_request() -> int:
    """Bytes of the largest gRPC request that a service accepts, as Envoy counts them."""
    return FRAME_BYTES + MAX_REQUEST_BYTES


def client_refusal(settings: Settings) -> str:
    """The grpc-status-details-bin of a client address that has sent too much."""
    limit = settings.client.requests_per_s
    message = f"limit reached: {limit} requests per second of one address"
    return _details(TOO_MANY_REQUESTS, message, {"maximum": str(limit)})


def grpc_replies(allowed_hosts: str) -> list[dict[str, Any]]:
    """Returns the mappers of Envoy's local replies to native gRPC, by HTTP status; `allowed_hosts` is for people."""
    size = f"expected a request of at most {MAX_REQUEST_BYTES} bytes"
    return [
        # Without an answer of the access service nobody is let through.
        _reply(504, SERVICES_NOT_SERVING, "the access service, which checks keys, is not answering", "UAEX"),
        _reply(403, ORIGIN_NOT_ALLOWED, "a page of this origin may not do this: it is not among TRADEUL_CORS_ORIGINS"),
        _reply(404, NO_METHOD, "there is no such method"),
        _reply(408, TIMED_OUT, "the request did not come in time"),
        _reply(413, TOO_LARGE, size),
        _reply(421, HOST_NOT_ALLOWED, f"expected a host of TRADEUL_ALLOWED_HOSTS ({allowed_hosts})"),
        _reply(503, SERVICES_NOT_SERVING, "the service behind this method is not answering"),
        _reply(504, TIMED_OUT, "the service behind this method did not answer in time"),
    ]


def _reply(status: int, reason: Reason, message: str, flag: str = "") -> dict[str, Any]:
    filters: list[dict[str, Any]] = [
        {"status_code_filter": {"comparison": _equal(status)}},
        # A request that was transcoded has an original path; gRPC-Web has this content type once it is converted.
        {"header_filter": {"header": _header("content-type", safe_regex={"regex": "application/grpc([+;].*)?"})}},
        {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True, "invert_match": True}}},
    ]
    if flag:
        filters.append({"response_flag_filter": {"flags": [flag]}})
    headers = {
        STATUS_HEADER: str(code_pb2.Code.Value(reason.code)),
        "grpc-status-details-bin": _details(reason, message),
    }
    return {
        "filter": {"and_filter": {"filters": filters}},
        "headers_to_add": [{"header": {"key": key, "value": value}} for key, value in headers.items()],
        "body_format_override": {"text_format_source": {"inline_string": message}},
    }


def _equal(status: int) -> dict[str, Any]:
    return {"op": "EQ", "value": {"default_value": status, "runtime_key": f"gateway.status_{status}"}}


def _header(name: str, **match: object) -> dict[str, Any]:
    return {"name": name, "string_match": match}


def _details(reason: Reason, message: str, metadata: Mapping[str, str] | None = None) -> str:
    """A grpc-status-details-bin, which says the same as grpc-status and grpc-message."""
    return base64.b64encode(status_of(reason, message, dict(metadata or {})).SerializeToString()).decode()
