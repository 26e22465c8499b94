"""One POST to a receiver that cannot be trusted: TLS, redirects, floods, hangs, and the address that is called."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ticker.webhooks.addresses import AddressError, Resolver, is_public, target_of
from services.ticker.webhooks.sender import MOST_BODY_BYTES, Answer, Sender
from tests.support.webhook_receiver import FLOOD_BYTES, Receiver, drips, floods, hangs, hangs_up, status

BODY = b'{"type":"test"}'
NAMED = {"hooks.example": ["127.0.0.1"]}


@pytest.fixture
async def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with Receiver(tmp_path, "DNS:hooks.example,DNS:two.example,DNS:rebind.example,IP:127.0.0.1") as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authorities))
        # None of them is asked: nothing answers there.
        for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(proxy, "http://127.0.0.1:9")
        yield running


def looked_up(host: str, port: int) -> list[str]:
    if host not in NAMED:
        raise OSError(-2, "Name or service not known")
    return NAMED[host]


async def send(url: str, allows_private: bool = True, seconds: float = 10.0, lookup: object = looked_up) -> Answer:
    async with Sender(Resolver(allows_private, lookup)) as sender:  # type: ignore[arg-type]
        return await sender.send(url, {"webhook-id": "msg_1"}, BODY, seconds)


async def test_a_message_arrives_as_it_is(receiver: Receiver) -> None:
    answer = await send(receiver.url)
    assert (answer.status, answer.error, answer.is_accepted) == (204, "", True)
    (received,) = receiver.received
    assert (received.path, received.body, received.id) == ("/hook?token=abc", BODY, "msg_1")
    assert received.headers["content-type"] == "application/json"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"


async def test_connections_are_kept_for_a_while(receiver: Receiver) -> None:
    async with Sender(Resolver(True)) as sender:
        for _ in range(5):
            assert (await sender.send(receiver.url, {"webhook-id": "msg_1"}, BODY)).is_accepted
    assert (receiver.connections, len(receiver.received)) == (1, 5)


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.default = status(307, location=receiver.url)
    answer = await send(receiver.url)
    assert answer.error == "HTTP 307: redirects are not followed; change the webhook's URL"
    assert len(receiver.received) == 1


@pytest.mark.parametrize("code", [400, 404, 410, 429, 500, 503])
async def test_a_refusal_says_why(receiver: Receiver, code: int) -> None:
    receiver.default = status(code, b"no\r\n\x1b[31mthanks", retry_after="17")
    answer = await send(receiver.url)
    assert (answer.status, answer.error, answer.is_gone) == (code, f"HTTP {code}: no ?[31mthanks", code == 410)
    assert answer.retry_after == 17.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("-5", 0.0), ("1e9", 3600.0), ("nan", 0.0), ("soon", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
async def test_retry_after_is_bounded(receiver: Receiver, text: str, seconds: float) -> None:
    receiver.default = status(429, retry_after=text)
    assert (await send(receiver.url)).retry_after == seconds


@pytest.mark.parametrize("behaviour", [hangs, drips])
async def test_a_receiver_that_takes_too_long_is_left(receiver: Receiver, behaviour: object) -> None:
    receiver.default = behaviour  # type: ignore[assignment]
    assert (await send(receiver.url, seconds=0.5)).error == "no whole answer within 0.5 s"


async def test_a_flood_is_not_read(receiver: Receiver) -> None:
    receiver.answers.append(floods)
    async with Sender(Resolver(True)) as sender:
        answer = await sender.send(receiver.url, {"webhook-id": "msg_1"}, BODY)
        # It is accepted, and its connection is given up.
        assert (answer.status, answer.error) == (200, "")
        assert (await sender.send(receiver.url, {"webhook-id": "msg_2"}, BODY)).is_accepted
    assert receiver.connections == 2
    assert MOST_BODY_BYTES < FLOOD_BYTES / 100


async def test_a_receiver_that_hangs_up(receiver: Receiver) -> None:
    receiver.default = hangs_up
    assert "the connection failed: " in (await send(receiver.url)).error


async def test_a_receiver_that_is_not_there(receiver: Receiver) -> None:
    await receiver.stop()
    assert "not connected: " in (await send(receiver.url)).error


async def test_the_name_of_the_url_is_what_the_certificate_has(receiver: Receiver) -> None:
    NAMED["other.example"] = ["127.0.0.1"]
    assert (await send(f"https://hooks.example:{receiver.port}/")).is_accepted
    refused = await send(f"https://other.example:{receiver.port}/")
    assert "certificate" in refused.error
    assert len(receiver.received) == 1


async def test_a_certificate_of_nobody_we_trust(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate" in (await send(receiver.url)).error
    assert not receiver.received


async def test_private_addresses_are_not_called(receiver: Receiver) -> None:
    for url in (receiver.url, f"https://hooks.example:{receiver.port}/"):
        answer = await send(url, allows_private=False)
        assert "expected a public address, was 127.0.0.1" in answer.error
    assert receiver.connections == 0
    assert (await send("http://hooks.example/", allows_private=False)).error == "expected https://, was http://"


async def test_a_name_that_changes_its_address_is_refused_when_it_is_called(receiver: Receiver) -> None:
    """DNS rebinding: public when the webhook is stored, and of this machine when it is called."""
    addresses = [["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14", "10.0.0.1"]]
    resolver = Resolver(False, lambda host, port: addresses.pop(0))
    assert await resolver.addresses("rebind.example", receiver.port) == ["93.184.215.14"]
    async with Sender(resolver) as sender:
        answer = await sender.send(f"https://rebind.example:{receiver.port}/", {}, BODY)
        assert "was 127.0.0.1 of rebind.example" in answer.error
        answer = await sender.send(f"https://rebind.example:{receiver.port}/", {}, BODY)
        assert "was 10.0.0.1 of rebind.example" in answer.error
    assert receiver.connections == 0


async def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    asked = []

    def once(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    assert (await send(f"https://hooks.example:{receiver.port}/", lookup=once)).is_accepted
    assert asked == ["hooks.example"]


async def test_the_next_address_is_tried(receiver: Receiver) -> None:
    NAMED["two.example"] = ["127.0.0.2", "127.0.0.1"]
    # Nothing listens at the first.
    assert (await send(f"https://two.example:{receiver.port}/")).is_accepted
    assert receiver.connections == 1


async def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ticker.webhooks.addresses.LOOKUP_SECONDS", 0.1)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def never(host: str, port: int) -> list[str]:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(10)
        return []

    answer = await send("https://slow.example/", lookup=never)
    released.set()
    assert answer.error == "slow.example was not resolved within 0.1 s"


async def test_a_name_that_nobody_has() -> None:
    assert (await send("https://nowhere.example/")).error == (
        "nowhere.example cannot be resolved: Name or service not known"
    )


PRIVATE = (
    *("127.0.0.1", "127.255.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "168.63.129.16"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.5"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:db8::1"),
    *("2001::1", "3fff::1", "::127.0.0.1", "4000::1", "fec0::1"),
)
PUBLIC = ("93.184.215.14", "8.8.8.8", "172.32.0.1", "2606:4700::6810:84e5", "64:ff9b::808:808", "::ffff:8.8.8.8")


def test_which_addresses_are_public() -> None:
    assert [text for text in PRIVATE if is_public(ipaddress.ip_address(text))] == []
    assert [text for text in PUBLIC if not is_public(ipaddress.ip_address(text))] == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "expected 1 to 2000 characters"),
        ("https://a.example/" + "x" * 2000, "expected 1 to 2000 characters"),
        ("ftp://a.example/", "expected https://, was ftp://"),
        ("a.example/hook", "expected https://, was no scheme"),
        ("https:///hook", "expected a host"),
        ("https://user:secret@a.example/", "expected no user or password"),
        ("https://@a.example/", "expected no user or password"),
        ("https://a.example/#part", "expected no fragment"),
        ("https://a.example:0/", "expected a port of 1 to 65535"),
        ("https://a.example:99999/", "expected a URL: Port out of range"),
        ("https://[::1/", "expected a URL"),
        ("https://[fe80::1%25eth0]/", "without a zone"),
        ("https://a.example/ü", "printable ASCII"),
        ("https://a.example/a b", "printable ASCII"),
        ("https://a.example/\r\nhost: b", "printable ASCII"),
        ("https://a.example\\@b.example/", "printable ASCII"),
    ],
)
def test_urls_that_webhooks_cannot_have(url: str, says: str) -> None:
    with pytest.raises(AddressError) as caught:
        target_of(url, allows_private=False)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "LOCALHOST.", "[::ffff:7f00:1]"]
)
async def test_other_spellings_of_this_machine_are_refused(host: str) -> None:
    """By the real resolver, which knows them all or none."""
    target = target_of(f"https://{host}/", allows_private=False)
    with pytest.raises(AddressError):
        await Resolver(False).addresses(target.host, target.port)
