"""TLS between services: both sides show a certificate of the mesh's authority and name, renewed without a restart."""

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from websockets.asyncio.client import connect

from services.health.service import HealthService
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.address import ServiceAddress
from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.http_probe import http_status
from services.kit.runtime.metrics import MetricsServer
from services.kit.runtime.settings import Address, Settings
from services.websocket_server.service import WebSocketServer
from tests.support.certificates import Authority, Pair, self_signed
from tests.support.gateway import Gateway, gateway_settings

BOTH = "serverAuth,clientAuth"
PAST = {"start": "20200101000000Z", "end": "20200201000000Z"}
PATIENCE_SECONDS = 60.0


def mesh_tls(pair: Pair, authority: Path) -> dict[str, str]:
    return {
        "TRADEUL_MESH_TLS_CERT_FILE": str(pair.certificate),
        "TRADEUL_MESH_TLS_KEY_FILE": str(pair.key),
        "TRADEUL_MESH_TLS_CA_FILE": str(authority),
    }


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.certificate("mesh", "DNS:tradeul", usage=BOTH)


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Settings]:
    """The health service and the WebSocket server, one of gRPC and one of HTTP, and the gateway before them."""
    async with contextlib.AsyncExitStack() as stack:
        for host in (Host(HealthService(settings)), Host(WebSocketServer(settings), serve_grpc=False)):
            await host.start()
            stack.push_async_callback(host.stop)
        yield settings


