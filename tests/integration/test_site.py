"""The dashboard's files at the real Envoy: types, caching, security headers, and what its pages have to know first."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.cli.local.site import CHECKED, FOREVER, HASHED, site_files
from services.kit.runtime.packaged import API_DOCS
from tests.support.gateway import Gateway, gateway_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["off", "required"])
async def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway without anything behind it; the keys' service does not answer either."""
    environment = {"TRADEUL_KEYS": str(request.param)}
    async with Gateway(gateway_settings(tmp_path_factory.mktemp("site"), environment)) as opened:
        yield opened


async def test_every_file_is_served_as_it_is(gateway: Gateway) -> None:
    files = {"/" if name == "index.html" else f"/{name}": path for name, path in site_files().items()}
    for name, path in site_files(API_DOCS).items():
        files["/docs" if name == "index.html" else f"/docs/{name}"] = path
    for route, path in files.items():
        name = route.removeprefix("/")
        answer = await gateway.client.get(route)
        assert (answer.status_code, answer.content) == (200, path.read_bytes()), name
        assert answer.headers["cache-control"] == (FOREVER if HASHED.fullmatch(name) else CHECKED), name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in answer.headers["permissions-policy"]


async def test_a_browser_that_has_the_page_gets_304(gateway: Gateway) -> None:
    page = await gateway.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    again = await gateway.client.get("/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await gateway.client.head("/")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", page.headers["etag"])
    # All that the page names is there, under a name that changes with its contents.
    named = re.findall(r'(?:src|href)="/([^"]+)"', page.text)
    assert len(named) >= 3
    assert all(name in site_files() and HASHED.fullmatch(name) for name in named)


async def test_scripts_are_compressed(gateway: Gateway) -> None:
    script = next(f"/{name}" for name in site_files() if re.fullmatch(r"assets/index-.+\.js", name))
    for encoding in ("br", "gzip", "zstd"):
        answer = await gateway.client.get(script, headers={"accept-encoding": encoding})
        assert answer.headers["content-encoding"] == encoding
        assert answer.headers["etag"]


async def test_the_pages_know_whether_a_key_is_required(gateway: Gateway, request: pytest.FixtureRequest) -> None:
    keys = request.node.callspec.params["gateway"]
    known = (await gateway.client.get("/site.json")).json()
    assert known == {"keys": keys, "market": "simulator", "clock": "feed"}
    # The data behind it are not for everybody.
    assert (await gateway.client.get("/api/session/current")).status_code == 503


async def test_only_files_of_the_site_are_there(gateway: Gateway) -> None:
    for path in ("/assets/", "/assets/../envoy.yaml", "/envoy.yaml", "/index.html", "/assets/%2e%2e/envoy.yaml"):
        assert (await gateway.client.get(path)).status_code in (404, 503), path


async def test_pages_and_the_document_are_only_read(gateway: Gateway) -> None:
    for path in ("/", "/docs", "/docs/", "/openapi.json", "/site.json", "/assets/NAME"):
        path = path.replace("assets/NAME", next(name for name in site_files() if name.startswith("assets/")))
        for method, status in (("POST", 405), ("DELETE", 405), ("OPTIONS", 204), ("HEAD", 200)):
            answer = await gateway.client.request(method, path)
            assert (answer.status_code, answer.headers.get("allow")) == (
                status,
                None if status == 200 else "GET, HEAD, OPTIONS",
            )
            if status == 405:
                assert answer.json()["message"] == f"{method} is not a method of {path}"


async def test_the_openapi_document_is_not_sent_twice(gateway: Gateway) -> None:
    document = await gateway.client.get("/openapi.json")
    again = await gateway.client.get("/openapi.json", headers={"if-none-match": document.headers["etag"]})
    assert (again.status_code, again.content, again.headers["vary"]) == (304, b"", "Accept-Encoding")
    assert again.headers["etag"] == document.headers["etag"]
    assert document.headers["access-control-allow-origin"] == "*"


async def test_names_of_built_files_have_their_hash() -> None:
    assert all(HASHED.fullmatch(name) for name in site_files() if Path(name).parts[0] == "assets")
