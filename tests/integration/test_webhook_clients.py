"""The receivers' side as docs/alerts.md has it, in Python and in Node, and `tradeul webhooks`."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import javascript
from tests.support.running_webhooks import Webhooks, running_webhooks
from tests.support.stores import Stores, module_stores
from tests.support.webhook_receiver import Received, Receiver, status

PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"
DRIVER = """
import {{ readFileSync }} from "node:fs";
import {{ verify }} from "{module}";
const cases = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map((each) => verify(each.secret, each.headers, Buffer.from(each.body, "hex")))));
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with Receiver(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authorities))
        yield running


@pytest.fixture
async def market(stores: Stores, receiver: Receiver, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with running_webhooks(stores, receiver, tmp_path) as running:
        yield running


def documented(language: str) -> str:
    """The one block of this language on the page."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(code)


def case(secret: str, received: Received, body: bytes | None = None, **headers: str) -> dict[str, Any]:
    return {
        "secret": secret,
        "headers": {**received.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
        "body": (received.body if body is None else body).hex(),
    }


async def tradeul(address: str, *arguments: str) -> tuple[int | None, str, str]:
    """`tradeul webhooks`: its status and what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))}
    command, *rest = arguments
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli.main", "webhooks", command, "--address", address, *rest,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=kept,
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_command_and_both_documented_receivers(market: Webhooks, receiver: Receiver, tmp_path: Path) -> None:
    async with market.ticker() as ticker:
        address = f"127.0.0.1:{ticker.host.port}"
        options = ("--rules", "high_of_day, low_of_day", "--filter", "price > 1")
        code, output, errors = await tradeul(address, "create", receiver.url, *options)
        first, made = output.strip(), re.search(r"wh_\w+", errors)
        assert (code, first[:6]) == (0, "whsec_")
        assert made is not None
        code, output, errors = await tradeul(address, "test", made[0])
        assert (code, output.split(" in ")[0]) == (0, "Accepted with status 204")
        market.move(AA=101.0)
        await receiver.until(2)
        code, output, errors = await tradeul(address, "rotate", made[0])
        second = output.strip()
        assert (code, second[:6], "messages are signed with the former secret" in errors) == (0, "whsec_", True)
        market.move(AA=102.0)
        await receiver.until(3)
        receiver.default = status(503, b"later")
        code, output, errors = await tradeul(address, "test", made[0])
        assert (code, errors) == (1, "tradeul: not accepted: HTTP 503: later\n")
        code, output, errors = await tradeul(address, "attempts", made[0], "--limit", "3")
        lines = output.splitlines()
        assert [line.split()[4] for line in lines[1:]] == ["delivered", "delivered", "given_up"]
        assert lines[0].split() == ["time", "message", "attempt", "outcome", "status", "ms", "alerts", "error"]
        assert lines[-1].endswith("HTTP 503: later")
        code, output, errors = await tradeul(address, "list")
        assert output.splitlines()[1].split() == [
            *(made[0], "json", "on", "1773000000/2", "high_of_day,low_of_day", receiver.url)
        ]
        code, output, errors = await tradeul(address, "create", "https://a.example/#x")
        assert (code, errors) == (2, "tradeul: url: expected no fragment (#), which is never sent\n")
        assert await tradeul(address, "delete", made[0]) == (0, f"The webhook {made[0]} is deleted.\n", "")
        assert (await tradeul(address, "delete", made[0]))[0] == 2

    test, alert, both, _ = receiver.received
    old = str(int(alert.headers["webhook-timestamp"]) - 3600)
    cases = [
        *((case(first, test), True), (case(first, alert), True), (case(second, alert), False)),
        # Signed by both secrets.
        *((case(first, both), True), (case(second, both), True)),
        (case(first, alert, body=alert.body + b" "), False),
        (case(first, alert, webhook_id="msg_other"), False),
        (case(first, alert, webhook_timestamp=old), False),
        (case(first, alert, webhook_signature="v1,AAAA v2,x"), False),
    ]
    expected = [is_genuine for _, is_genuine in cases]
    assert python_says([each for each, _ in cases]) == expected
    assert await node_says([each for each, _ in cases], tmp_path) == expected


def python_says(cases: list[Mapping[str, Any]]) -> list[bool]:
    names: dict[str, Any] = {}
    exec(compile(documented("python"), str(PAGE), "exec"), names)
    return [names["verify"](each["secret"], each["headers"], bytes.fromhex(each["body"])) for each in cases]


async def node_says(cases: list[Mapping[str, Any]], folder: Path) -> list[bool]:
    module, driver = folder / "verify.mjs", folder / "driver.mjs"
    module.write_text(documented("javascript"))
    driver.write_text(DRIVER.format(module="./verify.mjs"))
    process = await asyncio.create_subprocess_exec(
        javascript.node(), str(driver), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(json.dumps(cases).encode())
    said: list[bool] = json.loads(output)
    return said
