"""TLS at the gateway: the real Envoy with certificates of an authority of the tests' own, and with wrong ones."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import click
import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.check_config import wrong_files
from services.cli.lists.client import follow, make_client, make_request
from services.health.service import HealthService
from services.kit.lists.list_client import ListCopy
from services.kit.rpc.server import Host
from services.kit.runtime import errors
from services.kit.runtime.certificates import check_certificate
from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.settings import Settings
from tests.support.certificates import Authority, Pair, encrypt_key, self_signed
from tests.support.gateway import Gateway, gateway_settings

NAMES = "DNS:localhost,IP:127.0.0.1"
PAST = {"start": "20200101000000Z", "end": "20200201000000Z"}
FUTURE = {"start": "20490101000000Z", "end": "20490201000000Z"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.certificate("gateway", NAMES)


@pytest_asyncio.fixture
async def gateway(tmp_path: Path, pair: Pair) -> AsyncIterator[Gateway]:
    settings = gateway_settings(tmp_path / "data", tls(pair))
    host = Host(HealthService(settings))
    await host.start()
    try:
        async with Gateway(settings) as gateway:
            yield gateway
    finally:
        await host.stop()


def tls(pair: Pair) -> dict[str, str]:
    return {"TRADEUL_TLS_CERT_FILE": str(pair.certificate), "TRADEUL_TLS_KEY_FILE": str(pair.key)}


def handshake(address: str, context: ssl.SSLContext, name: str = "localhost") -> tuple[str | None, str | None, bytes]:
    """Returns the version, the protocol of ALPN and the certificate."""
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as wrapped,
    ):
        return wrapped.version(), wrapped.selected_alpn_protocol(), wrapped.getpeercert(binary_form=True) or b""


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.pair.certificate))


async def test_rest_and_grpc_over_tls(gateway: Gateway, authority: Authority) -> None:
    async with httpx.AsyncClient(base_url=f"https://{gateway.address}", verify=trusting(authority)) as client:
        response = await client.get("/openapi.json")
        assert response.status_code == httpx.codes.OK
        # A page of the gateway's own host, which a browser calls https.
        write = {"origin": f"https://{gateway.address}", "content-type": "application/json"}
        response = await client.post("/api/v1/filters", headers=write, json={})
        assert response.status_code not in (403, 421), response.text
    credentials = grpc.ssl_channel_credentials(authority.pair.certificate.read_bytes())
    async with grpc.aio.secure_channel(gateway.address, credentials) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            # Only the health service runs behind this gateway; what matters is that the gateway answered.
            assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
            assert "handshake" not in str(error.details()).lower()


async def test_versions_and_protocols(gateway: Gateway, authority: Authority) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    version, protocol, _ = await asyncio.to_thread(handshake, gateway.address, context)
    assert (version, protocol) == ("TLSv1.3", "h2")
    context.set_alpn_protocols(["http/1.1"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    version, protocol, _ = await asyncio.to_thread(handshake, gateway.address, context)
    assert (version, protocol) == ("TLSv1.2", "http/1.1")
    old = trusting(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(handshake, gateway.address, old)


async def test_plain_http_is_told_to_use_tls_and_gets_nothing(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=f"http://{gateway.address}") as client:
        for method, path in (("GET", "/openapi.json"), ("POST", "/api/v1/filters"), ("GET", "/ws/scanner")):
            response = await client.request(method, path)
            assert response.status_code == httpx.codes.BAD_REQUEST
            assert response.json() == {
                "code": 3,
                "message": "expected https://, was http://",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": errors.HTTPS_EXPECTED.name,
                        "domain": "tradeul",
                    }
                ],
            }
        # Nor is what its parser refuses anything else.
        response = await client.request("PURGE-ALL", "/")
        assert (response.status_code, response.json()["message"]) == (400, "expected https://, was http://")
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert (refused.value.code(), refused.value.details()) == (
            grpc.StatusCode.INTERNAL,
            "expected https://, was http://",
        )


async def test_clients_refuse_another_authority_and_another_name(
    gateway: Gateway, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        await asyncio.to_thread(handshake, gateway.address, trusting(Authority(tmp_path, "other")))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.to_thread(handshake, gateway.address, trusting(authority), "scanner.example.com")


async def test_a_replaced_certificate_is_used_without_a_restart(
    gateway: Gateway, authority: Authority, pair: Pair
) -> None:
    _, _, before = await asyncio.to_thread(handshake, gateway.address, trusting(authority))
    renewed = authority.certificate("renewed", NAMES)
    expected = ssl.PEM_cert_to_DER_cert(renewed.certificate.read_text())
    assert before != expected
    # Between the two renames they do not match, and the old ones stay in use.
    renewed.key.replace(pair.key)
    renewed.certificate.replace(pair.certificate)
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(handshake, gateway.address, trusting(authority)))[2] != expected:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("no certificate", "TRADEUL_TLS_CERT_FILE: expected a file that can be read, was {folder}/nothing: No such"),
        ("no key", "TRADEUL_TLS_KEY_FILE: expected a file that can be read, was {folder}/nothing: No such file"),
        ("text", "TRADEUL_TLS_CERT_FILE: expected a certificate in PEM, was {folder}/text"),
        ("text as key", "TRADEUL_TLS_KEY_FILE: expected a private key in PEM, was {folder}/text"),
        (
            "other key",
            "TRADEUL_TLS_KEY_FILE: expected the key of {folder}/gateway.crt, was that of another",
        ),
        ("encrypted", "TRADEUL_TLS_KEY_FILE: expected a private key that is not encrypted"),
        ("expired", "TRADEUL_TLS_CERT_FILE: expected a valid certificate, but {folder}/expired.crt has expired"),
        ("future", "TRADEUL_TLS_CERT_FILE: expected a valid certificate, but {folder}/future.crt is not valid yet"),
        ("client's", "TRADEUL_TLS_CERT_FILE: expected a valid certificate, but {folder}/client.crt is refused by"),
    ],
)
def test_each_wrong_certificate_is_one_line(
    wrong: str, words: str, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no PEM")
    match wrong:
        case "no certificate":
            pair = Pair(tmp_path / "nothing", pair.key)
        case "no key":
            pair = Pair(pair.certificate, tmp_path / "nothing")
        case "text":
            pair = Pair(tmp_path / "text", pair.key)
        case "text as key":
            pair = Pair(pair.certificate, tmp_path / "text")
        case "other key":
            pair = Pair(pair.certificate, authority.pair.key)
        case "encrypted":
            encrypted = tmp_path / "encrypted"
            encrypt_key(pair.key, "hunter2", encrypted)
            pair = Pair(pair.certificate, encrypted)
        case "expired":
            pair = authority.certificate("expired", NAMES, **PAST)
        case "future":
            pair = authority.certificate("future", NAMES, **FUTURE)
        case "client's":
            pair = authority.certificate("client", NAMES, usage="clientAuth")
    with pytest.raises(StartError) as raised:
        Gateway(gateway_settings(tmp_path / "data", tls(pair)))
    (line,) = str(raised.value).splitlines()
    assert line.startswith(words.format(folder=tmp_path))


def test_a_good_certificate_passes(pair: Pair, tmp_path: Path) -> None:
    check_certificate(*pair)
    # One that nobody else signed, too: that is its clients' business.
    check_certificate(*self_signed(tmp_path, "own", NAMES))


def test_both_files_or_none(pair: Pair) -> None:
    for name, value in tls(pair).items():
        with pytest.raises(SettingsError, match="expected TRADEUL_TLS_CERT_FILE and TRADEUL_TLS_KEY_FILE"):
            Settings.load({name: value})


async def test_commands_connect_with_a_setting(gateway: Gateway, authority: Authority, tmp_path: Path) -> None:
    """`tradeul top`, `query` and `watch`: by the gateway's address, or https:// of another one."""
    own = {"TRADEUL_GATEWAY_ADDRESS": gateway.address}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        assert await answer_to(None) == "expected https"
        with pytest.raises(
            (StartError, click.ClickException), match=r"it speaks TLS(; expected|:) --address https://127"
        ):
            async for _ in follow(make_client(None, None), make_request("gappers_up", None, None, None), ListCopy()):
                pass
        patch.setenv("TRADEUL_TLS_CA_FILE", str(authority.pair.certificate))
        for address in (None, gateway.address, f"https://{gateway.address}/"):
            assert await answer_to(address) == "answered"
        patch.setenv("TRADEUL_TLS_CA_FILE", str(Authority(tmp_path, "other").pair.certificate))
        assert await answer_to(None) == "failed to connect"
        patch.setenv("TRADEUL_TLS_CA_FILE", str(tmp_path / "nothing"))
        with pytest.raises(StartError, match=r"TRADEUL_TLS_CA_FILE: expected a file that can be read, was .*/nothing"):
            await answer_to(None)
        patch.delenv("TRADEUL_TLS_CA_FILE")
        patch.setenv("SSL_CERT_FILE", str(authority.pair.certificate))
        assert await answer_to(f"https://{gateway.address}") == "answered"
        # A gateway on this machine with a certificate of whomever: the scanner behind it.
        patch.setenv("TRADEUL_TLS_CERT_FILE", "x")
        patch.setenv("TRADEUL_TLS_KEY_FILE", "x")
        assert make_client(None, None).target == ("127.0.0.1", 8001)


