"""The gRPC server of a service, and the host that drives a service through its life."""

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from services.kit.rpc.channel import MAX_MESSAGE_BYTES
from services.kit.rpc.key_streams import KeyStreams
from services.kit.rpc.observed_rpcs import ObservedServer
from services.kit.rpc.tls import server_credentials
from services.kit.runtime.errors import StartError
from services.kit.runtime.lifecycle import Service, State
from services.kit.runtime.logging import get_logger
from services.kit.runtime.mesh_certificates import certificates_of
from services.kit.runtime.metrics import SERVICE_STATE, MetricsServer
from services.kit.runtime.open_files import MOST, are_scarce, open_files, room_for_clients

log = get_logger(__name__)

STOP_GRACE_SECONDS = 2.0
# The health of the process itself, for probes that restart it: whatever becomes of its peers, it serves.
LIVENESS = "liveness"
# The trailing metadata of a health check that says what is degraded: a sentence in ASCII.
WARNING = "tradeul-warning"
# Interval at which open files are counted.
FILES_SECONDS = 2.0
# As many as the gateway has open with a service.
MOST_PENDING_RPCS = 12_000
# Clients send questions and acknowledgements; the longest, 12,000 names of symbols, are 120 KB.
MAX_REQUEST_BYTES = 256 * 1024

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two servers on one port would each get half of the clients.
    ("grpc.so_reuseport", 0),
    # RPCs that have come and are not begun yet, such as those of all clients at once after a restart. From the first
    # number on gRPC ends some, from the second on all, with CANCELLED and no reason; by default from 1,000 on.
    ("grpc.server.max_pending_requests", MOST_PENDING_RPCS),
    ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING_RPCS),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def server_options() -> tuple[tuple[str, int], ...]:
    """Those of a server that closes the connections for which this process may not open enough files."""
    return (*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", room_for_clients(MOST)))


def serialize(message: Any) -> bytes:
    """A message's bytes; bytes are sent as they are, so that what many get is encoded once."""
    return message if type(message) is bytes else message.SerializeToString()


def _same(data: bytes) -> bytes:
    return data


def _handler(method: MethodDescriptor, behaviour: Any, raw_request: bool) -> "grpc.RpcMethodHandler[Any, Any]":
    request_class = message_factory.GetMessageClass(method.input_type)
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = kinds[method.client_streaming, method.server_streaming]
    return make(
        behaviour,
        request_deserializer=_same if raw_request else request_class.FromString,
        response_serializer=serialize,
    )


def add_servicer(
    server: grpc.aio.Server, service: ServiceDescriptor, servicer: object, raw_requests: Collection[str] = ()
) -> str:
    """Adds `servicer`, whose methods may answer with messages or with their encoded bytes.

    `service` is a pb2 module's DESCRIPTOR.services_by_name entry; the methods
    named in `raw_requests` get their requests as bytes. Returns the full name.
    Raises AttributeError when the servicer lacks one of the methods.
    """
    handlers = {
        method.name: _handler(method, getattr(servicer, method.name), method.name in raw_requests)
        for method in service.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    return service.full_name


class _EndingHealth(HealthServicer):  # type: ignore[misc]  # it has no types
    """Health whose watches end when the server is about to: they would hold up its stop.

    Its answers to Check have the service's warning as trailing metadata.
    """

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._ending = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if (warning := self._service.warning) is not None:
            context.set_trailing_metadata(((WARNING, warning),))
        return await super().Check(request, context)

    def end_watches(self) -> None:
        self._ending.set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        watch = asyncio.ensure_future(super().Watch(request, context))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({watch, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            ending.cancel()
            await asyncio.gather(watch, ending, return_exceptions=True)


class Host:
    """Runs one service: its gRPC server, health, reflection and metrics port.

    `serve_grpc=False` is for a service with a protocol of its own; it is ready
    when /readyz says so.
    """

    def __init__(self, service: Service, *, serve_grpc: bool = True) -> None:
        self.service = service
        self.port = 0
        self.metrics_port = 0
        self._serve_grpc = serve_grpc
        self._server: grpc.aio.Server | None = None
        self._key_streams = KeyStreams(service.name, service.settings.address("access"))
        self._health = _EndingHealth(service)
        self._metrics: MetricsServer | None = None
        self._run: asyncio.Task[None] | None = None
        self._files: asyncio.Task[None] | None = None
        self._health_changes: set[asyncio.Task[None]] = set()
        service.on_state(self._observe)

    async def start(self) -> None:
        """Starts the service and serves it; raises what start() raised, after stopping what was begun."""
        service = self.service
        service.enter(State.STARTING)
        try:
            if (address := service.settings.metrics_address(service.name)) is not None:
                self._metrics = MetricsServer(address, lambda: {service.name: service.condition})
                self.metrics_port = self._metrics.port
            if service.settings.trace.is_on:
                from services.kit.runtime.spans import Traces

                service.traces = Traces(service.settings.trace, service.name)
            await service.start()
            if self._serve_grpc:
                await self._open_server()
        except BaseException:
            await self._release()
            service.enter(State.FAILED)
            raise
        self._run = asyncio.create_task(service.run(), name=f"{service.name}.run")
        self._files = asyncio.create_task(self._watch_files(), name=f"{service.name}.open_files")
        service.enter(State.RUNNING)
        await self._show_health()
        log.info("serving", name=service.name, port=self.port or None)

    async def wait(self) -> None:
        """Returns never; raises what run() raised, or RuntimeError when it just ended."""
        assert self._run is not None, "start() first"
        await asyncio.shield(self._run)
        raise RuntimeError(f"{self.service.name}: run() ended before the service was stopped")

    async def stop(self) -> None:
        """Readiness first, then streams, then the server, then the service itself."""
        service = self.service
        if service.state is not State.RUNNING:
            return
        service.enter(State.STOPPING)
        failed = True
        try:
            await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
            await service.drain()
            self._health.end_watches()
            if self._server is not None:
                await self._server.stop(STOP_GRACE_SECONDS)
            failed = False
        finally:
            await self._release()
            service.enter(State.FAILED if failed else State.TERMINATED)
            log.info("stopped", name=service.name)

    async def _open_server(self) -> None:
        service = self.service
        tls = service.settings.address(service.name).tls
        server = ObservedServer(
            grpc.aio.server(options=server_options()),
            self._key_streams,
            tls.name if tls is not None else "",
            service.traces,
        )
        self._server = server
        self._names = service.add_to_server(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        reflection.enable_server_reflection(
            (*self._names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME), server
        )
        address = service.settings.listen_address(service.name)
        try:
            if tls is None:
                self.port = server.add_insecure_port(str(address))
            else:
                self.port = server.add_secure_port(str(address), server_credentials(certificates_of(tls)))
        except RuntimeError as error:
            raise StartError(f"{service.name}: cannot listen on {address}: is something else on that port?") from error
        await server.start()

    async def _set_health(self, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType") -> None:
        for name in ("", *(self._names if self._server is not None else ())):
            await self._health.set(name, status)

    async def _release(self) -> None:
        for task in (self._run, self._files):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(0)
        await self._key_streams.close()
        try:
            await self.service.stop()
        finally:
            if self.service.traces is not None:
                await self.service.traces.close()
            if self._metrics is not None:
                self._metrics.close()

    async def _watch_files(self) -> None:
        """Warns while nearly all files that this process may open are open."""
        service, is_scarce = self.service, False
        while True:
            files = await open_files()
            if are_scarce(files, were_scarce=is_scarce) != is_scarce:
                is_scarce = not is_scarce
                if files is not None and is_scarce:
                    log.warning("nearly out of open files", name=service.name, open=files.used, limit=files.limit)
                    limit = f"{files.limit:,} (ulimit -n)"
                    service.set_warning(
                        f"nearly out of open files, of which it may have {limit}: beyond them nobody can connect"
                    )
                else:
                    log.warning("enough open files again", name=service.name, open=files.used if files else None)
                    service.set_warning(None)
            await asyncio.sleep(FILES_SECONDS)

    async def _show_health(self) -> None:
        """Sets the health of now; several of these may be under way at once."""
        is_well = self.service.state is State.RUNNING and self.service.unhealthy_reason is None
        response = health_pb2.HealthCheckResponse
        await self._set_health(response.SERVING if is_well else response.NOT_SERVING)

    def _observe(self, state: State) -> None:
        is_well = state is State.RUNNING and self.service.unhealthy_reason is None
        SERVICE_STATE.labels(self.service.name).set(is_well)
        if state is State.RUNNING:
            change = asyncio.get_running_loop().create_task(self._show_health())
            self._health_changes.add(change)
            change.add_done_callback(self._health_changes.discard)
