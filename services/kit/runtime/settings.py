"""Everything that can be set, as one typed tree read from the environment.

`Settings.load()` reports every wrong value at once; `tradeul check-config`
prints what holds.
"""

import os
import re
from collections.abc import Mapping
from datetime import date as datetime_date
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from services.kit.runtime.errors import SettingsError
from services.kit.runtime.redaction import keep_secret
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
HIGHEST_PORT = 65535
MAX_REPLAY_SPEED = 1_000_000
# A service that stands in another's place is found where that one is.
STANDS_FOR: Mapping[str, str] = {"replay": "polygon_ws"}
# A page's origin, as browsers send it: no path, not even a slash.
# One of the vendor's: trades, bars of a second or a minute, halts and bands, quotes; of all symbols or of one.
SUBSCRIPTION_KINDS = ("T", "A", "AM", "LULD", "Q")
SUBSCRIPTION = re.compile(rf"({'|'.join(SUBSCRIPTION_KINDS)})\.(\*|[A-Za-z][A-Za-z0-9.\-/]{{0,11}})", re.ASCII)
ORIGIN = re.compile(r"https?://(\*\.)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:([0-9]{1,5}|\*))?")


class Address(NamedTuple):
    """Where a service listens, and where its peers find it. Port 0 binds a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host:port`, `[ipv6]:port`; raises ValueError for anything else."""
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
            raise ValueError(f"expected host:port, was {text!r}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


def _check_port(url: str) -> None:
    """Raises ValueError when the URL's port is none. The URL may hold a password, so it is not shown."""
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise ValueError(f"expected a port of 0 to {HIGHEST_PORT}: {error}") from error


def _parse_address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


AddressField = Annotated[Address, BeforeValidator(_parse_address)]


class PolygonSettings(BaseModel):
    """The vendor. Without a key of one's own it is the simulator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: str = Field(default="", repr=False, description="POLYGON_API_KEY: the vendor's key; none = the simulator")
    ws_url: str = Field(default="", description="POLYGON_WS_URL: the vendor's WebSocket")
    rest_url: str = Field(default="", description="POLYGON_REST_URL: the vendor's REST")

    @field_validator("ws_url")
    @classmethod
    def _check_ws(cls, url: str) -> str:
        if url and not url.startswith(("ws://", "wss://")):
            raise ValueError(f"expected a ws:// or wss:// URL, was {url!r}")
        return url

    @field_validator("rest_url")
    @classmethod
    def _check_rest(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"expected an http:// or https:// URL, was {url!r}")
        return url.rstrip("/")


class FmpSettings(BaseModel):
    """Financial Modeling Prep, the second source of company metadata; off without a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: str = Field(
        default="", repr=False, description="FMP_API_KEY: key of the second source of company metadata"
    )
    url: str = Field(default="https://financialmodelingprep.com", description="FMP_URL: its host")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"expected a http:// or https:// URL, was {url!r}")
        return url.rstrip("/")