@pytest.mark.parametrize(
    ("wrong", "scheme", "words"),
    [
        ("authority", "https://", "its certificate is refused: unable to get local issuer certificate; trusted "
         "(TRADEUL_TLS_CA_FILE): {folder}/ca.crt"),
        ("expired", "https://", "its certificate is refused: certificate has expired; trusted"),
        ("name", "https://", "its certificate is not for the name 127.0.0.1"),
        ("plain", "https://", "it speaks no TLS; expected --address http://127.0.0.1:"),
        # A certificate of whomever: none is expected.
        ("name", "http://", "Socket closed; if it speaks TLS: --address https://127.0.0.1:"),
    ],
)  # fmt: skip
async def test_commands_say_why_there_is_no_connection(
    wrong: str, scheme: str, words: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = grpc.aio.server(), "127.0.0.1:0"
    if wrong == "plain":
        port = server.add_insecure_port(address)
    else:
        pair = {
            "authority": lambda: Authority(tmp_path, "other").certificate("foreign", NAMES),
            "expired": lambda: authority.certificate("expired", NAMES, **PAST),
            "name": lambda: authority.certificate("named", "DNS:elsewhere"),
        }[wrong]()
        credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
        port = server.add_secure_port(address, credentials)
    await server.start()
    monkeypatch.setenv("TRADEUL_TLS_CA_FILE", str(authority.pair.certificate))
    monkeypatch.setattr("services.cli.lists.client.FIRST_ANSWER_SECONDS", 0.0)
    client = make_client(f"{scheme}127.0.0.1:{port}", None)
    request = make_request("gappers_up", None, None, None)
    line = ""
    # On a busy machine a handshake may take longer than gRPC waits for it.
    while words.format(folder=tmp_path) not in line:
        with pytest.raises(StartError) as raised:
            async for _ in follow(client, request, ListCopy()):
                pass
        (line,) = str(raised.value).splitlines()
        assert line.startswith(f"no list from 127.0.0.1:{port}: ")
    await server.stop(0)


async def answer_to(address: str | None) -> str:
    async with make_client(address, None).open_channel() as channel:
        get = channel.unary_unary("/tradeul.v1.HealthService/GetHealth", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(b"", timeout=30)
    # gRPC's own words; the gateway has others, of the services that are not there.
    words = str(caught.value.details())
    return next((known for known in ("failed to connect", "expected https") if known in words), "answered")


def test_check_config_names_every_wrong_file(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    mesh = authority.certificate("mesh", "DNS:tradeul", usage="serverAuth,clientAuth")
    files = {
        "TRADEUL_TLS_CERT_FILE": pair.certificate, "TRADEUL_TLS_KEY_FILE": pair.key,
        "TRADEUL_TLS_CA_FILE": authority.pair.certificate,
        "TRADEUL_MESH_TLS_CERT_FILE": mesh.certificate, "TRADEUL_MESH_TLS_KEY_FILE": mesh.key,
        "TRADEUL_MESH_TLS_CA_FILE": authority.pair.certificate,
    }  # fmt: skip
    settings = {name: str(path) for name, path in files.items()}
    assert wrong_files(Settings.load(settings)) == []
    assert wrong_files(Settings.load({})) == []
    nothing = str(tmp_path / "nothing")
    jwt = {"TRADEUL_JWT_ISSUER": "x", "TRADEUL_JWT_AUDIENCES": "x", "TRADEUL_JWT_JWKS_FILE": nothing}
    wrong = {"TRADEUL_TLS_KEY_FILE": nothing, "TRADEUL_TLS_CA_FILE": nothing, "TRADEUL_MESH_TLS_CA_FILE": nothing}
    lines = wrong_files(Settings.load({**settings, **wrong, **jwt}))
    assert [line.partition(":")[0] for line in lines] == [*wrong, "TRADEUL_JWT_JWKS_FILE"]
    assert not [line for line in lines if "\n" in line or "No such file" not in line]
