"""Bodies of REST requests: what they may be, and the words in which the others are refused."""

import json

import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from tradeul.v1 import alert_rules_pb2, filters_pb2, scanner_pb2, webhooks_pb2

from services.kit.rpc.json_body import read_json
from services.kit.runtime.errors import INVALID_REQUEST, ServiceError
from services.ticker.filters import update_request


def body(data: bytes) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=data)


def query(data: bytes) -> scanner_pb2.QueryScanRequest:
    return read_json(body(data), scanner_pb2.QueryScanRequest())


@pytest.mark.parametrize("data", [b"", b" \n", b"{}", b'{"filter": null, "limit": null}'])
def test_nothing_sets_nothing(data: bytes) -> None:
    assert query(data) == scanner_pb2.QueryScanRequest()


def test_fields_are_protobufs_in_both_spellings() -> None:
    expected = scanner_pb2.QueryScanRequest(filter="price > 1", order_by="price", limit=3, fields="price")
    for names in (True, False):
        assert query(json_format.MessageToJson(expected, preserving_proto_field_name=names).encode()) == expected
    assert query(b'{"limit": "3"}').limit == 3
    created = read_json(
        body(b'{"name": "x", "enabled": "false", "priority": -1, "parameters": {"sectors": ["a"], "min_price": 2.5}}'),
        filters_pb2.CreateFilterRequest(),
    )
    assert (created.name, created.enabled, created.priority) == ("x", False, -1)
    assert json_format.MessageToDict(created.parameters) == {"sectors": ["a"], "min_price": 2.5}


@pytest.mark.parametrize(
    ("data", "message", "metadata"),
    [
        (b'{"fliter": "price > 1"}', "the body has no field 'fliter'; the nearest is 'filter'", "filter"),
        (b'{"filter": "", "Limit": 1}', "the body has no field 'Limit'; the nearest is 'limit'", "limit"),
        (b'{"": 1}', "the body has no field ''", ""),
    ],
)
def test_unknown_fields_are_refused_with_the_nearest(data: bytes, message: str, metadata: str) -> None:
    with pytest.raises(ServiceError) as refused:
        query(data)
    assert (refused.value.reason, refused.value.message) == (INVALID_REQUEST, message)
    assert refused.value.metadata["nearest"] == metadata


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"filter": 3}', "filter: expected a text, was 3"),
        (b'{"limit": -1}', "limit: expected a whole number of 0 to 4294967295, was -1"),
        (b'{"limit": 1.5}', "limit: expected a whole number of 0 to 4294967295, was 1.5"),
        (b'{"limit": "many"}', 'limit: expected a whole number of 0 to 4294967295, was "many"'),
        (b'{"limit": true}', "limit: expected a whole number of 0 to 4294967295, was true"),
        (b'{"limit": [1]}', "limit: expected a whole number of 0 to 4294967295, was [1]"),
        (b'{"limit": 1e999}', "expected JSON in the body: "),
        (b'{"filter": {"a": "' + b"x" * 200 + b'"}}', 'filter: expected a text, was {"a": "xxx'),
        (b"[1]", "expected a JSON object in the body, was [1]"),
        (b"null", "expected a JSON object in the body, was null"),
        (b'"x"', 'expected a JSON object in the body, was "x"'),
        (b'{"filter": ', "expected JSON in the body: "),
        (b"\xff\xfe", "expected JSON in the body: "),
        (b'{"filter": "\xff"}', "expected JSON in the body: "),
        (b'{"filter": "\\ud800"}', "expected JSON in the body: "),
        (b"{" + b'"filter":{' * 20_000, "expected JSON in the body: "),
        (b"filter=price", "expected JSON in the body: "),
    ],
)
def test_other_values_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ServiceError) as refused:
        query(data)
    assert refused.value.reason is INVALID_REQUEST
    assert refused.value.message.startswith(message)
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("value", [3, "x", [1], {"a": 10**400}, json.loads("[" * 150 + "]" * 150)])
def test_parameters_are_an_object(value: object) -> None:
    data = json.dumps({"name": "x", "parameters": {"a": value} if isinstance(value, list) and value != [1] else value})
    with pytest.raises(ServiceError, match=r"parameters: expected an object, was|expected JSON in the body"):
        read_json(body(data.encode()), filters_pb2.CreateFilterRequest())


def test_the_path_names_what_is_updated() -> None:
    for data in (b'{"enabled": true}', b'{"enabled": true, "name": "x"}'):
        request = filters_pb2.UpdateFilterFromJsonRequest(name="x", body=body(data))
        assert update_request(request) == filters_pb2.UpdateFilterRequest(name="x", enabled=True)
    for field, expected in (("enabled", "true or false"), ("priority", "a whole number"), ("parameters", "an object")):
        request = filters_pb2.UpdateFilterFromJsonRequest(name="x", body=body(b'{"%b": null}' % field.encode()))
        with pytest.raises(ServiceError, match=f"{field}: expected {expected}.*, was null"):
            update_request(request)
    with pytest.raises(ServiceError, match="expected the name 'x' of the path, was 'y'"):
        update_request(filters_pb2.UpdateFilterFromJsonRequest(name="x", body=body(b'{"name": "y"}')))


@pytest.mark.parametrize("value", ["false", "0", "1", '"1"', '"SHAPE_UNSPECIFIED"', '"json"', '["JSON"]', "{}"])
def test_enums_are_names_only(value: str) -> None:
    message = webhooks_pb2.CreateWebhookRequest()
    with pytest.raises(ServiceError) as caught:
        read_json(body(b'{"webhook": {"shape": %b}}' % value.encode()), message)
    assert "webhook.shape: expected one of JSON, DISCORD, SLACK, was" in caught.value.message
    read_json(body(b'{"webhook": {"shape": "SLACK"}}'), message)
    assert message.webhook.shape == webhooks_pb2.Webhook.SLACK


def test_truth_is_no_number() -> None:
    for value in (b"true", b"false"):
        with pytest.raises(ServiceError) as caught:
            read_json(body(b'{"webhook": {"min_quality": %b}}' % value), webhooks_pb2.CreateWebhookRequest())
        assert caught.value.message == f"webhook.min_quality: expected a number, was {value.decode()}"


@pytest.mark.parametrize("value", ["[1]", "[false]", '["PRE_MARKET", "SESSION_UNSPECIFIED"]', '"PRE_MARKET"'])
def test_lists_of_enums_are_names_only(value: str) -> None:
    with pytest.raises(ServiceError) as caught:
        read_json(body(b'{"rule": {"sessions": %b}}' % value.encode()), alert_rules_pb2.CreateAlertRuleRequest())
    assert "rule.sessions: expected a list with any of PRE_MARKET" in caught.value.message
