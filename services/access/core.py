"""Decides about requests: keys, rights, tickets and rates, all in memory; no I/O."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from services.access.methods import Need, Right, need_of
from services.kit.runtime.errors import (
    INSUFFICIENT_RIGHT,
    INVALID_KEY,
    INVALID_TICKET,
    KEY_EXPECTED,
    TOO_MANY_REQUESTS,
    ServiceError,
)

# By which a key is recognized wherever it turns up, also by scanners for leaked secrets.
KEY_PREFIX: Final = "tradeul_"
KEY_BYTES: Final = 32
TICKET_SECONDS: Final = 60.0
KEY_HEADER: Final = "x-api-key"
AUTHORIZATION: Final = "authorization"
# Set by the gateway from the query parameter `ticket`.
TICKET_HEADER: Final = "x-tradeul-ticket"


def new_key() -> str:
    """Returns a key that nobody has: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_of(secret: str) -> bytes:
    """Returns by what a key is known: its SHA-256."""
    return hashlib.sha256(secret.encode()).digest()


class Key(NamedTuple):
    """A live key, by its hash; or the subject of a token, which has none.

    `claim` is the claim in which a token carries the right; empty for keys. `expires` is the Unix time at which a token
    is no longer accepted; 0 for keys.
    """

    name: str
    hash: bytes
    right: Right
    requests_per_s: int
    claim: str = ""
    streams: int = 1
    scans: int = 0
    expires: float = 0.0

    @property
    def kind(self) -> str:
        return f"token (claim {self.claim!r})" if self.claim else "key"


class Verdict(NamedTuple):
    """The decision about a request: allowed where `refusal` is None.

    `key` is the name of the key, empty where it has none or an unknown one. `retry_seconds`: when to try again.
    `holder` is the key of an allowed request, with the limits that the services behind the gateway apply.
    """

    key: str
    refusal: ServiceError | None = None
    retry_seconds: float = 0.0
    holder: Key | None = None


