"""Tokens (JWT) at the gateway: the real Envoy verifies them, the access service decides what they may do."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from services.access.methods import Right
from services.access.metrics import ALLOWED
from services.cli.local.tokens import check_issuer
from services.kit.rpc.key_streams import NAME_HEADER
from services.kit.runtime.clock import NS_PER_SECOND, wall_ns
from services.kit.runtime.errors import StartError
from tests.support.certificates import Authority
from tests.support.gateway import Gateway, gateway_settings
from tests.support.guarded import (
    PATIENCE_SECONDS,
    WEBSOCKET,
    WS_PATH,
    Guarded,
    check_refusal,
    guarded_gateway,
    reason_of,
)
from tests.support.stores import Stores, module_stores
from tests.support.tokens import AUDIENCE, ISSUER, JwksServer, SigningKey, jwks, replace

STATUS, FILTERS = "/api/v1/scanner/status", "/api/v1/filters"
READ, CHANGE = "/tradeul.v1.ScannerService/GetScannerStatus", "/tradeul.v1.FiltersService/DeleteFilter"
NOW = wall_ns() // NS_PER_SECOND
KEY, OTHER = SigningKey("first"), SigningKey("second", "RS256")
FORGED = SigningKey("first")
JWT = {"TRADEUL_JWT_ISSUER": ISSUER, "TRADEUL_JWT_AUDIENCES": f"other,{AUDIENCE}"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def unsigned() -> str:
    """A token of the algorithm `none`."""
    return jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "scope": "tradeul.admin"}, "", algorithm="none")


def confused() -> str:
    """A token signed by HMAC with the public key, which everybody has, as the secret."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    secret = base64.b64encode(KEY.private.public_key().public_bytes(*form))
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "scope": "tradeul.admin", "exp": NOW + 3600}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": KEY.kid})


def unknown_algorithm() -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"XS256","kid":"first"}').decode().rstrip("=")
    return ".".join((head, *KEY.token().split(".")[1:]))


def changed() -> str:
    """A token whose claims were replaced after it was signed."""
    head, _, signature = KEY.token().split(".")
    claims = json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "scope": "tradeul.admin", "exp": NOW + 3600})
    return f"{head}.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.{signature}"


