"""The address and the key of the commands on lists, and a scanner's refusals in a line."""

from pathlib import Path

import click
import grpc
import grpc.aio
import pytest
from tradeul.v1 import scanner_pb2

from services.cli.lists.client import Client, make_client, make_request, read_key, refusal
from services.kit.runtime.redaction import redact

KEY = "tradeul_" + "k" * 43
CLIENT = Client("localhost:8000", "")


def an_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, None)


def test_the_key_is_the_files_before_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("TRADEUL_API_KEY", "of-the-settings")
    assert make_client(None, None).metadata == (("x-api-key", "of-the-settings"),)
    client = make_client("scanner.example.com:8000", file)
    assert (client.target, client.metadata) == ("scanner.example.com:8000", (("x-api-key", KEY),))
    monkeypatch.delenv("TRADEUL_API_KEY")
    assert make_client(None, None).metadata is None
    # Whatever is shown from now on hides it.
    assert KEY not in redact(f"refused: {KEY}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "expected a value in FILE, was empty"),
        (b"\n", "expected a value in FILE, was empty"),
        (b"two lines\nof text", "expected one line in FILE, were several"),
        (b"two with space", "expected a key in one line, FILE holds none"),
        (b"\xff\xfe", "expected UTF-8 in FILE, was something else"),
        (b"k" * 2000, "expected a key in one line, FILE holds none"),
    ],
)
def test_a_file_without_a_key_is_refused_without_showing_it(content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(click.UsageError) as caught:
        read_key(file)
    assert caught.value.message == f"--key-file: {problem.replace('FILE', str(file))}"
    assert "two" not in caught.value.message
    with pytest.raises(click.UsageError, match="No such file"):
        read_key(tmp_path / "none")


def test_the_senders_mistakes_are_wrong_arguments() -> None:
    wrong = refusal(an_error(grpc.StatusCode.INVALID_ARGUMENT, "unknown field 'prise'"), CLIENT)
    unknown = refusal(an_error(grpc.StatusCode.NOT_FOUND, "there is no list 'x'"), CLIENT)
    assert [(each.exit_code, each.message) for each in (wrong, unknown)] == [
        (2, "unknown field 'prise'"),
        (2, "there is no list 'x'"),
    ]
    refused = refusal(an_error(grpc.StatusCode.UNAUTHENTICATED, "expected a key"), CLIENT)
    assert (refused.exit_code, "--key-file" in refused.message) == (1, True)


def test_either_a_list_or_a_scan() -> None:
    a_list = make_request("winners", None, None, None)
    assert isinstance(a_list, scanner_pb2.WatchListRequest) and a_list.list == "winners"
    scan = make_request(None, "price > 1", "price desc", 7)
    assert isinstance(scan, scanner_pb2.WatchScanRequest)
    assert (scan.filter, scan.order_by, scan.limit) == ("price > 1", "price desc", 7)
    for name, filter_text in (("winners", "price > 1"), (None, None)):
        with pytest.raises(click.UsageError, match="expected either LIST or"):
            make_request(name, filter_text, None, None)