class TokenBucket:
    """Allows `rate` requests per second, and as many at once (at least 1) after a second without any."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._most = max(rate, 1.0)
        self._tokens = self._most
        self._updated = now

    def take(self, now: float) -> float:
        """Takes a token and returns 0, or returns the seconds until there is one."""
        self._tokens = min(self._most, self._tokens + (now - self._updated) * self.rate)
        self._updated = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate


class _Subject(NamedTuple):
    """The subject of a token, as of its last request."""

    key: Key
    bucket: TokenBucket
    used: float


class _Ticket(NamedTuple):
    """The name of its key, when the ticket expires, and when the token does with which it was made."""

    key: str
    ends: float
    expires: float


class AccessControl:
    """The live keys, their buckets and the tickets that are open. Times are seconds of one monotonic clock.

    `gateways` share the requests per second of each key: here is the part of one.
    """

    def __init__(self, needs: Mapping[str, Need], gateways: int = 1) -> None:
        # Names that no longer give access, each once, in the order in which they became so.
        self.revoked: list[str] = []
        self._needs = needs
        self._gateways = gateways
        self._keys: dict[bytes, Key] = {}
        self._by_name: dict[str, Key] = {}
        self._buckets: dict[str, TokenBucket] = {}
        # The subjects of tokens, least recently used first; a ticket of theirs lasts no longer than they are kept.
        self._subjects: dict[str, _Subject] = {}
        # By the tickets' hashes, oldest first.
        self._tickets: dict[bytes, _Ticket] = {}

    @property
    def key_count(self) -> int:
        return len(self._keys)

    @property
    def ticket_count(self) -> int:
        return len(self._tickets)

    def replace_keys(self, keys: Iterable[Key], revoked: Iterable[str] = ()) -> None:
        """Makes these the live keys. Tickets of a key that is not among them are worth nothing any more."""
        before = self._by_name
        self._keys = {key.hash: key for key in keys}
        self._by_name = {key.name: key for key in self._keys.values()}
        gone = dict.fromkeys((*revoked, *(name for name in before if name not in self._by_name)))
        known = set(self.revoked)
        self.revoked += [name for name in gone if name not in known]
        self._buckets = {
            name: bucket
            for name, bucket in self._buckets.items()
            if name in self._by_name and self._rate_of(self._by_name[name]) == bucket.rate
        }

    def new_ticket(self, key_name: str, now: float, expires: float = 0.0) -> str:
        """Returns a ticket of the key or subject; raises KEY_EXPECTED when there is none of that name.

        `expires`: the Unix time at which the right of its token ends, and so what the ticket opens.
        """
        self._drop_expired(now)
        if self._holder(key_name) is None:
            raise KEY_EXPECTED.error("expected a request with a key through the gateway, was one without")
        ticket = secrets.token_urlsafe(KEY_BYTES)
        self._tickets[hash_of(ticket)] = _Ticket(key_name, now + TICKET_SECONDS, expires)
        return ticket

    def check(
        self, path: str, headers: Mapping[str, str], now: float, holder: Key | ServiceError | None = None
    ) -> Verdict:
        """Decides about a request: `path` as the services see it, `headers` by lower-case names.

        `holder`: the subject of its token, or why that is refused.
        """
        need = need_of(path, self._needs)
        if need.right is Right.PUBLIC:
            return Verdict("")
        name = ""
        try:
            key = self._key_of(headers, need, now, holder)
            name = key.name
            if key.right < need.right:
                held = repr(key.right.label) if key.right > Right.PUBLIC else "none"
                raise INSUFFICIENT_RIGHT.error(
                    f"expected a {key.kind} with the right {need.right.label!r}, was {name!r} with {held}",
                    needed=need.right.label, key=name,
                )  # fmt: skip
            seconds = self._bucket(key, now).take(now)
            if seconds > 0:
                limit, whose = self._rate_of(key), "subject" if key.claim else "key"
                refusal = TOO_MANY_REQUESTS.error(
                    f"limit reached: {limit:g} requests per second of the {whose} {name!r}",
                    limit=f"{limit:g}",
                    key=name,
                )
                return Verdict(name, refusal, seconds)
        except ServiceError as refusal:
            return Verdict(name, refusal)
        return Verdict(name, holder=key)

    def _key_of(self, headers: Mapping[str, str], need: Need, now: float, holder: Key | ServiceError | None) -> Key:
        secret = headers.get(KEY_HEADER, "")
        if not secret and isinstance(holder, Key):
            return holder
        secret = secret or _bearer(headers.get(AUTHORIZATION, ""))
        if isinstance(holder, ServiceError) and not headers.get(KEY_HEADER) and not secret.startswith(KEY_PREFIX):
            raise holder
        if secret:
            if (key := self._keys.get(hash_of(secret))) is None:
                raise INVALID_KEY.error("the key is unknown or revoked")
            return key
        if ticket := headers.get(TICKET_HEADER):
            return self._redeem(ticket, need, now)
        raise KEY_EXPECTED.error("expected a key as the header x-api-key or as a bearer token, was none")

    def _holder(self, name: str) -> Key | None:
        if (subject := self._subjects.get(name)) is not None:
            return subject.key
        return self._by_name.get(name)

    def _redeem(self, ticket: str, need: Need, now: float) -> Key:
        """Returns the key of a ticket, with the right to read only, and spends the ticket."""
        if not need.takes_ticket:
            raise KEY_EXPECTED.error("expected a key, was a ticket, which opens a stream and nothing else")
        found = self._tickets.pop(hash_of(ticket), None)
        if found is None or now >= found.ends or (key := self._holder(found.key)) is None:
            raise INVALID_TICKET.error(
                f"the ticket is unknown, used or older than {TICKET_SECONDS:.0f} s: POST /api/v1/tickets gives another"
            )
        return key._replace(right=Right.READ, expires=found.expires)

    def _bucket(self, key: Key, now: float) -> TokenBucket:
        if key.claim:
            return self._subject_bucket(key, now)
        if (bucket := self._buckets.get(key.name)) is None:
            bucket = self._buckets[key.name] = TokenBucket(self._rate_of(key), now)
        return bucket

    def _rate_of(self, key: Key) -> float:
        return key.requests_per_s / self._gateways

    def _subject_bucket(self, key: Key, now: float) -> TokenBucket:
        while self._subjects and next(iter(self._subjects.values())).used < now - TICKET_SECONDS:
            del self._subjects[next(iter(self._subjects))]
        known = self._subjects.pop(key.name, None)
        bucket = known.bucket if known is not None else TokenBucket(self._rate_of(key), now)
        self._subjects[key.name] = _Subject(key, bucket, now)
        return bucket

    def _drop_expired(self, now: float) -> None:
        while self._tickets and next(iter(self._tickets.values())).ends <= now:
            del self._tickets[next(iter(self._tickets))]


def _bearer(authorization: str) -> str:
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""
