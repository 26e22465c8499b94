"""The groups of settings, one for each part of the mesh that has several of its own; see settings.py."""

from datetime import date as datetime_date
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

MAX_REPLAY_SPEED = 1_000_000
# Of an office behind one address, say.
CLIENT_REQUESTS_PER_S = 500
Item = TypeVar("Item")


def _http_url(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError(f"expected an http:// or https:// URL, was {url!r}")
    return url


def _with_host(url: str) -> str:
    """Raises ValueError for a URL that is set and has no host, or no port that can be one."""
    if url:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"expected a URL with a host and a valid port: {error}") from None
        if not host:
            raise ValueError(f"expected a URL with a host, was {url!r}")
    return url


def _ws_url(url: str) -> str:
    if url and not url.startswith(("ws://", "wss://")):
        raise ValueError(f"expected a ws:// or wss:// URL, was {url!r}")
    return url


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


# Either may be empty.
HttpUrl = Annotated[str, AfterValidator(_http_url)]
# Paths are appended to it.
BaseUrl = Annotated[HttpUrl, AfterValidator(lambda url: url.rstrip("/"))]
WsUrl = Annotated[str, AfterValidator(_ws_url)]
CommaSeparated = Annotated[tuple[Item, ...], BeforeValidator(_split)]


class Group(BaseModel):
    """A branch of the tree. `prefix` begins the names of its environment variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str]


class PolygonSettings(Group):
    """The vendor; without a key it is the simulator."""

    prefix = "POLYGON_"

    api_key: str = Field(default="", repr=False, description="POLYGON_API_KEY: the vendor's key; none = the simulator")
    ws_url: WsUrl = Field(default="", description="POLYGON_WS_URL: the URL of the vendor's WebSocket")
    rest_url: BaseUrl = Field(default="", description="POLYGON_REST_URL: the URL of the vendor's REST API")
    details_per_s: int = Field(
        default=40, ge=1, le=10_000, description="POLYGON_DETAILS_PER_S: company details requested per second"
    )


class FmpSettings(Group):
    """Financial Modeling Prep, the second source of company metadata; off without a key."""

    prefix = "FMP_"

    api_key: str = Field(
        default="", repr=False, description="FMP_API_KEY: key of the second source of company metadata"
    )
    url: BaseUrl = Field(default="https://financialmodelingprep.com", description="FMP_URL: its host")


class FlatFileSettings(Group):
    """The S3-compatible store of flat files, for loads from s3://BUCKET."""

    prefix = "TRADEUL_FLAT_FILES_"

    s3_endpoint: BaseUrl = Field(
        default="https://files.massive.com", description="TRADEUL_FLAT_FILES_S3_ENDPOINT: the store of s3:// sources"
    )
    s3_region: str = Field(default="us-east-1", description="TRADEUL_FLAT_FILES_S3_REGION: its region")
    s3_key: str = Field(default="", repr=False, description="TRADEUL_FLAT_FILES_S3_KEY: its access key")
    s3_secret: str = Field(default="", repr=False, description="TRADEUL_FLAT_FILES_S3_SECRET: its secret key")


class TlsSettings(Group):
    """The gateway's certificate; without one it speaks plain HTTP."""

    prefix = "TRADEUL_TLS_"

    cert_file: Path | None = Field(
        default=None,
        description="TRADEUL_TLS_CERT_FILE: the gateway's certificate with intermediate certificates, PEM; "
        "none = plain HTTP",
    )
    key_file: Path | None = Field(default=None, description="TRADEUL_TLS_KEY_FILE: its private key, PEM, not encrypted")
    ca_file: Path | None = Field(
        default=None,
        description="TRADEUL_TLS_CA_FILE: the authorities that commands such as `tradeul top` trust for the gateway's "
        "certificate, PEM; by default the usual ones",
    )
    http3: Literal["off", "on"] = Field(
        default="off",
        description="TRADEUL_TLS_HTTP3: on = a gateway with a certificate also speaks HTTP/3, on the UDP port of the "
        "same number",
    )

    @field_validator("http3", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("expected TRADEUL_TLS_CERT_FILE and TRADEUL_TLS_KEY_FILE, was only one of them")
        if self.http3 == "on" and self.cert_file is None:
            raise ValueError("expected TRADEUL_TLS_CERT_FILE with TRADEUL_TLS_HTTP3, was none")
        return self


class KeySettings(Group):
    """The limits of each key, and of each subject of tokens; `tradeul keys create` sets others for one key."""

    prefix = "TRADEUL_KEY_"

    requests_per_s: int = Field(
        default=100, ge=1, le=1_000_000, description="TRADEUL_KEY_REQUESTS_PER_S: requests per second, streams included"
    )
    streams: int = Field(
        default=50, ge=1, le=10_000, description="TRADEUL_KEY_STREAMS: streams open at the same time, at each service"
    )
    scans: int = Field(default=20, ge=0, le=10_000, description="TRADEUL_KEY_SCANS: custom scans open at the same time")
    scan_steps: int = Field(
        default=500, ge=0, description="TRADEUL_KEY_SCAN_STEPS: steps for each row in all open custom scans of a key"
    )
    gateways: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="TRADEUL_KEY_GATEWAYS: number of gateways that share one database; each allows its share of the "
        "requests per second",
    )


