"""Who may send which request: rights by path, keys, tickets, rates."""

from typing import Any

import pytest
from tradeul.v1 import rights_pb2

from services.access import core
from services.access.core import AccessControl, Key, TokenBucket, hash_of, new_key
from services.access.methods import Need, Right, declared_needs, need_of
from services.access.tokens import words_of
from services.cli.local.mesh import open_services, specs_of
from services.cli.up import welcome
from services.kit.runtime import errors
from services.kit.runtime.redaction import redact
from services.kit.runtime.settings import Settings

NEEDS = {
    "/tradeul.v1.S/Health": Need(Right.PUBLIC),
    "/tradeul.v1.S/Get": Need(Right.READ),
    "/tradeul.v1.S/Watch": Need(Right.READ, takes_ticket=True),
    "/tradeul.v1.S/Change": Need(Right.ADMIN),
}
JWT = {"TRADEUL_JWT_ISSUER": "https://login.example.com/", "TRADEUL_JWT_AUDIENCES": "tradeul"}
READ, ADMIN, SLOW = new_key(), new_key(), new_key()


def key(name: str, secret: str, right: Right = Right.READ, requests_per_s: int = 100) -> Key:
    return Key(name, hash_of(secret), right, requests_per_s)


@pytest.fixture
def control() -> AccessControl:
    made = AccessControl(NEEDS)
    made.replace_keys([key("reader", READ), key("boss", ADMIN, Right.ADMIN), key("slow", SLOW, requests_per_s=2)])
    return made


def outcome(control: AccessControl, path: str, now: float = 0.0, **headers: Any) -> tuple[str, str]:
    """The key's name, and the reason of the refusal."""
    verdict = control.check(path, {name.replace("_", "-"): value for name, value in headers.items()}, now)
    return verdict.key, verdict.refusal.reason.name if verdict.refusal is not None else ""


def test_every_method_has_its_need() -> None:
    needs = declared_needs()
    assert needs["/tradeul.v1.HealthService/GetHealth"] == Need(Right.PUBLIC)
    assert needs["/tradeul.v1.FiltersService/DeleteFilter"] == Need(Right.ADMIN)
    assert needs["/tradeul.v1.ScannerService/WatchList"] == Need(Right.READ, takes_ticket=True)
    assert needs["/tradeul.v1.ScannerService/GetList"] == Need(Right.READ)
    assert [right.value for right in Right] == rights_pb2.Right.values()[1:]


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/tradeul.v1.S/Get?x=1", Right.READ),
        ("/tradeul.v1.S/Newer", Right.ADMIN),
        ("/tradeul.v2.S/Get", Right.ADMIN),
        ("/tradeul.v1.S/Get/", Right.ADMIN),
        ("/tradeul.v1.S/Health%3f", Right.ADMIN),
        ("/grpc.health.v1.Health/Check", Right.PUBLIC),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Right.READ),
        ("/ws/scanner?ticket=x", Right.READ),
        ("/openapi.json", Right.PUBLIC),
        ("/api/v1/filters", Right.READ),
        ("", Right.READ),
    ],
)
def test_what_a_path_needs(path: str, right: Right) -> None:
    assert need_of(path, NEEDS).right is right


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("Health", {}, ("", "")),
        ("Health", {"x_api_key": "wrong"}, ("", "")),
        ("Get", {}, ("", "KEY_EXPECTED")),
        ("Get", {"x_api_key": ""}, ("", "KEY_EXPECTED")),
        ("Get", {"authorization": "Basic abc"}, ("", "KEY_EXPECTED")),
        ("Get", {"x_api_key": "wrong"}, ("", "INVALID_KEY")),
        ("Get", {"x_api_key": f"{READ},{READ}"}, ("", "INVALID_KEY")),
        ("Get", {"x_api_key": READ}, ("reader", "")),
        ("Get", {"authorization": f"Bearer {READ}"}, ("reader", "")),
        ("Get", {"authorization": f"bearer  {READ}"}, ("reader", "")),
        ("Get", {"x_api_key": ADMIN}, ("boss", "")),
        ("Get", {"x_api_key": "w\u00f6rng"}, ("", "INVALID_KEY")),
        ("Change", {}, ("", "KEY_EXPECTED")),
        ("Change", {"x_api_key": READ}, ("reader", "INSUFFICIENT_RIGHT")),
        ("Change", {"x_api_key": ADMIN}, ("boss", "")),
        # The more specific header counts.
        ("Get", {"x_api_key": READ, "authorization": "Bearer wrong"}, ("reader", "")),
    ],
)
def test_keys(control: AccessControl, method: str, headers: dict[str, Any], expected: tuple[str, str]) -> None:
    assert outcome(control, f"/tradeul.v1.S/{method}", **headers) == expected


