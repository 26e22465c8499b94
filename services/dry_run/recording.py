"""The alerts of a rule over the recorded stream of a day: exactly those that the day had, or would have had."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tradeul.v1 import frame_pb2

from fastcore.alert_rules import AlertRule, compile_rule, rules_message
from fastcore.market import Market, state_of
from fastcore.wire import fields, read_varint
from services.dry_run.core import RuleRun, lists_of
from services.kit.lists.definitions import ListSpec
from services.kit.rpc.frames import read_frame
from services.kit.runtime.clock import new_york_time
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.market import recorded_stream
from services.market.recorded_stream import BrokenStream

ALERT_RULES: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["alert_rules"].number
# Entries between two reports of progress.
ENTRIES: Final = 256


class RecordedMarket:
    """The market of a recording, with one rule in place of the recorded ones.

    What the recorded market remembers of the rule stays, where it was in force: the recording may begin in the middle
    of a day. `frames` counts those that were applied, `lacks` says what is missing.
    """

    def __init__(self, rule: AlertRule, lists: Sequence[ListSpec], path: Path) -> None:
        self.frames = 0
        self.lacks: list[str] = []
        self._path = path
        self._all_lists = lists
        self._has_lists = bool(lists_of(compile_rule(rule), lists))
        body = frame_pb2.AlertRules.FromString(rules_message([rule]))
        self._rules = frame_pb2.Frame(alert_rules=body).SerializeToString()
        self._market: Market | None = None

    @property
    def now_ns(self) -> int:
        """The market's time; 0 before there is any."""
        return self._market.state.now_ns if self._market is not None else 0

    def play(self, run: RuleRun) -> Iterator[float]:
        """Plays the recording; yields how much of it is done, 0 to 1. Raises StartError when it cannot be read."""
        try:
            for number, (kind, content, share) in enumerate(recorded_stream.read(self._path)):
                if kind == recorded_stream.MARKET:
                    self._load(content)
                else:
                    self._apply(content, run)
                if number % ENTRIES == 0:
                    yield share
        except BrokenStream as error:
            self.lacks.append(reason_of(error))
        except ValueError as error:
            raise StartError(f"{self._path}: the recording cannot be played: {error}") from error
        if self._market is None:
            raise StartError(f"{self._path}: expected a market, had none")

    def _load(self, data: bytes) -> None:
        if self._market is not None:
            self.lacks.append(f"frames after {new_york_time(self.now_ns):%H:%M:%S} are missing in the recording")
        if self._has_lists:
            # With the filters and members of its lists.
            self._market = Market.from_bytes(self._all_lists, data)
        else:
            self._market = Market.of_state((), _epoch_of(data), state_of(data))
        self._market.state.apply(self._rules)

    def _apply(self, content: bytes, run: RuleRun) -> None:
        if self._market is None:
            raise ValueError("expected the market first, was a frame")
        self.frames += 1
        if read_frame(memoryview(content)).kind == ALERT_RULES:
            return
        if self._market.take(content):
            self._market.refresh()
            run.take(self._market)


def _epoch_of(data: bytes) -> int:
    """The epoch of a market's snapshot."""
    for number, _, start, _ in fields(data):
        if number == 1:
            return read_varint(data, start)[0]
    raise ValueError("expected the snapshot of a market, was without its epoch")
