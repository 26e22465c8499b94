"""Prometheus metrics that all services share, and the port that shows them.

The port serves /metrics, /livez (the process answers) and /readyz (every
service in it is RUNNING; else 503 with their states). Where services have certificates, it
wants one of the same authorities from its clients, with whatever name.
"""

import json
import sys
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from services.kit.runtime.address import ServiceAddress
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.mesh_certificates import certificates_of
from services.kit.runtime.open_files import is_out_of_files

log = get_logger(__name__)

# Input that was set aside is logged at most so often.
REPORT_SECONDS: Final = 10.0
# A scrape is written by a thread: the event loop gets the interpreter back from it within this time.
SWITCH_SECONDS: Final = 0.001
# A client has so long for its request, and its handshake.
REQUEST_SECONDS: Final = 10.0
# Between attempts to take a client for whom there is no file.
PAUSE_SECONDS: Final = 0.5
LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

FRAMES = Counter("tradeul_frames", "Frames or batches handled, by kind.", ["service", "kind"])
TICKS = Counter(
    "tradeul_ticks", "Market-data events accepted, by kind (trades, bars, quotes, limits).", ["service", "kind"]
)
REJECTED = Counter("tradeul_rejected", "Input set aside, by reason.", ["service", "reason"])
SUBSCRIBERS = Gauge("tradeul_subscribers", "Open subscriptions, by stream.", ["service", "stream"])
SLOW_SUBSCRIBERS = Gauge(
    "tradeul_slow_subscribers", "Subscribers that are catching up because they fell behind.", ["service", "stream"]
)
LAG_SECONDS = Histogram(
    "tradeul_lag_seconds",
    "Time from a trade's own timestamp to the named step.",
    ["service", "step"],
    buckets=LATENCY_BUCKETS,
)
SERVICE_STATE = Gauge("tradeul_service_running", "1 while the service is RUNNING.", ["service"])
RPC_HANDLED = Counter("tradeul_rpc_handled", "RPCs that ended, by status code.", ["method", "code"])
RPC_OPEN = Gauge("tradeul_rpc_open", "RPCs in progress.", ["method"])
RPC_SECONDS = Histogram(
    "tradeul_rpc_seconds", "Time from a unary RPC's request to its response.", ["method"], buckets=LATENCY_BUCKETS
)


class CounterSync:
    """Raises Prometheus counters to totals that are counted elsewhere, such as in the core."""

    def __init__(self) -> None:
        self._counted: Counts[str] = Counts()

    def raise_to(self, counter: Counter, name: str, total: int) -> None:
        """Adds to `counter` what `total` has grown by since the last call for `name`."""
        if total > self._counted[name]:
            counter.inc(total - self._counted[name])
            self._counted[name] = total


class SetAsideReport:
    """Logs what was set aside since the last line, by reason."""

    def __init__(self) -> None:
        self._reported: Counts[str] = Counts()
        self._report_at = 0.0

    def update(self, totals: Mapping[str, int]) -> None:
        """`totals` are since the start, by reason."""
        counts = Counts(totals)
        if counts != self._reported and monotonic() >= self._report_at:
            log.warning("input set aside", **(counts - self._reported))
            self._reported = counts
            self._report_at = monotonic() + REPORT_SECONDS


StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _QuietHandler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged."""


class _Server(ThreadingWSGIServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if is_out_of_files(error):
                # The client stays in the queue: this thread would try it again and again.
                time.sleep(PAUSE_SECONDS)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, says nothing, or has no certificate is no error of ours."""
        if not isinstance(error := sys.exception(), OSError):
            log.warning("a scrape failed", error=error)


class MetricsServer:
    """Serves the metrics of the whole process on a thread of its own.

    `states` gives each service's state by name for /readyz.
    """

    def __init__(self, address: ServiceAddress, states: Callable[[], dict[str, str]]) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        self._states = states
        self._metrics = make_wsgi_app(REGISTRY)
        try:
            self._server: WSGIServer = make_server(
                address.host, address.port, self._answer, _Server, handler_class=_QuietHandler
            )
        except OSError as error:
            raise StartError(f"metrics: cannot listen on {address}: {error.strerror or error}") from error
        if address.tls is not None:
            # The handshake is left to each client's own thread: one that stays silent keeps nobody waiting.
            context = certificates_of(address.tls).listening_context()
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        if path == "/livez":
            return _json(start_response, "200 OK", {"status": "alive"})
        if path == "/readyz":
            states = self._states()
            ready = all(state == "running" for state in states.values())
            return _json(start_response, "200 OK" if ready else "503 Service Unavailable", states)
        return _json(start_response, "404 Not Found", {"error": f"expected /metrics, /livez or /readyz, was {path}"})


def _json(start_response: StartResponse, status: str, body: dict[str, str]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