def test_a_refusal_names_the_right_that_is_needed(control: AccessControl) -> None:
    refusal = control.check("/tradeul.v1.S/Change", {"x-api-key": READ}, 0.0).refusal
    assert refusal is not None
    assert refusal.message == "expected a key with the right 'admin', was 'reader' with 'read'"
    assert refusal.metadata == {"needed": "admin", "key": "reader"}


def test_a_revoked_key_is_refused_and_a_new_one_accepted(control: AccessControl) -> None:
    fresh = new_key()
    control.replace_keys([key("fresh", fresh)])
    assert outcome(control, "/tradeul.v1.S/Get", x_api_key=READ) == ("", "INVALID_KEY")
    assert outcome(control, "/tradeul.v1.S/Get", x_api_key=fresh) == ("fresh", "")
    assert control.key_count == 1


def test_a_ticket_opens_one_stream(control: AccessControl) -> None:
    ticket = control.new_ticket("reader", 0.0)
    watch = "/tradeul.v1.S/Watch"
    assert outcome(control, watch, 59.9, x_tradeul_ticket=ticket) == ("reader", "")
    assert outcome(control, watch, 59.9, x_tradeul_ticket=ticket) == ("", "INVALID_TICKET")
    assert outcome(control, watch, x_tradeul_ticket="wrong") == ("", "INVALID_TICKET")


def test_what_a_ticket_opens_ends_with_the_token_that_made_it(control: AccessControl) -> None:
    control.check("/tradeul.v1.S/Get", {}, 0.0, subject("a")._replace(expires=1000.0))
    ticket = control.new_ticket("jwt:a", 0.0, 1000.0)
    # A newer token of the same subject is another's right.
    control.check("/tradeul.v1.S/Get", {}, 1.0, subject("a")._replace(expires=5000.0))
    holder = control.check("/tradeul.v1.S/Watch", {"x-tradeul-ticket": ticket}, 2.0).holder
    assert holder is not None
    assert (holder.expires, holder.right) == (1000.0, Right.READ)


def test_a_ticket_expires_and_is_forgotten(control: AccessControl) -> None:
    ticket = control.new_ticket("reader", 0.0)
    control.new_ticket("reader", 30.0)
    assert control.ticket_count == 2
    assert outcome(control, "/ws/scanner", 60.0, x_tradeul_ticket=ticket) == ("", "INVALID_TICKET")
    control.new_ticket("reader", 95.0)
    assert control.ticket_count == 1


def test_a_ticket_reads_streams_and_nothing_else(control: AccessControl) -> None:
    """Whoever reads it out of a URL cannot make another of it, nor change anything."""
    ticket = control.new_ticket("boss", 0.0)
    for method in ("Get", "Change", "Newer"):
        assert outcome(control, f"/tradeul.v1.S/{method}", x_tradeul_ticket=ticket) == ("", "KEY_EXPECTED")
    create = AccessControl(declared_needs())
    assert outcome(create, "/tradeul.v1.AccessService/CreateTicket", x_tradeul_ticket=ticket)[1] == "KEY_EXPECTED"
    # Refused, it is not spent.
    assert outcome(control, "/ws/scanner", x_tradeul_ticket=ticket) == ("boss", "")


def test_a_ticket_ends_with_its_key(control: AccessControl) -> None:
    ticket = control.new_ticket("reader", 0.0)
    control.replace_keys([])
    assert outcome(control, "/ws/scanner", x_tradeul_ticket=ticket) == ("", "INVALID_TICKET")
    with pytest.raises(errors.ServiceError) as caught:
        control.new_ticket("reader", 0.0)
    assert caught.value.reason is errors.KEY_EXPECTED


