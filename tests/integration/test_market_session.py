"""market_session on a real server: its stream, the feed's clock, the vendor's closures, its copy in Redis."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from tradeul.v1 import (
    data_ingest_pb2,
    market_session_pb2,
    market_session_pb2_grpc,
    session_pb2,
    stream_pb2,
)

from services.cli.local import embedded
from services.cli.local.process import ChildProcess
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.clock import NEW_YORK, MeshClock, monotonic_ns, ns_of
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import open_redis
from services.market_session.service import MarketSession
from tests.support.mesh import free_ports
from tests.support.refusals import Refusal, refusal
from tests.support.vendor_server import VendorServer

POLL_SECONDS = 0.01
EOF = grpc.aio.EOF  # type: ignore[attr-defined]
Request = market_session_pb2.SubscribeSessionRequest
OPEN = Request(open=market_session_pb2.WatchSessionRequest())
NOW = market_session_pb2.GetCurrentSessionRequest()


class SetClock:
    """A wall clock that shows a New York time when it is first read."""

    kind: Literal["wall", "feed"] = "wall"

    def __init__(self, text: str) -> None:
        self._start = ns_of(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK))
        self._began: int | None = None

    def now_ns(self) -> int | None:
        now = monotonic_ns()
        self._began = self._began or now
        return self._start + now - self._began


class Running:
    """A running service and what asks it."""

    def __init__(self, host: Host, channel: grpc.aio.Channel) -> None:
        self.host = host
        # The types of grpc.aio know less of streams than there is.
        self.stub: Any = market_session_pb2_grpc.MarketSessionServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def refused(self, ask: Callable[[], Any]) -> Refusal:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask()
        return refusal(caught.value)

    async def until(self, session: str, trading_date: str) -> market_session_pb2.CurrentSession:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer: market_session_pb2.CurrentSession = await self.stub.GetCurrentSession(NOW)
                if (session_pb2.Session.Name(answer.current_session), answer.trading_date) == (session, trading_date):
                    return answer
            await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def running(
    clock: MeshClock | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """The service; its watchers are gone after it."""
    settings = Settings.load(
        {
            "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            # Nobody is there, unless a test says so.
            "POLYGON_REST_URL": "http://127.0.0.1:9",
            "TRADEUL_CLOCK": "feed" if clock is None else "wall",
            **(environment or {}),
        }
    )
    host = Host(MarketSession(settings, clock))
    await host.start()
    try:
        async with open_channel(f"127.0.0.1:{host.port}") as channel:
            yield Running(host, channel)
    finally:
        await host.stop()
    assert REGISTRY.get_sample_value("tradeul_subscribers", {"service": "market_session", "stream": "session"}) == 0


def kind_of(message: market_session_pb2.WatchSessionResponse) -> str | None:
    return message.WhichOneof("response")


async def test_the_session_changes_for_those_who_watch() -> None:
    async with running(SetClock("2026-03-10T09:29:57")) as service:
        stream = service.stub.WatchSession(market_session_pb2.WatchSessionRequest())
        opened, first, second = [await stream.read() for _ in range(3)]
        assert [kind_of(each) for each in (opened, first, second)] == ["opened", "session", "session"]
        shown = [each.session.current_session for each in (first, second)]
        assert shown == [session_pb2.PRE_MARKET, session_pb2.MARKET_OPEN]
        assert first.session.seconds_until_next_session <= 3
        assert 23_399 < second.session.seconds_until_next_session <= 23_400
        assert (await service.stub.GetCurrentSession(NOW)).current_session == shown[1]
        stream.cancel()


async def test_subscribe_speaks_the_grammar() -> None:
    async with running(SetClock("2026-03-10T10:00:00")) as service:
        call = service.stub.SubscribeSession()
        await call.write(OPEN)
        assert [kind_of(await call.read()) for _ in range(2)] == ["opened", "session"]
        await call.write(Request(ack=stream_pb2.StreamAck()))
        await call.write(Request(cancel=stream_pb2.StreamCancel()))
        assert await call.read() is EOF
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([], "OPEN_EXPECTED"),
        ([Request(ack=stream_pb2.StreamAck())], "OPEN_EXPECTED"),
        ([OPEN, OPEN], "OPEN_REPEATED"),
        ([OPEN, Request()], "INVALID_REQUEST"),
    ],
)
async def test_wrong_requests_end_the_stream(requests: list[Request], reason: str) -> None:
    async with running(SetClock("2026-03-10T10:00:00")) as service:

        async def ask() -> None:
            async for _ in service.stub.SubscribeSession(iter(requests)):
                pass

        if len(requests) == 2:
            # The client's end of sending is not the end: only the wrong request is.
            call = service.stub.SubscribeSession()

            async def ask() -> None:
                for request in requests:
                    await call.write(request)
                while await call.read() is not EOF:
                    pass
                raise grpc.aio.AioRpcError(  # type: ignore[call-arg]
                    await call.code(),
                    await call.initial_metadata(),
                    await call.trailing_metadata(),
                    await call.details(),
                )

        answer = await service.refused(ask)
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_a_client_that_only_listens_goes_on_and_is_told_of_the_end() -> None:
    async with running(SetClock("2026-03-10T10:00:00")) as service:
        call = service.stub.SubscribeSession()
        await call.write(OPEN)
        await call.done_writing()
        assert [kind_of(await call.read()) for _ in range(2)] == ["opened", "session"]
        watching = service.stub.WatchSession(market_session_pb2.WatchSessionRequest())
        assert [kind_of(await watching.read()) for _ in range(2)] == ["opened", "session"]
        stop = asyncio.create_task(service.host.stop())
        assert kind_of(await call.read()) == kind_of(await watching.read()) == "going_away"
        assert await call.read() is EOF
        await stop


async def test_trading_days() -> None:
    Day = market_session_pb2.GetTradingDayRequest
    async with running(SetClock("2026-03-10T10:00:00")) as service:
        day = await service.stub.GetTradingDay(Day(date="2026-11-27"))
        assert (day.date, day.is_early_close) == ("2026-11-27", True)
        assert day.market_close_ns - day.market_open_ns == 3.5 * 3600 * 1e9
        assert (await service.stub.GetTradingDay(Day(date="2026-11-27", direction=Day.NEXT))).date == "2026-11-30"
        assert (await service.stub.GetTradingDay(Day(date="2026-11-27", direction=Day.PREVIOUS))).date == "2026-11-25"
        days = await service.stub.ListTradingDays(
            market_session_pb2.ListTradingDaysRequest(start_date="2026-11-23", end_date="2026-11-30")
        )
        assert [each.date[-2:] for each in days.days] == ["23", "24", "25", "27", "30"]
        for request, code, reason in (
            (Day(date="2026-11-26"), grpc.StatusCode.NOT_FOUND, "NOT_A_TRADING_DAY"),
            (Day(date="today"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DATE"),
            (Day(date="1999-01-04"), grpc.StatusCode.OUT_OF_RANGE, "DATE_OUT_OF_CALENDAR"),
            (Day(date="2026-11-27", direction=7), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),  # type: ignore[arg-type]
        ):
            answer = await service.refused(lambda request=request: service.stub.GetTradingDay(request))  # type: ignore[misc]
            assert (answer.code, answer.reason) == (code, reason)


class Sequencer:
    """The sequencer as far as its clock goes; `say` sends an event time."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._times: asyncio.Queue[str] = asyncio.Queue()

    def say(self, text: str) -> None:
        self._times.put_nowait(text)

    async def WatchClock(
        self, _: data_ingest_pb2.WatchClockRequest, __: object
    ) -> AsyncIterator[data_ingest_pb2.WatchClockResponse]:
        while True:
            ns = ns_of(datetime.fromisoformat(await self._times.get()).replace(tzinfo=NEW_YORK))
            answer = data_ingest_pb2.WatchClockResponse(position=stream_pb2.StreamPosition(epoch=self._epoch))
            answer.event_time.FromNanoseconds(ns)
            yield answer


