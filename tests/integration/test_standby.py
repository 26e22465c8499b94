"""Two sequencers: one leads, the other takes over when the first dies, stands still or loses its lease."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from tradeul.v1 import alerts_pb2

from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.ring import Position
from tests.support.store_line import store_line
from tests.support.stores import Stores, fresh_database, module_stores
from tests.support.two_sequencers import Copy, TwoSequencers, settle, two_sequencers, until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as stores:
        yield stores


@pytest.fixture
async def stores(servers: Stores) -> AsyncIterator[Stores]:
    async with fresh_database(servers.database_url) as url:
        yield Stores(servers.redis_url, url)


async def until_another_epoch(copy: Copy, before: int) -> None:
    await until(lambda: copy.position is not None and copy.position.epoch > before)


async def take_over(two: TwoSequencers, copy: Copy, old: str, new: str, how: str) -> None:
    """Takes the lead from `old`; waits until the reader has a frame of `new`."""
    assert copy.position is not None
    epoch = copy.position.epoch
    if how == "lost":
        await two.lease("UPDATE sequencer_lease SET holder = 'somebody', fencing_number = fencing_number + 1")
    else:
        two.send(old, signal.Signals[how])
    await until_another_epoch(copy, epoch)
    await two.until_leads(new)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "lost"])
async def test_the_standby_takes_over_and_every_trade_counts_once(tmp_path: Path, stores: Stores, how: str) -> None:
    async with two_sequencers(tmp_path, stores) as (two, tape, copy, feed):
        old, new = "a", "b"
        for _ in range(2):
            await asyncio.sleep(1)
            await take_over(two, copy, old, new, how)
            if how == "SIGSTOP":
                two.send(old, signal.SIGCONT)
            assert await two.until_ended(old) == (-signal.SIGKILL if how == "SIGKILL" else 1)
            seen = len(two.log(old))
            await two.start(old)
            await two.until_stands_by(old, seen)
            old, new = new, old
        await asyncio.sleep(0.5)
        await settle(tape, copy, feed)
        assert "this sequencer does not lead any more" in two.log("a") + two.log("b") or how == "SIGKILL"


async def test_whoever_comes_after_takeovers_gets_the_alerts_of_before(tmp_path: Path, stores: Stores) -> None:
    connection = await asyncpg.connect(stores.database_url)
    definition = '{"title": "Own", "when": "steps(trades_today, 20, 20)"}'
    await connection.execute("INSERT INTO alert_rules (name, definition) VALUES ('own', $1)", definition)
    await connection.close()
    async with two_sequencers(tmp_path, stores) as (two, tape, copy, feed):
        ends: list[Position] = []
        for old, new in (("a", "b"), ("b", "a")):
            await until(lambda: any(position.epoch == copy.position.epoch for position in copy.alerts))
            ends.append(max(copy.alerts))
            # What a leader sent to readers as its last, its standby may never have had.
            assert copy.position is not None
            await two.until_follows(new, copy.position)
            seen = len(two.log(old))
            await take_over(two, copy, old, new, "SIGKILL")
            await two.until_ended(old)
            await two.start(old)
            await two.until_stands_by(old, seen)
        await until(lambda: any(position.epoch == copy.position.epoch for position in copy.alerts))
        await settle(tape, copy, feed)
        later = Copy()
        got: list[bytes] = []
        reading = asyncio.create_task(FrameReader(two.reader_addresses, later, "later", take_alerts=got.extend).run())
        await until(lambda: later.market is not None)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    read = [alerts_pb2.Alert.FromString(alert) for alert in got]
    alerts = {Position(alert.epoch, alert.sequence): encoded for alert, encoded in zip(read, got, strict=True)}
    assert list(alerts) == sorted(alerts)
    for epoch in (epochs := {position.epoch for position in copy.alerts}):
        of_epoch = [position for position in alerts if position.epoch == epoch]
        assert of_epoch == [Position(epoch, n + 1) for n in range(len(of_epoch))]
    assert len(epochs) == 3
    assert set(ends) < set(alerts)
    assert all(alerts[position] == copy.alerts[position] for position in set(alerts) & set(copy.alerts))


async def test_nobody_notices_that_the_store_of_the_lease_is_away(tmp_path: Path, stores: Stores) -> None:
    """For longer than a lease lasts: nobody can take it, and polygon_ws goes on to serve the leader."""
    async with store_line(stores.database_url) as line:
        both = {name: {"TRADEUL_DATABASE_URL": line.url} for name in ("a", "b")}
        async with two_sequencers(tmp_path, stores, both) as (two, tape, copy, feed):
            assert copy.position is not None
            epoch, loads = copy.position.epoch, len(copy.loads)
            line.cut()
            await two.until_log("a", "the store does not answer")
            for _ in range(5):
                await asyncio.sleep(1)
                before = copy.position
                await until(lambda before=before: copy.position != before)  # type: ignore[misc]
            line.mend()
            await asyncio.sleep(2)
            await settle(tape, copy, feed)
            assert (copy.position.epoch, len(copy.loads)) == (epoch, loads)
            assert (await two.status("a")).position.epoch == epoch


async def test_a_leader_that_alone_is_cut_from_the_store_gives_way(tmp_path: Path, stores: Stores) -> None:
    async with store_line(stores.database_url) as line:
        async with two_sequencers(tmp_path, stores, {"a": {"TRADEUL_DATABASE_URL": line.url}}) as running:
            two, tape, copy, feed = running
            assert copy.position is not None
            epoch = copy.position.epoch
            line.cut()
            assert await two.until_ended("a") == 1
            assert "polygon_ws serves another sequencer" in two.log("a")
            await until_another_epoch(copy, epoch)
            await settle(tape, copy, feed)
            await two.until_leads("b")


async def test_an_orderly_stop_hands_the_lease_over(tmp_path: Path, stores: Stores) -> None:
    async with two_sequencers(tmp_path, stores) as (two, tape, copy, feed):
        assert copy.position is not None
        epoch = copy.position.epoch
        two.send("a", signal.SIGTERM)
        assert await two.until_ended("a") == 0
        await until_another_epoch(copy, epoch)
        await settle(tape, copy, feed)


async def test_a_leader_that_is_back_before_its_lease_ran_out_goes_on_in_its_epoch(
    tmp_path: Path, stores: Stores
) -> None:
    """Where nobody stands by, a restart is what it is for the only sequencer."""
    async with two_sequencers(tmp_path, stores) as (two, tape, copy, feed):
        two.send("b", signal.SIGKILL)
        await two.until_ended("b")
        assert copy.position is not None
        epoch, loads = copy.position.epoch, len(copy.loads)
        two.send("a", signal.SIGKILL)
        await two.until_ended("a")
        await two.start("a")
        await two.until_leads("a")
        await settle(tape, copy, feed)
        assert (copy.position.epoch, len(copy.loads)) == (epoch, loads)


async def test_a_sequencer_that_the_settings_do_not_name_refuses_to_start(tmp_path: Path, stores: Stores) -> None:
    async with two_sequencers(tmp_path, stores) as (two, *_):
        two.send("b", signal.SIGKILL)
        await two.until_ended("b")
        two.environments["b"]["TRADEUL_DATA_INGEST_ADDRESS"] = "127.0.0.1:1"
        await two.start("b")
        assert await two.until_ended("b") == 1
        assert "expected TRADEUL_SEQUENCERS to name TRADEUL_DATA_INGEST_ADDRESS, 127.0.0.1:1" in two.log("b")