async def health_check(channel: grpc.aio.Channel) -> str:
    """SERVING, or the status code by which the call has failed."""
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_only_services_of_the_mesh_are_answered(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Whatever a client claims of itself: what counts is who signed its certificate, and for which name."""
    foreign = Authority(tmp_path, "other").certificate("foreign", "DNS:tradeul", usage=BOTH)
    clients = {
        "no certificate": (None, "UNAVAILABLE"),
        "another authority": (foreign, "UNAVAILABLE"),
        "expired": (authority.certificate("expired", "DNS:tradeul", usage=BOTH, **PAST), "UNAVAILABLE"),
        "another name": (authority.certificate("named", "DNS:elsewhere", usage=BOTH), "PERMISSION_DENIED"),
    }
    ca = authority.pair.certificate
    async with serving(gateway_settings(tmp_path / "data", mesh_tls(pair, ca))) as settings:
        assert await answers(settings, pair, ca) == ("SERVING", b"HTTP/1.1 200 OK")
        for name, (client, status) in clients.items():
            assert await answers(settings, client, ca) == (status, b""), name
        async with grpc.aio.insecure_channel(str(settings.address("health"))) as channel:
            assert await health_check(channel) == "UNAVAILABLE"
        assert await http_status(Address(*settings.address("websocket_server")), "/readyz") is None
        # Our own clients, and Envoy.
        async with open_channel(settings.address("health")) as channel:
            assert await health_check(channel) == "SERVING"
        assert await http_status(settings.address("websocket_server"), "/readyz") == 200
        async with Gateway(settings) as gateway:
            states = (await gateway.client.get("/health")).json()["details"][0]["metadata"]
            assert (states["health"], states["scanner"]) == ("SERVING", "UNREACHABLE")
            async with connect(f"ws://{gateway.address}/ws/scanner") as websocket:
                assert json.loads(await websocket.recv())["type"] == "connected"


async def answers(settings: Settings, client: Pair | None, ca: Path) -> tuple[str, bytes]:
    """What the two servers answer to a client with this certificate: gRPC's status, and HTTP's first line."""
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(*client)
    line = b""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        address = settings.address("websocket_server")
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="tradeul")
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        line = (await reader.readline()).rstrip()
        writer.close()
    key, chain = (client.key.read_bytes(), client.certificate.read_bytes()) if client is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key, chain)  # noqa: ASYNC240  # a test's
    options = [("grpc.ssl_target_name_override", "tradeul")]
    async with grpc.aio.secure_channel(str(settings.address("health")), credentials, options) as channel:
        return await health_check(channel), line


async def test_a_server_of_another_authority_or_name_is_not_spoken_to(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    settings = gateway_settings(tmp_path / "data", mesh_tls(pair, authority.pair.certificate))
    other = Authority(tmp_path, "other")
    for wrong in (
        other.certificate("foreign", "DNS:tradeul", usage=BOTH),
        authority.certificate("named", "DNS:elsewhere", usage=BOTH),
        authority.certificate("expired", "DNS:tradeul", usage=BOTH, **PAST),
    ):
        server = grpc.aio.server()
        credentials = grpc.ssl_server_credentials([(wrong.key.read_bytes(), wrong.certificate.read_bytes())])
        server.add_secure_port(str(settings.address("health")), credentials)
        await server.start()
        async with open_channel(settings.address("health")) as channel:
            assert await health_check(channel) == "UNAVAILABLE", wrong
        async with Gateway(settings) as gateway:
            answer = await gateway.client.get("/health")
            assert answer.status_code == 503, wrong
            assert answer.json()["details"][0]["reason"] == "SERVICES_NOT_SERVING"
        await server.stop(0)


async def test_a_renewed_certificate_is_used_without_a_restart(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    """The files become those of another authority: what is open stays open, and new connections succeed."""
    ca = tmp_path / "authority.crt"
    ca.write_bytes(authority.pair.certificate.read_bytes())
    async with serving(gateway_settings(tmp_path / "data", mesh_tls(pair, ca))) as settings:
        async with Gateway(settings) as gateway, open_channel(settings.address("health")) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            before = Pair(tmp_path / "before.crt", tmp_path / "before.key")
            for old, copy in zip(pair, before, strict=True):
                copy.write_bytes(old.read_bytes())
            other = Authority(tmp_path, "other")
            renewed = other.certificate("renewed", "DNS:tradeul", usage=BOTH)
            both = tmp_path / "both.crt"
            both.write_bytes(authority.pair.certificate.read_bytes() + other.pair.certificate.read_bytes())
            # Services and gateway notice it at different times, so each step has to work with the one before.
            async with updated(gateway):
                both.replace(ca)
            for each in (before, renewed):
                assert await answers(settings, each, ca) == ("SERVING", b"HTTP/1.1 200 OK")
            async with updated(gateway):
                renewed.key.replace(pair.key)
                # They do not match, and the ones before stay in use.
                assert await health_check(channel) == "SERVING"
                renewed.certificate.replace(pair.certificate)
            assert await health_check(channel) == "SERVING"
            async with updated(gateway):
                other.pair.certificate.replace(ca)
            assert await answers(settings, pair, ca) == ("SERVING", b"HTTP/1.1 200 OK")
            assert await answers(settings, before, ca) == ("UNAVAILABLE", b"")
            async with open_channel(settings.address("health")) as another:
                assert await health_check(another) == "SERVING"
            assert await http_status(settings.address("websocket_server"), "/readyz") == 200
            async with connect(f"ws://{gateway.address}/ws/scanner") as websocket:
                assert json.loads(await websocket.recv())["type"] == "connected"
            assert not watch.done()
            watch.cancel()


@contextlib.asynccontextmanager
async def updated(gateway: Gateway) -> AsyncIterator[None]:
    """Waits until Envoy has taken what was replaced inside."""

    async def updates() -> int:
        text = (await gateway.client.get(f"http://{gateway.metrics}/stats/prometheus")).text
        found = re.findall(r"ssl_context_update_by_sds\{.*websocket_server.*\} (\d+)", text)
        return int(found[0])

    before = await updates()
    yield
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await updates() == before:
            await asyncio.sleep(0.05)


def test_metrics_are_for_those_whom_the_authority_knows(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Whoever scrapes them has a certificate with a name of its own, which no service accepts."""
    ca = authority.pair.certificate
    settings = gateway_settings(tmp_path / "data", {**mesh_tls(pair, ca), "TRADEUL_METRICS_PORT_OFFSET": "1"})
    address = settings.metrics_address("scanner")
    assert address is not None and address.tls == settings.mesh_tls
    server = MetricsServer(ServiceAddress.of(Address("127.0.0.1", 0), address.tls), lambda: {"scanner": "running"})
    try:
        reader = authority.certificate("prometheus", "DNS:prometheus", usage="clientAuth")
        # One that stays silent keeps nobody waiting.
        with socket.create_connection(("127.0.0.1", server.port)):
            for client in (pair, reader):
                assert "tradeul_service_running" in scraped(server.port, ca, client), client
        expired = authority.certificate("expired", "DNS:prometheus", usage="clientAuth", **PAST)
        foreign = Authority(tmp_path, "other").certificate("foreign", "DNS:tradeul", usage=BOTH)
        for wrong in (None, expired, foreign):
            with pytest.raises(httpx.TransportError):
                scraped(server.port, ca, wrong)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=20)
        renewed = authority.certificate("renewed", "DNS:elsewhere,DNS:tradeul", usage=BOTH)
        renewed.key.replace(pair.key)
        renewed.certificate.replace(pair.certificate)
        assert "tradeul_service_running" in scraped(server.port, ca, reader, name="elsewhere")
    finally:
        server.close()


