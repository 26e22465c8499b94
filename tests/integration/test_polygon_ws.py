"""polygon_ws between a scripted vendor and a sequencer: nothing lost, nothing twice, everything odd counted."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tradeul.v1 import polygon_ws_pb2, stream_pb2
from websockets.exceptions import ConnectionClosed

from services.health.watcher import feed_warnings
from services.polygon_ws.connection import FeedState, Pauses, Timing
from tests.support.feed import RunningFeed, message, quick, running_feed, trade
from tests.support.vendor_server import VendorServer

Request = polygon_ws_pb2.SubscribeMarketRequest
Update = polygon_ws_pb2.UpdateSubscriptionsRequest
POLL_SECONDS = 0.005


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    async with VendorServer(key="test-key") as server:
        yield server


async def until_state(feed: RunningFeed, state: FeedState) -> polygon_ws_pb2.FeedStatus:
    while (status := await feed.status()).state != state:
        await asyncio.sleep(POLL_SECONDS)
    return status


async def health(feed: RunningFeed) -> int:
    answer = await health_pb2_grpc.HealthStub(feed.channel).Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def test_trades_reach_the_sequencer(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed, feed.sequencer() as sequencer:
        await vendor.joins(1)
        await sequencer.until("current")
        await vendor.send(message(trade("AAPL", 1), trade("BRK.B", 2)))
        await vendor.send(message(trade("AAPL", 3)))
        await sequencer.until_trades(3)
        assert sequencer.trades == [("AAPL", 1.0), ("BRK.B", 2.0), ("AAPL", 3.0)]
        assert sequencer.sequences == list(range(1, len(sequencer.sequences) + 1))
        assert sequencer.kinds[:2] == ["opened", "current"]
        status = await feed.status()
        assert (status.state, status.events, list(status.subscriptions)) == (FeedState.SUBSCRIBED, 3, ["T.*"])
        assert status.HasField("last_message_time")
        assert await health(feed) == health_pb2.HealthCheckResponse.SERVING


async def test_malformed_input_is_set_aside(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed, feed.sequencer() as sequencer:
        await vendor.joins(1)
        await vendor.send('[{"ev":"T","sym":"AAPL"')
        await vendor.send('{"ev":"T"}')
        await vendor.send(b"\x00\xff binary")
        await vendor.send(
            message(
                trade("AAPL", 1),
                {"ev": "T", "sym": "AAPL", "p": 1.0, "s": 1},
                trade("AAPL", 1, p="1.5"),
                trade("1BAD", 1),
                trade("AAPL", 1, t=0),
                {"ev": "FMV", "sym": "AAPL"},
                "text",
                trade("AAPL", 2),
            )
        )
        await sequencer.until_trades(2)
        assert sequencer.trades == [("AAPL", 1.0), ("AAPL", 2.0)]
        assert dict((await feed.status()).rejected) == {
            "malformed_json": 2,
            "not_an_array": 1,
            "missing_field": 1,
            "wrong_type": 2,
            "symbol": 1,
            "time": 1,
            "unknown_event": 1,
        }


async def test_reconnects_and_loses_nothing_it_got(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed, feed.sequencer() as sequencer:
        for attempt in range(1, 4):
            await vendor.joins(attempt)
            await vendor.send(message(trade("AAPL", attempt)))
            await sequencer.until_trades(attempt)
            await vendor.drop()
        await vendor.joins(4)
        assert [price for _, price in sequencer.trades] == [1.0, 2.0, 3.0]
        assert sequencer.sequences == [1, 2, 3]
        assert (await until_state(feed, FeedState.SUBSCRIBED)).reconnects >= 3


async def test_a_gap_of_the_feed_comes_where_it_was(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed:
        await vendor.joins(1)
        async with feed.sequencer() as sequencer:
            await vendor.send(message(trade("AAPL", 1)))
            await sequencer.until_trades(1)
            await vendor.drop()
            lost = (await sequencer.until("feed_gap")).feed_gap
            back = (await sequencer.until("feed_gap")).feed_gap
            assert (lost.position.sequence, back.position.sequence) == (1, 1)
            assert lost.from_ns == back.from_ns > 0
            assert not lost.HasField("to_ns")
            assert back.to_ns > back.from_ns
            assert lost.reason == back.reason != ""
        await vendor.joins(2)
        await vendor.send(message(trade("AAPL", 2)))
        # A sequencer that comes back and has nothing from after the gap gets the gap first.
        async with feed.sequencer((sequencer.epoch, 1)) as again:
            await again.until_trades(1)
            assert again.kinds == ["opened", "feed_gap", "feed_gap", "current", "batch"] or again.kinds == [
                "opened", "feed_gap", "feed_gap", "batch"
            ]  # fmt: skip
        async with feed.sequencer((sequencer.epoch, 2)) as later:
            await later.until("current")
            assert later.kinds == ["opened", "current"]


async def test_sequencer_comes_back_with_its_position(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed:
        await vendor.joins(1)
        async with feed.sequencer() as first:
            for number in (1, 2, 3):
                await vendor.send(message(trade(f"S{number}", number)))
                await first.until_trades(number)
            await first.ack(1)
            while (await feed.status()).unacknowledged_batches != 2:
                await asyncio.sleep(POLL_SECONDS)
        await vendor.send(message(trade("S4", 4)))
        while (await feed.status()).events != 4:
            await asyncio.sleep(POLL_SECONDS)
        async with feed.sequencer(first.position) as resumed:
            await resumed.until_trades(1)
            assert resumed.sequences == [4]
            assert resumed.trades == [("S4", 4.0)]
            assert not resumed.resets
        async with feed.sequencer() as fresh:
            await fresh.until("current")
            assert fresh.sequences == [2, 3, 4]
            assert fresh.trades == [("S2", 2.0), ("S3", 3.0), ("S4", 4.0)]
            # Acknowledged, so gone: a sequencer that requests it gets a reset.
            await fresh.ack()
            while (await feed.status()).unacknowledged_batches:
                await asyncio.sleep(POLL_SECONDS)
        async with feed.sequencer((fresh.epoch, 1)) as late:
            await late.until("current")
            assert late.kinds == ["opened", "reset", "current"]
            assert late.symbols == ["S1", "S2", "S3", "S4"]
        async with feed.sequencer((fresh.epoch - 100, 7)) as other_epoch:
            await other_epoch.until("current")
            assert len(other_epoch.resets) == 1


async def test_refused_key_waits_for_an_operator(vendor: VendorServer) -> None:
    async with running_feed(vendor, {"POLYGON_API_KEY": "wrong"}) as feed:
        status = await until_state(feed, FeedState.REFUSED)
        assert status.detail == "auth_failed: authentication failed"
        assert await health(feed) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert vendor.connections == 1
        vendor.key = "wrong"
        await feed.stub.UpdateSubscriptions(Update())
        await until_state(feed, FeedState.SUBSCRIBED)
        assert await health(feed) == health_pb2.HealthCheckResponse.SERVING
        assert vendor.connections == 2


async def test_a_line_that_flaps_is_back_at_once_each_time(vendor: VendorServer) -> None:
    """With pauses that double, the sixteenth would be minutes long."""
    timing = Timing(first_backoff=0.005, longest_backoff=600.0, longest_flap=0.02, rng=random.Random(7))
    async with running_feed(vendor, timing=timing) as feed:
        for attempt in range(1, 17):
            await vendor.joins(attempt)
            # Closed before that, it would be a line that never worked, whose pauses grow.
            await until_state(feed, FeedState.SUBSCRIBED)
            await vendor.close(1001, "restarting")
        await vendor.joins(17)
        await until_state(feed, FeedState.SUBSCRIBED)


def test_pauses_grow_while_no_connection_gets_as_far_as_its_subscriptions() -> None:
    pauses = Pauses(Timing(first_backoff=1.0, longest_backoff=64.0, longest_flap=4.0, steady=1.0))
    for bound in (1, 2, 4, 8, 16, 32, 64, 64):
        assert bound / 2 <= pauses.next(None) <= bound
    for bound in (1, 2, 4, 4, 4):
        assert bound / 2 <= pauses.next(0.1) <= bound
    assert pauses.next(1.0) <= 1.0
    # Being subscribed once makes the next failure the first one again.
    assert pauses.next(None) <= 1.0


async def test_a_log_in_that_fails_is_tried_again(vendor: VendorServer) -> None:
    timing = Timing(first_backoff=0.005, longest_backoff=0.02, log_in_again=0.05)
    async with running_feed(vendor, {"POLYGON_API_KEY": "not yet"}, timing=timing) as feed:
        await until_state(feed, FeedState.REFUSED)
        vendor.key = "not yet"
        await until_state(feed, FeedState.SUBSCRIBED)
        assert await health(feed) == health_pb2.HealthCheckResponse.SERVING


async def test_evicted_does_not_fight(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed, feed.sequencer() as sequencer:
        await vendor.joins(1)
        await vendor.send(message(trade("AAPL", 1)))
        await vendor.evict()
        status = await until_state(feed, FeedState.REFUSED)
        assert status.detail.startswith("max_connections")
        assert await health(feed) == health_pb2.HealthCheckResponse.NOT_SERVING
        # What had come before still reaches the sequencer.
        await sequencer.until_trades(1)
        assert vendor.connections == 1
        await feed.stub.UpdateSubscriptions(Update())
        await vendor.joins(2)
        await vendor.send(message(trade("AAPL", 2)))
        await sequencer.until_trades(2)


async def test_a_channel_that_the_plan_lacks_is_named_and_the_rest_goes_on(vendor: VendorServer) -> None:
    vendor.plan = ("A", "AM")
    wanted = {"TRADEUL_SUBSCRIPTIONS": "T.*,A.*,AM.*,LULD.*"}
    why = {name: f"not authorized to subscribe to {name}" for name in ("T.*", "LULD.*")}
    async with running_feed(vendor, wanted) as feed, feed.sequencer() as sequencer:
        while len((await feed.status()).refused_subscriptions) < 2:
            await asyncio.sleep(POLL_SECONDS)
        status = await until_state(feed, FeedState.SUBSCRIBED)
        assert dict(status.refused_subscriptions) == why
        assert [(notice.kind, notice.text, notice.count) for notice in status.notices] == [
            ("error", text, 1) for text in why.values()
        ]
        assert feed_warnings(status) == [f"polygon_ws: the vendor refuses {name}: {why[name]}" for name in sorted(why)]
        assert await health(feed) == health_pb2.HealthCheckResponse.SERVING
        bar = {"ev": "A", "sym": "AAPL", "v": 200, "av": 900, "o": 1, "h": 1, "l": 1, "c": 1}
        await vendor.send(message({**bar, "s": 1_763_994_600_000, "e": 1_763_994_601_000}))
        response = await sequencer.until("batch")
        assert list(response.batch.second_bars.accumulated_volume) == [900.0]
        # A plan that has it again says so with the next connection.
        vendor.plan = None
        await vendor.drop()
        while (await feed.status()).refused_subscriptions or feed.service.connection.subscriptions.unanswered:
            await asyncio.sleep(POLL_SECONDS)


async def test_a_plan_without_any_of_the_channels_waits_for_an_operator(vendor: VendorServer) -> None:
    vendor.plan = ("Q",)
    async with running_feed(vendor, {"TRADEUL_SUBSCRIPTIONS": "T.*,A.*"}) as feed:
        status = await until_state(feed, FeedState.REFUSED)
        assert status.detail == "the vendor refuses every subscription: not authorized to subscribe to T.*"
        assert await health(feed) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert feed_warnings(status)[0] == f"polygon_ws: REFUSED: {status.detail}"


async def test_the_vendors_words_are_kept_bounded_and_without_the_key(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed:
        await vendor.joins(1)
        await until_state(feed, FeedState.SUBSCRIBED)
        for _ in range(3):
            await vendor.send(message({"ev": "status", "status": "error", "message": "test-key may\nnot"}))
        await vendor.send(message({"ev": "status", "status": "slow", "message": "x" * 1000}))
        for number in range(20):
            await vendor.close(4000 + number, f"going down {number}")
            await vendor.joins(number + 2)
            if number == 0:
                first = await feed.status()
                while len(first.notices) < 3:
                    first = await feed.status()
        kept = [(notice.kind, notice.text, notice.count) for notice in first.notices]
        assert kept == [
            ("error", "*** may not", 3),
            ("slow", "x" * 299 + "\u2026", 1),
            ("close", "4000 going down 0", 1),
        ]
        last = (await feed.status()).notices
        assert [notice.text for notice in last] == [f"{4000 + n} going down {n}" for n in range(20)]


async def test_subscriptions_change_while_running(vendor: VendorServer) -> None:
    async with running_feed(vendor, {"TRADEUL_SUBSCRIPTIONS": "T.*,LULD.*"}) as feed:
        await vendor.asked("subscribe", "T.*,LULD.*")
        await until_state(feed, FeedState.SUBSCRIBED)
        answer = await feed.stub.UpdateSubscriptions(
            Update(subscribe=["T.AAPL", "Q.BRK.B", "A.*", "LULD.*"], unsubscribe=["T.*", "AM.*"])
        )
        assert list(answer.subscriptions) == ["LULD.*", "T.AAPL", "Q.BRK.B", "A.*"]
        await vendor.asked("subscribe", "T.AAPL,Q.BRK.B,A.*")
        await vendor.asked("unsubscribe", "T.*")
        for wrong in ("T.", "X.AAPL", "T.*,A.*", "T.AAPL ", "", "T.1BAD"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await feed.stub.UpdateSubscriptions(Update(subscribe=["T.MSFT", wrong]))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert repr(wrong) in str(raised.value.details())
        await vendor.drop()
        # A new connection asks for all that is wanted now.
        await vendor.asked("subscribe", "LULD.*,T.AAPL,Q.BRK.B,A.*")


async def test_newer_subscriber_takes_the_place(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed, feed.sequencer() as older:
        await older.until("current")
        async with feed.sequencer() as newer:
            await newer.until("current")
            assert await older.read() is None
            assert await older.code() is grpc.StatusCode.ABORTED
            await vendor.joins(1)
            await vendor.send(message(trade("AAPL", 1)))
            await newer.until_trades(1)


async def test_absent_sequencer_costs_the_oldest_batches(vendor: VendorServer) -> None:
    bound = 20_000
    async with running_feed(vendor, max_held_bytes=bound) as feed:
        await vendor.joins(1)
        async with feed.sequencer() as before:
            await vendor.send(message(trade("S0", 1)))
            await before.until_trades(1)
        for number in range(1, 40):
            await vendor.send(message(*(trade(f"S{number}", number * 100 + i) for i in range(50))))
            while (await feed.status()).events != 1 + 50 * number:
                await asyncio.sleep(POLL_SECONDS)
        buffer = feed.service.buffer
        buffer.flush()
        assert buffer.ring.held_bytes <= bound
        assert buffer.dropped_batches > 0
        async with feed.sequencer(before.position) as after:
            await after.until("current")
            assert len(after.resets) == 1
            # The newest trades are there, under their own names, and every lost one is counted.
            assert after.trades[-1] == ("S39", 3949.0)
            assert len(after.trades) + buffer.dropped_events == 1 + 50 * 39
            assert after.sequences == list(range(after.sequences[0], after.sequences[-1] + 1))


async def test_slow_sequencer_is_waited_for(vendor: VendorServer) -> None:
    """The vendor's sender outruns the sequencer by far; reading pauses and nothing is lost."""
    frames, rows = 1000, 200
    async with running_feed(vendor, pause_bytes=1_000_000) as feed, feed.sequencer() as sequencer:
        await vendor.joins(1)
        await sequencer.until("current")

        async def flood() -> None:
            for number in range(frames):
                await vendor.send(message(*(trade("AAPL", number * rows + i + 1) for i in range(rows))))

        flooding = asyncio.create_task(flood())
        was_paused = False
        while len(sequencer.trades) < frames * rows:
            assert await sequencer.read() is not None
            was_paused |= feed.service.connection.is_paused
            await asyncio.sleep(0.001)
            await sequencer.ack()
        await flooding
        assert was_paused
        assert feed.service.buffer.dropped_batches == 0
        assert [price for _, price in sequencer.trades] == [float(i + 1) for i in range(frames * rows)]
        assert not sequencer.resets