class ClientSettings(Group):
    """The limits of each client address, with or without a key."""

    prefix = "TRADEUL_CLIENT_"

    requests_per_s: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="TRADEUL_CLIENT_REQUESTS_PER_S: requests per second of one client address, streams included; "
        "0 = no limit; by default 0 if the gateway listens on a loopback address, otherwise 500",
    )

    def completed(self, is_local: bool) -> Self:
        """Returns them with a limit: by default one as soon as others than this machine can reach the gateway."""
        default = 0 if is_local else CLIENT_REQUESTS_PER_S
        return self if self.requests_per_s is not None else self.model_copy(update={"requests_per_s": default})


class MeshTlsSettings(Group):
    """Certificates of the services among themselves; without them they speak plain text."""

    prefix = "TRADEUL_MESH_TLS_"

    cert_file: Path | None = Field(
        default=None,
        description="TRADEUL_MESH_TLS_CERT_FILE: the certificate of the services, and of the gateway when it calls "
        "them, PEM, for servers and clients; none = plain text between services",
    )
    key_file: Path | None = Field(default=None, description="TRADEUL_MESH_TLS_KEY_FILE: its private key, PEM")
    ca_file: Path | None = Field(
        default=None,
        description="TRADEUL_MESH_TLS_CA_FILE: the authorities that may sign certificates of the mesh, PEM",
    )
    name: str = Field(
        default="tradeul",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
        description="TRADEUL_MESH_TLS_NAME: the DNS name that each certificate of the mesh contains and is checked for",
    )
    metrics: Literal["on", "off"] = Field(
        default="on",
        description="TRADEUL_MESH_TLS_METRICS: whether metrics ports also require a certificate from these authorities",
    )

    @property
    def is_on(self) -> bool:
        return self.cert_file is not None

    @model_validator(mode="after")
    def _check_all(self) -> Self:
        names = ("cert_file", "key_file", "ca_file")
        missing = [self.prefix + name.upper() for name in names if getattr(self, name) is None]
        if 0 < len(missing) < len(names):
            all_of_them = ", ".join(self.prefix + name.upper() for name in names)
            raise ValueError(f"expected all or none of {all_of_them}, was without {' and '.join(missing)}")
        return self


