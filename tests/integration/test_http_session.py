"""Requests to others: through the proxy of the environment, and nothing else of it."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from services.kit.runtime.http_session import REQUEST_ERRORS, LateSession, open_session


class Proxy:
    """Answers every request itself; `requests` are the first lines, `keys` their Authorization."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.keys: list[str] = []
        self.url = ""

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.requests.append(lines[0])
        self.keys += [line for line in lines if line.lower().startswith("authorization:")]
        writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()


async def got(url: str, times: int = 1) -> str:
    async with open_session(url, timeout_s=5.0, headers={"Authorization": "Bearer KEY"}) as session:
        for _ in range(times):
            async with session.get(url) as answer:
                text = await answer.text()
    return text


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await got("http://vendor.invalid/path") == "ok"
    assert proxy.requests == ["GET http://vendor.invalid/path HTTP/1.1"]


def test_a_session_is_opened_late_and_once() -> None:
    """An object that has one may be made where there is no event loop, and closed before its first request."""
    late = LateSession(lambda: open_session("http://vendor.invalid", timeout_s=5.0))

    async def use() -> None:
        await late.close()
        first = late.opened()
        assert late.opened() is first
        await late.close()
        # A request that comes too late is refused, and leaves no connection behind.
        assert late.opened() is first
        assert first.closed

    asyncio.run(use())


async def test_a_host_of_no_proxy_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Proxy() as vendor, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await got(f"{vendor.url}/path") == "ok"
    assert vendor.requests == ["GET /path HTTP/1.1"]
    assert not proxy.requests


async def test_our_key_is_sent_whatever_netrc_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with Proxy() as vendor:
        await got(vendor.url, times=2)
    assert vendor.keys == ["Authorization: Bearer KEY"] * 2


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999"])
async def test_what_is_no_url_is_a_request_error(url: str) -> None:
    with pytest.raises(REQUEST_ERRORS) as raised:
        await got(url)
    assert isinstance(raised.value, aiohttp.InvalidURL)