async def test_fragments_and_oversize(vendor: VendorServer) -> None:
    limit = 1000
    async with running_feed(vendor, max_message_bytes=limit) as feed, feed.sequencer() as sequencer:
        await vendor.joins(1)
        text = message(trade("AAPL", 1), trade("AAPL", 2))
        await vendor.send_fragments([text[:20], text[20:50], text[50:]])
        await sequencer.until_trades(2)
        with contextlib.suppress(ConnectionClosed):
            await vendor.send('["' + "x" * limit + '"]')
            # What comes after it must not bring it back.
            await vendor.send(message(trade("AAPL", 9)))
        await vendor.joins(2)
        half = "x" * (limit // 2)
        with contextlib.suppress(ConnectionClosed):
            await vendor.send_fragments(['["', half, half, '"]'])
        await vendor.joins(3)
        await vendor.send(message(trade("AAPL", 3)))
        await sequencer.until_trades(3)
        assert dict((await feed.status()).rejected) == {"oversize": 2}


async def test_silent_connection_is_given_up() -> None:
    timing = quick()
    object.__setattr__(timing, "ping_after", 0.02)
    object.__setattr__(timing, "pong_within", 0.02)
    async with VendorServer() as vendor, running_feed(vendor, timing=timing):
        await vendor.joins(1)
        vendor.stop_reading()
        await vendor.joins(2)
        await vendor.drop()


async def test_vendor_that_comes_later() -> None:
    async with VendorServer() as gone:
        port, environment = gone.port, gone.environment
    async with running_feed(environment) as feed:
        status = await until_state(feed, FeedState.BACKING_OFF)
        assert "cannot connect" in status.detail
        async with VendorServer(port=port) as vendor:
            await vendor.joins(1)
            await until_state(feed, FeedState.SUBSCRIBED)


@pytest.mark.parametrize("passed", [-1, 0, 20, 200])
async def test_connections_that_end_while_they_are_opened_are_tried_again(vendor: VendorServer, passed: int) -> None:
    """Of what the vendor answers, so many bytes come; -1: the connection ends at once."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if passed >= 0:
            request = await reader.readuntil(b"\r\n\r\n")
            vendor_reader, vendor_writer = await asyncio.open_connection("127.0.0.1", vendor.port)
            vendor_writer.write(request)
            if passed:
                writer.write(await vendor_reader.readexactly(passed))
                await writer.drain()
            vendor_writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    environment = {
        **vendor.environment,
        "POLYGON_WS_URL": f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stocks",
    }
    async with running_feed(environment) as feed:
        async with asyncio.timeout(60):
            while connections < 3:
                await asyncio.sleep(0.01)
        status = await feed.status()
        assert status.state in (FeedState.BACKING_OFF, FeedState.CONNECTING, FeedState.AUTHENTICATING)
        assert status.reconnects >= 2
    server.close()


async def test_going_away(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed, feed.sequencer() as sequencer:
        await vendor.joins(1)
        await vendor.send(message(trade("AAPL", 1)))
        await sequencer.until_trades(1)
        stopping = asyncio.create_task(feed.host.stop())
        last = await sequencer.until("going_away")
        assert last.going_away.position.sequence == 1
        assert await sequencer.read() is None
        await stopping


async def test_requests_out_of_order_end_the_stream_with_their_error(vendor: VendorServer) -> None:
    async with running_feed(vendor) as feed:
        call = feed.stub.SubscribeMarket()  # type: ignore[call-arg]
        await call.write(Request(cancel=stream_pb2.StreamCancel()))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        async with feed.sequencer() as sequencer:
            await sequencer.until("current")
            await sequencer.send(Request(open=polygon_ws_pb2.SubscribeMarketOpen()))
            assert await sequencer.read() is None
            assert await sequencer.code() is grpc.StatusCode.INVALID_ARGUMENT
        async with feed.sequencer() as sequencer:
            await sequencer.until("current")
            position = stream_pb2.StreamPosition(epoch=sequencer.epoch, sequence=99)
            await sequencer.send(Request(ack=stream_pb2.StreamAck(position=position)))
            assert await sequencer.read() is None
            assert "at most" in await sequencer.details()
        async with feed.sequencer() as sequencer:
            await sequencer.until("current")
            await sequencer.send(Request(cancel=stream_pb2.StreamCancel()))
            assert await sequencer.read() is None
            assert await sequencer.code() is grpc.StatusCode.OK
        # Heartbeats and the next subscriber do not mind how the last one went.
        async with feed.sequencer() as sequencer:
            await sequencer.until("current")
