"""Everything that can be set, as one typed tree read from the environment.

`Settings.load()` reports every wrong value at once, by the name of its variable; `tradeul check-config` prints what
holds. pydantic-settings, which reads environments too, reports neither across groups nor by those names, and takes JSON
where ours are lists by comma.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from services.kit.runtime.address import Address as Address
from services.kit.runtime.address import ServiceAddress as ServiceAddress
from services.kit.runtime.address import check_database_url, check_redis_url
from services.kit.runtime.address import is_loopback as is_loopback
from services.kit.runtime.environment import DATABASE_PASSWORD, read_secret_files
from services.kit.runtime.errors import SettingsError
from services.kit.runtime.redaction import keep_secret
from services.kit.runtime.setting_groups import (
    ClientSettings,
    CommaSeparated,
    FlatFileSettings,
    FmpSettings,
    Group,
    HttpUrl,
    JwtSettings,
    KeepSettings,
    KeySettings,
    MeshTlsSettings,
    PolygonSettings,
    ReplaySettings,
    SimSettings,
    TlsSettings,
    TraceSettings,
)
from services.kit.runtime.webhook_settings import WebhookSettings
from services.modules import GATEWAY_ADMIN_PORT, GATEWAY_PORT, MODULES

DEFAULT_PORTS: Mapping[str, int] = {
    **{module.name: module.port for module in MODULES},
    "gateway": GATEWAY_PORT,
    "gateway_admin": GATEWAY_ADMIN_PORT,
}
SIMULATOR_KEY = "simulator"
SIMULATOR = "simulator"
HALTS_PATH = "/rss.aspx?feed=tradehalts"
NASDAQ_HALTS = "https://www.nasdaqtrader.com" + HALTS_PATH
# A service that replaces another uses its address.
STANDS_FOR: Mapping[str, str] = {"replay": "polygon_ws"}
# One of the vendor's: trades, bars of a second or a minute, halts and bands, quotes; of all symbols or of one.
SUBSCRIPTION_KINDS = ("T", "A", "AM", "LULD", "Q")
SUBSCRIPTION = re.compile(rf"({'|'.join(SUBSCRIPTION_KINDS)})\.(\*|[A-Za-z][A-Za-z0-9.\-/]{{0,11}})", re.ASCII)
# A page's origin, as browsers send it: no path, not even a slash.
ORIGIN = re.compile(r"https?://(\*\.)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:([0-9]{1,5}|\*))?")
HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


def _parse_address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


AddressField = Annotated[Address, BeforeValidator(_parse_address)]


class Settings(BaseModel):
    """The whole tree. Names in the environment are in each description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    market: Literal["simulator", "vendor"] = Field(
        default="simulator",
        description="TRADEUL_MARKET: whose market data these are, simulator or vendor; by default the vendor's if its "
        "key or a URL of it is set. Each market has its own stores",
    )
    clock: Literal["wall", "feed"] = Field(
        default="feed",
        description="TRADEUL_CLOCK: whose time sessions and slots follow; by default wall with a vendor key, else feed",
    )
    halts_url: HttpUrl | None = Field(
        default=None,
        description="TRADEUL_HALTS_URL: the trade-halt feed of all US markets (RSS), read at most once a minute; set "
        "but empty = off; by default Nasdaq's for a vendor's live market, the simulator's for its own",
    )
    redis_url: str = Field(default="", description="TRADEUL_REDIS_URL: redis://host:port/db or unix:///path")
    database_url: str = Field(default="", description="TRADEUL_DATABASE_URL: postgresql://user@host:port/db")
    data_dir: Path = Field(
        default=Path(".tradeul"),
        description="TRADEUL_DATA_DIR: the directory that holds, in a subdirectory for each market, the embedded "
        "stores and the sequencer's journal",
    )
    host: str = Field(default="127.0.0.1", description="TRADEUL_HOST: host of every address that is not set on its own")
    listen_host: str = Field(
        default="",
        description="TRADEUL_LISTEN_HOST: the host that services bind if it is not the one their peers connect to; in "
        "a container 0.0.0.0, or :: for both IPv4 and IPv6",
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="TRADEUL_LOG_FORMAT: json for machines"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="TRADEUL_LOG_LEVEL: nothing below this level is logged"
    )
    metrics_port_offset: int = Field(
        default=10_000, ge=0, le=50_000, description="TRADEUL_METRICS_PORT_OFFSET: metrics port = port + this; 0 = none"
    )
    hung_seconds: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="TRADEUL_HUNG_SECONDS: `tradeul up` kills and restarts a service "
        "whose event loop stands still for this many seconds; 0 = never",
    )
    subscriptions: CommaSeparated[str] = Field(
        default=("T.*", "A.*", "AM.*", "LULD.*"), description="TRADEUL_SUBSCRIPTIONS: vendor channels, comma-separated"
    )
    suspect_prints: Literal["hold", "take"] = Field(
        default="hold",
        description="TRADEUL_SUSPECT_PRINTS: whether to hold a print whose price is far off until something confirms "
        "it, or take it at once",
    )
    cors_origins: CommaSeparated[str] = Field(
        default=("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*", "https://127.0.0.1:*"),
        description="TRADEUL_CORS_ORIGINS: origins of the pages that may call the gateway from a browser, separated by "
        "commas, such as https://app.example.com; :* = any port, *. = any names before the domain, * alone = any page",
    )
    allowed_hosts: CommaSeparated[str] = Field(
        default=("localhost", "127.0.0.1", "[::1]"),
        description="TRADEUL_ALLOWED_HOSTS: names of the gateway, with any port, separated by commas, such as "
        "scanner.example.com; *. = any names before the domain, * alone = any name; its own address is always one",
    )
    keys: Literal["off", "required"] | None = Field(
        default=None,
        description="TRADEUL_KEYS: required = the gateway refuses requests without a key of `tradeul keys` or a token "
        "of TRADEUL_JWT_ISSUER; off = anyone may do anything; by default off only if the gateway listens on a "
        "loopback address and there is no issuer",
    )
    api_key: str = Field(
        default="", repr=False, description="TRADEUL_API_KEY: the key that commands such as `tradeul top` send"
    )
    addresses: dict[str, AddressField] = Field(
        default_factory=dict, description="TRADEUL_<SERVICE>_ADDRESS: host:port where a service listens and is found"
    )
    sequencers: CommaSeparated[AddressField] = Field(
        default=(),
        description="TRADEUL_SEQUENCERS: host:port of every data_ingest, separated by commas, if others stand by",
    )
    standby: Literal["async", "sync"] = Field(
        default="async",
        description="TRADEUL_STANDBY: sync = readers get a frame when the standby has it, too, and a takeover "
        "continues in the same epoch; async = readers do not wait for the standby",
    )
    polygon: PolygonSettings = Field(default_factory=PolygonSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    mesh_tls: MeshTlsSettings = Field(default_factory=MeshTlsSettings)
    jwt: JwtSettings = Field(default_factory=JwtSettings)
    key: KeySettings = Field(default_factory=KeySettings)
    client: ClientSettings = Field(default_factory=ClientSettings)
    sim: SimSettings = Field(default_factory=SimSettings)
    fmp: FmpSettings = Field(default_factory=FmpSettings)
    flat_files: FlatFileSettings = Field(default_factory=FlatFileSettings)
    replay: ReplaySettings = Field(default_factory=ReplaySettings)
    keep: KeepSettings = Field(default_factory=KeepSettings)
    trace: TraceSettings = Field(default_factory=TraceSettings)
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)

    @field_validator("market", "clock", "log_format", "log_level", "suspect_prints", "keys", "standby", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, url: str) -> str:
        if url:
            check_redis_url(url)
        return url

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, url: str) -> str:
        if url:
            check_database_url(url)
        return url

    @field_validator("subscriptions")
    @classmethod
    def _check_subscriptions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in names if SUBSCRIPTION.fullmatch(name) is None]:
            kinds = ", ".join(SUBSCRIPTION_KINDS)
            shown = ", ".join(repr(name[:40]) for name in wrong[:10])
            raise ValueError(f"expected KIND.SYMBOL or KIND.* with KIND one of {kinds}, was {shown}")
        return names

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"expected origins like https://app.example.com or http://localhost:*, was {origin!r}")
        return tuple(origin.lower() for origin in origins)

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if host != "*" and HOST.fullmatch(host) is None:
                raise ValueError(f"expected names without a port, like scanner.example.com or [::1], was {host!r}")
        return tuple(host.lower() for host in hosts)

    @model_validator(mode="before")
    @classmethod
    def _market_and_clock(cls, values: object) -> object:
        """Sets market and clock, where they are not set, by the vendor's key and URLs."""
        if not isinstance(values, dict):
            return values
        polygon, replay = values.get("polygon") or {}, values.get("replay") or {}
        if isinstance(polygon, BaseModel):
            polygon = polygon.model_dump()
        date = replay.get("date") if isinstance(replay, dict) else replay.date
        key = polygon.get("api_key")
        is_vendors = key or polygon.get("ws_url") or polygon.get("rest_url")
        market = values.get("market") or ("vendor" if is_vendors else SIMULATOR)
        is_live = bool(key and not date and str(market).lower() != SIMULATOR)
        return {"clock": "wall" if is_live else "feed", **values, "market": market}

    @model_validator(mode="after")
    def _vendor_defaults(self) -> Self:
        """Fills in the vendor's URLs, or the simulator's."""
        polygon = self.polygon
        if self.uses_simulator:
            simulator = self.address("simulator")
            complete = {
                "api_key": SIMULATOR_KEY,
                "ws_url": f"ws://{simulator}/stocks",
                "rest_url": f"http://{simulator}",
            }
        else:
            complete = {
                "ws_url": polygon.ws_url or "wss://socket.polygon.io/stocks",
                "rest_url": polygon.rest_url or "https://api.polygon.io",
            }
        # The model is frozen for everybody else.
        object.__setattr__(self, "polygon", polygon.model_copy(update=complete))
        return self

    @model_validator(mode="after")
    def _halts_default(self) -> Self:
        """Today's halts belong to a market of today: one with the wall's clock, at the vendor's own hosts."""
        url = self.halts_url
        if self.is_replay:
            url = ""
        elif url is None:
            is_live = self.clock == "wall" and self.polygon.rest_url.startswith("https://")
            url = NASDAQ_HALTS if is_live else ""
            if self.uses_simulator:
                url = f"http://{self.address(SIMULATOR)}{HALTS_PATH}"
        object.__setattr__(self, "halts_url", url)
        return self

    @model_validator(mode="after")
    def _keys_default(self) -> Self:
        """Keys are required as soon as others can reach the gateway, or where tokens are accepted in their place."""
        is_local = is_loopback(self.listen_address("gateway").host)
        object.__setattr__(self, "client", self.client.completed(is_local))
        if self.keys is None:
            object.__setattr__(self, "keys", "off" if is_local and not self.jwt.issuer else "required")
        elif self.jwt.issuer and not self.requires_keys:
            raise ValueError("expected TRADEUL_KEYS=required with TRADEUL_JWT_ISSUER, was off")
        return self

    @model_validator(mode="after")
    def _keep_secrets(self) -> Self:
        """Whatever process has settings hides their secrets, however it came by them."""
        keep_secret(*self.secrets)
        return self

    @model_validator(mode="after")
    def _check_replay(self) -> Self:
        if self.is_replay and self.clock != "feed":
            raise ValueError("a replay's time is that of its events: expected TRADEUL_CLOCK=feed, was wall")
        return self

    @property
    def is_replay(self) -> bool:
        """True while a day is replayed: nothing of today may be mixed in, and nothing is stored."""
        return self.replay.date is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Keys and passwords, which no log, record or response may show."""
        flat_files = (self.flat_files.s3_key, self.flat_files.s3_secret)
        keys = (self.api_key, self.fmp.api_key, *flat_files, "" if self.uses_simulator else self.polygon.api_key)
        urls = (self.database_url, self.redis_url)
        return tuple(secret for secret in (*keys, *(urlsplit(url).password or "" for url in urls)) if secret)

    @property
    def requires_keys(self) -> bool:
        """True where the gateway refuses requests without a key."""
        return self.keys == "required"

    @property
    def uses_simulator(self) -> bool:
        """True if the market is the simulator's, which the mesh runs itself."""
        return self.market == SIMULATOR

    @property
    def market_dir(self) -> Path:
        """The directory of everything of this market; no other market's data are ever there."""
        return self.data_dir / self.market

    def address(self, service: str) -> ServiceAddress:
        """Returns the address at which peers find `service`; raises KeyError for a service without one."""
        service = STANDS_FOR.get(service, service)
        address = self.addresses.get(service) or Address(self.host, DEFAULT_PORTS[service])
        # The simulator plays the vendor, who has no certificate of ours; the gateway has one of its own.
        is_within = self.mesh_tls.is_on and service not in (SIMULATOR, "gateway", "gateway_admin")
        return ServiceAddress.of(address, self.mesh_tls if is_within else None)

    @property
    def sequencer_addresses(self) -> tuple[ServiceAddress, ...]:
        """Returns where readers look for the sequencer that leads."""
        own = self.address("data_ingest")
        return tuple(ServiceAddress.of(each, own.tls) for each in self.sequencers) or (own,)

    def listen_address(self, service: str) -> Address:
        """Returns the address that `service` binds: its own, on TRADEUL_LISTEN_HOST where that is set."""
        address = self.address(service)
        return Address(self.listen_host or address.host, address.port)

    def metrics_address(self, service: str) -> ServiceAddress | None:
        """Returns the address that /metrics, /livez and /readyz are bound to; None when they are off."""
        address = self.listen_address(service)
        if self.metrics_port_offset == 0:
            return None
        port = address.port + self.metrics_port_offset if address.port else 0
        tls = self.mesh_tls if self.mesh_tls.is_on and self.mesh_tls.metrics == "on" else None
        return ServiceAddress.of(Address(address.host, port), tls)

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads the environment and its files of secrets; raises SettingsError naming every wrong value."""
        source = os.environ if environment is None else environment
        values, lines = read_secret_files(source)
        try:
            settings = cls.model_validate(tree({**source, **values}))
        except ValidationError as error:
            lines += [
                f"{_variable(item['loc'])}: {item['msg'].removeprefix('Value error, ')}{_received(item)}"
                for item in error.errors(include_url=False)
            ]
        if lines:
            raise SettingsError("wrong settings:\n  " + "\n  ".join(lines))
        keep_secret(source.get(DATABASE_PASSWORD, ""))
        return settings


def _received(item: ErrorDetails) -> str:
    """Returns the wrong value of a choice or a number, none of which is a secret; other messages name theirs."""
    if item["type"] == "literal_error" or item["type"].startswith(("int_", "float_", "bool_", "greater_", "less_")):
        return f", was {str(item['input'])[:80]!r}"
    return ""


GROUPS: Mapping[str, type[Group]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Group)
}
# The environment variable of each setting by its path in the tree: ("sim", "seed") -> TRADEUL_SIM_SEED.
VARIABLES: Mapping[tuple[str, ...], str] = {
    **{(name,): f"TRADEUL_{name.upper()}" for name in Settings.model_fields if name not in (*GROUPS, "addresses")},
    **{(group, name): model.prefix + name.upper() for group, model in GROUPS.items() for name in model.model_fields},
    **{("addresses", service): f"TRADEUL_{service.upper()}_ADDRESS" for service in DEFAULT_PORTS},
}
# The variables that may be set and empty: no halts.
MAY_BE_EMPTY = frozenset({("halts_url",)})


def tree(environment: Mapping[str, str]) -> dict[str, object]:
    """The settings tree that the environment's variables spell; empty values count as not set."""
    values: dict[str, Any] = {}
    for path, variable in VARIABLES.items():
        text = environment.get(variable)
        if text or (text is not None and path in MAY_BE_EMPTY):
            *groups, name = path
            branch = values.setdefault(groups[0], {}) if groups else values
            branch[name] = text
    return values


def _variable(location: tuple[int | str, ...]) -> str:
    """The variable of an error's location, which may continue within the value."""
    names = tuple(str(part) for part in location)
    return VARIABLES.get(names[:2]) or VARIABLES.get(names[:1]) or "settings"
