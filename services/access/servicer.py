"""Envoy's external authorization, AccessService and RevocationService, all over one AccessControl."""

import asyncio
import base64
import math
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
from google.api import httpbody_pb2
from google.protobuf import json_format
from tradeul.v1 import access_pb2, external_auth_pb2

from services.access import metrics
from services.access.core import AUTHORIZATION, KEY_HEADER, TICKET_HEADER, TICKET_SECONDS, AccessControl, Verdict
from services.access.tokens import METADATA, NAME_PREFIX, Tokens
from services.kit.rpc.json_body import read_json
from services.kit.rpc.key_streams import EXPIRES_HEADER, NAME_HEADER, SCANS_HEADER, STREAMS_HEADER, RequestKey
from services.kit.rpc.observed_rpcs import status_of
from services.kit.runtime.clock import NS_PER_SECOND, monotonic, wall_ns

# The service and method by which Envoy asks.
AUTHORIZATION_SERVICE: Final = "envoy.service.auth.v3.Authorization"
# Of a response, from which the gateway makes gRPC-Web's grpc-status.
GRPC_STATUS: Final = "x-tradeul-grpc-status"
ORIGINAL_PATH: Final = "x-envoy-original-path"
HTTP_STATUS: Final = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}
# RFC 6750, 3.1: what tells an OAuth client why.
CHALLENGES: Final = {
    "KEY_EXPECTED": 'Bearer realm="tradeul"',
    "INVALID_KEY": 'Bearer realm="tradeul", error="invalid_token"',
    "INVALID_TOKEN": 'Bearer realm="tradeul", error="invalid_token"',
    "INVALID_TICKET": 'Bearer realm="tradeul", error="invalid_token"',
    "INSUFFICIENT_RIGHT": 'Bearer realm="tradeul", error="insufficient_scope"',
}
# In Envoy's API: OVERWRITE_IF_EXISTS_OR_ADD.
REPLACE: Final = 2
Context = grpc.aio.ServicerContext[Any, Any]


class AuthorizationServicer:
    """Answers Envoy, once for each request and before anything of it reaches a service."""

    def __init__(self, control: AccessControl, tokens: Tokens) -> None:
        self._control = control
        self._tokens = tokens

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the method, whose messages are of external_auth.proto, under the name that Envoy calls."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.Check,
            request_deserializer=external_auth_pb2.AuthCheckRequest.FromString,
            response_serializer=external_auth_pb2.AuthCheckResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(AUTHORIZATION_SERVICE, {"Check": handler}),)
        )

    async def Check(
        self, request: external_auth_pb2.AuthCheckRequest, _: Context
    ) -> external_auth_pb2.AuthCheckResponse:
        http = request.attributes.request.http
        found = request.attributes.metadata_context.filter_metadata.get(METADATA)
        holder = self._tokens.holder_of(json_format.MessageToDict(found)) if found is not None else None
        verdict = self._control.check(http.path, http.headers, monotonic(), holder)
        # There is no end of subjects.
        label = NAME_PREFIX if verdict.key.startswith(NAME_PREFIX) else verdict.key
        if verdict.refusal is None:
            metrics.ALLOWED.labels(label).inc()
            return allowed(verdict)
        metrics.REFUSED.labels(label, verdict.refusal.reason.name).inc()
        is_grpc = http.headers.get("content-type", "").startswith("application/grpc")
        # A REST request has become a gRPC one by now, but its client expects JSON.
        return denied(verdict, is_grpc and ORIGINAL_PATH not in http.headers)


def allowed(verdict: Verdict) -> external_auth_pb2.AuthCheckResponse:
    """Returns the response that lets a request pass, without its secrets, and with its key's name and limits."""
    response = external_auth_pb2.AuthCheckResponse()
    response.status.SetInParent()
    response.ok_response.headers_to_remove.extend((KEY_HEADER, AUTHORIZATION, TICKET_HEADER))
    if (holder := verdict.holder) is not None:
        headers = response.ok_response.headers
        _add(headers, NAME_HEADER, holder.name)
        _add(headers, STREAMS_HEADER, str(holder.streams))
        _add(headers, SCANS_HEADER, str(holder.scans))
        if holder.expires:
            _add(headers, EXPIRES_HEADER, repr(holder.expires))
        response.dynamic_metadata["key"] = holder.name
    return response


def denied(verdict: Verdict, is_grpc: bool) -> external_auth_pb2.AuthCheckResponse:
    """Returns the response that refuses a request by a google.rpc.Status: in headers for gRPC, else as JSON."""
    refusal = verdict.refusal
    assert refusal is not None
    reason = refusal.reason
    status = status_of(reason, refusal.message, refusal.metadata, verdict.retry_seconds or None)
    response = external_auth_pb2.AuthCheckResponse()
    response.status.code = status.code
    response.denied_response.status.code = HTTP_STATUS[reason.code]
    headers = response.denied_response.headers
    if (challenge := CHALLENGES.get(reason.name)) is not None:
        _add(headers, "www-authenticate", challenge)
    if verdict.retry_seconds:
        _add(headers, "retry-after", str(math.ceil(verdict.retry_seconds)))
    if is_grpc:
        for name in ("grpc-status", GRPC_STATUS):
            _add(headers, name, str(status.code))
        _add(headers, "grpc-status-details-bin", base64.b64encode(status.SerializeToString()).decode())
        response.denied_response.body = status.message
    else:
        response.denied_response.body = json_format.MessageToJson(status, preserving_proto_field_name=True, indent=None)
    if verdict.key:
        response.dynamic_metadata["key"] = verdict.key
    return response


def _add(headers: Any, name: str, value: str) -> None:
    option = headers.add(append_action=REPLACE)
    option.header.key = name
    option.header.value = value


class Revocations:
    """The names of revoked keys, for the services that serve streams."""

    def __init__(self, control: AccessControl) -> None:
        self._control = control
        self._is_closing = False
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """There may be more of them."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Ends all streams."""
        self._is_closing = True
        self.wake()

    async def stream(self) -> AsyncIterator[access_pb2.RevokedKeys]:
        """Yields all names, and from then on those that are added, until close()."""
        sent = 0
        while not self._is_closing:
            changed, names = self._changed, self._control.revoked[sent:]
            if names or not sent:
                yield access_pb2.RevokedKeys(names=names)
            sent += len(names)
            await changed.wait()


class AccessServicer:
    """AccessService."""

    def __init__(self, control: AccessControl) -> None:
        self._control = control

    async def CreateTicket(self, _: access_pb2.CreateTicketRequest, context: Context) -> access_pb2.Ticket:
        key = RequestKey.of_context(context)
        name, expires = (key.name, key.expires) if key is not None else ("", 0.0)
        ticket = access_pb2.Ticket(ticket=self._control.new_ticket(name, monotonic(), expires))
        ticket.expire_time.FromNanoseconds(wall_ns() + int(TICKET_SECONDS) * NS_PER_SECOND)
        return ticket

    async def CreateTicketFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> access_pb2.Ticket:
        return await self.CreateTicket(read_json(body, access_pb2.CreateTicketRequest()), context)


class RevocationServicer:
    """RevocationService."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations

    async def WatchRevocations(
        self, _: access_pb2.WatchRevocationsRequest, __: Context
    ) -> AsyncIterator[access_pb2.RevokedKeys]:
        async for names in self._revocations.stream():
            yield names