def scraped(port: int, ca: Path, client: Pair | None, name: str = "tradeul") -> str:
    """The metrics; raises httpx.TransportError when the server, or its certificate's name, is refused."""
    context = ssl.create_default_context(cafile=str(ca))
    if client is not None:
        context.load_cert_chain(*client)
    with httpx.Client(verify=context, timeout=20) as http:
        answer = http.get(f"https://127.0.0.1:{port}/metrics", extensions={"sni_hostname": name})
    assert answer.status_code == httpx.codes.OK
    return answer.text


def test_metrics_can_stay_plain(pair: Pair, authority: Authority) -> None:
    plain = {**mesh_tls(pair, authority.pair.certificate), "TRADEUL_MESH_TLS_METRICS": "off"}
    for environment in ({}, plain):
        address = Settings.load(environment).metrics_address("scanner")
        assert address is not None and address.tls is None


SIGNED = "TRADEUL_MESH_TLS_CERT_FILE: expected a certificate that services accept, but {folder}/"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("no authority", "TRADEUL_MESH_TLS_CA_FILE: expected a file that can be read, was {folder}/nothing: No such"),
        ("text", "TRADEUL_MESH_TLS_CA_FILE: expected certificates of authorities in PEM, was {folder}/text"),
        ("no key", "TRADEUL_MESH_TLS_KEY_FILE: expected a file that can be read, was {folder}/nothing: No such"),
        ("other key", "TRADEUL_MESH_TLS_KEY_FILE: expected the key of {folder}/mesh.crt, was that of another"),
        ("expired", "TRADEUL_MESH_TLS_CERT_FILE: expected a valid certificate, but {folder}/expired.crt has expired"),
        ("foreign", SIGNED + "own.crt is not signed by an authority of {folder}/ca.crt"),
        ("name", SIGNED + "named.crt is not for the name 'tradeul' (TRADEUL_MESH_TLS_NAME)"),
        ("server only", SIGNED + "server.crt is not for clients as well as servers (extendedKeyUsage)"),
    ],
)  # fmt: skip
async def test_each_wrong_file_is_one_line(
    wrong: str, words: str, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no PEM")
    ca = authority.pair.certificate
    match wrong:
        case "no authority":
            ca = tmp_path / "nothing"
        case "text":
            ca = tmp_path / "text"
        case "no key":
            pair = Pair(pair.certificate, tmp_path / "nothing")
        case "other key":
            pair = Pair(pair.certificate, authority.pair.key)
        case "expired":
            pair = authority.certificate("expired", "DNS:tradeul", usage=BOTH, **PAST)
        case "foreign":
            pair = self_signed(tmp_path, "own", "DNS:tradeul")
        case "name":
            pair = authority.certificate("named", "DNS:elsewhere", usage=BOTH)
        case "server only":
            pair = authority.certificate("server", "DNS:tradeul")
    settings = gateway_settings(tmp_path / "data", mesh_tls(pair, ca))
    for start in (lambda: Gateway(settings), lambda: Host(HealthService(settings)).start()):
        with pytest.raises(StartError) as raised:
            if (starting := start()) is not None and asyncio.iscoroutine(starting):
                await starting
        (line,) = str(raised.value).splitlines()
        assert line.startswith(words.format(folder=tmp_path))


def test_all_files_or_none() -> None:
    files = {f"TRADEUL_MESH_TLS_{name}_FILE": "x" for name in ("CERT", "KEY", "CA")}
    for name in files:
        with pytest.raises(SettingsError, match=f"expected all or none of .*, was without .*{name}"):
            Settings.load({key: value for key, value in files.items() if key != name})
    with pytest.raises(SettingsError, match="TRADEUL_MESH_TLS_NAME: String should match"):
        Settings.load({**files, "TRADEUL_MESH_TLS_NAME": "a b"})
    assert not Settings.load({}).mesh_tls.is_on
    assert Settings.load({}).address("scanner").tls is None
    settings = Settings.load(files)
    for name, is_within in {"scanner": True, "websocket_server": True, "gateway": False, "simulator": False}.items():
        assert (settings.address(name).tls is not None) == is_within, name
