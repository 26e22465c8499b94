"""The OpenAPI document: valid, complete, and saying the limits that the services hold to."""

import json
import re
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from openapi_spec_validator import validate

from fastcore.alert_parser import LONGEST_SECONDS
from fastcore.feed_elements import SYMBOL
from services.kit.lists import field_selection
from services.kit.lists.definitions import load_lists
from services.kit.rpc.pacing import MAX_INTERVAL_MS
from services.scanner import servicer as scanner
from services.ticker import filters
from services.ticker import requests as ticker
from services.ticker.webhooks import requests as webhooks
from services.ticker.webhooks.addresses import LONGEST_URL
from tools import openapi, protogen

CONTENT = (protogen.ROOT / protogen.OPENAPI).read_bytes()
DOCUMENT = json.loads(CONTENT)
SCHEMAS = DOCUMENT["components"]["schemas"]
ROUTES = {(verb, path): operation for verb, path, operation in openapi.routes(CONTENT)}


def parameters(path: str, verb: str = "get") -> dict[str, Any]:
    return {each["name"]: each["schema"] for each in ROUTES[verb, path].get("parameters", [])}


def bounds(schema: dict[str, Any]) -> tuple[Any, Any, Any]:
    return schema.get("minimum"), schema.get("maximum"), schema.get("default")


def test_it_is_valid_and_small_enough_for_the_gateway() -> None:
    validate(DOCUMENT)
    assert len(CONTENT) < 1 << 20


def test_every_route_of_the_protos_is_there() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString((protogen.ROOT / protogen.DESCRIPTOR_SET).read_bytes())
    rules = [
        rule
        for file in files.file
        for service in file.service
        for method in service.method
        if method.options.HasExtension(annotations_pb2.http)
        for first in [method.options.Extensions[annotations_pb2.http]]
        for rule in (first, *first.additional_bindings)
    ]
    assert {(verb, getattr(rule, verb)) for rule in rules for verb in [rule.WhichOneof("pattern")]} == set(ROUTES)
    assert len({operation["operationId"] for operation in ROUTES.values()}) == len(rules)


def test_streams_are_server_sent_events() -> None:
    for (_, path), operation in ROUTES.items():
        (kind,) = operation["responses"]["200"]["content"]
        assert kind == ("text/event-stream" if path.endswith((":watch", ":dryRun")) else "application/json"), path


def test_limits_are_the_services() -> None:
    rows = (1, scanner.MAX_ROWS, scanner.DEFAULT_ROWS)
    filtered = (1, scanner.MAX_FILTERED_ROWS, scanner.DEFAULT_ROWS)
    gappers = parameters("/api/v1/scanner/gappers")
    assert bounds(gappers["limit"]) == rows
    assert bounds(gappers["min_gap"]) == (0, None, scanner.DEFAULT_MIN_GAP)
    assert bounds(parameters("/api/v1/scanner/filtered")["limit"]) == filtered
    # The most of any list.
    assert bounds(parameters("/api/v1/scanner/lists/{list}")["limit"]) == filtered
    query = ROUTES["post", "/api/v1/scanner/scans:query"]["requestBody"]["content"]["application/json"]["schema"]
    assert bounds(query["properties"]["limit"]) == rows
    for path in ("/api/v1/scanner/lists/{list}:watch", "/api/v1/scanner/scans:watch"):
        assert bounds(parameters(path)["min_interval_ms"]) == (0, MAX_INTERVAL_MS, 0)
    for path in ("/api/v1/scanner/lists/{list}/changes", "/api/v1/scanner/changes"):
        assert bounds(parameters(path)["limit"]) == (1, scanner.MAX_LOGGED_CHANGES, scanner.DEFAULT_ROWS)
    symbols = parameters("/api/v1/symbols")
    assert bounds(symbols["limit"]) == (1, scanner.MAX_SYMBOLS, scanner.DEFAULT_SYMBOLS)
    assert symbols["query"]["maxLength"] == scanner.LONGEST_QUERY
    history = parameters("/api/v1/history/scans")
    assert bounds(history["limit"]) == (1, ticker.MAX_RESULTS, ticker.DEFAULT_RESULTS)
    bars = parameters("/api/v1/ticker/{symbol}/bars")
    assert bars["interval"]["enum"] == list(ticker.INTERVALS)
    assert bounds(bars["limit"]) == (1, ticker.MAX_BARS, None)
    attempts = parameters("/api/v1/alerts/webhooks/{id}/attempts")
    assert bounds(attempts["limit"]) == (1, webhooks.MAX_ATTEMPTS, webhooks.DEFAULT_ATTEMPTS)
    rotate = ROUTES["post", "/api/v1/alerts/webhooks/{id}:rotate"]["requestBody"]["content"]["application/json"]
    keep = rotate["schema"]["properties"]["keep_seconds"]
    assert bounds(keep) == (0, webhooks.MOST_KEEP_SECONDS, webhooks.DAY_SECONDS)
    webhook = ROUTES["post", "/api/v1/alerts/webhooks"]["requestBody"]["content"]["application/json"]["schema"]
    definition = webhook["properties"]["webhook"]["properties"]
    assert definition["url"]["maxLength"] == LONGEST_URL
    assert definition["filter"]["maxLength"] == webhooks.LONGEST_FILTER
    assert definition["rules"]["maxItems"] == webhooks.MOST_RULES
    years = "^(19|20|21)[0-9]{2}-"
    assert {bars["from"]["pattern"], bars["to"]["pattern"], history["date"]["pattern"]} == {years}
    assert re.match(years, f"{ticker.FIRST_YEAR}-") and re.match(years, f"{ticker.LAST_YEAR}-")
    assert not re.match(years, f"{ticker.FIRST_YEAR - 1}-") and not re.match(years, f"{ticker.LAST_YEAR + 1}-")
    names = [spec.name for spec in load_lists()]
    assert parameters("/api/v1/scanner/lists/{list}")["list"]["enum"] == history["list"]["enum"] == names


