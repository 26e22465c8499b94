"""The parts of Envoy's configuration by which the gateway verifies tokens (JWT), and the check of the issuer's keys."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from services.access.tokens import CLAIMS, FAILURE
from services.cli.local.clusters import socket_cluster, url_cluster
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of, without_passwords
from services.kit.runtime.setting_groups import JwtSettings

JWKS: Final = "jwks"
FETCH_SECONDS: Final = 5
# The path is all that matters; for how long what was read is used.
FILE_URL: Final = "http://localhost/jwks"
FILE_SECONDS: Final = 2


def token_provider(settings: JwtSettings) -> dict[str, Any]:
    """Returns Envoy's JwtProvider: whose tokens are accepted, and where they and the public keys are."""
    provider: dict[str, Any] = {
        "issuer": settings.issuer,
        "audiences": list(settings.audiences),
        # Not from the query, which ends up in logs and histories.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": CLAIMS,
        "failed_status_in_metadata": FAILURE,
        "clock_skew_seconds": settings.clock_skew_seconds,
    }
    # A file, too, is fetched, from a listener of Envoy's own: what it reads itself, it reads only once.
    provider["remote_jwks"] = {
        "http_uri": {"uri": settings.jwks_url or FILE_URL, "cluster": JWKS, "timeout": f"{FETCH_SECONDS}s"},
        "cache_duration": f"{settings.jwks_seconds if settings.jwks_url else FILE_SECONDS}s",
        # The gateway opens, and its keys work, while the issuer is away.
        "async_fetch": {"fast_listener": True},
    }
    return provider


def jwks_cluster(settings: JwtSettings, socket: Path) -> dict[str, Any]:
    """Returns the Envoy cluster of the URL's host, whose certificate is checked; or of the socket, for a file."""
    if settings.jwks_url:
        return url_cluster(JWKS, settings.jwks_url)
    return socket_cluster(JWKS, socket)


def check_jwks(path: Path) -> None:
    """Raises StartError, in one line, when the file is not a set of public keys."""
    variable = "TRADEUL_JWT_JWKS_FILE"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StartError(f"{variable}: expected a file that can be read, was {path}: {error.strerror}") from error
    _check_key_set(variable, str(path), content)


async def check_issuer(url: str) -> None:
    """Raises StartError, in one line, when the public keys cannot be read from the issuer's URL, as Envoy does it."""
    from services.kit.runtime.http_session import REQUEST_ERRORS, open_session

    variable, shown = "TRADEUL_JWT_JWKS_URL", without_passwords(url)
    try:
        # Envoy uses no proxy.
        async with (
            open_session(url, timeout_s=FETCH_SECONDS, uses_proxy=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            status, body = answer.status, await answer.read()
    except REQUEST_ERRORS as error:
        raise StartError(f"{variable}: cannot be read from {shown}: {reason_of(error)}") from error
    if status != HTTPStatus.OK:
        raise StartError(f"{variable}: expected the status 200 from {shown}, was {status}")
    _check_key_set(variable, shown, body)


def _check_key_set(variable: str, source: str, content: bytes) -> None:
    try:
        keys = json.loads(content)["keys"]
        is_set = isinstance(keys, list) and any(isinstance(key, dict) and key.get("kty") for key in keys)
    except (ValueError, KeyError, TypeError):
        is_set = False
    if not is_set:
        raise StartError(f"{variable}: expected a JSON Web Key Set with a key in 'keys', was {source}")
