"""The services of the mesh: the first file to read.

`tradeul list-targets` prints this table, `tradeul serve NAME` runs one of them,
`tradeul up` starts all of them, each after what it needs, and stops them in
reverse. This file imports nothing: the modules are loaded where they run.
"""

from typing import Final, Literal, NamedTuple


class Module(NamedTuple):
    """One service.

    `needs` must be serving before it starts; "redis" and "postgres" are the
    stores. `factory` is `module:function(settings) -> Service`. A service that
    speaks another protocol than gRPC on its port is ready when its /readyz says so.
    """

    name: str
    port: int
    needs: tuple[str, ...]
    factory: str
    does: str
    protocol: Literal["grpc", "http"] = "grpc"


MODULES: Final = (
    Module(
        "simulator",
        9100,
        (),
        "services.simulator.service:create",
        "a synthetic market that speaks the vendor's WebSocket and REST; only without a vendor key",
        protocol="http",
    ),
    Module(
        "market_session",
        8004,
        ("redis",),
        "services.market_session.service:create",
        "which session the market is in; the trading calendar",
    ),
    Module(
        "polygon_ws",
        9001,
        ("simulator",),
        "services.polygon_ws.service:create",
        "the vendor's live feed, decoded, batched and kept until acknowledged",
    ),
    Module(
        "data_ingest",
        9002,
        ("redis", "postgres", "market_session", "polygon_ws"),
        "services.data_ingest.service:create",
        "the sequencer: admits, orders, adds reference data, keeps the ring and the snapshot",
    ),
    Module(
        "scanner",
        8001,
        ("redis", "data_ingest"),
        "services.scanner.service:create",
        "the state and its ranked lists, to any number of subscribers",
    ),
    Module(
        "analytics",
        8002,
        ("redis", "postgres", "data_ingest"),
        "services.analytics.service:create",
        "relative volume, the day's range and 1-minute bars, to Redis and PostgreSQL",
    ),
    Module(
        "ticker",
        8005,
        ("redis", "postgres"),
        "services.ticker.service:create",
        "one symbol's row, company and stored bars; stored scans; the scanner filters",
    ),
    Module(
        "data_maintenance",
        8006,
        # It waits for the sequencer, so that the start of what people see goes first.
        ("redis", "postgres", "market_session", "data_ingest"),
        "services.data_maintenance.service:create",
        "the nightly and periodic work on the stores, once however many there are; its runs",
    ),
    Module(
        "historical",
        8003,
        ("postgres",),
        "services.historical.service:create",
        "loads history: the universe, companies, daily bars, volume by time of day; resumes, tells its progress",
    ),
    Module(
        "websocket_server",
        9000,
        ("scanner",),
        "services.websocket_server.service:create",
        "the ranked lists as JSON over WebSocket, for browsers and consumers of the older system",
        protocol="http",
    ),
    Module(
        "health",
        8007,
        (),
        "services.health.service:create",
        "the mesh's health as the public door shows it",
    ),
)

# Stands in polygon_ws's place, at its address, while a day is played again.
REPLAY: Final = Module(
    "replay",
    9001,
    ("simulator", "postgres"),
    "services.replay.service:create",
    "a day's flat file or stored minute bars as the feed",
)
# What has no place in a replay: it would write what it sees to the stores of the live market.
LIVE_ONLY: Final = ("analytics", "historical", "data_maintenance")
STORES: Final = ("redis", "postgres")
# The public door and its admin page, which are Envoy's.
GATEWAY_PORT: Final = 8000
GATEWAY_ADMIN_PORT: Final = 8099
GATEWAY_NEEDS: Final = ("scanner", "market_session", "health")
# The door opens once these serve, too; it goes on without them.
GATEWAY_AFTER: Final = (*GATEWAY_NEEDS, "websocket_server")


def by_name(name: str) -> Module:
    """Raises KeyError naming what there is."""
    for module in (*MODULES, REPLAY):
        if module.name == name:
            return module
    raise KeyError(f"expected one of {', '.join(module.name for module in MODULES)}, was {name!r}")
