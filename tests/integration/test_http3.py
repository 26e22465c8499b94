"""HTTP/3 at the gateway: what is right over HTTP/2 is right over QUIC, keys and limits included."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.access.methods import Right
from services.cli.local.mesh import check_ports
from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.settings import Settings
from tests.support.certificates import Authority
from tests.support.gateway import gateway_settings
from tests.support.guarded import guarded_gateway
from tests.support.http3 import http3_client
from tests.support.stores import Stores, module_stores

STATUS, WATCH = "/api/v1/scanner/status", "/api/v1/scanner/lists/winners:watch"


def tls(authority: Authority) -> dict[str, str]:
    pair = authority.certificate("gateway", "DNS:localhost,IP:127.0.0.1")
    return {
        "TRADEUL_TLS_CERT_FILE": str(pair.certificate),
        "TRADEUL_TLS_KEY_FILE": str(pair.key),
        "TRADEUL_TLS_HTTP3": "on",
    }


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


async def test_requests_over_quic(stores: Stores, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    ca = authority.pair.certificate
    async with guarded_gateway(stores, tmp_path / "data", tls(authority)) as guarded:
        host, port = guarded.settings.address("gateway")
        read = guarded.headers(Right.READ)
        url = f"https://{host}:{port}"
        async with httpx.AsyncClient(base_url=url, verify=ssl.create_default_context(cafile=str(ca))) as client:
            # How browsers find it.
            assert (await client.get("/openapi.json")).headers["alt-svc"] == f'h3=":{port}"; ma=86400'
        async with http3_client(port, ca) as client:
            document = await client.request("GET", "/openapi.json")
            assert (document.status, document.headers["content-type"]) == (200, "application/json")
            assert len(document.body) > 10_000
            assert document.headers["x-content-type-options"] == "nosniff"
            assert (await client.request("GET", STATUS)).status == 401
            assert (await client.request("GET", STATUS, read)).status == 200
            assert b"INSUFFICIENT_RIGHT" in (await client.request("DELETE", "/api/v1/filters/x", read)).body
            head = await anext(client.parts("GET", WATCH, read))
            assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
            json = {**read, "content-type": "application/json"}
            ticket = await client.request("POST", "/api/v1/tickets", json, b"{}")
            assert ticket.status == 200, ticket.body
            assert (await client.request("POST", "/api/v1/tickets", read, b"x=1")).status == 415
            foreign = {**json, "origin": "https://elsewhere.example.com"}
            assert (await client.request("POST", "/api/v1/tickets", foreign, b"{}")).status == 403
            assert (await client.request("GET", STATUS, {**read, ":authority": "elsewhere.example.com"})).status == 421
            assert (await client.request("GET", "/api/v1/nope", read)).status == 404
            assert await guarded.gateway.logged('"protocol":"HTTP/3"')
        other = Authority(tmp_path, "other").pair.certificate
        for wrong, name in ((other, "localhost"), (ca, "other.example.com")):
            with pytest.raises(ConnectionError):
                async with http3_client(port, wrong, name):
                    pass


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected TRADEUL_TLS_CERT_FILE with TRADEUL_TLS_HTTP3, was none"):
        Settings.load({"TRADEUL_TLS_HTTP3": "on"})
    with pytest.raises(SettingsError, match="TRADEUL_TLS_HTTP3: Input should be 'off' or 'on'"):
        Settings.load({"TRADEUL_TLS_HTTP3": "maybe"})
    settings = gateway_settings(tmp_path, tls(Authority(tmp_path, "ca")))
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(tuple(settings.address("gateway")))
        with pytest.raises(StartError, match=r"gateway's HTTP/3 \(UDP\): 127.0.0.1:\d+: Address already in use"):
            check_ports(settings)