def test_the_rate_of_a_key(control: AccessControl) -> None:
    get = "/tradeul.v1.S/Get"
    assert [outcome(control, get, 0.0, x_api_key=SLOW)[1] for _ in range(3)] == ["", "", "TOO_MANY_REQUESTS"]
    verdict = control.check(get, {"x-api-key": SLOW}, 0.1)
    assert verdict.refusal is not None
    assert verdict.refusal.message == "limit reached: 2 requests per second of the key 'slow'"
    assert (verdict.key, verdict.retry_seconds) == ("slow", pytest.approx(0.4))
    # Another key is not affected, nor is a read of the keys a way to get a new second.
    assert outcome(control, get, 0.1, x_api_key=READ) == ("reader", "")
    control.replace_keys([key("slow", SLOW, requests_per_s=2)])
    assert outcome(control, get, 0.2, x_api_key=SLOW)[1] == "TOO_MANY_REQUESTS"
    assert outcome(control, get, 0.6, x_api_key=SLOW)[1] == ""
    # Another limit holds at once.
    control.replace_keys([key("slow", SLOW, requests_per_s=5)])
    assert [outcome(control, get, 0.6, x_api_key=SLOW)[1] for _ in range(6)].count("") == 5


def test_a_bucket_holds_one_second() -> None:
    bucket = TokenBucket(10, 0.0)
    assert sum(bucket.take(1000.0) == 0 for _ in range(20)) == 10
    assert bucket.take(1000.05) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("environment", "keys"),
    [
        ({}, "off"),
        ({"TRADEUL_HOST": "127.0.0.2"}, "off"),
        ({"TRADEUL_HOST": "::1"}, "off"),
        ({"TRADEUL_HOST": "localhost"}, "off"),
        ({"TRADEUL_HOST": "0.0.0.0"}, "required"),
        ({"TRADEUL_HOST": "::"}, "required"),
        ({"TRADEUL_HOST": "scanner.example.com"}, "required"),
        ({"TRADEUL_GATEWAY_ADDRESS": "192.0.2.1:8000"}, "required"),
        ({"TRADEUL_HOST": "0.0.0.0", "TRADEUL_GATEWAY_ADDRESS": "127.0.0.1:8000"}, "off"),
        ({"TRADEUL_HOST": "0.0.0.0", "TRADEUL_KEYS": "OFF"}, "off"),
        ({"TRADEUL_KEYS": "required"}, "required"),
        ({**JWT, "TRADEUL_JWT_JWKS_URL": "https://login.example.com/jwks.json"}, "required"),
    ],
)
def test_keys_are_required_as_soon_as_others_reach_the_gateway(environment: dict[str, str], keys: str) -> None:
    settings = Settings.load(environment)
    assert settings.keys == keys
    specs = {spec.name: spec for spec in specs_of(settings)}
    assert ("access" in specs) == ("access" in specs["gateway"].needs) == settings.requires_keys == (keys == "required")
    assert ("tradeul keys create" in welcome(settings, 1.0).replace("-m services.cli.main", "tradeul")) == (
        keys == "required"
    )


def test_what_others_reach_beside_the_gateway_is_named() -> None:
    assert open_services(Settings.load({"TRADEUL_GATEWAY_ADDRESS": "0.0.0.0:8000"})) == []
    names = open_services(Settings.load({"TRADEUL_HOST": "0.0.0.0"}))
    assert {"ticker", "scanner", "access", "metrics"} <= set(names)
    files = {f"TRADEUL_MESH_TLS_{name}_FILE": "x" for name in ("CERT", "KEY", "CA")}
    assert open_services(Settings.load({"TRADEUL_HOST": "0.0.0.0", **files})) == ["simulator"]
    plain = {"TRADEUL_HOST": "0.0.0.0", **files, "TRADEUL_MESH_TLS_METRICS": "off"}
    assert open_services(Settings.load(plain)) == ["simulator", "metrics"]
    assert "metrics" not in open_services(Settings.load({**plain, "TRADEUL_METRICS_PORT_OFFSET": "0"}))


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(errors.SettingsError, match="TRADEUL_KEYS: Input should be 'off' or 'required', was 'maybe'"):
        Settings.load({"TRADEUL_KEYS": "maybe"})


