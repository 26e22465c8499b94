"""When a webhook is tried again."""

from datetime import timedelta

from services.kit.runtime.clock import utc_now
from services.ticker.webhooks.delivery import LONGEST_PAUSE_SECONDS, seconds_until
from services.ticker.webhooks.sender import LONGEST_RETRY_AFTER


def test_a_next_attempt_by_a_clock_that_was_ahead_is_no_further_away_than_any() -> None:
    assert seconds_until(utc_now() + timedelta(days=1)) == max(LONGEST_PAUSE_SECONDS, LONGEST_RETRY_AFTER)
    assert seconds_until(utc_now() - timedelta(days=1)) == 0.0
    assert 0.0 < seconds_until(utc_now() + timedelta(seconds=100)) <= 100.0