class FlatFileSettings(BaseModel):
    """The S3-compatible store of flat files, for loads from s3://BUCKET."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    s3_endpoint: str = Field(
        default="https://files.massive.com", description="TRADEUL_FLAT_FILES_S3_ENDPOINT: the store of s3:// sources"
    )
    s3_region: str = Field(default="us-east-1", description="TRADEUL_FLAT_FILES_S3_REGION: its region")
    s3_key: str = Field(default="", repr=False, description="TRADEUL_FLAT_FILES_S3_KEY: its access key")
    s3_secret: str = Field(default="", repr=False, description="TRADEUL_FLAT_FILES_S3_SECRET: its secret key")

    @field_validator("s3_endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"expected a http:// or https:// URL, was {url!r}")
        return url.rstrip("/")


class SimSettings(BaseModel):
    """The simulated market."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=1, ge=0, description="TRADEUL_SIM_SEED: the same seed gives the same market")
    symbols: int = Field(default=12_000, ge=1, le=100_000, description="TRADEUL_SIM_SYMBOLS: how many symbols trade")
    start: datetime | None = Field(
        default=None,
        description="TRADEUL_SIM_START: ISO time at which the market begins, from 2023-06-01 on; New York without an "
        "offset; by default 2025-11-24T09:25, five minutes before an open",
    )
    speed: float = Field(default=1.0, gt=0, le=100_000, description="TRADEUL_SIM_SPEED: simulated seconds per second")
    channels: tuple[Literal["T", "A", "AM", "LULD", "Q"], ...] = Field(
        default=("T", "A", "AM", "LULD", "Q"),
        description="TRADEUL_SIM_CHANNELS: what the simulated plan may subscribe to, by comma; the rest is refused",
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class ReplaySettings(BaseModel):
    """A day that is played again; `tradeul replay` sets these. Without a date the mesh is live."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: datetime_date | None = Field(
        default=None, description="TRADEUL_REPLAY_DATE: the trading day that is played again; none = the live market"
    )
    file: Path | None = Field(
        default=None,
        description="TRADEUL_REPLAY_FILE: a flat file of trades or minute bars; none = the day's stored minute bars",
    )
    market: Path | None = Field(
        default=None, description="TRADEUL_REPLAY_MARKET: the market that the recording of the day began with"
    )
    speed: float | Literal["max"] = Field(
        default=1.0, description="TRADEUL_REPLAY_SPEED: seconds of the day per second, or max"
    )
    start: datetime | None = Field(
        default=None,
        description="TRADEUL_REPLAY_START: ISO time up to which the day is fed as fast as it goes; New York without an "
        "offset",
    )
    until: datetime | None = Field(
        default=None,
        description="TRADEUL_REPLAY_UNTIL: ISO time at which the day stops, while the mesh stays up; New York without "
        "an offset",
    )

    @field_validator("speed", mode="before")
    @classmethod
    def _parse_speed(cls, value: object) -> object:
        if not isinstance(value, str) or value == "max":
            return value
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"expected a number or max, was {value!r}") from None

    @field_validator("speed")
    @classmethod
    def _check_speed(cls, speed: float | str) -> float | str:
        if isinstance(speed, float) and not 0 < speed <= MAX_REPLAY_SPEED:
            raise ValueError(f"expected more than 0 and at most {MAX_REPLAY_SPEED:,}, or max, was {speed:g}")
        return speed


class KeepSettings(BaseModel):
    """For how many days, by the market's clock, housekeeping keeps what is stored; 0 is for ever.

    Nothing else is ever deleted. Records of what processes did are dated, and so aged, by the database's clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minute_bars: int = Field(default=90, ge=0, description="TRADEUL_KEEP_MINUTE_BARS: days of aggregates_1min; 0 = all")
    scan_results: int = Field(default=180, ge=0, description="TRADEUL_KEEP_SCAN_RESULTS: days of scan_results; 0 = all")
    daily_bars: int = Field(default=0, ge=0, description="TRADEUL_KEEP_DAILY_BARS: days of daily_ohlc; 0 = all")
    slot_days: int = Field(default=90, ge=0, description="TRADEUL_KEEP_SLOT_DAYS: days of slot_days; 0 = all")
    loads: int = Field(default=180, ge=0, description="TRADEUL_KEEP_LOADS: days of load_jobs that ended; 0 = all")
    runs: int = Field(default=400, ge=0, description="TRADEUL_KEEP_RUNS: days of maintenance_runs that ended; 0 = all")
    sync_runs: int = Field(
        default=7, ge=0, description="TRADEUL_KEEP_SYNC_RUNS: days of sync_redis's maintenance_runs; 0 = all"
    )


class Settings(BaseModel):
    """The whole tree. Names in the environment are in each description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    market: Literal["simulator", "vendor"] = Field(
        default="simulator",
        description="TRADEUL_MARKET: whose market data these are, simulator or vendor; by default the vendor's with a "
        "key or URLs of it. Each has its own stores",
    )
    clock: Literal["wall", "feed"] = Field(
        default="feed",
        description="TRADEUL_CLOCK: whose time session and slot follow; wall with a vendor key, else feed",
    )
    halts_url: str | None = Field(
        default=None,
        description="TRADEUL_HALTS_URL: the trade-halt feed of all US markets, RSS, read once a minute at most; set "
        "and empty = off. By default Nasdaq's for a vendor's live market, the simulator's for its own",
    )
    redis_url: str = Field(default="", description="TRADEUL_REDIS_URL: redis://host:port/db or unix:///path")
    database_url: str = Field(default="", description="TRADEUL_DATABASE_URL: postgresql://user@host:port/db")
    data_dir: Path = Field(
        default=Path(".tradeul"),
        description="TRADEUL_DATA_DIR: below it, in a directory for each market, are embedded stores and the "
        "sequencer's journal",
    )
    host: str = Field(default="127.0.0.1", description="TRADEUL_HOST: host of every address that is not set by itself")
    log_format: Literal["console", "json"] = Field(
        default="console", description="TRADEUL_LOG_FORMAT: json for machines"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="TRADEUL_LOG_LEVEL: what is less than this is not logged"
    )
    metrics_port_offset: int = Field(
        default=10_000, ge=0, le=50_000, description="TRADEUL_METRICS_PORT_OFFSET: metrics port = port + this; 0 = none"
    )
    subscriptions: tuple[str, ...] = Field(
        default=("T.*", "A.*", "AM.*", "LULD.*"), description="TRADEUL_SUBSCRIPTIONS: vendor subscriptions, by comma"
    )
    suspect_prints: Literal["hold", "take"] = Field(
        default="hold",
        description="TRADEUL_SUSPECT_PRINTS: hold a print whose price is far off until something confirms it, or take "
        "it at once",
    )
    cors_origins: tuple[str, ...] = Field(
        default=("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*", "https://127.0.0.1:*"),
        description="TRADEUL_CORS_ORIGINS: whose pages may call the door from a browser, by comma: "
        "https://app.example.com; :* is any port, *. any names before the domain, * alone everybody",
    )
    addresses: dict[str, AddressField] = Field(
        default_factory=dict, description="TRADEUL_<SERVICE>_ADDRESS: host:port a service binds and is found at"
    )
    polygon: PolygonSettings = Field(default_factory=PolygonSettings)
    sim: SimSettings = Field(default_factory=SimSettings)
    fmp: FmpSettings = Field(default_factory=FmpSettings)
    flat_files: FlatFileSettings = Field(default_factory=FlatFileSettings)
    replay: ReplaySettings = Field(default_factory=ReplaySettings)
    keep: KeepSettings = Field(default_factory=KeepSettings)

    @field_validator("market", "clock", "log_format", "log_level", "suspect_prints", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("halts_url")
    @classmethod
    def _check_halts(cls, url: str | None) -> str | None:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"expected an http:// or https:// URL, was {url!r}")
        return url

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, url: str) -> str:
        if url and not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(f"expected a redis://, rediss:// or unix:// URL, was {url!r}")
        _check_port(url)
        return url

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, url: str) -> str:
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("expected a postgresql:// URL")
        _check_port(url)
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

    @field_validator("subscriptions", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _market_and_clock(cls, values: object) -> object:
        """Whose market it is, and whose time: what is not set follows from the vendor's key and URLs."""
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
        """Fills in where the market is."""
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
        # Frozen for everybody else.
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
    def _check_replay(self) -> Self:
        if self.is_replay and self.clock != "feed":
            raise ValueError("a replay's time is that of its events: expected TRADEUL_CLOCK=feed, was wall")
        return self

    @property
    def is_replay(self) -> bool:
        """Whether a day is played again: then nothing of today may be mixed in, and nothing is stored."""
        return self.replay.date is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Keys and passwords: what nobody may read in a log, a record or an answer."""
        flat_files = (self.flat_files.s3_key, self.flat_files.s3_secret)
        keys = (self.fmp.api_key, *flat_files, "" if self.uses_simulator else self.polygon.api_key)
        urls = (self.database_url, self.redis_url)
        return tuple(secret for secret in (*keys, *(urlsplit(url).password or "" for url in urls)) if secret)

    @property
    def uses_simulator(self) -> bool:
        """Whether the market is the simulator's, which the mesh runs itself."""
        return self.market == SIMULATOR

    @property
    def market_dir(self) -> Path:
        """Where everything of this market is kept: no other market's data are ever there."""
        return self.data_dir / self.market

    def address(self, service: str) -> Address:
        """Where `service` binds and is found; raises KeyError for a service without an address."""
        service = STANDS_FOR.get(service, service)
        if (address := self.addresses.get(service)) is not None:
            return address
        return Address(self.host, DEFAULT_PORTS[service])

    def metrics_address(self, service: str) -> Address | None:
        """Where `service` serves /metrics, /livez and /readyz; None when switched off."""
        address = self.address(service)
        if self.metrics_port_offset == 0:
            return None
        return Address(address.host, address.port + self.metrics_port_offset if address.port else 0)

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads the environment; raises SettingsError naming every wrong value."""
        source = os.environ if environment is None else environment
        try:
            settings = cls.model_validate(tree(source))
        except ValidationError as error:
            lines = [
                f"{variable(item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors(include_url=False, include_input=False)
            ]
            raise SettingsError("wrong settings:\n  " + "\n  ".join(lines)) from error
        keep_secret(*settings.secrets)
        return settings


GROUPS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "polygon": ("POLYGON_", PolygonSettings),
    "sim": ("TRADEUL_SIM_", SimSettings),
    "fmp": ("FMP_", FmpSettings),
    "flat_files": ("TRADEUL_FLAT_FILES_", FlatFileSettings),
    "replay": ("TRADEUL_REPLAY_", ReplaySettings),
    "keep": ("TRADEUL_KEEP_", KeepSettings),
}
NOT_SCALAR = ("addresses", *GROUPS)


def variable(location: tuple[int | str, ...]) -> str:
    """The environment variable of a place in the tree: ("sim", "seed") -> TRADEUL_SIM_SEED."""
    names = [str(part) for part in location]
    if not names:
        return "settings"
    if names[0] == "addresses" and len(names) > 1:
        return f"TRADEUL_{names[1].upper()}_ADDRESS"
    if names[0] in GROUPS and len(names) > 1:
        return GROUPS[names[0]][0] + names[1].upper()
    return f"TRADEUL_{names[0].upper()}"


def tree(environment: Mapping[str, str]) -> dict[str, object]:
    """The settings tree that the environment's variables spell; empty values count as not set."""
    values: dict[str, object] = {}
    for name in Settings.model_fields:
        text = environment.get(variable((name,)))
        # An empty address of the halts is one: none.
        if name not in NOT_SCALAR and (text or (text is not None and name == "halts_url")):
            values[name] = text
    values["addresses"] = {
        service: text for service in DEFAULT_PORTS if (text := environment.get(variable(("addresses", service)), ""))
    }
    for group, (_, model) in GROUPS.items():
        values[group] = {
            name: text for name in model.model_fields if (text := environment.get(variable((group, name)), ""))
        }
    return values