def test_a_key_is_random_recognizable_and_redacted_wherever_it_is() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert READ.startswith(core.KEY_PREFIX)
    assert len(READ) == len(core.KEY_PREFIX) + 43
    assert redact(f"x {READ}, y") == "x ***, y"
    assert redact("x-api-key: abc") == "x-api-key: ***"
    assert redact("/ws/scanner?ticket=abc&x=1") == "/ws/scanner?ticket=***&x=1"
    assert redact("tradeul_ws_clients is a metric") == "tradeul_ws_clients is a metric"


def subject(name: str, right: Right = Right.READ, requests_per_s: int = 2) -> Key:
    return Key(f"jwt:{name}", b"", right, requests_per_s, claim="scope")


def test_the_subject_of_a_token_is_held_to_its_right_and_rate(control: AccessControl) -> None:
    get, change = "/tradeul.v1.S/Get", "/tradeul.v1.S/Change"
    assert control.check(get, {}, 0.0, subject("a")) == core.Verdict("jwt:a", holder=subject("a"))
    refusal = control.check(change, {}, 0.0, subject("a")).refusal
    assert refusal is not None
    assert refusal.message == "expected a token (claim 'scope') with the right 'admin', was 'jwt:a' with 'read'"
    assert control.check(change, {}, 0.0, subject("b", Right.ADMIN)).refusal is None
    assert control.check(get, {}, 0.0, subject("a")).refusal is None
    refusal = control.check(get, {}, 0.0, subject("a")).refusal
    assert refusal is not None
    assert refusal.message == "limit reached: 2 requests per second of the subject 'jwt:a'"
    # Reading the keys again changes nothing for it, and a key beside the token counts.
    control.replace_keys([key("reader", READ)])
    assert control.check(get, {}, 0.0, subject("a")).refusal is not None
    assert control.check(get, {"x-api-key": READ}, 0.0, subject("a")).key == "reader"


def test_a_refused_token_hides_no_key(control: AccessControl) -> None:
    refused = errors.INVALID_TOKEN.error("the token has expired")
    get, ticket = "/tradeul.v1.S/Get", control.new_ticket("reader", 0.0)
    for headers in ({"authorization": "Bearer e.e.e"}, {"x-tradeul-ticket": ticket}):
        assert control.check(get, headers, 0.0, refused).refusal is refused
    assert control.check(get, {"authorization": f"Bearer {READ}"}, 0.0, refused).key == "reader"
    assert control.check(get, {"x-api-key": READ, "authorization": "Bearer e.e.e"}, 0.0, refused).key == "reader"


def test_subjects_are_forgotten_after_their_tickets(control: AccessControl) -> None:
    get, watch = "/tradeul.v1.S/Get", "/tradeul.v1.S/Watch"
    control.check(get, {}, 0.0, subject("a", Right.ADMIN))
    ticket = control.new_ticket("jwt:a", 0.0)
    verdict = control.check(watch, {"x-tradeul-ticket": ticket}, 59.9)
    assert (verdict.key, verdict.refusal) == ("jwt:a", None)
    control.check(get, {}, 100.0, subject("b"))
    control.new_ticket("jwt:a", 119.0)
    control.check(get, {}, 200.0, subject("b"))
    with pytest.raises(errors.ServiceError):
        control.new_ticket("jwt:a", 200.0)


