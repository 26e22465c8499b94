"""The gateway's configuration: accepted by the real Envoy, and saying what it must."""

import re
import subprocess
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.rpc import code_pb2

from services.cli.local.certificates import certificate_resource, mesh_resources
from services.cli.local.gateway import allowed_hosts, certificate_path, envoy_program, render_gateway
from services.cli.local.rest_routes import methods_by_path
from services.kit.runtime.errors import CATALOGUE, SettingsError
from services.kit.runtime.packaged import GATEWAY_TEMPLATE
from services.kit.runtime.settings import Settings
from services.scanner.list_stream import HEARTBEAT_SECONDS

JWT = {"TRADEUL_JWT_ISSUER": "https://login.example.com/", "TRADEUL_JWT_AUDIENCES": "tradeul"}
GATEWAY = GATEWAY_TEMPLATE.path().parent


@pytest.fixture(
    params=[
        {"TRADEUL_KEYS": "off"},
        {"TRADEUL_KEYS": "required"},
        {"TRADEUL_JWT_JWKS_URL": "https://login.example.com/jwks.json", **JWT},
        {"TRADEUL_JWT_JWKS_FILE": "jwks.json", **JWT},
        {"TRADEUL_TLS_CERT_FILE": "gateway.crt", "TRADEUL_TLS_KEY_FILE": "gateway.key"},
        {
            "TRADEUL_TLS_CERT_FILE": "gateway.crt",
            "TRADEUL_TLS_KEY_FILE": "gateway.key",
            "TRADEUL_TLS_HTTP3": "ON",
            "TRADEUL_KEYS": "required",
        },
        {f"TRADEUL_MESH_TLS_{name}_FILE": f"{name}.pem" for name in ("CERT", "KEY", "CA")},
    ],
    ids=["plain", "keys", "tokens", "tokens-file", "tls", "http3", "mesh-tls"],
)
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    settings = Settings.load({"TRADEUL_DATA_DIR": str(tmp_path), **request.param})
    if settings.tls.cert_file and settings.tls.key_file:
        certificate = certificate_path(settings)
        certificate.parent.mkdir(parents=True)
        certificate.write_text(certificate_resource(settings.tls.cert_file, settings.tls.key_file))
    if settings.mesh_tls.is_on:
        directory = certificate_path(settings).parent
        directory.mkdir(parents=True)
        for name, text in mesh_resources(settings.mesh_tls).items():
            (directory / name).write_text(text)
    return render_gateway(settings, (GATEWAY / "envoy.yaml").read_text())


