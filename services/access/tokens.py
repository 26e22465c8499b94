"""Tokens (JWT) of an identity provider. The gateway verifies them; here is whose they are, and what they may do."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from services.access.core import Key
from services.access.methods import Right
from services.kit.runtime.errors import INVALID_TOKEN, TOKEN_KEYS_UNAVAILABLE, ServiceError
from services.kit.runtime.setting_groups import JwtSettings, KeySettings

# Where the gateway puts a token's claims, and why it refuses one: clients cannot set metadata.
METADATA: Final = "envoy.filters.http.jwt_authn"
CLAIMS: Final = "claims"
FAILURE: Final = "failure"
# Begins the name by which a subject is logged and limited; no key's name has a colon.
NAME_PREFIX: Final = "jwt:"
LONGEST_SUBJECT: Final = 255
# Printable characters that a header and a log may hold as they are.
_SAFE: Final = "!#$&'()*+,/:;=?@[]^_`{|}~"
# Envoy's words for what is no fault of the token (source/jwt_verify_lib/status.cc begins them with Jwks), and for one
# that begins alike.
_OF_THE_KEYS: Final = "Jwks "
_OTHER_KEY: Final = "Jwks doesn't have key to match kid or alg from Jwt"
_MISSING: Final = "Jwt is missing"


class Tokens:
    """Makes keys of the tokens that the gateway has verified."""

    def __init__(self, settings: JwtSettings, limits: KeySettings) -> None:
        self._settings = settings
        self._limits = limits
        source = "TRADEUL_JWT_JWKS_URL" if settings.jwks_url else "TRADEUL_JWT_JWKS_FILE"
        self._unavailable = f"the public keys of the tokens' issuer cannot be read from {source}"
        self._reasons = {
            "Jwt is expired": "the token has expired",
            "Jwt not yet valid": "the token is not valid yet",
            "Jwt issuer is not configured": f"expected a token of the issuer {settings.issuer!r}, was another's",
            "Audiences in Jwt are not allowed": f"expected a token for {' or '.join(map(repr, settings.audiences))},"
            " was for other audiences",
            "Jwt verification fails": "the token is not signed by its issuer",
            _OTHER_KEY: f"the token is signed with a key that is not among those of {source}",
            "Jwt header [alg] is not supported": "the token is signed with an algorithm that is not supported",
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections": "expected a key or a"
            " token (JWT), was neither",
        }

    def holder_of(self, metadata: Mapping[str, Any]) -> Key | ServiceError | None:
        """Returns the subject of a request's token, as a key; why the token is refused; or None without a token."""
        if (claims := metadata.get(CLAIMS)) is not None:
            return self._subject_of(claims)
        failure = str(metadata.get(FAILURE, {}).get("message", _MISSING))
        return None if failure == _MISSING else self._refusal(failure)

    def _subject_of(self, claims: Mapping[str, Any]) -> Key | ServiceError:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            return INVALID_TOKEN.error(f"expected a token with the claim 'sub' of 1 to {LONGEST_SUBJECT} characters")
        # Envoy accepts one without, which could never be taken back; its own check calls it a wrong signature.
        if not isinstance(expires := claims.get("exp"), float | int):
            return INVALID_TOKEN.error("expected a token with the claim 'exp'")
        settings = self._settings
        name = NAME_PREFIX + quote(subject, safe=_SAFE)
        limits = self._limits
        return Key(
            name,
            b"",
            self._right_of(claims),
            settings.requests_per_s,
            settings.claim,
            limits.streams,
            limits.scans,
            float(expires) + settings.clock_skew_seconds,
        )

    def _right_of(self, claims: Mapping[str, Any]) -> Right:
        words = words_of(claims, self._settings.claim)
        if self._settings.admin in words:
            return Right.ADMIN
        return Right.READ if self._settings.read in words else Right.PUBLIC

    def _refusal(self, failure: str) -> ServiceError:
        if failure.startswith(_OF_THE_KEYS) and failure != _OTHER_KEY:
            return TOKEN_KEYS_UNAVAILABLE.error(self._unavailable, why=failure)
        return INVALID_TOKEN.error(self._reasons.get(failure, f"the token is refused: {failure}"))


def words_of(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Returns the words of the claim `path`, a text or a list; empty when it is absent or something else.

    A claim of that name comes first; otherwise each dot leads into the claim before it.
    """
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(word for word in value if isinstance(word, str)) if isinstance(value, list) else frozenset()