@pytest.mark.parametrize(
    ("claims", "path", "words"),
    [
        ({"scope": "a  b"}, "scope", {"a", "b"}),
        ({"scope": ["a", 1, "b"]}, "scope", {"a", "b"}),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", {"a"}),
        ({"https://x.example/roles": ["a"]}, "https://x.example/roles", {"a"}),
        ({"a": "b"}, "a.b", set()),
        ({"scope": {"a": 1}}, "scope", set()),
        ({}, "scope", set()),
    ],
)
def test_the_words_of_a_claim(claims: dict[str, Any], path: str, words: set[str]) -> None:
    assert words_of(claims, path) == words


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"TRADEUL_JWT_AUDIENCES": "x"}, "expected TRADEUL_JWT_ISSUER with TRADEUL_JWT_AUDIENCES, was none"),
        ({"TRADEUL_JWT_ISSUER": "x"}, "expected TRADEUL_JWT_AUDIENCES with TRADEUL_JWT_ISSUER, was none"),
        (JWT, "expected one of TRADEUL_JWT_JWKS_URL and TRADEUL_JWT_JWKS_FILE, was neither"),
        (
            {**JWT, "TRADEUL_JWT_JWKS_URL": "https://x", "TRADEUL_JWT_JWKS_FILE": "x"},
            "expected one of TRADEUL_JWT_JWKS_URL and TRADEUL_JWT_JWKS_FILE, was both",
        ),
        ({**JWT, "TRADEUL_JWT_JWKS_URL": "login.example.com"}, "TRADEUL_JWT_JWKS_URL: expected an http:// or https://"),
        ({**JWT, "TRADEUL_JWT_JWKS_URL": "https:///x"}, "TRADEUL_JWT_JWKS_URL: expected a URL with a host, was"),
        ({**JWT, "TRADEUL_JWT_JWKS_URL": "https://x:99999/"}, "TRADEUL_JWT_JWKS_URL: expected a URL with a host and a"),
        ({**JWT, "TRADEUL_JWT_JWKS_FILE": "x", "TRADEUL_JWT_JWKS_SECONDS": "0"}, "TRADEUL_JWT_JWKS_SECONDS: Input"),
        ({**JWT, "TRADEUL_JWT_JWKS_FILE": "x", "TRADEUL_JWT_READ": "tradeul.admin"}, "expected different words in"),
        ({**JWT, "TRADEUL_JWT_JWKS_FILE": "x", "TRADEUL_KEYS": "off"}, "expected TRADEUL_KEYS=required with"),
    ],
)
def test_each_wrong_setting_of_tokens_is_one_line(environment: dict[str, str], line: str) -> None:
    with pytest.raises(errors.SettingsError) as raised:
        Settings.load(environment)
    (_, shown) = str(raised.value).splitlines()
    assert line in shown


def test_gateways_share_a_keys_requests() -> None:
    control = AccessControl(NEEDS, gateways=4)
    control.replace_keys([key("slow", SLOW, requests_per_s=2)])
    headers = {"x-api-key": SLOW}
    path = next(path for path, need in NEEDS.items() if need.right is Right.READ)
    # Half a request per second is one every two seconds, and one at once.
    assert control.check(path, headers, 0.0).refusal is None
    verdict = control.check(path, headers, 1.0)
    assert verdict.refusal is not None
    assert verdict.refusal.metadata == {"limit": "0.5", "key": "slow"}
    assert verdict.retry_seconds == 1.0
    assert control.check(path, headers, 2.0).refusal is None


def test_names_that_no_longer_give_access() -> None:
    """Those that are revoked, and those of keys that are gone; each once, the earliest first."""
    control = AccessControl(NEEDS)
    control.replace_keys([key("a", "1"), key("b", "2"), key("c", "3")], ["old"])
    assert control.revoked == ["old"]
    control.replace_keys([key("b", "2")], ["old", "a"])
    assert control.revoked == ["old", "a", "c"]
    control.replace_keys([key("b", "2")], ["old", "a"])
    assert control.revoked == ["old", "a", "c"]


def test_the_limits_of_a_request_are_those_of_its_key() -> None:
    control = AccessControl(NEEDS)
    control.replace_keys([key("reader", READ)._replace(streams=3, scans=2)])
    path = next(path for path, need in NEEDS.items() if need.takes_ticket)
    holder = control.check(path, {"x-api-key": READ}, 0.0).holder
    assert holder is not None
    assert (holder.name, holder.streams, holder.scans) == ("reader", 3, 2)
    ticket = control.new_ticket("reader", 0.0)
    of_ticket = control.check(path, {"x-tradeul-ticket": ticket}, 0.0).holder
    assert of_ticket is not None
    assert (of_ticket.streams, of_ticket.scans) == (3, 2)