@contextlib.asynccontextmanager
async def sequencer(port: int, epoch: int) -> AsyncIterator[Sequencer]:
    servicer = Sequencer(epoch)
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        servicer.WatchClock,
        request_deserializer=data_ingest_pb2.WatchClockRequest.FromString,
        response_serializer=data_ingest_pb2.WatchClockResponse.SerializeToString,
    )
    service = data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"WatchClock": handler}),))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


async def test_the_feeds_clock() -> None:
    (port,) = free_ports(1)
    async with running(environment={"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{port}"}) as service:
        # The calendar is there before the time is: the sequencer needs it to begin.
        assert (await service.health.Check(health_pb2.HealthCheckRequest())).status == 1
        assert (await service.stub.GetTradingDay(market_session_pb2.GetTradingDayRequest(date="2026-03-10"))).date
        for ask in (
            lambda: service.stub.GetCurrentSession(NOW),
            lambda: service.stub.WatchSession(market_session_pb2.WatchSessionRequest()).read(),
        ):
            answer = await service.refused(ask)
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "CLOCK_UNKNOWN")
        async with sequencer(port, 100) as first:
            first.say("2026-03-10T09:00:00")
            session = await service.until("PRE_MARKET", "2026-03-10")
            assert session.seconds_until_next_session == 1800
            stream = service.stub.WatchSession(market_session_pb2.WatchSessionRequest())
            assert [kind_of(await stream.read()) for _ in range(2)] == ["opened", "session"]
            # Within an epoch the time does not go back.
            first.say("2026-03-10T08:00:00")
            first.say("2026-03-10T16:30:00")
            changed = await stream.read()
            assert changed.session.current_session == session_pb2.POST_MARKET
            stream.cancel()
        # The sequencer is away: the time stands still. Then one begins that replays another day.
        await service.until("POST_MARKET", "2026-03-10")
        async with sequencer(port, 200) as second:
            second.say("2026-03-07T12:00:00")
            await service.until("CLOSED", "2026-03-09")


