"""The service: the live keys, followed in PostgreSQL, and what Envoy asks about each request."""

from typing import Any, ClassVar, Final

import asyncpg
import grpc.aio
from tradeul.v1 import access_pb2

from services.access import metrics
from services.access.core import AccessControl
from services.access.key_store import live_keys, revoked_names
from services.access.methods import declared_needs
from services.access.servicer import AccessServicer, AuthorizationServicer, Revocations, RevocationServicer
from services.access.tokens import Tokens
from services.kit.rpc.server import add_servicer
from services.kit.runtime.errors import StartError
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of, without_passwords
from services.kit.runtime.settings import Settings
from services.kit.stores.database import DATABASE_ERRORS, open_pool
from services.kit.stores.notifications import API_KEYS, follow_notifications

log = get_logger(__name__)

# A notification comes at once; where it is lost, this is how long a revoked key lasts.
REFRESH_SECONDS: Final = 5.0


class AccessService(Service):
    """Needs the database to start; while it is away afterwards, the keys that were live last are."""

    name: ClassVar[str] = "access"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.control = AccessControl(declared_needs(), settings.key.gateways)
        self._revocations = Revocations(self.control)

    async def start(self) -> None:
        url = self.settings.database_url
        pool = await open_pool(url, max_size=1)
        try:
            async with pool.acquire() as connection:
                await self._load(connection)
        except DATABASE_ERRORS as error:
            raise StartError(f"keys in the database at {without_passwords(url)}: {reason_of(error)}") from error
        finally:
            pool.terminate()
        if not self.control.key_count and not self.settings.jwt.issuer:
            log.warning("there are no keys, so every request is refused: tradeul keys create NAME --right admin")

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        AuthorizationServicer(self.control, Tokens(self.settings.jwt, self.settings.key)).add_to(server)
        services = access_pb2.DESCRIPTOR.services_by_name
        return (
            add_servicer(server, services["AccessService"], AccessServicer(self.control)),
            add_servicer(server, services["RevocationService"], RevocationServicer(self._revocations)),
        )

    async def run(self) -> None:
        await follow_notifications(
            self.settings.database_url,
            API_KEYS,
            lambda payload: None,
            check=self._load,
            check_seconds=REFRESH_SECONDS,
            on_failure=metrics.STORE_FAILURES.inc,
        )

    async def drain(self) -> None:
        self._revocations.close()

    async def _load(self, connection: "asyncpg.Connection[Any]") -> None:
        keys, revoked = await live_keys(connection, self.settings.key), await revoked_names(connection)
        self.control.replace_keys(keys, revoked)
        self._revocations.wake()
        metrics.KEYS.set(self.control.key_count)


def create(settings: Settings) -> AccessService:
    """The factory that services/modules.py names."""
    return AccessService(settings)
