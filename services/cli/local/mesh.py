"""The processes of the whole mesh on one machine, as the supervisor gets them."""

import asyncio
import functools
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from services.cli.local import embedded, forked
from services.cli.local.forked import Fork
from services.cli.local.gateway import envoy_spec
from services.cli.local.process import ProcessSpec, Ready
from services.cli.local.standby import standby_ports, standby_spec
from services.kit.runtime.environment import SECRETS, settings_for
from services.kit.runtime.errors import StartError
from services.kit.runtime.http_probe import http_status
from services.kit.runtime.packaged import check_installed
from services.kit.runtime.redaction import without_passwords
from services.kit.runtime.settings import STANDS_FOR, Address, Settings, is_loopback
from services.modules import ACCESS, GATEWAY_AFTER, LIVE_ONLY, MODULES, REPLAY, Module, Secret

MIGRATE: Final = "migrate"
FORK_SERVER: Final = "fork_server"
# -P: the folder that it is started in holds no code.
PYTHON: Final = (sys.executable, "-P", "-m")
PROGRAM: Final = (*PYTHON, "services.cli.main")
# The health check gives up so long before the supervisor looks whether the child still lives.
HEALTH_SECONDS: Final = 1.0
ENVIRONMENT: Final = {
    # glibc keeps freed memory in an arena per thread; a service has few threads that matter.
    "MALLOC_ARENA_MAX": "2",
}
FORK_SERVER_ENVIRONMENT: Final = {
    # To be known before gRPC is loaded, which is here; the rest of services/kit/runtime/forks.py is for its children.
    # What services/kit/runtime/grpc_io.py sets, it has from `tradeul up`, which may have been told otherwise.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # numpy's linear algebra, which nobody uses, would start a thread for each processor when it is imported.
    "OPENBLAS_NUM_THREADS": "1",
}


def modules_of(settings: Settings) -> list[Module]:
    """Returns the services to run: all that the settings need, and a replay in the feed's place."""
    conditions = {"simulator": settings.uses_simulator, ACCESS: settings.requires_keys}
    modules = [module for module in MODULES if conditions.get(module.name, True)]
    if not settings.is_replay:
        return modules
    return [
        REPLAY if module.name == STANDS_FOR[REPLAY.name] else module
        for module in modules
        if module.name not in LIVE_ONLY
    ]


def open_services(settings: Settings) -> list[str]:
    """Returns the services, without the gateway, that others than this machine can reach, and that check nothing.

    The metrics ports of all services are "metrics".
    """
    reachable = [
        module.name for module in modules_of(settings) if not is_loopback(settings.listen_address(module.name).host)
    ]
    names = [name for name in reachable if settings.address(name).tls is None]
    metrics = [settings.metrics_address(name) for name in reachable]
    return names + ["metrics"] * any(address is not None and address.tls is None for address in metrics)


def specs_of(settings: Settings, *, has_standby: bool = False) -> list[ProcessSpec]:
    """Stores (unless settings name others), migrations, services and gateway, each after what it needs.

    `has_standby`: with the second of two sequencers, too.
    Raises StartError when a file of the installation, or a package or program for an embedded part, is missing.
    """
    check_installed()
    specs: list[ProcessSpec] = []
    urls: dict[Secret, str] = {}
    if settings.is_replay or not settings.redis_url:
        # A replay's lists are not to be taken for those of now.
        redis_dir = settings.market_dir / "replay" if settings.is_replay else settings.market_dir
        specs.append(embedded.redis_spec(redis_dir))
        urls["redis"] = embedded.redis_url(redis_dir)
    if not settings.database_url:
        specs.append(embedded.postgres_spec(settings.market_dir))
        urls["postgres"] = embedded.postgres_url(settings.market_dir)
    stores = tuple(spec.name for spec in specs)
    specs.append(
        ProcessSpec(
            name=MIGRATE,
            command=(*PROGRAM, "migrate"),
            needs=stores,
            environment=environment_of(settings, ("redis", "postgres"), urls),
            once=True,
        )
    )
    names = {*stores, *(module.name for module in modules_of(settings))}
    forks = None
    if forked.is_possible():
        base = settings.market_dir.resolve() / "services"
        forks = embedded.socket_directory(base) / "fork.sock"
        specs.insert(0, _fork_server_spec(forks, base, modules_of(settings)))
    for module in modules_of(settings):
        specs.append(_service_spec(module, settings, environment_of(settings, module.secrets, urls), names, forks))
        if has_standby and module.name == "data_ingest":
            specs.append(standby_spec(specs[-1], settings, readiness(module, settings.sequencer_addresses[1])))
    specs.append(envoy_spec(settings, (*GATEWAY_AFTER, ACCESS) if settings.requires_keys else GATEWAY_AFTER))
    return specs


def environment_of(settings: Settings, secrets: Sequence[Secret], urls: Mapping[Secret, str]) -> dict[str, str]:
    """Returns the settings of a service that uses these secrets; `urls` are those of the embedded stores."""
    used = {name for name in secrets if name != "vendor" or not settings.uses_simulator}
    return {
        **settings_for(os.environ, used - urls.keys()),
        **ENVIRONMENT,
        **{SECRETS[name][0]: url for name, url in urls.items() if name in used},
        "TRADEUL_DATA_DIR": str(settings.data_dir.resolve()),
        # Their defaults follow from the vendor's key, which not every service gets.
        "TRADEUL_MARKET": settings.market,
        "TRADEUL_CLOCK": settings.clock,
    }


