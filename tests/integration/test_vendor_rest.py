"""The vendor's REST client against a small real HTTP server with a script of answers."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest

from services.kit.vendor.client import VendorClient, VendorError

BAR = {"o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 100, "vw": 1.2, "t": 1_763_900_000_000, "n": 3}


@dataclass
class Answer:
    """One HTTP answer; `cut` bytes at the end are promised and never sent."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0


@dataclass
class Request:
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


class Server:
    """Plays `answers` in order and then repeats the last one; keeps what was asked."""

    def __init__(self, answers: list[Answer] | Callable[[Request], Answer]) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.connections = 0
        self.url = ""
        self.handlers: set[asyncio.Task[None]] = set()

    def next_answer(self, request: Request) -> Answer:
        if callable(self.answers):
            return self.answers(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.current_task()
        assert handler is not None
        self.handlers.add(handler)
        try:
            while line := await reader.readline():
                target = line.split()[1].decode()
                headers = {}
                while header := (await reader.readline()).decode().strip():
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                self.requests.append(request := Request(target, headers))
                answer = self.next_answer(request)
                head = f"HTTP/1.1 {answer.status} X\r\nContent-Length: {len(answer.body)}\r\n"
                head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
                writer.write(head.encode() + b"\r\n" + answer.body[: len(answer.body) - answer.cut])
                await writer.drain()
                if answer.cut:
                    return
        finally:
            self.handlers.discard(handler)
            writer.close()


@asynccontextmanager
async def serving(answers: list[Answer] | Callable[[Request], Answer]) -> AsyncIterator[Server]:
    server = Server(answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        # A kept-alive connection's handler ends when its client closes.
        await asyncio.gather(*server.handlers)


def client(server: Server, **options: object) -> VendorClient:
    settings = {"attempts": 4, "retry_base_s": 0.001, "retry_max_s": 0.01, "rng": random.Random(1), "timeout_s": 5.0}
    return VendorClient(server.url, "KEY", **(settings | options))  # type: ignore[arg-type]


def ok(**body: object) -> Answer:
    return Answer(json.dumps({"status": "OK", **body}).encode())


async def test_snapshot_is_typed_and_authorised() -> None:
    ticker = {
        "ticker": "BRK.A",
        "updated": 1_763_900_000_000_000_000,
        "day": {"o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "vw": 0},
        "prevDay": BAR,
        "min": {"av": 28_724_441, "t": 1_763_900_000_000, "n": 1, "o": 1, "h": 1, "l": 1, "c": 1, "v": 5, "vw": 1},
        "lastTrade": {"c": [14, 41], "i": "4046", "p": 120.47, "s": 236, "t": 1_763_900_000_000_000_001, "x": 10},
        "lastQuote": {"P": 120.47, "S": 4, "p": 120.46, "s": 8, "t": 1_763_900_000_000_000_002},
        "unheard_of": {"x": [1, 2]},
    }
    async with serving([ok(tickers=[ticker, {"ticker": "NEW"}])]) as server, client(server) as vendor:
        first, second = await vendor.snapshot()
    assert server.requests[0].headers["authorization"] == "Bearer KEY"
    assert (first.ticker, first.day.v, first.prev_day.c, first.min.av) == ("BRK.A", 0, 1.5, 28_724_441)
    assert (first.last_trade.p, first.last_trade.t) == (120.47, 1_763_900_000_000_000_001)
    assert (first.last_quote.p, first.last_quote.ask, first.last_quote.ask_size) == (120.46, 120.47, 4)
    assert (second.ticker, second.day, second.last_trade, second.updated) == ("NEW", None, None, 0)


async def test_every_endpoint_asks_what_the_vendor_documents() -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/v1/marketstatus/upcoming":
            return Answer(b'[{"exchange":"NYSE","name":"Christmas","date":"2026-12-25","status":"closed"}]')
        if request.path == "/v1/marketstatus/now":
            return Answer(b'{"market":"open","serverTime":"2026-11-23T12:00:00-05:00","exchanges":{"nyse":"open"}}')
        if request.path.startswith("/v3/reference/tickers/"):
            return ok(results={"ticker": "BAC/PL", "market_cap": 1e9, "sic_code": "3571"})
        if "grouped" in request.path:
            return ok(results=[{"T": "AAPL", **BAR}])
        if "/range/" in request.path:
            return ok(results=[BAR])
        if request.path == "/v3/reference/tickers":
            return ok(results=[{"ticker": "AAPL", "type": "CS"}])
        if request.path == "/v3/reference/conditions":
            rules = {"consolidated": {"updates_high_low": False, "updates_open_close": False, "updates_volume": True}}
            return ok(results=[{"id": 2, "name": "Average Price Trade", "update_rules": rules}])
        row = {"ticker": "AAPL", "execution_date": "2020-08-31", "split_from": 1, "split_to": 4}
        return ok(results=[row])

    async with serving(answer) as server, client(server) as vendor:
        assert (await vendor.market_holidays())[0].date == "2026-12-25"
        assert (await vendor.market_status()).server_time == "2026-11-23T12:00:00-05:00"
        details = await vendor.ticker_details("BAC/PL")
        assert details is not None and details.market_cap == 1e9
        assert server.requests[-1].target == "/v3/reference/tickers/BAC%2FPL"
        assert (await vendor.grouped_daily("2026-11-20"))[0].symbol == "AAPL"
        assert server.requests[-1].target == "/v2/aggs/grouped/locale/us/market/stocks/2026-11-20?adjusted=true"
        assert (await vendor.aggs("AAPL", 1, "minute", "2026-11-01", "2026-11-20", adjusted=False))[0].n == 3
        assert server.requests[-1].path == "/v2/aggs/ticker/AAPL/range/1/minute/2026-11-01/2026-11-20"
        assert server.requests[-1].query == {"adjusted": "false", "sort": "asc", "limit": "50000"}
        assert (await vendor.volume_bars("AAPL", 5, "minute", "2026-11-01", "2026-11-20"))[0].v == 100
        assert server.requests[-1].path == "/v2/aggs/ticker/AAPL/range/5/minute/2026-11-01/2026-11-20"
        assert server.requests[-1].query == {"adjusted": "true", "sort": "asc", "limit": "50000"}
        assert (await vendor.tickers())[0].type == "CS"
        assert (await vendor.conditions())[0].update_rules.consolidated.updates_volume is True
        assert (await vendor.splits(start="2020-01-01"))[0].split_to == 4
        assert server.requests[-1].query["execution_date.gte"] == "2020-01-01"
        assert server.connections == 1, "expected one kept-alive connection"
        assert not vendor.set_aside


async def test_pages_stay_on_the_configured_host() -> None:
    def answer(request: Request) -> Answer:
        page = int(request.query.get("cursor", "0"))
        following = f"https://elsewhere.example/v3/reference/tickers?cursor={page + 1}&apiKey=LEAK"
        return ok(results=[{"ticker": f"P{page}"}], next_url=following if page < 2 else None)

    async with serving(answer) as server, client(server) as vendor:
        assert [row.ticker for row in await vendor.tickers()] == ["P0", "P1", "P2"]
    assert [request.query.get("apiKey") for request in server.requests] == [None, None, None]


async def test_a_cursor_that_repeats_itself_is_an_error() -> None:
    async with serving([ok(results=[], next_url="/v3/reference/tickers?cursor=a")]) as server, client(server) as vendor:
        with pytest.raises(VendorError, match="expected a new next_url"):
            await vendor.tickers()


async def test_malformed_items_are_counted_and_the_others_kept() -> None:
    rows = [BAR, {"o": "x"}, 5, None, {**BAR, "t": None}, {**BAR, "o": 9}]
    async with serving([ok(results=rows)]) as server, client(server) as vendor:
        bars = await vendor.aggs("AAPL", 1, "day", 0, 1)
    assert [bar.o for bar in bars] == [1.0, 9.0]
    assert vendor.set_aside == {"AggregateBar": 4}


@pytest.mark.parametrize(
    "bad",
    [
        Answer(b"oops", 500),
        Answer(b"slow down", 429),
        Answer(b"slow down", 429, {"Retry-After": "1"}),
        Answer(b"x", 429, {"Date": "Mon, 23 Nov 2026 12:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 12:00:01 GMT"}),
        Answer(b"x", 429, {"Retry-After": "soon"}),
        Answer(b'{"results":[{"o":1'),
        Answer(b'{"results":[]}', cut=3),
        Answer(b"", 503),
        Answer(b"\x00\x01", 200, {"Content-Encoding": "gzip"}),
    ],
    ids=["500", "429", "retry-after", "retry-date", "retry-junk", "truncated-json", "cut-body", "503", "bad-gzip"],
)
async def test_what_may_pass_is_asked_again(bad: Answer) -> None:
    async with serving([bad, bad, ok(results=[BAR])]) as server, client(server) as vendor:
        assert len(await vendor.aggs("AAPL", 1, "day", 0, 1)) == 1
    assert (len(server.requests), vendor.retries) == (3, 2)


async def test_gives_up_and_says_why() -> None:
    async with serving([Answer(b"down", 500)]) as server, client(server) as vendor:
        with pytest.raises(VendorError, match=r"HTTP 500: down \(after 4 attempts") as caught:
            await vendor.conditions()
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (500, True, 4)


async def test_a_refused_key_is_not_asked_again() -> None:
    async with serving([Answer(b'{"error":"Unknown API Key"}', 401)]) as server, client(server) as vendor:
        with pytest.raises(VendorError, match="Unknown API Key") as caught:
            await vendor.snapshot()
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (401, False, 1)


async def test_unknown_symbol_has_no_details() -> None:
    async with serving([Answer(b"{}", 404)]) as server, client(server) as vendor:
        assert await vendor.ticker_details("NOPE") is None


async def test_connection_refused_is_a_vendor_error() -> None:
    async with serving([ok()]) as server:
        pass
    async with client(server, attempts=2) as vendor:
        with pytest.raises(VendorError, match="ClientConnectorError"):
            await vendor.snapshot()


async def test_requests_in_flight_are_bounded() -> None:
    async with serving([ok(results=[BAR])]) as server, client(server, concurrency=2) as vendor:
        await asyncio.gather(*(vendor.aggs(f"S{i}", 1, "day", 0, 1) for i in range(20)))
    assert len(server.requests) == 20
    assert server.connections <= 2


async def test_an_answer_of_another_shape_is_said() -> None:
    async with serving([Answer(b"[1,2]")]) as server, client(server) as vendor:
        with pytest.raises(VendorError, match="expected an object with results"):
            await vendor.snapshot()
        with pytest.raises(VendorError, match="expected a market status"):
            await vendor.market_status()
        assert await vendor.market_holidays() == []
    assert vendor.set_aside == {"MarketHoliday": 2}
