"""An identity provider of the tests' own: signs tokens (JWT), and publishes its public keys in a file or over HTTP."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.kit.runtime.clock import NS_PER_SECOND, wall_ns

ISSUER: Final = "https://issuer.example.com/"
AUDIENCE: Final = "tradeul"
MAKERS: Final[dict[str, Any]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(public_exponent=65_537, key_size=2048),
}
ALGORITHMS: Final[dict[str, Any]] = {"ES256": jwt.algorithms.ECAlgorithm, "RS256": jwt.algorithms.RSAAlgorithm}


class SigningKey:
    """A private key with its name, and its public half as a JWK."""

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = MAKERS[algorithm]()
        public = ALGORITHMS[algorithm].to_jwk(self.private.public_key(), as_dict=True)
        self.jwk = {**public, "kid": kid, "alg": algorithm, "use": "sig"}

    def token(self, **claims: Any) -> str:
        """A token of an hour for `alice`, with these claims in place of those; None leaves one out."""
        now = wall_ns() // NS_PER_SECOND
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": "openid tradeul.read", "exp": now + 3600}
        content = {name: value for name, value in {**body, **claims}.items() if value is not None}
        return jwt.encode(content, self.private, algorithm=self.algorithm, headers={"kid": self.kid})


def jwks(*keys: SigningKey) -> str:
    return json.dumps({"keys": [key.jwk for key in keys]})


def replace(path: Path, text: str) -> None:
    """Writes a file as an operator should: beside it, and renamed."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)


class JwksServer:
    """Answers any HTTP request with `document`, or with 500 when it is empty."""

    def __init__(self, document: str) -> None:
        self.document = document
        self.requests = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        body = self.document.encode()
        status = "200 OK" if body else "500 Internal Server Error"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
