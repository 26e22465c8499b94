"""What schemathesis has to know of this API beyond its OpenAPI document; its own process loads it (SCHEMATHESIS_HOOKS).

The formats of the document that are this API's own, and the rules between several values, which OpenAPI cannot state.
"""

import functools
import os
import re
from datetime import UTC, date, datetime
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis.openapi.checks import RejectedPositiveData

from services.kit.lists.field_selection import NAMES
from services.ticker.requests import FIRST_YEAR, LAST_YEAR
from tests.support.random_filters import RandomFilters

URL: Final = os.environ["TRADEUL_TEST_URL"]
HEADERS: Final = {"x-api-key": key} if (key := os.environ.get("TRADEUL_TEST_KEY")) else {}
SEEDS: Final = st.integers(0, 1 << 16)
# Operations, and the refusals that follow from a rule between several values of a request, or between a request and
# what is stored: each value alone is as documented.
BETWEEN_VALUES: Final = {
    # Of one list more rows may be requested than of the others.
    ("GET", "/api/v1/scanner/lists/{list}"): re.compile(r"expected a limit of 1 to 500, was \d+"),
    # The order of two times, and how far apart they may be for an interval.
    ("GET", "/api/v1/ticker/{symbol}/bars"): re.compile(
        r"expected from before to, was .*|expected at most \d+ days of .*"
    ),
    # The market's day, and its time.
    ("POST", "/api/v1/replay"): re.compile(r"jump_to: expected a time (of|after) \d\d:\d\d:\d\d.*"),
    # The order of two numbers, one of which may be stored.
    ("POST", "/api/v1/filters"): re.compile(r"scanner filter '\w+': expected min_\w+ to be at most max_\w+ .*"),
    # A least value of what the rule does not have; and how many rules there are.
    ("POST", "/api/v1/alerts/rules"): re.compile(
        r"min_quality: expected a quality .*|limit reached: 200 alert rules.*"
    ),
    ("PATCH", "/api/v1/alerts/rules/{name}"): re.compile(
        r"min_quality: expected a quality .*|expected the name '\w+', which cannot be changed, was .*"
    ),
    # How many webhooks there are; and values that say something together only.
    ("POST", "/api/v1/alerts/webhooks"): re.compile(r"limit reached: 100 webhooks"),
    ("PATCH", "/api/v1/alerts/webhooks/{id}"): re.compile(
        r"expected webhook or enabled, was none of them|expected skip_missed with enabled true only"
    ),
    ("PATCH", "/api/v1/filters/{name}"): re.compile(r"scanner filter '\w+': expected min_\w+ to be at most max_\w+ .*"),
}
EVENTS: Final = (
    "grows(high)", "rvol >= 2", "crosses_above(price, vwap)", 'enters("winners", 10) AND price > 1', "rises(halted)",
    "after(grows(high), price < high * 0.99, 10m)", "held(price > open, 30s)", "count(shrinks(low), 3, 5m)",
)  # fmt: skip
# Operations with pages.
PAGED: Final = ("/api/v1/scanner/changes", "/api/v1/scanner/lists/{list}/changes", "/api/v1/history/scans")


def texts(make: Any) -> st.SearchStrategy[str]:
    return SEEDS.map(lambda seed: make(RandomFilters(seed)))


def instants() -> st.SearchStrategy[str]:
    times = st.datetimes(datetime(FIRST_YEAR, 1, 1), datetime(LAST_YEAR, 12, 31), timezones=st.just(UTC))
    return times.map(lambda time: time.isoformat().replace("+00:00", "Z"))


@functools.cache
def second_page(path: str) -> str:
    """Returns the token of the second page; "" where there is only one."""
    answer = httpx.get(URL + path.replace("{list}", "new_highs"), params={"limit": 1}, headers=HEADERS, timeout=20)
    token: str = answer.raise_for_status().json()["next_page_token"]
    return token


schemathesis.openapi.format("filter", texts(lambda source: source.filter(2)))
schemathesis.openapi.format("order", texts(lambda source: source.order()))
schemathesis.openapi.format("event", st.sampled_from(EVENTS))
schemathesis.openapi.format("expression", st.sampled_from(("", "rvol", "abs(chg_1m) + rvol", "(high - low) / low")))
schemathesis.openapi.format("field-names", st.lists(st.sampled_from(list(NAMES)), max_size=5).map(",".join))
# Where nobody listens; the mesh is told that it may call private addresses.
schemathesis.openapi.format("webhook-url", st.sampled_from(("https://127.0.0.1:9/", "http://127.0.0.1:9/hook?a=b")))
schemathesis.openapi.format("alert-rule", st.sampled_from(("halt", "resume", "high_of_day")))
schemathesis.openapi.format("page-token", st.just(""))
schemathesis.openapi.format("date", st.dates(date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 12, 31)).map(str))
schemathesis.openapi.format("date-time", instants())


@schemathesis.hook
def map_case(_: Any, case: Any) -> Any:
    """Half of the pages are the second, whose token only the server can make. The market's pace stays as it is."""
    if case.operation.path == "/api/v1/replay" and isinstance(body := case.body, dict):
        if body.get("jump_to"):
            # A time that is over, if it was a time.
            body["jump_to"] = re.sub(r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$", "09:00", str(body["jump_to"]))
        if isinstance(body.get("speed"), (int, float)) and (body["speed"] == 0 or 0.01 <= body["speed"] <= 100_000):
            body["speed"] = 1.0
        if body.get("paused") is True:
            body["paused"] = False
    query = case.query
    if case.operation.path in PAGED and query.get("page_token") == "" and query.get("limit") in range(1, 1000, 2):
        query["page_token"] = second_page(case.operation.path)
    return case


@schemathesis.hook
def filter_failure(_: Any, failure: Any, case: Any, response: Any) -> bool:
    rule = BETWEEN_VALUES.get((case.operation.method.upper(), case.operation.path))
    if rule is None or not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    return rule.fullmatch(response.json()["message"]) is None