REFUSED = [
    (KEY.token(iss="https://elsewhere.example.com"), f"expected a token of the issuer '{ISSUER}', was another's"),
    (KEY.token(iss=None), f"expected a token of the issuer '{ISSUER}', was another's"),
    (KEY.token(aud="somebody"), "expected a token for 'other' or 'tradeul', was for other audiences"),
    (KEY.token(aud=None), "expected a token for 'other' or 'tradeul', was for other audiences"),
    (KEY.token(exp=NOW - 3600), "the token has expired"),
    (KEY.token(exp=None), "expected a token with the claim 'exp'"),
    (KEY.token(nbf=NOW + 3600), "the token is not valid yet"),
    (KEY.token(sub=None), "expected a token with the claim 'sub' of 1 to 255 characters"),
    (KEY.token(sub="x" * 256), "expected a token with the claim 'sub' of 1 to 255 characters"),
    (FORGED.token(), "the token is not signed by its issuer"),
    (changed(), "the token is not signed by its issuer"),
    (
        SigningKey("third", "RS256").token(),
        "the token is signed with a key that is not among those of TRADEUL_JWT_JWKS_FILE",
    ),
    (confused(), "the token is signed with a key that is not among those of TRADEUL_JWT_JWKS_FILE"),
    (unknown_algorithm(), "the token is signed with an algorithm that is not supported"),
    (unsigned(), "expected a key or a token (JWT), was neither"),
    ("nonsense", "expected a key or a token (JWT), was neither"),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


def with_file(folder: Path, **environment: str) -> dict[str, str]:
    keys = folder / "keys" / "jwks of the issuer.json"
    keys.parent.mkdir()
    keys.write_text(jwks(KEY))
    return {**JWT, "TRADEUL_JWT_JWKS_FILE": str(keys), **environment}


@pytest.fixture
async def guarded(stores: Stores, tmp_path: Path) -> AsyncIterator[Guarded]:
    settings = with_file(tmp_path, TRADEUL_JWT_REQUESTS_PER_S="1000")
    async with guarded_gateway(stores, tmp_path / "data", settings) as running:
        yield running


async def test_each_refusal(guarded: Guarded) -> None:
    """The status, reason and words by REST, gRPC, gRPC-Web and WebSocket alike; no service hears of it."""
    for token, message in REFUSED:
        headers = bearer(token)
        body = check_refusal(await guarded.gateway.client.get(STATUS, headers=headers), 401, "INVALID_TOKEN")
        assert body["message"] == message
        for call in (guarded.grpc_call, guarded.grpc_web_call):
            code, status = await call(READ, headers)
            assert (code, reason_of(status)) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_TOKEN")
            assert status is not None
            assert status.message == message
        answer = await guarded.gateway.client.get(WS_PATH, headers=WEBSOCKET | headers)
        assert check_refusal(answer, 401, "INVALID_TOKEN")["message"] == message
        assert token not in answer.text
    assert not guarded.echo.received
    assert not guarded.web.heads
    # A key that is unknown is still called one.
    answer = await guarded.gateway.client.get(STATUS, headers=bearer("tradeul_unknown"))
    check_refusal(answer, 401, "INVALID_KEY")
    # What is public needs nothing, whatever is sent.
    assert (await guarded.gateway.client.get("/health", headers=bearer(FORGED.token()))).status_code == 200


async def test_the_claim_is_the_right(guarded: Guarded) -> None:
    client = guarded.gateway.client
    for scope, right in (
        ("openid tradeul.read", Right.READ),
        ("tradeul.admin", Right.ADMIN),
        (["tradeul.read", "tradeul.admin"], Right.ADMIN),
        ("openid", None),
        ("tradeul.readers xtradeul.admin", None),
        (None, None),
        ({"tradeul.admin": True}, None),
        (7, None),
    ):
        headers = bearer(KEY.token(scope=scope))
        answers = {path: await client.get(path, headers=headers) for path in (STATUS, FILTERS)}
        change = await client.delete(f"{FILTERS}/x", headers=headers)
        web = await client.get(WS_PATH, headers=WEBSOCKET | headers)
        for answer in (*answers.values(), web):
            if right is None:
                body = check_refusal(answer, 403, "INSUFFICIENT_RIGHT")
                words = "expected a token (claim 'scope') with the right 'read', was 'jwt:alice' with none"
                assert body["message"] == words
            else:
                assert answer.status_code == 200, answer.text
        if right is Right.ADMIN:
            assert change.status_code == 200, change.text
        else:
            body = check_refusal(change, 403, "INSUFFICIENT_RIGHT")
            assert body["details"][0]["metadata"] == {"needed": "admin", "key": "jwt:alice"}
        for call in (guarded.grpc_call, guarded.grpc_web_call):
            assert ((await call(READ, headers))[0] is grpc.StatusCode.OK) == (right is not None)
            assert ((await call(CHANGE, headers))[0] is grpc.StatusCode.OK) == (right is Right.ADMIN)


async def test_a_subject_has_a_name_and_no_token(guarded: Guarded) -> None:
    """Services and logs see who it is, and clients cannot set it; keys work as ever, and come first."""
    client = guarded.gateway.client
    token = KEY.token(sub="auth0|Zo\u00eb\r\nx: y")
    count = ALLOWED.labels("jwt:")._value.get()
    answer = await client.get(
        STATUS,
        headers={**bearer(token), NAME_HEADER: "boss", "x-tradeul-jwt": "x"},
    )
    assert answer.status_code == 200, answer.text
    name = "jwt:auth0|Zo%C3%AB%0D%0Ax:%20y"
    assert guarded.echo.metadata[NAME_HEADER] == name
    assert not [value for value in guarded.echo.metadata.values() if token[-20:] in value]
    assert ALLOWED.labels("jwt:")._value.get() == count + 1
    line = json.loads(await guarded.gateway.logged(STATUS))
    assert line["key"] == name
    assert token[-20:] not in guarded.gateway.log
    both = {**bearer(KEY.token(scope="tradeul.admin")), **guarded.headers(Right.READ)}
    check_refusal(await client.delete(f"{FILTERS}/x", headers=both), 403, "INSUFFICIENT_RIGHT")
    assert (await client.get(STATUS, headers=bearer(guarded.secrets[Right.READ]))).status_code == 200
    # Not in the query, where it would be logged.
    answer = await client.get(STATUS, params={"access_token": KEY.token()})
    assert answer.status_code in (400, 401), answer.text


async def test_a_ticket_and_the_rate_of_a_subject(stores: Stores, tmp_path: Path) -> None:
    async with guarded_gateway(stores, tmp_path, with_file(tmp_path, TRADEUL_JWT_REQUESTS_PER_S="5")) as guarded:
        await check_ticket_and_rate(guarded)


async def check_ticket_and_rate(guarded: Guarded) -> None:
    client = guarded.gateway.client
    headers = bearer(KEY.token(scope="tradeul.admin"))
    answer = await client.post("/api/v1/tickets", json={}, headers=headers)
    assert answer.status_code == 200, answer.text
    ticket, watch = answer.json()["ticket"], "/api/v1/scanner/lists/winners:watch"
    assert (await client.get(watch, params={"ticket": ticket})).status_code == 200
    assert guarded.echo.metadata[NAME_HEADER] == "jwt:alice"
    check_refusal(await client.get(watch, params={"ticket": ticket}), 401, "INVALID_TICKET")
    # The rate is the subject's, whichever token it comes with.
    refused: Any = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while refused is None:
            tokens = [KEY.token(jti=str(number), scope="tradeul.read") for number in range(20)]
            answers = await asyncio.gather(*(client.get(STATUS, headers=bearer(token)) for token in tokens))
            refused = next((answer for answer in answers if answer.status_code == 429), None)
    body = check_refusal(refused, 429, "TOO_MANY_REQUESTS")
    assert body["message"] == "limit reached: 5 requests per second of the subject 'jwt:alice'"
    assert (await client.get(STATUS, headers=bearer(KEY.token(sub="bob")))).status_code == 200


async def test_keys_of_a_file_are_rotated(guarded: Guarded) -> None:
    client, path = guarded.gateway.client, guarded.settings.jwt.jwks_file
    assert path is not None
    check_refusal(await client.get(STATUS, headers=bearer(OTHER.token())), 401, "INVALID_TOKEN")
    replace(path, jwks(KEY, OTHER))
    await until(guarded, OTHER.token(), 200)
    assert (await client.get(STATUS, headers=bearer(KEY.token()))).status_code == 200
    replace(path, jwks(OTHER))
    await until(guarded, KEY.token(), 401)
    assert (await client.get(STATUS, headers=bearer(OTHER.token()))).status_code == 200


async def test_keys_of_a_url_are_rotated_and_may_be_away(stores: Stores, tmp_path: Path) -> None:
    """Over TLS, with a certificate that is checked; what the issuer published last is kept for a while only."""
    authority = Authority(tmp_path, "ca")
    pair = authority.certificate("issuer", "DNS:localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    issuer = JwksServer("")
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    settings = {**JWT, "TRADEUL_JWT_JWKS_URL": f"https://localhost:{port}/jwks.json", "TRADEUL_JWT_JWKS_SECONDS": "1"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(authority.pair.certificate))
            async with guarded_gateway(stores, tmp_path / "data", settings) as guarded:
                client = guarded.gateway.client
                answer = await client.get(STATUS, headers=bearer(KEY.token()))
                body = check_refusal(answer, 503, "TOKEN_KEYS_UNAVAILABLE")
                words = "the public keys of the tokens' issuer cannot be read from TRADEUL_JWT_JWKS_URL"
                assert body["message"] == words
                for call in (guarded.grpc_call, guarded.grpc_web_call):
                    code, status = await call(READ, bearer(KEY.token()))
                    assert (code, reason_of(status)) == (grpc.StatusCode.UNAVAILABLE, "TOKEN_KEYS_UNAVAILABLE")
                assert (await client.get(STATUS, headers=guarded.headers(Right.READ))).status_code == 200
                url = guarded.settings.jwt.jwks_url
                with pytest.raises(StartError, match=r"TRADEUL_JWT_JWKS_URL: expected the status 200 from .*, was 500"):
                    await check_issuer(url)
                issuer.document = jwks(KEY)
                await check_issuer(url)
                await until(guarded, KEY.token(), 200)
                issuer.document = jwks(OTHER)
                await until(guarded, OTHER.token(), 200)
                await until(guarded, KEY.token(), 401)
    finally:
        server.close()
    with pytest.raises(StartError, match=rf"TRADEUL_JWT_JWKS_URL: cannot be read from {url}: .*"):
        await check_issuer(url)


@pytest.mark.parametrize("wrong", ["authority", "name", "expired"])
async def test_an_issuer_with_a_wrong_certificate_is_not_believed(stores: Stores, tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path, "ca")
    name = "DNS:elsewhere" if wrong == "name" else "DNS:localhost"
    period = {"start": "20200101000000Z", "end": "20200201000000Z"} if wrong == "expired" else {}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.certificate("issuer", name, **period))
    issuer = JwksServer(jwks(KEY))
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/jwks.json"
    trusted = Authority(tmp_path, "other") if wrong == "authority" else authority
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(trusted.pair.certificate))
            async with guarded_gateway(stores, tmp_path / "data", {**JWT, "TRADEUL_JWT_JWKS_URL": url}) as guarded:
                answer = await guarded.gateway.client.get(STATUS, headers=bearer(KEY.token()))
                check_refusal(answer, 503, "TOKEN_KEYS_UNAVAILABLE")
            words = {
                "authority": "unable to get local issuer certificate",
                "name": "Hostname mismatch",
                "expired": "certificate has expired",
            }
            with pytest.raises(StartError, match=f"TRADEUL_JWT_JWKS_URL: cannot be read from .*{words[wrong]}"):
                await check_issuer(url)
    finally:
        server.close()


async def until(guarded: Guarded, token: str, status: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await guarded.gateway.client.get(STATUS, headers=bearer(token))).status_code != status:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"keys": []}', '{"keys": {"kty": "EC"}}', "no JSON"])
def test_a_wrong_key_set_is_one_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StartError) as raised:
        Gateway(gateway_settings(tmp_path / "data", {**JWT, "TRADEUL_JWT_JWKS_FILE": str(path)}))
    (line,) = str(raised.value).splitlines()
    wanted = "a file that can be read" if content is None else "a JSON Web Key Set with a key in 'keys'"
    assert line.startswith(f"TRADEUL_JWT_JWKS_FILE: expected {wanted}, was {path}")
