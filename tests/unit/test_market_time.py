"""The market's time where it can be changed: requests for another, and the answer."""

import datetime

import msgspec
import pytest
from google.protobuf import json_format
from tradeul.v1 import replay_pb2

from services.kit.runtime.errors import ServiceError
from services.market.market_time import MarketTime, TimeChange, refuse_change, time_change
from tests.support.flat_trades import ns_at

DATE = datetime.date(2025, 11, 24)
Request = replay_pb2.UpdateReplayRequest


def market(now: str = "09:45:00") -> MarketTime:
    return MarketTime(DATE, ns_at(now), False, 1.0, 0, ns_at("04:00:00") + 1, ns_at("20:00:00"))


def test_a_request_changes_what_it_names() -> None:
    assert time_change(Request(), market()) == TimeChange()
    assert time_change(Request(paused=False, speed=0), market()) == TimeChange(paused=False, speed=0.0)
    assert time_change(Request(jump_to="09:46"), market()) == TimeChange(jump_ns=ns_at("09:46:00"))
    assert time_change(Request(jump_to="20:00:00", speed=60), market()) == TimeChange(None, 60.0, ns_at("20:00:00"))


@pytest.mark.parametrize("speed", [-1.0, 0.009, 100_001, float("inf"), float("nan")])
def test_a_speed_out_of_range_is_refused(speed: float) -> None:
    with pytest.raises(ServiceError, match=r"speed: expected 0 or a number of 0\.01 to 100,000") as refused:
        time_change(Request(speed=speed), market())
    assert refused.value.reason.name == "INVALID_SPEED"


@pytest.mark.parametrize("text", ["", "9:45", "09:45:60", "24:00", "2025-11-24T09:46", "0946", "soon"])
def test_a_jump_needs_a_time_of_the_day(text: str) -> None:
    with pytest.raises(ServiceError, match="expected a time of the day like 09:45") as refused:
        time_change(Request(jump_to=text), market())
    assert refused.value.reason.name == "INVALID_TIME"


@pytest.mark.parametrize("text", ["03:59", "04:00:00", "20:00:01"])
def test_a_jump_stays_within_what_the_market_has(text: str) -> None:
    with pytest.raises(ServiceError, match="expected a time of 04:00:01 to 20:00:00") as refused:
        time_change(Request(jump_to=text), market("04:00:00"))
    assert refused.value.reason.name == "INVALID_TIME"


@pytest.mark.parametrize("text", ["09:45", "09:44:59", "04:30"])
def test_a_time_that_is_over_is_refused(text: str) -> None:
    with pytest.raises(ServiceError, match="expected a time after 09:45:00, which it is now") as refused:
        time_change(Request(jump_to=text), market())
    assert refused.value.reason.name == "TIME_IS_OVER"


def test_the_live_market_refuses_every_change() -> None:
    with pytest.raises(ServiceError, match="the market is live") as refused:
        refuse_change()
    assert refused.value.reason.code == "FAILED_PRECONDITION"


def test_the_answer_leaves_out_what_is_not_known() -> None:
    jumping = msgspec.structs.replace(market(), jump_ns=ns_at("10:00:00"), paused=True)
    shown = json_format.MessageToDict(jumping.message(replay_pb2.Replay.SIMULATOR), preserving_proto_field_name=True)
    assert shown == {
        "market": "SIMULATOR",
        "date": "2025-11-24",
        "now": "2025-11-24T14:45:00Z",
        "paused": True,
        "speed": 1.0,
        "jumping_to": "2025-11-24T15:00:00Z",
        "from": "2025-11-24T09:00:00.000000001Z",
        "to": "2025-11-25T01:00:00Z",
    }
    before = msgspec.structs.replace(market(), now_ns=0).message(replay_pb2.Replay.REPLAY)
    assert not before.HasField("now") and not before.HasField("jumping_to")