def stores_of(settings: Settings) -> str:
    """Returns, for people, whose data are used and where they are."""
    whose = "the simulator's" if settings.uses_simulator else "the vendor's"
    urls = [without_passwords(url) for url in (settings.database_url, settings.redis_url) if url]
    if settings.is_replay and settings.redis_url:
        urls.remove(without_passwords(settings.redis_url))
    return f"{whose}, in {', '.join([str(settings.market_dir), *urls])}"


def _fork_server_spec(path: Path, base: Path, modules: Sequence[Module]) -> ProcessSpec:
    def prepare() -> None:
        embedded.private_directory(path.parent)
        path.unlink(missing_ok=True)

    async def listens() -> bool:
        return await asyncio.to_thread(path.exists)

    return ProcessSpec(
        name=FORK_SERVER,
        command=(*PYTHON, "services.cli.local.fork_server", str(path), *(module.name for module in modules)),
        # It has none of our settings: each service brings its own.
        environment={**ENVIRONMENT, **FORK_SERVER_ENVIRONMENT},
        ready=listens,
        prepare=prepare,
        clean_up=lambda: embedded.remove_socket_directory(base),
    )


def _service_spec(
    module: Module, settings: Settings, environment: Mapping[str, str], names: set[str], forks: Path | None
) -> ProcessSpec:
    arguments = ("serve", module.name)
    replaced = {STANDS_FOR[name]: name for name in names if name in STANDS_FOR}
    needs = tuple(need for need in (replaced.get(need, need) for need in module.needs) if need in names)
    if "postgres" in module.needs:
        needs += (MIGRATE,)
    if forks is not None:
        needs += (FORK_SERVER,)
    return ProcessSpec(
        name=module.name,
        command=(*PROGRAM, *arguments),
        needs=needs,
        environment=environment,
        ready=readiness(module, settings.address(module.name)),
        has_watchdog=True,
        fork=Fork(forks, arguments) if forks is not None else None,
    )


def readiness(module: Module, address: Address) -> Ready:
    """Asks a service whether it has started; an unhealthy one, such as with a key that was refused, has."""

    async def http_ready() -> bool:
        return await http_status(address, "/readyz") == 200

    async def grpc_ready() -> bool:
        # Loaded when the first child is started: the stores come up meanwhile.
        import grpc
        import grpc.aio
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        from services.kit.rpc.channel import open_channel

        keep_grpc()
        async with open_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            try:
                await check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=HEALTH_SECONDS)
            except grpc.aio.AioRpcError:
                return False
            # The port opens after start(): whether it can do its work right now is shown by /health.
            return True

    return http_ready if module.protocol == "http" else grpc_ready


@functools.cache
def keep_grpc() -> object:
    """Keeps what gRPC's library has opened for the first channel, in a channel that is never used.

    It would close that with the last channel, open it anew for the next one, and abort the process where it cannot.
    """
    import grpc.aio

    return grpc.aio.insecure_channel("127.0.0.1:1")


def ports_of(settings: Settings, *, has_standby: bool = False) -> dict[str, Address]:
    """Everything that will be listened on."""
    ports = {
        "gateway": settings.address("gateway"),
        "gateway_admin": Address("127.0.0.1", settings.address("gateway_admin").port),
    }
    for module in modules_of(settings):
        ports[module.name] = settings.address(module.name)
        if (metrics := settings.metrics_address(module.name)) is not None:
            ports[f"{module.name}'s metrics"] = metrics
    if has_standby:
        ports.update(standby_ports(settings))
    return ports


def check_ports(settings: Settings, *, has_standby: bool = False) -> None:
    """Raises StartError naming every port that is taken, or that cannot be listened on."""
    ports = ports_of(settings, has_standby=has_standby)
    lines = [f"{name}: {problem}" for name, address in ports.items() if (problem := _port_problem(address))]
    if settings.tls.http3 == "on" and (problem := _port_problem(ports["gateway"], socket.SOCK_DGRAM)):
        lines.append(f"gateway's HTTP/3 (UDP): {problem}")
    lines += _repeated(ports)
    if lines:
        raise StartError(
            "cannot listen at these addresses of the settings (is another mesh running?):\n  "
            + "\n  ".join(lines)
            + "\nTRADEUL_<SERVICE>_ADDRESS=host:port moves a service, TRADEUL_METRICS_PORT_OFFSET the metrics"
        )


def _port_problem(address: Address, kind: socket.SocketKind = socket.SOCK_STREAM) -> str:
    if address.port == 0:
        return f"expected a port by which peers can find it, was {address}"
    try:
        family, kind, protocol, _, socket_address = socket.getaddrinfo(
            address.host, address.port, type=kind, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            if kind is socket.SOCK_STREAM:
                # As servers do: connections that linger from a run before are no hindrance.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(socket_address)
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return ""


def _repeated(ports: Mapping[str, Address]) -> Sequence[str]:
    users: dict[Address, list[str]] = {}
    for name, address in ports.items():
        users.setdefault(address, []).append(name)
    return [f"{address}: wanted by {' and '.join(names)}" for address, names in users.items() if len(names) > 1]
