"""TLS to Redis, PostgreSQL and the vendors: by their URLs, and each wrong certificate in one line."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from services.data_ingest.feed.halt_feed import HaltFeed, HaltFeedError
from services.historical.flat_files import Bucket, FlatFileError
from services.kit.runtime.errors import StartError
from services.kit.runtime.setting_groups import FlatFileSettings
from services.kit.stores.database import open_pool
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.fmp import FmpClient
from tests.support.certificates import Authority, Pair
from tests.support.feed import running_feed
from tests.support.mesh import free_ports
from tests.support.stores import Stores, module_stores
from tests.support.tls_proxy import tls_proxy

WRONG = {
    "authority": "unable to get local issuer certificate",
    "name": "IP address mismatch",
    "expired": "certificate has expired",
}
WRONG_OF_RUST = {
    "authority": "no trusted authority has signed it", "name": "it is for another name", "expired": "it has expired"
}  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def certificate(authority: Authority, wrong: str = "") -> tuple[Pair, Path]:
    """A server's certificate, and the authorities that its client trusts."""
    trusted = authority.pair.certificate
    if wrong == "name":
        return authority.certificate("server", "DNS:cache.example.com"), trusted
    if wrong == "expired":
        return authority.certificate("server", "IP:127.0.0.1", start="20200101000000Z", end="20200201000000Z"), trusted
    if wrong == "authority":
        trusted = Authority(trusted.parent, "other").pair.certificate
    return authority.certificate("server", "IP:127.0.0.1"), trusted


def redis_socket(stores: Stores) -> Path:
    return Path(urlsplit(stores.redis_url).path)


def postgres_socket(stores: Stores) -> tuple[Path, str]:
    """The socket, and the database's name."""
    parts = urlsplit(stores.database_url)
    return Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432", parts.path


async def test_redis(stores: Stores, authority: Authority) -> None:
    pair, trusted = certificate(authority)
    async with tls_proxy(redis_socket(stores), pair) as port:
        redis = await open_redis(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={trusted}")
        try:
            assert await redis.ping()
        finally:
            await redis.aclose()


@pytest.mark.parametrize("wrong", WRONG)
async def test_redis_with_a_wrong_certificate(stores: Stores, authority: Authority, wrong: str) -> None:
    pair, trusted = certificate(authority, wrong)
    async with tls_proxy(redis_socket(stores), pair) as port:
        with pytest.raises(StartError) as raised:
            await open_redis(f"rediss://:hunter2@127.0.0.1:{port}/0?ssl_ca_certs={trusted}", wait_seconds=0.2)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"no Redis at rediss://***@127.0.0.1:{port}/0")
    assert WRONG[wrong] in line


async def test_postgres(stores: Stores, authority: Authority) -> None:
    pair, trusted = certificate(authority)
    socket, database = postgres_socket(stores)
    async with tls_proxy(socket, pair, postgres=True) as port:
        url = f"postgresql://tradeul@127.0.0.1:{port}{database}?sslmode=verify-full&sslrootcert={trusted}"
        pool = await open_pool(url)
        try:
            assert await pool.fetchval("SELECT 1") == 1
        finally:
            await pool.close()


@pytest.mark.parametrize("wrong", WRONG)
async def test_postgres_with_a_wrong_certificate(stores: Stores, authority: Authority, wrong: str) -> None:
    pair, trusted = certificate(authority, wrong)
    socket, database = postgres_socket(stores)
    async with tls_proxy(socket, pair, postgres=True) as port:
        url = f"postgresql://tradeul:hunter2@127.0.0.1:{port}{database}?sslmode=verify-full&sslrootcert={trusted}"
        with pytest.raises(StartError) as raised:
            await open_pool(url, wait_seconds=0.2)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"no database at postgresql://tradeul:***@127.0.0.1:{port}{database}")
    assert WRONG[wrong] in line


@pytest.mark.parametrize("wrong", ["", *WRONG])
async def test_other_sources(authority: Authority, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trade halts, the second source of companies, and flat files: not found, or refused in one line."""
    pair, trusted = certificate(authority, wrong)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with https_server(pair) as url:
        bucket = Bucket("s3://flat", FlatFileSettings(s3_endpoint=url))
        async with FmpClient(url, "hunter2", attempts=1) as fmp:
            halts = HaltFeed(url)
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "halts": halts.fetch,
                "fmp": lambda: fmp.profile("AAPL"),
                "flat files": lambda: bucket.fingerprint("day", datetime.date(2025, 11, 24)),
            }
            for name, call in calls.items():
                answer: object
                try:
                    answer = await call()
                except (HaltFeedError, VendorError, FlatFileError) as error:
                    (answer,) = str(error).splitlines()
                if wrong and name == "flat files":
                    assert answer == f"s3://flat: the store's certificate is refused: {WRONG_OF_RUST[wrong]}"
                elif wrong:
                    assert WRONG[wrong] in str(answer), name
                else:
                    assert answer == ("expected status 200, was 404" if name == "halts" else None), name
            await halts.close()


@contextlib.asynccontextmanager
async def https_server(pair: Pair) -> AsyncIterator[str]:
    """One that has nothing: 404 for everything."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_authorities_that_are_not_there(store: str, tmp_path: Path) -> None:
    missing = tmp_path / "nothing.pem"
    with pytest.raises(StartError, match=r"No such file|does not exist") as raised:
        if store == "redis":
            await open_redis(f"rediss://127.0.0.1:1/0?ssl_ca_certs={missing}", wait_seconds=0.2)
        else:
            await open_pool(f"postgresql://a@127.0.0.1:1/b?sslmode=verify-full&sslrootcert={missing}", wait_seconds=0.2)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:hunter2@127.0.0.1:1/0?ssl_ca_certs=/ca.crt", "no parameter 'ssl_ca_certs' with redis://"),
        ("rediss://:hunter2@127.0.0.1:1/0?ssl_ca_cert=/ca.crt", "no parameter 'ssl_ca_cert' with rediss://"),
        ("redis://:hunter2@127.0.0.1:1/0?max_connections=many", "Invalid value for 'max_connections'"),
    ],
)
async def test_a_wrong_parameter_of_redis_is_named(url: str, words: str) -> None:
    with pytest.raises(StartError, match=words) as raised:
        await open_redis(url)
    assert str(raised.value).startswith("TRADEUL_REDIS_URL ")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("wrong", WRONG)
async def test_the_vendor_with_a_wrong_certificate(
    stores: Stores, authority: Authority, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to the vendor: nothing is sent, and the reason is one line."""
    pair, trusted = certificate(authority, wrong)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with tls_proxy(redis_socket(stores), pair) as port:
        async with VendorClient(f"https://127.0.0.1:{port}", "hunter2", attempts=1) as vendor:
            with pytest.raises(VendorError) as raised:
                await vendor.snapshot()
        assert WRONG[wrong] in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
        (own,) = free_ports(1)
        settings = {
            "POLYGON_API_KEY": "hunter2",
            "POLYGON_WS_URL": f"wss://127.0.0.1:{port}/stocks",
            "POLYGON_REST_URL": f"https://127.0.0.1:{port}",
            "TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{own}",
        }
        async with running_feed(settings, settings) as feed, asyncio.timeout(60):
            while not (detail := (await feed.status()).detail).startswith("cannot connect"):
                await asyncio.sleep(0.02)
    assert WRONG[wrong] in detail
    assert len(detail.splitlines()) == 1
