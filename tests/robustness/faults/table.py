"""The faults, as data: what is done to the mesh, how it is undone, and what may be lost by it."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.robustness.faults import steps
from tests.robustness.faults.rig import FORK_SERVER, Kind
from tests.robustness.faults.steps import Change, Step, kill, on_clients, on_line, redis_command
from tests.support.fault_proxy import FaultProxy


@dataclass(frozen=True)
class Fault:
    """`inject`, then `hold` seconds (a range), then `heal`.

    `loses`: trades may be lost on their way; the mesh then has what they came to from the vendor's snapshot and bars,
    and only sums, highs and lows can be compared. `rewinds`: rows may show less than before for a moment. `ends`:
    services whose processes have to be others afterwards. `kind`: of the mesh. `keeps_epoch`: the standby is in sync
    before it, and no client may be reset by it. `says`: what has to be among the warnings of /health when it is healed.
    `needs_disk`: the data have a small disk of their own. `is_right_meanwhile`: nothing may be wrong for longer than it
    takes to recover, before it is healed.
    """

    name: str
    does: str
    inject: Step
    heal: Step = steps.nothing
    hold: tuple[float, float] = (0.0, 0.0)
    loses: bool = False
    rewinds: bool = False
    ends: tuple[str, ...] = ()
    kind: Kind = "one"
    keeps_epoch: bool = False
    says: tuple[str, ...] = ()
    needs_disk: bool = False
    is_right_meanwhile: bool = False

    @property
    def is_small(self) -> bool:
        """True if it is in the short run, too."""
        return self.name in SMALL


# Nothing that the vendor sent is lost by what happens to these.
LOSSLESS_SERVICES: Final = (
    "data_ingest", "scanner", "analytics", "websocket_server", "market_session", "ticker", "historical",
    "data_maintenance", "health", "gateway",
)  # fmt: skip
STORES: Final = ("redis", "postgres")
SMALL: Final = frozenset(
    {
        "kill -9 data_ingest", "kill -9 scanner", "kill -9 polygon_ws", "kill -9 redis", "SIGSTOP websocket_server",
        "no files data_ingest", "no files tradeul up", "line cut", "repeated minutes", "yesterday", "clients truncated",
        "all at once",
    }
)  # fmt: skip


def _of_processes() -> Iterator[Fault]:
    for name in (*LOSSLESS_SERVICES, *STORES, "polygon_ws"):
        loses = name == "polygon_ws"
        yield Fault(f"kill -9 {name}", f"{name} dies", kill(name), loses=loses, ends=(name,))
        pause = (2.0, 9.0)
        yield Fault(
            f"SIGSTOP {name}", f"{name} stands still", steps.stand_still(name), steps.go_on(name), pause, loses=loses
        )
        if name not in STORES:
            stop = kill(name, signal.SIGTERM)
            yield Fault(f"SIGTERM {name}", f"{name} is stopped, and started again", stop, loses=loses, ends=(name,))


def _of_the_line() -> Iterator[Fault]:
    changes: tuple[tuple[str, str, Change, tuple[float, float], bool], ...] = (
        ("cut", "it is cut", FaultProxy.cut, (1, 12), True),
        ("silent", "it stays open, and nothing comes", FaultProxy.hold, (4, 20), True),
        ("late", "all comes 0.8 s later", lambda proxy: proxy.delay(0.8), (4, 8), False),
        ("slow", "8 KB/s pass", lambda proxy: proxy.throttle(8_000), (4, 8), False),
        ("truncated", "it ends in the middle of a message", FaultProxy.truncate, (1, 3), True),
        ("reordered", "it ends, and connections get ahead of each other", lambda proxy: proxy.reorder(2), (3, 6), True),
    )
    for name, does, change, hold, loses in changes:
        heal = on_line(FaultProxy.heal)
        yield Fault(f"line {name}", f"the vendor's line: {does}", on_line(change), heal, hold, loses=loses)
        heal = on_clients(FaultProxy.heal)
        yield Fault(f"clients {name}", f"the clients' line: {does}", on_clients(change), heal, hold)


def _of_open_files() -> Iterator[Fault]:
    for name in (*LOSSLESS_SERVICES, "polygon_ws"):
        take, give = steps.take_files(name), steps.give_files_back(name)
        yield Fault(f"no files {name}", f"{name} may open no more files", take, give, (20.0, 30.0))
    yield Fault(
        "no files tradeul up",
        "`tradeul up` may open no more files, and a service ends meanwhile",
        steps.take_files_of_the_supervisor,
        steps.give_files_back_to_the_supervisor,
        (5.0, 15.0),
        ends=("market_session",),
    )


VENDOR: Final = (
    Fault("closed every 2 s", "the vendor closes each connection after 2 s", steps.close_every_2_s, loses=True),
    Fault("flood", "the line ends; then all that was missed comes at once", steps.withhold, steps.release, (2, 6)),
    Fault("repeated minutes", "the vendor sends its newest 3,000 events again", steps.repeat_minutes),
    Fault("yesterday", "trades of the day before, and what is no message", steps.yesterday_and_garbage),
    Fault(
        "log-in fails",
        "the key is refused, and accepted later",
        steps.refuse_log_in,
        steps.allow_log_in,
        (2, 8),
        loses=True,
    ),
    Fault(
        "max_connections",
        "another connection has the key; polygon_ws is restarted",
        steps.evict,
        kill("polygon_ws", signal.SIGTERM),
        (2, 5),
        loses=True,
        ends=("polygon_ws",),
    ),
)
OTHERS: Final = (
    Fault(
        "redis read-only",
        "Redis refuses to write",
        redis_command("REPLICAOF", "127.0.0.1", "1"),
        redis_command("REPLICAOF", "NO", "ONE"),
        (2, 8),
    ),
    Fault(
        "redis full",
        "Redis has all the memory that it may have",
        redis_command("CONFIG", "SET", "maxmemory", "1"),
        redis_command("CONFIG", "SET", "maxmemory", "0"),
        (20, 30),
        says=("Redis takes nothing",),
    ),
    *(
        Fault(
            f"{store} hung",
            f"{store} stands still for minutes",
            steps.stand_still(store),
            steps.go_on(store),
            (120, 180),
            says=(f"{name} takes nothing",),
        )
        for store, name in (("redis", "Redis"), ("postgres", "PostgreSQL"))
    ),
    Fault(
        "disk full",
        "the data's disks are full; PostgreSQL ends of it",
        steps.fill_disks,
        steps.free_disks,
        (30, 60),
        says=("PostgreSQL takes nothing", "the journal is not kept"),
        needs_disk=True,
    ),
    Fault(
        "postgres full",
        "PostgreSQL's own disk is full",
        steps.fill_postgres_disk,
        steps.free_disks,
        (30, 60),
        says=("PostgreSQL takes nothing", "No space left on device"),
        needs_disk=True,
    ),
    Fault("scanner away", "it ends again and again for a minute", steps.keep_away("scanner", 60), ends=("scanner",)),
    Fault("redis emptied", "Redis loses all keys", redis_command("FLUSHALL")),
    Fault("postgres read-only", "PostgreSQL refuses to write", steps.read_only(True), steps.read_only(False), (2, 8)),
    Fault("slow readers", "20 clients subscribe, and never read", steps.open_slow_readers),
)
FORKED: Final = (*(name for name in LOSSLESS_SERVICES if name != "gateway"), "polygon_ws", FORK_SERVER)
ALL: Final = (*FORKED, *STORES, "gateway")
TOGETHER: Final = (
    Fault(f"kill -9 {FORK_SERVER}", "it dies, and all services with it", kill(FORK_SERVER), loses=True, ends=FORKED),
    Fault(
        f"SIGSTOP {FORK_SERVER}",
        "it stands still, and a service dies meanwhile",
        steps.stop_fork_server,
        steps.go_on(FORK_SERVER),
        (2, 8),
        ends=("scanner",),
    ),
    Fault("all at once", "every process dies", steps.kill_everything, loses=True, ends=ALL),
    Fault("tradeul up killed", "`tradeul up` dies, and is started again at once", steps.kill_up, loses=True),
    Fault(
        "power loss",
        "the mesh begins again with a copy of its data, of a random moment",
        steps.lose_power,
        loses=True,
        rewinds=True,
    ),
)


def _of_a_pair(kind: Kind) -> Iterator[Fault]:
    """The same of both kinds of pairs; where the standby has all that was shown, a takeover resets nobody."""
    keeps, of = kind == "synchronous pair", f" of a {kind}"
    pause = (2.0, 9.0)

    def fault(name: str, does: str, inject: Step, heal: Step, hold: tuple[float, float]) -> Fault:
        return Fault(f"{name}{of}", does, inject, heal, hold, kind=kind, keeps_epoch=keeps)

    for is_leader, name in ((True, "leader"), (False, "standby")):
        stop = steps.to_sequencer(is_leader, signal.SIGSTOP)
        yield fault(f"SIGSTOP {name}", f"the {name} stands still", stop, steps.pair_again, pause)
        for word, how in (("kill -9", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
            end = steps.to_sequencer(is_leader, how)
            # Its end takes a moment.
            yield fault(f"{word} {name}", f"the {name} ends", end, steps.pair_again, (1.0, 1.0))
    for store in STORES:
        yield fault(f"SIGSTOP {store}", f"{store} stands still", steps.stand_still(store), steps.go_on(store), pause)
    yield fault("kill -9 both", "leader and standby die", steps.kill_sequencers, steps.pair_again, (1.0, 1.0))
    for is_leader, name in ((True, "leader"), (False, "standby")):
        yield fault(
            f"kill -9 {name} without postgres",
            f"postgres stands still, and the {name} dies meanwhile",
            steps.kill_sequencer_without_postgres(is_leader),
            steps.pair_again,
            pause,
        )
    # What it keeps for whoever leads is lost.
    yield Fault(
        f"kill -9 polygon_ws{of}",
        "it dies",
        kill("polygon_ws"),
        loses=True,
        ends=("polygon_ws",),
        kind=kind,
        keeps_epoch=keeps,
    )


def _of_the_clock() -> Iterator[Fault]:
    hour, heal = steps.HOUR_MS / 1000, steps.set_clock(0)
    for word, step in (("ahead", hour), ("back", -hour)):
        of = {"ahead": "ahead of", "back": "behind"}[word]
        says = (f"s {of} the vendor's, which is followed until the clock is right",)
        for name, does, hold in (
            (f"clock {word}", f"this machine's clock is set an hour {word} for some seconds", (5.0, 20.0)),
            (f"clock {word} for minutes", f"this machine's clock is set an hour {word}", (90.0, 120.0)),
        ):
            yield Fault(name, does, steps.set_clock(step), heal, hold, kind="wall clock", says=says)
        for span, seconds in (("an hour", step), ("a day", 24 * step)):
            yield Fault(
                f"started {span} {word}",
                f"the mesh begins again with a clock that is {span} {word}, and is then set right",
                steps.start_with_clock(seconds),
                heal,
                (10, 20),
                loses=True,
                ends=ALL,
                kind="wall clock",
                says=says,
                is_right_meanwhile=True,
            )
    yield Fault(
        "vendor ahead",
        "the vendor's clock is an hour ahead for some seconds",
        steps.set_vendor_clock(steps.HOUR_MS),
        steps.set_vendor_clock(0),
        (5, 20),
        loses=True,
        kind="wall clock",
    )
    yield Fault("future", "trades with times of the future", steps.trades_of_the_future, kind="wall clock")


FAULTS: Final[tuple[Fault, ...]] = (
    *_of_processes(), *_of_open_files(), *_of_the_line(), *VENDOR, *OTHERS, *TOGETHER, *_of_a_pair("pair"),
    *_of_a_pair("synchronous pair"), *_of_the_clock(),
)  # fmt: skip