def assert_accepted(rendered: str, directory: Path) -> None:
    config = directory / "envoy.yaml"
    config.write_text(rendered)
    result = subprocess.run(
        [envoy_program(), "--mode", "validate", "-c", str(config)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "OK" in result.stdout + result.stderr


def test_envoy_accepts_it(rendered: str, tmp_path: Path) -> None:
    assert_accepted(rendered, tmp_path)


def test_nothing_is_left_to_fill_in(rendered: str) -> None:
    assert "${" not in rendered


def test_the_admin_interface_is_no_port(rendered: str) -> None:
    """A web page reaches ports of its reader's machine, but no unix socket."""
    admin = rendered[rendered.index("admin:") : rendered.index("static_resources:")]
    assert "pipe:" in admin
    assert "port_value" not in admin
    metrics = rendered[rendered.index("- name: metrics") : rendered.index("clusters:")]
    assert 'address: "127.0.0.1"' in metrics
    assert re.findall(r"match: \{ path: ([^,]+)", metrics) == ["/stats/prometheus", "/ready"]


def test_every_method_of_every_path_is_routed() -> None:
    """The paths of the protos' HTTP annotations, each with its methods, and no other method."""
    descriptors = descriptor_pb2.FileDescriptorSet.FromString((GATEWAY / "tradeul.binpb").read_bytes())
    annotated: dict[str, set[str]] = {}
    for file in descriptors.file:
        for service in file.service:
            for method in service.method:
                rule = method.options.Extensions[annotations_pb2.http]
                for binding in (rule, *rule.additional_bindings):
                    if (verb := binding.WhichOneof("pattern")) is not None:
                        annotated.setdefault(getattr(binding, verb), set()).add(verb.upper())
    assert len(annotated) > 15
    assert {path: set(methods) for path, methods in methods_by_path().items()} == annotated


@pytest.mark.parametrize(
    ("setting", "host", "hosts"),
    [
        ("", "127.0.0.1", ("localhost", "127.0.0.1", "[::1]")),
        ("", "192.0.2.7", ("localhost", "127.0.0.1", "[::1]", "192.0.2.7")),
        ("", "::", ("localhost", "127.0.0.1", "[::1]")),
        ("Scanner.example.com, *.trade.example", "0.0.0.0", ("scanner.example.com", "*.trade.example")),
        ("*", "0.0.0.0", ("*",)),
    ],
)
def test_the_hosts_that_are_answered(setting: str, host: str, hosts: tuple[str, ...], tmp_path: Path) -> None:
    environment = {"TRADEUL_HOST": host} | ({"TRADEUL_ALLOWED_HOSTS": setting} if setting else {})
    settings = Settings.load(environment)
    assert allowed_hosts(settings) == hosts
    assert_accepted(render_gateway(settings, GATEWAY_TEMPLATE.path().read_text()), tmp_path)


@pytest.mark.parametrize("wrong", ["scanner.example.com:8000", "https://scanner.example.com", "a b", "*.", "::1"])
def test_what_is_no_host_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"TRADEUL_ALLOWED_HOSTS: expected names without a port"):
        Settings.load({"TRADEUL_ALLOWED_HOSTS": wrong})


def test_every_service_with_rest_routes_is_transcoded(rendered: str) -> None:
    """A service that gets a google.api.http route must be named in the transcoder, or its routes are 404."""
    descriptors = descriptor_pb2.FileDescriptorSet.FromString((GATEWAY / "tradeul.binpb").read_bytes())
    with_routes = {
        f"{file.package}.{service.name}"
        for file in descriptors.file
        for service in file.service
        if any(method.options.HasExtension(annotations_pb2.http) for method in service.method)
    }
    assert with_routes
    if "cluster: access" not in rendered:
        with_routes.remove("tradeul.v1.AccessService")
    for name in with_routes:
        assert f"- {name}\n" in rendered


def test_keys_are_checked_only_where_they_are_required(tmp_path: Path) -> None:
    template = GATEWAY_TEMPLATE.path().read_text()
    off = render_gateway(Settings.load({}), template)
    assert not [word for word in ("ext_authz", "access:", "AccessService", "x-tradeul-ticket") if word in off]
    for environment in ({"TRADEUL_HOST": "0.0.0.0"}, {"TRADEUL_KEYS": "required"}):
        required = render_gateway(Settings.load(environment), template)
        # Where the method is known, and before anything is sent to a service.
        filters = re.findall(r"- name: envoy\.filters\.http\.(\w+)", required)
        order = [filters.index(name) for name in ("header_mutation", "grpc_web", "grpc_json_transcoder", "ext_authz")]
        assert "jwt" not in required.replace("envoy.filters.http.jwt_authn", "")
        assert order == sorted(order)
        # Only then is a body awaited.
        after = filters[filters.index("ext_authz") + 1 :]
        assert set(after[: after.index("router")]) == {"buffer"}
    assert "ext_authz" not in render_gateway(
        Settings.load({"TRADEUL_HOST": "0.0.0.0", "TRADEUL_KEYS": "off"}), template
    )


def test_streams_are_not_cut_off(rendered: str) -> None:
    """A streaming method's route has no timeout, and silence is allowed for longer than it lasts between heartbeats."""
    descriptors = descriptor_pb2.FileDescriptorSet.FromString((GATEWAY / "tradeul.binpb").read_bytes())
    unlimited = [
        pattern.replace(r"\\", "\\")
        for pattern in re.findall(
            r'safe_regex: \{ regex: "(.+)" \} \}\n +route: \{ cluster: \w+, timeout: 0s \}', rendered
        )
    ]
    streams = [
        f"/{file.package}.{service.name}/{method.name}"
        for file in descriptors.file
        for service in file.service
        if f"- {file.package}.{service.name}\n" in rendered
        for method in service.method
        if method.server_streaming
    ]
    assert "/tradeul.v1.ScannerService/WatchList" in streams
    for path in streams:
        assert any(re.fullmatch(pattern, path) for pattern in unlimited), path
    idle = re.search(r"stream_idle_timeout: (\d+)s", rendered)
    assert idle is not None
    assert int(idle[1]) > 3 * HEARTBEAT_SECONDS


def test_requests_are_awaited_unless_clients_go_on_sending(rendered: str) -> None:
    """All that a client sends at once is awaited, and refused when it is too large; the rest is passed on in parts."""
    descriptors = descriptor_pb2.FileDescriptorSet.FromString((GATEWAY / "tradeul.binpb").read_bytes())
    skipped = re.search(r'regex: "/grpc\[\.\]reflection\[\.\]\.\*\|(.+)" \} \}', rendered)
    assert skipped is not None
    for file in descriptors.file:
        for service in file.service:
            for method in service.method if f"- {file.package}.{service.name}\n" in rendered else ():
                path = f"/{file.package}.{service.name}/{method.name}"
                assert bool(re.fullmatch(skipped[1], path)) == method.client_streaming, path


def test_a_request_that_is_no_stream_has_a_limit_of_time(rendered: str) -> None:
    """Whole requests, slow bodies included; and a service's time from the end of the body on."""
    routes = re.findall(r"route: \{ cluster: (?!admin)\w+.*", rendered)
    assert len(routes) > 12
    limited = re.compile(r"max_stream_duration: (\*whole_request|&whole_request \{ max_stream_duration: 30s \})[ ,]")
    assert not [route for route in routes if not ("timeout: 0s" in route or limited.search(route))]
    # Envoy ignores a route's `timeout` beside it.
    assert not [route for route in routes if re.search(r"\btimeout: [1-9]", route)]
    # Those without one are for CORS, before the transcoder.
    unanswered = [route for route in routes if "timeout: 0s" not in route and "retry_policy: " not in route]
    assert set(unanswered) == {
        "route: { cluster: scanner, max_stream_duration: *whole_request }",
        "route: { cluster: health, max_stream_duration: *whole_request }",
    }


def test_the_gateways_own_errors_are_of_the_catalogue(rendered: str) -> None:
    known = {reason.name: code_pb2.Code.Value(reason.code) for reason in CATALOGUE}
    said = re.findall(r"code: (\d+)\n.*\n.*reason: (\w+)", rendered)
    assert len(said) >= 6
    for code, reason in said:
        assert int(code) == known[reason]
