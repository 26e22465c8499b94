"""The services of the mesh: the first file to read.

`tradeul list-targets` prints this table. `tradeul serve NAME` runs one service;
`tradeul up` starts all of them, each after those it needs, and stops them in
reverse order. This file imports no service: modules are loaded where they run.
"""

from typing import Final, Literal, NamedTuple

Secret = Literal["redis", "postgres", "vendor", "fmp", "flat_files", "gateway"]


class Module(NamedTuple):
    """One service.

    `needs` must be serving before it starts; "redis" and "postgres" are the
    stores. `calls` are the peers that it connects to besides those, and does
    without for a while. `factory` is `module:function(settings) -> Service`. A service whose
    port does not speak gRPC is ready when its /readyz says so. `secrets` are those
    that its process gets; services/kit/runtime/environment.py has their variables. `turn`: "tape" for what every event
    passes through on its way to those who watch, "background" for what only stores, or answers now and then.
    """

    name: str
    port: int
    needs: tuple[str, ...]
    factory: str
    does: str
    protocol: Literal["grpc", "http"] = "grpc"
    secrets: tuple[Secret, ...] = ()
    calls: tuple[str, ...] = ()
    turn: Literal["tape", "usual", "background"] = "usual"


MODULES: Final = (
    Module(
        "simulator",
        9100,
        (),
        "services.simulator.service:create",
        "a synthetic market with the vendor's WebSocket and REST API; runs only without a vendor key",
        protocol="http",
    ),
    Module(
        "market_session",
        8004,
        ("redis",),
        "services.market_session.service:create",
        "the market's current session and the trading calendar",
        secrets=("redis", "vendor"),
        calls=("data_ingest", "access", "simulator"),
    ),
    Module(
        "polygon_ws",
        9001,
        ("simulator",),
        "services.polygon_ws.service:create",
        "the vendor's live feed: decoded, batched and retained until acknowledged",
        secrets=("redis", "vendor"),
        calls=("redis",),
        turn="tape",
    ),
    Module(
        "data_ingest",
        9002,
        ("redis", "postgres", "market_session", "polygon_ws"),
        "services.data_ingest.service:create",
        "the sequencer: admits and orders events, adds reference data, retains frames and a snapshot",
        secrets=("redis", "postgres", "vendor"),
        # A standby follows the one that leads.
        calls=("simulator", "data_ingest"),
        turn="tape",
    ),
    Module(
        "scanner",
        8001,
        ("redis", "data_ingest"),
        "services.scanner.service:create",
        "the market state and its ranked lists, for any number of subscribers",
        secrets=("redis", "postgres"),
        calls=("postgres", "access"),
        turn="tape",
    ),
    Module(
        "analytics",
        8002,
        ("redis", "postgres", "data_ingest"),
        "services.analytics.service:create",
        "relative volume, the day's price range and 1-minute bars, also in Redis and PostgreSQL",
        secrets=("redis", "postgres"),
        calls=("access",),
        turn="background",
    ),
    Module(
        "ticker",
        8005,
        ("redis", "postgres"),
        "services.ticker.service:create",
        "one symbol's row, company and stored bars; the history of the lists; the scanner filters",
        secrets=("redis", "postgres", "vendor"),
        calls=("scanner", "access", "simulator"),
    ),
    Module(
        "historical",
        8003,
        ("postgres",),
        "services.historical.service:create",
        "loads history, resumably: symbols, companies, daily bars, volume by time of day",
        secrets=("postgres", "vendor", "fmp", "flat_files"),
        calls=("simulator",),
        turn="background",
    ),
    Module(
        "data_maintenance",
        8006,
        # It waits for the sequencer, so that the services users see start first.
        ("redis", "postgres", "market_session", "historical", "data_ingest"),
        "services.data_maintenance.service:create",
        "scheduled maintenance of the stores, each run once for any number of replicas",
        secrets=("redis", "postgres", "vendor"),
        calls=("simulator",),
        turn="background",
    ),
    Module(
        "websocket_server",
        9000,
        ("scanner",),
        "services.websocket_server.service:create",
        "the ranked lists as JSON over WebSocket, for browsers and consumers of the older system",
        protocol="http",
        calls=("data_ingest", "access"),
        turn="tape",
    ),
    Module(
        "access",
        8008,
        ("postgres",),
        "services.access.service:create",
        "who may send which request: keys, rights, rates; runs only where keys are required",
        secrets=("postgres",),
    ),
    Module(
        "health",
        8007,
        (),
        "services.health.service:create",
        "the mesh's health as reported by the gateway",
        calls=(
            "market_session",
            "polygon_ws",
            "data_ingest",
            "scanner",
            "analytics",
            "ticker",
            "historical",
            "data_maintenance",
            "websocket_server",
            "access",
        ),
    ),
)

# Runs only where keys are required; the gateway then needs it.
ACCESS: Final = "access"
# Replaces polygon_ws, at its address, during a replay.
REPLAY: Final = Module(
    "replay",
    9001,
    ("simulator", "postgres"),
    "services.replay.service:create",
    "a past day as the feed, from a flat file or stored minute bars",
    secrets=("postgres",),
    turn="tape",
)
# Not run in a replay, because they would write its data to the stores of the live market.
LIVE_ONLY: Final = ("analytics", "historical", "data_maintenance")
STORES: Final = ("redis", "postgres")
# The gateway and its admin page, both Envoy's.
GATEWAY_PORT: Final = 8000
GATEWAY_ADMIN_PORT: Final = 8099
GATEWAY_NEEDS: Final = ("scanner", "market_session", "health")
# The gateway starts once these serve, too, but does not need them afterwards.
GATEWAY_AFTER: Final = (*GATEWAY_NEEDS, "websocket_server")


def peers_of(module: Module) -> frozenset[str]:
    """Returns everything that the service connects to, the stores included."""
    return frozenset((*module.needs, *module.calls))


def by_name(name: str) -> Module:
    """Returns the module of that name; raises KeyError listing the valid names."""
    for module in (*MODULES, REPLAY):
        if module.name == name:
            return module
    raise KeyError(f"expected one of {', '.join(module.name for module in MODULES)}, was {name!r}")