def test_the_fields_that_can_be_selected_are_those_of_rows() -> None:
    names = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/FieldName"}}
    selecting = [(path, each) for (_, path), operation in ROUTES.items() for each in operation.get("parameters", ())]
    found = {path: each for path, each in selecting if each["name"] == "fields"}
    assert len(found) == 6
    for parameter in found.values():
        assert (parameter["schema"], parameter["style"], parameter["explode"]) == (names, "form", False)
    assert SCHEMAS["FieldName"]["enum"] == list(field_selection.NAMES)
    query = ROUTES["post", "/api/v1/scanner/scans:query"]["requestBody"]["content"]["application/json"]["schema"]
    assert query["properties"]["fields"]["maxLength"] == field_selection.MAX_TEXT


def test_patterns_are_the_services() -> None:
    for (verb, path), _ in ROUTES.items():
        held = parameters(path, verb)
        if "symbol" in held:
            assert held["symbol"]["pattern"] == f"^{SYMBOL.pattern}$"
        if "{name}" in path:
            assert held["name"]["pattern"] == f"^{filters.NAME.pattern}$"


def test_bodies_have_no_other_fields_and_say_where_null_is_no_value() -> None:
    bodies = {
        f"{verb} {path}": operation["requestBody"]["content"]["application/json"]["schema"]
        for (verb, path), operation in ROUTES.items()
        if "requestBody" in operation
    }
    assert [body["additionalProperties"] for body in bodies.values()] == [False] * 13
    change = bodies["patch /api/v1/filters/{name}"]
    assert (change["minProperties"], change["properties"]["enabled"]["type"]) == (1, "boolean")
    create = bodies["post /api/v1/filters"]
    assert (create["required"], create["properties"]["name"]["type"]) == (["name", "parameters"], "string")
    assert create["properties"]["enabled"]["type"] == ["boolean", "null"]
    rule = bodies["post /api/v1/alerts/rules"]["properties"]["rule"]
    assert (rule["required"], rule["additionalProperties"]) == (["name", "title", "when"], False)
    assert rule["properties"]["cooldown_seconds"]["maximum"] == LONGEST_SECONDS
    assert rule["properties"]["name"]["pattern"] == f"^{filters.NAME.pattern}$"
    assert SCHEMAS["ScanFilterParameters"]["properties"]["sectors"]["type"] == ["array", "null"]


def test_what_is_always_shown_is_required_and_what_may_be_absent_is_not() -> None:
    assert SCHEMAS["RankedList"]["required"] == ["list", "epoch", "sequence", "rows", "count"]
    assert SCHEMAS["TickerRow"]["required"] == ["symbol"]
    response = SCHEMAS["WatchListResponse"]
    assert (response["minProperties"], response["maxProperties"]) == (1, 1)


def test_names_enums_numbers_and_times_are_those_of_the_answers() -> None:
    row = SCHEMAS["TickerRow"]["properties"]
    assert SCHEMAS["Session"]["enum"] == ["PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED"]
    assert SCHEMAS["GapSize"]["enum"] == ["SMALL", "MEDIUM", "LARGE", "EXTREME"]
    assert SCHEMAS["ListChange.Action"]["enum"] == ["ADD", "REMOVE", "RERANK", "UPDATE"]
    assert row["volume_today"]["type"] == "number"
    assert row["updated_at"] == {"type": "string", "format": "date-time"}
    assert SCHEMAS["ScannerStatus"]["properties"]["list_rows"]["additionalProperties"]["type"] == "integer"
    assert SCHEMAS["Status"]["required"] == ["code", "message", "details"]


def test_every_operation_and_parameter_is_described() -> None:
    for (method, path), operation in ROUTES.items():
        assert operation["description"].split()[0].endswith("s"), f"{method} {path}"
        undescribed = [each["name"] for each in operation.get("parameters", ()) if not each.get("description")]
        assert not undescribed, f"{method} {path}"


def test_comments_are_descriptions() -> None:
    assert ROUTES["get", "/api/v1/scanner/gappers"]["summary"] == "Returns both gapper lists"
    assert SCHEMAS["RankedList"]["description"] == "A list at one position."
    assert "04:00-09:30" in SCHEMAS["Session"]["description"]


def test_keys_are_where_they_may_be_needed() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert {name: (scheme["type"], scheme.get("in")) for name, scheme in schemes.items()} == {
        "key": ("apiKey", "header"),
        "bearer": ("http", None),
        "ticket": ("apiKey", "query"),
    }
    assert DOCUMENT["security"] == [{}, {"key": []}, {"bearer": []}]
    assert ROUTES["get", "/health"]["security"] == []
    for (_, path), operation in ROUTES.items():
        expected = [*DOCUMENT["security"], {"ticket": []}] if path.endswith(":watch") else None
        assert operation.get("security") == ([] if path == "/health" else expected), path


def test_a_misspelt_field_of_the_table_is_an_error(tmp_path: Any) -> None:
    extras = tmp_path / "openapi.toml"
    extras.write_text(
        'title = "x"\nversion = "1"\ndescription = ""\n[security_schemes]\n[json_of]\n[fields]\n'
        '"GetListRequest.limits" = {maximum = 1}\n'
    )
    files = descriptor_pb2.FileDescriptorSet.FromString((protogen.ROOT / protogen.DESCRIPTOR_SET).read_bytes())
    with pytest.raises(openapi.OpenApiError, match=r"GetListRequest\.limits"):
        openapi.document(files, extras)
