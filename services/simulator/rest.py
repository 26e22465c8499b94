"""The vendor's REST interface: authorization, routes, and errors."""

import asyncio
import functools
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from services.simulator.market import Market
from services.simulator.rest_aggs import Aggregates
from services.simulator.rest_query import Query, Refused
from services.simulator.rest_reference import Reference
from services.simulator.rest_snapshot import Snapshots

SNAPSHOT: Final = "/v2/snapshot/locale/us/markets/stocks/tickers"
RANGE: Final = re.compile(r"/v2/aggs/ticker/([^/]+)/range/([^/]+)/([^/]+)/([^/]+)/([^/]+)")
GROUPED: Final = re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/([^/]+)")
PREVIOUS: Final = re.compile(r"/v2/aggs/ticker/([^/]+)/prev")


class RestAnswer(NamedTuple):
    status: int
    body: bytes


class Rest:
    """`answer(path, query, key, base)` for a GET; `base` is scheme and host for next_url."""

    def __init__(self, market: Market, seed: int) -> None:
        self._aggregates = Aggregates(market)
        self._snapshots = Snapshots(market, self._aggregates)
        self._reference = Reference(market, seed)
        self._encode = msgspec.json.Encoder().encode
        self.requests = 0
        # One: they would only share the same core, and each keep memory of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rest")

    def close(self) -> None:
        """Waits for the answer under way."""
        self._thread.shutdown(cancel_futures=True)

    async def answer(self, path: str, query: Query, key: str, base: str) -> RestAnswer:
        """`path` is still percent-encoded. What takes long is done on a thread, so that the market continues."""
        self.requests += 1
        request_id = f"{self.requests:032x}"
        try:
            if not key.strip():
                raise Refused(401, "API Key was not provided")
            found = self._route(path, query, base)
            if callable(found):
                found = await asyncio.get_running_loop().run_in_executor(self._thread, found)
        except Refused as refused:
            return RestAnswer(refused.status, self._encode({**refused.body, "request_id": request_id}))
        if isinstance(found, str):
            return RestAnswer(200, f'{{"request_id":"{request_id}",{found}}}'.encode())
        if isinstance(found, dict) and "serverTime" not in found:
            found["request_id"] = request_id
        return RestAnswer(200, self._encode(found))

    def _route(self, path: str, query: Query, base: str) -> Any:
        """The answer: an object, the JSON of its members, or a function that gives one of these."""
        path = path.rstrip("/") or "/"
        if path == SNAPSHOT:
            return self._snapshots.all(query)
        if path.startswith(SNAPSHOT + "/"):
            return self._snapshots.one(unquote(path.removeprefix(SNAPSHOT + "/")))
        if match := RANGE.fullmatch(path):
            ticker, *parts = map(unquote, match.groups())
            return self._aggregates.range(ticker, path, (parts[0], parts[1], parts[2], parts[3]), query, base)
        if match := GROUPED.fullmatch(path):
            return functools.partial(self._aggregates.grouped, match[1], query)
        if match := PREVIOUS.fullmatch(path):
            return functools.partial(self._aggregates.previous, unquote(match[1]), query)
        if path.startswith("/v3/reference/"):
            return self._route_reference(path, query, base)
        if path == "/stocks/vX/float":
            return self._reference.floats(path, query, base)
        if path == "/v1/marketstatus/now":
            return self._reference.status_now()
        if path == "/v1/marketstatus/upcoming":
            return self._reference.upcoming()
        raise Refused(404, f"page not found: {path}")

    def _route_reference(self, path: str, query: Query, base: str) -> Any:
        what, _, which = path.removeprefix("/v3/reference/").partition("/")
        if what == "tickers":
            return (
                self._reference.ticker(unquote(which), query) if which else self._reference.tickers(path, query, base)
            )
        if what == "conditions" and not which:
            return self._reference.conditions(path, query, base)
        if what == "splits" and not which:
            return self._reference.splits(path, query, base)
        if what == "exchanges" and not which:
            return self._reference.exchanges()
        raise Refused(404, f"page not found: {path}")
