"""The WebSocket gateway with real clients (the `websockets` package) and a scripted scanner."""

import asyncio
import contextlib
import copy
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from services.kit.rpc.envelope import LIST
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support import websocket_fixtures
from tests.support.scripted_scanner import EPOCH, ScriptedList, ScriptedScanner, ticker_row
from tests.support.websocket_fixtures import LISTS
from tests.support.ws_client import ListView, WsClient, eventually, ws_client, ws_server

scanner = websocket_fixtures.scanner
server = websocket_fixtures.server
rng = websocket_fixtures.rng


async def test_a_new_subscriber_gets_the_list_and_then_every_change(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    winners.change_to([ticker_row(rng, symbol) for symbol in "ABC"])
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        snapshot = await client.expect("snapshot")
        assert snapshot["rows"] == winners.json_rows
        for _ in range(200):
            winners.shuffle(rng)
            await client.until("winners", (EPOCH, winners.sequence))
            assert client.lists["winners"].ranked == winners.json_rows
        assert client.heard == ["connected", "subscribed_list", "snapshot"] + 200 * ["delta"]


async def test_changes_that_come_at_once_are_all_told_one_by_one(scanner: ScriptedScanner, rng: random.Random) -> None:
    winners = scanner.lists["winners"]
    # All of them fit: who is behind with more than that gets a snapshot instead.
    async with ws_server(scanner.address, Limits(unsent_bytes=1 << 24)) as server, ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")
        for _ in range(300):
            winners.shuffle(rng)
        await client.until("winners", (EPOCH, 300))
        assert client.lists["winners"].deltas == 300
        assert client.lists["winners"].ranked == winners.json_rows


async def test_the_scanner_is_asked_once_for_all_clients_and_not_at_all_without_any(
    scanner: ScriptedScanner, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    async with ws_server(scanner.address, Limits(linger_seconds=0.05)) as server:
        assert winners.opened == 0
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(ws_client(server.port)) for _ in range(20)]
            for client in clients:
                await client.subscribe("winners")
            winners.shuffle(rng)
            for client in clients:
                await client.until("winners", (EPOCH, 1))
            assert winners.opened == 1
            assert len(winners.streams) == 1
        await eventually(lambda: not winners.streams)
        winners.shuffle(rng)
        async with ws_client(server.port) as client:
            await client.subscribe("winners")
            await client.until("winners", (EPOCH, 2))
            assert client.lists["winners"].ranked == winners.json_rows


async def test_one_connection_may_watch_many_lists(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    async with ws_client(server.port) as client:
        for name in LISTS:
            await client.send(action="subscribe_list", list=name)
        for _ in range(20):
            for name in LISTS:
                scanner.lists[name].shuffle(rng)
        for name in LISTS:
            await client.until(name, (EPOCH, 20))
        assert {name: view.ranked for name, view in client.lists.items()} == {
            name: scanner.lists[name].json_rows for name in LISTS
        }


async def test_nothing_comes_after_unsubscribing(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    async with ws_client(server.port) as client, ws_client(server.port) as other:
        for each in (client, other):
            await each.subscribe("winners")
            await each.expect("snapshot")
        await client.send(action="unsubscribe_list", list="winners")
        await client.send(action="ping")
        await client.expect("pong")
        winners.shuffle(rng)
        await other.until("winners", (EPOCH, 1))
        await client.send(action="ping")
        await client.expect("pong")
        await client.send(action="unsubscribe_list", list="winners")
        assert (await client.expect("error"))["list"] == "winners"


async def test_resync_gives_the_list_anew(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    winners.shuffle(rng)
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")
        await client.send(action="resync", list="winners")
        assert (await client.expect("snapshot"))["rows"] == winners.json_rows
        winners.shuffle(rng)
        await client.expect("delta")
        await client.send(action="resync", list="losers")
        assert "subscribed" in (await client.expect("error"))["message"]


async def test_subscribing_again_begins_again(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")
        winners.shuffle(rng)
        await client.expect("delta")
        await client.subscribe("winners")
        await client.expect("snapshot")
        await client.subscribe("winners", epoch=EPOCH, sequence=0)
        client.lists["winners"].sequence = 0
        client.lists["winners"].rows = {}
        await client.expect("delta")
        winners.shuffle(rng)
        view = await client.until("winners", (EPOCH, 2))
        assert view.ranked == winners.json_rows


# --- positions


async def test_one_who_comes_back_gets_exactly_what_was_missed(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    async with ws_client(server.port) as watcher, ws_client(server.port) as client:
        await watcher.subscribe("winners")
        await client.subscribe("winners")
        await client.expect("snapshot")
        for _ in range(5):
            winners.shuffle(rng)
        view = await client.until("winners", (EPOCH, 5))
    for _ in range(7):
        winners.shuffle(rng)
    await eventually(lambda: server.hub.broadcast("winners").feed.position == (EPOCH, 12))
    async with ws_client(server.port) as again:
        again.lists["winners"] = view
        await again.subscribe("winners", epoch=EPOCH, sequence=5)
        await again.until("winners", (EPOCH, 12))
        winners.shuffle(rng)
        await again.until("winners", (EPOCH, 13))
        assert again.heard == ["connected", "subscribed_list"] + 8 * ["delta"]
        assert view.ranked == winners.json_rows


@pytest.mark.parametrize("position", [(EPOCH - 1, 3), (EPOCH, 1), (1, 0)])
async def test_a_position_that_is_gone_gets_a_snapshot(
    scanner: ScriptedScanner, rng: random.Random, position: tuple[int, int]
) -> None:
    winners = scanner.lists["winners"]
    async with ws_server(scanner.address, Limits(held_changes=4)) as server:
        async with ws_client(server.port) as client:
            await client.subscribe("winners")
            await client.expect("snapshot")
            for _ in range(10):
                winners.shuffle(rng)
            await client.until("winners", (EPOCH, 10))
        async with ws_client(server.port) as again:
            await again.subscribe("winners", epoch=position[0], sequence=position[1])
            assert (await again.expect("snapshot"))["sequence"] == 10


async def test_another_replica_goes_on_where_the_first_left_off(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    async with ws_server(scanner.address) as replica, ws_client(replica.port) as watcher:
        await watcher.subscribe("winners")
        await watcher.expect("snapshot")
        async with ws_client(server.port) as client:
            await client.subscribe("winners")
            await client.expect("snapshot")
            for _ in range(5):
                winners.shuffle(rng)
            view = await client.until("winners", (EPOCH, 5))
        for _ in range(5):
            winners.shuffle(rng)
        await watcher.until("winners", (EPOCH, 10))
        async with ws_client(replica.port) as again:
            again.lists["winners"] = view
            await again.subscribe("winners", epoch=EPOCH, sequence=5)
            await again.until("winners", (EPOCH, 10))
            assert again.heard == ["connected", "subscribed_list"] + 5 * ["delta"]
            assert view.ranked == winners.json_rows


@pytest.mark.parametrize("fields", ["", "price,rvol"])
async def test_a_replica_that_did_not_follow_the_list_goes_on_for_everybody(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random, fields: str
) -> None:
    winners = scanner.lists["winners"]
    wanted = {"fields": fields.split(",")} if fields else {}
    async with ws_server(scanner.address) as replica, contextlib.AsyncExitStack() as stack:
        views: list[ListView] = []
        async with ws_client(server.port) as client:
            await client.send(action="subscribe_list", list="winners", **wanted)
            for sequence in range(1, 21):
                await client.until("winners", (EPOCH, sequence - 1))
                winners.shuffle(rng)
                await client.until("winners", (EPOCH, sequence))
                views.append(copy.deepcopy(client.lists["winners"]))
        opened = winners.opened
        clients = [await stack.enter_async_context(ws_client(replica.port)) for _ in views]
        for view, client in zip(views, clients, strict=True):
            client.lists["winners"] = view
            position = {"epoch": view.epoch, "sequence": view.sequence}
            await client.send(action="subscribe_list", list="winners", **wanted, **position)
        winners.shuffle(rng)
        for view, client in zip(views, clients, strict=True):
            await client.until("winners", (EPOCH, 21))
            assert "snapshot" not in client.heard[1:], client.heard
            assert view.ranked == [selected(row, fields) for row in winners.json_rows]
        # One stream of the list, and one of the changes before it for each position that came after one less far back.
        assert winners.opened - opened <= 1 + len(views)
        await eventually(lambda: len(winners.streams) == 2)


def selected(row: dict[str, Any], fields: str) -> dict[str, Any]:
    names = {"rank", "symbol", *fields.split(",")}
    return {name: value for name, value in row.items() if name in names} if fields else row


async def test_a_replica_that_did_not_follow_the_list_gives_a_snapshot_where_the_scanner_has_no_more(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    for _ in range(5):
        winners.shuffle(rng)
    del winners.held[3]
    async with ws_client(server.port) as client:
        await client.subscribe("winners", epoch=EPOCH, sequence=2)
        assert (await client.expect("snapshot"))["sequence"] == 5
    async with ws_client(server.port) as client:
        client.lists["winners"] = ListView()
        client.lists["winners"].sequence = 3
        client.lists["winners"].rows = {row["symbol"]: row for row in winners.truth(EPOCH, 3)}
        await client.subscribe("winners", epoch=EPOCH, sequence=3)
        winners.shuffle(rng)
        while client.lists["winners"].sequence < 6:
            await client.expect("delta")
        assert client.lists["winners"].ranked == winners.json_rows


async def test_a_client_from_a_replica_that_is_ahead_waits_for_this_one(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    async with ws_client(server.port) as watcher, ws_client(server.port) as client:
        await watcher.subscribe("winners")
        await watcher.expect("snapshot")
        await client.subscribe("winners", epoch=EPOCH, sequence=2)
        for _ in range(2):
            winners.shuffle(rng)
        await watcher.until("winners", (EPOCH, 2))
        winners.shuffle(rng)
        delta = await client.connection.recv()
        assert '"type":"delta","list":"winners","sequence":3' in str(delta)


async def test_one_who_is_ahead_for_good_goes_back_with_a_snapshot(
    scanner: ScriptedScanner, rng: random.Random
) -> None:
    scanner.lists["winners"].shuffle(rng)
    async with ws_server(scanner.address, Limits(ahead_seconds=0.05)) as server, ws_client(server.port) as client:
        await client.subscribe("winners", epoch=EPOCH + 9, sequence=2)
        assert (await client.expect("snapshot"))["epoch"] == EPOCH


# --- the scanner's troubles


def replace_epoch(winners: ScriptedList, rng: random.Random) -> None:
    winners.replace([ticker_row(rng, symbol) for symbol in "XYZ"], EPOCH + 100, 1)


def jump(winners: ScriptedList, rng: random.Random) -> None:
    winners.jump_to([ticker_row(rng, symbol) for symbol in "XYZ"], steps=9)


def hole(winners: ScriptedList, rng: random.Random) -> None:
    winners.skip_to([ticker_row(rng, symbol) for symbol in "XYZ"])
    winners.shuffle(rng)


def garbage(winners: ScriptedList, rng: random.Random) -> None:
    winners.send(b"\xff\xff\xff")
    winners.send(b"\x12\x03abc")
    winners.send(b"\x1a\x02\x2a\x7f")


@pytest.mark.parametrize("trouble", [replace_epoch, jump, hole, garbage])
async def test_a_list_without_single_steps_goes_on_with_a_snapshot(
    scanner: ScriptedScanner,
    server: WebSocketServer,
    rng: random.Random,
    trouble: Callable[[ScriptedList, random.Random], None],
) -> None:
    winners = scanner.lists["winners"]
    winners.shuffle(rng)
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")
        trouble(winners, rng)
        if trouble is not garbage:
            await client.until("winners", (winners.epoch, winners.sequence))
        await eventually(lambda: winners.streams)
        winners.shuffle(rng)
        view = await client.until("winners", (winners.epoch, winners.sequence))
        assert view.ranked == winners.json_rows


@pytest.mark.parametrize("kind", ["current", "heartbeat", "reset", "going_away"])
async def test_a_message_that_is_none_ends_the_stream_and_not_the_list(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random, kind: str
) -> None:
    winners = scanner.lists["winners"]
    winners.shuffle(rng)
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")
        (before,) = winners.streams
        winners.send(LIST.wrap(kind, b"\xff"))
        await eventually(lambda: winners.streams and before not in winners.streams)
        winners.shuffle(rng)
        view = await client.until("winners", (winners.epoch, winners.sequence))
        assert view.ranked == winners.json_rows


@pytest.mark.parametrize("manner", ["ended", "going_away", "restarted"])
async def test_a_broken_stream_of_the_scanner_costs_clients_nothing(
    scanner: ScriptedScanner, server: WebSocketServer, rng: random.Random, manner: str
) -> None:
    winners = scanner.lists["winners"]
    winners.shuffle(rng)
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")
        if manner == "ended":
            scanner.end_streams()
        elif manner == "going_away":
            scanner.go_away()
        else:
            await scanner.stop()
        winners.shuffle(rng)
        if manner == "restarted":
            await scanner.start()
        winners.shuffle(rng)
        view = await client.until("winners", (EPOCH, 3))
        assert view.ranked == winners.json_rows
        assert (view.snapshots, view.deltas) == (1, 2)


async def test_subscribers_wait_for_a_scanner_that_is_not_there_yet(rng: random.Random) -> None:
    scanner = ScriptedScanner("winners")
    await scanner.start()
    await scanner.stop()
    async with ws_server(scanner.address) as server, ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.send(action="ping")
        await client.expect("pong")
        await scanner.start()
        await client.expect("snapshot")
    await scanner.stop()


async def test_a_list_that_the_scanner_does_not_have_is_an_error(server: WebSocketServer) -> None:
    async with ws_client(server.port) as client:
        await client.subscribe("halts")
        error = await client.expect("error")
        assert error["list"] == "halts"
        assert "no list" in error["message"]


# --- stopping, and a long run


async def test_clients_are_told_before_a_stop_and_closed_with_1001(scanner: ScriptedScanner) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with ws_server(scanner.address) as server:
            client = await stack.enter_async_context(ws_client(server.port))
            await client.subscribe("winners")
            await client.expect("snapshot")
        assert "about to stop" in (await client.expect("error"))["message"]
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


def position_of(view: ListView | None) -> dict[str, int]:
    return {"epoch": view.epoch, "sequence": view.sequence} if view is not None else {}


async def wander(client: WsClient, scanner: ScriptedScanner, rng: random.Random, is_done: Callable[[], bool]) -> None:
    """Compares with the truth at every message, and comes and goes, until it is done after one."""
    while True:
        message = await client.receive()
        if message["type"] in ("snapshot", "delta"):
            each, view = scanner.lists[message["list"]], client.lists[message["list"]]
            assert view.ranked == each.truth(view.epoch, view.sequence)
        if is_done():
            return
        name = rng.choice(LISTS)
        if rng.random() < 0.02:
            await client.send(action="resync", list=name)
        if rng.random() < 0.02:
            await client.send(action="unsubscribe_list", list=name)
            # What was under way belongs to the old subscription.
            while not await has_answered(client):
                pass
            await client.send(action="subscribe_list", list=name, **position_of(client.lists.get(name)))
        if rng.random() < 0.01:
            return


async def has_answered(client: WsClient) -> bool:
    """True once a ping is answered; a client whose buffer is full gets no answer."""
    await client.send(action="ping")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while (await client.receive())["type"] != "pong":
                pass
            return True
    return False


STEPS = 400


async def test_copies_equal_the_list_at_every_sequence_whatever_happens(
    scanner: ScriptedScanner, server: WebSocketServer
) -> None:
    seeds = random.Random(3)
    limits = Limits(held_changes=64, message_burst=100_000, flush_seconds=0.005)
    async with ws_server(scanner.address, limits) as first, ws_server(scanner.address, limits) as second:
        servers = [first, second]
        patches = [0] * 8
        # Once nothing more is published.
        last: dict[str, int] = {}

        async def live(number: int, rng: random.Random) -> int:
            views: dict[str, ListView] = {}

            def is_done() -> bool:
                patches[number] = sum(view.patches for view in views.values())
                return bool(last) and {name: view.sequence for name, view in views.items()} == last

            visits = 0
            while not is_done():
                visits += 1
                compression = rng.choice((None, "deflate"))
                async with ws_client(rng.choice(servers).port, compression=compression) as client:
                    client.lists = views
                    for name in LISTS:
                        form: dict[str, Any] = {"changed_fields_only": True} if rng.random() < 0.5 else {}
                        if rng.random() < 0.5:
                            form["min_interval_ms"] = rng.choice((10, 40))
                        await client.send(action="subscribe_list", list=name, **form, **position_of(views.get(name)))
                    await wander(client, scanner, rng, is_done)
            return visits

        async def publish(rng: random.Random) -> None:
            # A slow client is sent whole lists instead of changes: until each has had enough of these.
            for step in itertools.count():
                if step >= STEPS and min(patches) > 20:
                    break
                for each in scanner.lists.values():
                    each.shuffle(rng)
                if rng.random() < 0.02:
                    scanner.end_streams()
                if step % 3 == 0:
                    await asyncio.sleep(0.002)

        clients = [asyncio.create_task(live(number, random.Random(seeds.random()))) for number in range(len(patches))]
        await publish(random.Random(4))
        # They look after a message whether that was the last.
        for name, each in scanner.lists.items():
            each.shuffle(seeds)
            last[name] = each.sequence
        visits = await asyncio.gather(*clients)
        assert max(visits) > 3
        assert min(patches) > 20


async def test_nothing_is_left_behind(scanner: ScriptedScanner, rng: random.Random) -> None:
    def gauge(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    async with ws_server(scanner.address) as server:
        async with ws_client(server.port) as client:
            await client.subscribe("winners")
            await client.expect("snapshot")
            assert gauge("tradeul_ws_clients") == 1
            assert gauge("tradeul_subscribers", service="websocket_server", stream="winners") == 1
        await eventually(lambda: not server.hub.clients)
    assert gauge("tradeul_ws_clients") == 0
    assert gauge("tradeul_ws_lists_followed") == 0
    assert gauge("tradeul_subscribers", service="websocket_server", stream="winners") == 0


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        ("http://localhost:3000", True),
        ("https://app.example.com", True),
        ("http://{server}", True),
        ("https://elsewhere.example", False),
        ("https://app.example.com.elsewhere.example", False),
        ("null", False),
    ],
)
async def test_pages_of_other_origins_get_no_connection(scanner: ScriptedScanner, origin: str, is_let_in: bool) -> None:
    """No CORS holds a page's WebSocket back."""
    async with ws_server(scanner.address, cors_origins=("http://localhost:*", "https://app.example.com")) as server:
        labels = {"service": "websocket_server", "reason": "origin_not_allowed"}
        before = REGISTRY.get_sample_value("tradeul_rejected_total", labels) or 0.0
        address = f"127.0.0.1:{server.port}"
        opening = connect(f"ws://{address}/ws/scanner", origin=Origin(origin.format(server=address)))
        if is_let_in:
            async with opening as connection:
                assert "connected" in str(await connection.recv())
            return
        with pytest.raises(InvalidStatus) as refused:
            await opening
        assert refused.value.response.status_code == 403
        assert b"TRADEUL_CORS_ORIGINS" in refused.value.response.body
        assert REGISTRY.get_sample_value("tradeul_rejected_total", labels) == before + 1