async def test_a_wall_clock_that_is_wrong_is_not_shown() -> None:
    """The sequencer has asked the vendor."""
    (port,) = free_ports(1)
    environment = {"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{port}", "TRADEUL_CLOCK": "wall"}
    async with running(environment=environment) as service, sequencer(port, 100) as feed:
        feed.say("2026-03-10T09:00:00")
        session = await service.until("PRE_MARKET", "2026-03-10")
        assert 1790 < session.seconds_until_next_session <= 1800


async def test_a_time_outside_of_the_calendar_is_an_unhealthy_reason() -> None:
    (port,) = free_ports(1)
    async with running(environment={"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{port}"}) as service:
        async with sequencer(port, 100) as feed:
            feed.say("1999-03-10T09:00:00")
            while (await service.health.Check(health_pb2.HealthCheckRequest())).status == 1:
                await asyncio.sleep(POLL_SECONDS)
            assert (await service.refused(lambda: service.stub.GetCurrentSession(NOW))).reason == "DATE_OUT_OF_CALENDAR"
            feed.say("2026-03-10T09:00:00")
            await service.until("PRE_MARKET", "2026-03-10")
            while (await service.health.Check(health_pb2.HealthCheckRequest())).status != 1:
                await asyncio.sleep(POLL_SECONDS)


def rejected(reason: str) -> float:
    labels = {"service": "market_session", "reason": reason}
    return REGISTRY.get_sample_value("tradeul_rejected_total", labels) or 0


async def test_the_vendors_closures() -> None:
    def rest(path: str, _: dict[str, str]) -> Any:
        if path != "/v1/marketstatus/upcoming":
            return None
        return [
            {"date": "2026-03-10", "exchange": "NYSE", "status": "closed", "name": "Mourning"},
            {"date": "2026-03-11", "exchange": "NYSE", "status": "early-close", "close": "2026-03-11T17:00:00.000Z"},
            {"date": "2026-03-12", "exchange": "NYSE", "status": "early-close", "close": "soon"},
            {"date": "2026-03-12", "exchange": "NYSE"},
            "holiday",
        ]

    before = rejected("holiday_close")
    async with (
        VendorServer(rest) as vendor,
        running(SetClock("2026-03-10T10:00:00"), {"POLYGON_REST_URL": vendor.rest_url}) as service,
    ):
        session = await service.until("CLOSED", "2026-03-11")
        assert session.is_holiday
        assert not session.is_trading_day
        day = await service.stub.GetTradingDay(market_session_pb2.GetTradingDayRequest(date="2026-03-11"))
        assert day.is_early_close
        assert rejected("holiday_close") == before + 1
        day = await service.stub.GetTradingDay(market_session_pb2.GetTradingDayRequest(date="2026-03-12"))
        assert not day.is_early_close


async def test_the_copy_in_redis_and_redis_away(tmp_path: Path) -> None:
    """It is written, lives a minute, comes back after Redis was away; nothing else notices."""
    url = embedded.redis_url(tmp_path)
    async with running(SetClock("2026-03-10T10:00:00"), {"TRADEUL_REDIS_URL": url}) as service:
        service.host.service._copy._renew_seconds = 0.05  # type: ignore[attr-defined]
        assert (await service.stub.GetCurrentSession(NOW)).trading_date == "2026-03-10"
        for _ in range(2):
            server = await ChildProcess.start(embedded.redis_spec(tmp_path), lambda *_: None)
            try:
                client = await open_redis(url)
                while (text := await client.get("session:current")) is None:
                    await asyncio.sleep(POLL_SECONDS)
                assert json.loads(text)["current_session"] == "MARKET_OPEN"
                assert 0 < await client.ttl("session:current") <= 60
                await client.flushall()
                await client.aclose()
            finally:
                await server.stop()
            assert (await service.health.Check(health_pb2.HealthCheckRequest())).status == 1
