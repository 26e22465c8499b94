"""How commands reach a running mesh: the address and the key in one place, and refusals in one line."""

import functools
import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from services.kit.runtime.clock import monotonic
from services.kit.runtime.environment import read_line
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import keep_secret
from services.kit.runtime.setting_groups import TlsSettings
from services.kit.runtime.settings import Address, Settings

if TYPE_CHECKING:
    import grpc.aio

    from services.kit.lists.list_client import Followed, ListCopy, ListRequest

# Longer than a service takes to come back.
FIRST_ANSWER_SECONDS: Final = 5.0
INTERVAL_MS: Final = 250
LONGEST_KEY_BYTES: Final = 1024
EXIT_USAGE: Final = 2
CERTIFICATE_REFUSED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
Command = TypeVar("Command", bound=Callable[..., Any])


class Refused(click.ClickException):
    """The scanner does not accept the arguments."""

    exit_code = EXIT_USAGE


class Client(NamedTuple):
    """The gateway or scanner to connect to, and the key to send; "" for none."""

    target: Address | str
    api_key: str
    # Of a gateway with TLS.
    tls: TlsSettings | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """The metadata of a call."""
        return (("x-api-key", self.api_key),) if self.api_key else None

    def open_channel(self) -> "grpc.aio.Channel":
        """A channel to the target; close it."""
        from services.kit.rpc.channel import open_channel, open_gateway_channel

        return open_channel(self.target) if self.tls is None else open_gateway_channel(str(self.target), self.tls)


def client_options_of(service: str) -> Callable[[Command], Command]:
    """Adds --address and --key-file, of the gateway or of a service; the command gets a `client` instead of them."""

    def add(command: Command) -> Command:
        @click.option(
            "--address",
            metavar="HOST:PORT",
            help=f"Gateway or {service} to connect to, https://HOST:PORT for a gateway with TLS, "
            "http://HOST:PORT for one without; default: the mesh's gateway.",
        )
        @click.option(
            "--key-file",
            type=click.Path(path_type=Path),
            help="File that holds the key to the gateway on one line; "
            "default: TRADEUL_API_KEY or TRADEUL_API_KEY_FILE.",
        )
        @functools.wraps(command)
        def with_client(*args: Any, address: str | None, key_file: Path | None, **options: Any) -> Any:
            # What it logs is shown by us, in a line; on the lists' screen its own lines would stay.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            return command(*args, client=make_client(address, key_file, service), **options)

        return with_client  # type: ignore[return-value]

    return add


client_options = client_options_of("scanner")


def make_client(address: str | None, key_file: Path | None, service: str = "scanner") -> Client:
    """Returns the client of the options and settings; raises click.UsageError for a file that holds no key."""
    settings = Settings.load()
    api_key = settings.api_key if key_file is None else read_key(key_file)
    if address is None:
        if settings.tls.cert_file is not None and settings.tls.ca_file is None:
            # Whoever signed its certificate may not be among the authorities of this machine.
            return Client(settings.address(service), api_key)
        return Client(str(settings.address("gateway")), api_key, settings.tls if settings.tls.ca_file else None)
    if address == str(settings.address(service)):
        return Client(settings.address(service), api_key)
    target = address.removeprefix("https://").removeprefix("http://").removesuffix("/")
    is_plain = address.startswith("http://") or (target == address and settings.tls.ca_file is None)
    if is_plain:
        return Client(target, api_key)
    return Client(target if ":" in target else f"{target}:443", api_key, settings.tls)


def read_key(path: Path) -> str:
    """Returns the key of a file, which is hidden in all output from now on."""
    try:
        key = read_line(path).strip()
    except ValueError as error:
        raise click.UsageError(f"--key-file: {error}") from error
    if not key.isascii() or not key.isprintable() or not 0 < len(key) <= LONGEST_KEY_BYTES or " " in key:
        raise click.UsageError(f"--key-file: expected a key in one line, {path} holds none")
    keep_secret(key)
    return key


def refusal(error: "grpc.aio.AioRpcError", client: Client) -> click.ClickException:
    """Returns a server's error as one line; the sender's mistakes have the status of wrong arguments."""
    import grpc

    code = error.code()
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
        return Refused(str(error.details()))
    if wrong := unusable_tls(client, str(error.details())):
        return click.ClickException(f"{client.target}: {wrong}")
    is_key_missing = code is grpc.StatusCode.UNAUTHENTICATED
    hint = "; TRADEUL_API_KEY or --key-file is the key that is sent" if is_key_missing else ""
    return click.ClickException(f"{code.name}: {error.details()}{hint}")


def unusable_tls(client: Client, reason: str) -> str:
    """Returns why TLS, or plain text, is not what the server speaks, given gRPC's reason; "" if that is another one."""
    if client.tls is not None:
        if refused := CERTIFICATE_REFUSED.search(reason):
            trusted = client.tls.ca_file or "the usual authorities"
            return f"its certificate is refused: {refused[1]}; trusted (TRADEUL_TLS_CA_FILE): {trusted}"
        if "Hostname Verification" in reason:
            return f"its certificate is not for the name {str(client.target).rpartition(':')[0]}"
        if "WRONG_VERSION_NUMBER" in reason:
            return f"it speaks no TLS; expected --address http://{client.target}"
    elif "expected https://" in reason:
        return f"it speaks TLS; expected --address https://{client.target}"
    elif "Socket closed" in reason or "Internal error from Core" in reason:
        # The second one when the request could not even be written.
        return f"{reason}; if it speaks TLS: --address https://{client.target}"
    return ""


def make_request(
    list_name: str | None,
    filter_text: str | None,
    order_by: str | None,
    limit: int | None,
    interval_ms: int = INTERVAL_MS,
) -> "ListRequest":
    """Returns the request to the scanner; raises click.UsageError when it is neither a list nor a custom scan."""
    from tradeul.v1 import scanner_pb2

    is_custom = filter_text is not None or order_by is not None
    if (list_name is None) != is_custom:
        raise click.UsageError("expected either LIST or --filter and --order")
    if list_name is not None:
        return scanner_pb2.WatchListRequest(list=list_name, min_interval_ms=interval_ms)
    return scanner_pb2.WatchScanRequest(
        filter=filter_text or "", order_by=order_by or "", limit=limit, min_interval_ms=interval_ms
    )


async def follow(client: Client, request: "ListRequest", copy: "ListCopy") -> AsyncGenerator["Followed", None]:
    """As follow_responses; a list that was there once is waited for, however long it is away.

    Raises click.ClickException when the request is refused for good, StartError when nobody answers at first.
    """
    import grpc.aio

    from services.kit.lists.list_client import follow_responses

    began, was_loaded = monotonic(), False
    try:
        async with (
            client.open_channel() as channel,
            aclosing(follow_responses(channel, request, copy, client.api_key)) as responses,
        ):
            async for followed in responses:
                was_loaded = was_loaded or copy.is_loaded
                if not was_loaded and monotonic() - began > FIRST_ANSWER_SECONDS:
                    reason = copy.unhealthy_reason
                    reason = unusable_tls(client, reason) or f"{reason}; is the mesh running (tradeul up)?"
                    raise StartError(f"no list from {client.target}: {reason}")
                yield followed
    except grpc.aio.AioRpcError as error:
        raise refusal(error, client) from error