class JwtSettings(Group):
    """Tokens of an identity provider, which the gateway accepts beside keys; none without an issuer."""

    prefix = "TRADEUL_JWT_"

    issuer: str = Field(
        default="",
        description="TRADEUL_JWT_ISSUER: the `iss` of tokens that are accepted beside keys; none = keys only",
    )
    audiences: CommaSeparated[str] = Field(
        default=(),
        description="TRADEUL_JWT_AUDIENCES: separated by commas; the `aud` of a token has to be one of these",
    )
    jwks_url: Annotated[HttpUrl, AfterValidator(_with_host)] = Field(
        default="", description="TRADEUL_JWT_JWKS_URL: where the issuer publishes its public keys (JWKS)"
    )
    jwks_file: Path | None = Field(
        default=None, description="TRADEUL_JWT_JWKS_FILE: a file with its public keys (JWKS), instead of the URL"
    )
    jwks_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="TRADEUL_JWT_JWKS_SECONDS: for how many seconds keys from the URL are kept",
    )
    clock_skew_seconds: int = Field(
        default=60,
        ge=1,
        le=600,
        description="TRADEUL_JWT_CLOCK_SKEW_SECONDS: how far the issuer's clock may be from ours: a token is accepted "
        "for this many seconds before its `nbf` and after its `exp`",
    )
    claim: str = Field(
        default="scope",
        min_length=1,
        description="TRADEUL_JWT_CLAIM: the claim that carries the right, as words in a text or as a list; "
        "realm_access.roles means roles within realm_access",
    )
    read: str = Field(
        default="tradeul.read", min_length=1, description="TRADEUL_JWT_READ: the claim's word for the right to read"
    )
    admin: str = Field(
        default="tradeul.admin", min_length=1, description="TRADEUL_JWT_ADMIN: the claim's word for admin"
    )
    requests_per_s: int = Field(
        default=100, ge=1, le=1_000_000, description="TRADEUL_JWT_REQUESTS_PER_S: requests per second for each subject"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        others = {
            "TRADEUL_JWT_AUDIENCES": self.audiences,
            "TRADEUL_JWT_JWKS_URL": self.jwks_url,
            "TRADEUL_JWT_JWKS_FILE": self.jwks_file,
        }
        given = [name for name, value in others.items() if value]
        if not self.issuer:
            if given:
                raise ValueError(f"expected TRADEUL_JWT_ISSUER with {' and '.join(given)}, was none")
            return self
        if not self.audiences:
            raise ValueError("expected TRADEUL_JWT_AUDIENCES with TRADEUL_JWT_ISSUER, was none")
        if bool(self.jwks_url) == (self.jwks_file is not None):
            number = "both" if self.jwks_url else "neither"
            raise ValueError(f"expected one of TRADEUL_JWT_JWKS_URL and TRADEUL_JWT_JWKS_FILE, was {number}")
        if self.read == self.admin:
            raise ValueError("expected different words in TRADEUL_JWT_READ and TRADEUL_JWT_ADMIN, was one")
        return self


class TraceSettings(Group):
    """Spans of OpenTelemetry, of a part of the requests and of the refreshes of the lists; off without a receiver."""

    prefix = "TRADEUL_TRACE_"

    otlp_url: Annotated[BaseUrl, AfterValidator(_with_host)] = Field(
        default="",
        description="TRADEUL_TRACE_OTLP_URL: where spans are sent, by OTLP over gRPC, such as http://localhost:4317; "
        "none = no traces",
    )
    requests: int = Field(
        default=100,
        ge=0,
        description="TRADEUL_TRACE_REQUESTS: one in this many requests to the gateway is traced; 0 = none",
    )
    refreshes: int = Field(
        default=1000,
        ge=0,
        description="TRADEUL_TRACE_REFRESHES: one in this many refreshes of the lists is traced; 0 = none",
    )

    @property
    def is_on(self) -> bool:
        return bool(self.otlp_url)


class SimSettings(Group):
    """The simulated market."""

    prefix = "TRADEUL_SIM_"

    seed: int = Field(default=1, ge=0, description="TRADEUL_SIM_SEED: the same seed gives the same market")
    symbols: int = Field(default=12_000, ge=1, le=100_000, description="TRADEUL_SIM_SYMBOLS: how many symbols trade")
    start: datetime | None = Field(
        default=None,
        description="TRADEUL_SIM_START: ISO time at which the market begins, on or after 2023-06-01; New York time if "
        "it has no offset; by default 2025-11-24T09:25, five minutes before an open",
    )
    speed: float = Field(default=1.0, gt=0, le=100_000, description="TRADEUL_SIM_SPEED: simulated seconds per second")
    channels: CommaSeparated[Literal["T", "A", "AM", "LULD", "Q"]] = Field(
        default=("T", "A", "AM", "LULD", "Q"),
        description="TRADEUL_SIM_CHANNELS: channels that the simulated plan may subscribe to, separated by commas; "
        "others are refused",
    )


class ReplaySettings(Group):
    """A replayed day; `tradeul replay` sets these. Without a date the mesh is live."""

    prefix = "TRADEUL_REPLAY_"

    date: datetime_date | None = Field(
        default=None, description="TRADEUL_REPLAY_DATE: the trading day to replay; none = the live market"
    )
    file: Path | None = Field(
        default=None,
        description="TRADEUL_REPLAY_FILE: a flat file of trades or minute bars; none = the day's stored minute bars",
    )
    market: Path | None = Field(
        default=None, description="TRADEUL_REPLAY_MARKET: file with the market that the recording of the day began with"
    )
    speed: float | Literal["max"] = Field(
        default=1.0, description="TRADEUL_REPLAY_SPEED: seconds of the day per second, or max"
    )
    start: datetime | None = Field(
        default=None,
        description="TRADEUL_REPLAY_START: ISO time up to which the day is played as fast as possible; New York time "
        "if it has no offset",
    )
    until: datetime | None = Field(
        default=None,
        description="TRADEUL_REPLAY_UNTIL: ISO time at which the day stops while the mesh stays up; New York time if "
        "it has no offset",
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


class KeepSettings(Group):
    """For how many days, by the market's clock, housekeeping keeps what is stored; 0 is for ever.

    Nothing else is ever deleted. Records of what processes did are dated, and so aged, by the database's clock.
    """

    prefix = "TRADEUL_KEEP_"

    minute_bars: int = Field(default=90, ge=0, description="TRADEUL_KEEP_MINUTE_BARS: days of aggregates_1min; 0 = all")
    scan_results: int = Field(default=180, ge=0, description="TRADEUL_KEEP_SCAN_RESULTS: days of scan_results; 0 = all")
    alerts: int = Field(default=90, ge=0, description="TRADEUL_KEEP_ALERTS: days of alert_events; 0 = all")
    daily_bars: int = Field(default=0, ge=0, description="TRADEUL_KEEP_DAILY_BARS: days of daily_ohlc; 0 = all")
    slot_days: int = Field(default=90, ge=0, description="TRADEUL_KEEP_SLOT_DAYS: days of slot_days; 0 = all")
    loads: int = Field(default=180, ge=0, description="TRADEUL_KEEP_LOADS: days of load_jobs that ended; 0 = all")
    runs: int = Field(default=400, ge=0, description="TRADEUL_KEEP_RUNS: days of maintenance_runs that ended; 0 = all")
    sync_runs: int = Field(
        default=7, ge=0, description="TRADEUL_KEEP_SYNC_RUNS: days of sync_redis's maintenance_runs; 0 = all"
    )
    webhook_attempts: int = Field(
        default=7, ge=0, description="TRADEUL_KEEP_WEBHOOK_ATTEMPTS: days of webhook_attempts; 0 = all"
    )
