"""The process that dry-runs a rule: day after day, each from its events to its alerts (services/kit/alerts/dry_run.py).

It runs beside those who serve, and gives way to them. It dies with who started it.
"""

import datetime
import sys
from pathlib import Path
from typing import BinaryIO, Final

import asyncpg
import msgspec
import uvloop
from tradeul.v1 import alert_rule_pb2, dry_run_pb2

from fastcore.alert_rules import rule_of_message
from fastcore.wire import wrap
from services.dry_run.day import DayRun, Progress
from services.dry_run.days import PastDays
from services.kit.alerts.dry_run import Work
from services.kit.runtime import logging
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import ServiceError, StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.runtime.worker_messages import framed, read_input, write_message
from services.kit.stores.database import DATABASE_ERRORS, open_pool
from services.kit.vendor.client import VendorClient

log = get_logger(__name__)

PROGRESS_SECONDS: Final = 0.25
# The vendor is asked for splits and trade rules only.
VENDOR_ATTEMPTS: Final = 2
VENDOR_TIMEOUT_SECONDS: Final = 10.0
_FIELDS: Final = {field.name: field.number for field in dry_run_pb2.DryRunAlertRuleResponse.DESCRIPTOR.fields}


class Output:
    """Messages to who started this process; waits while nobody reads them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shown_at = 0.0
        self._step = ""

    def alert(self, encoded: bytes) -> None:
        self._file.write(framed(wrap(_FIELDS["alert"], encoded)))

    def progress(self, progress: Progress) -> None:
        """Each step, and not more often than people can see how far it is."""
        now, step = monotonic(), progress.step.partition(":")[0]
        if step == self._step and now - self._shown_at < PROGRESS_SECONDS:
            return
        self._shown_at, self._step = now, step
        self._send("progress", progress.message())

    def day(self, day: dry_run_pb2.DryRunDay) -> None:
        self._step = ""
        self._send("day", day)

    def _send(self, field: str, message: dry_run_pb2.DryRunProgress | dry_run_pb2.DryRunDay) -> None:
        write_message(self._file, wrap(_FIELDS[field], message.SerializeToString()))


async def run(work: Work, settings: Settings, source: BinaryIO, output: Output) -> None:
    """Runs the days as they come, until there are no more."""
    rule = rule_of_message(alert_rule_pb2.AlertRule.FromString(work.rule))
    polygon = settings.polygon
    pool: asyncpg.Pool = await open_pool(settings.database_url)
    try:
        async with VendorClient(
            polygon.rest_url, polygon.api_key, attempts=VENDOR_ATTEMPTS, timeout_s=VENDOR_TIMEOUT_SECONDS
        ) as vendor:
            days = PastDays(settings, pool, vendor, Path(work.scratch))
            while (text := read_input(source)) is not None:
                date = datetime.date.fromisoformat(text.decode())
                began = monotonic()
                day = DayRun(rule, date, Path(work.source), work.limit, frozenset(work.symbols), output)
                try:
                    await day.run(days)
                except (StartError, ServiceError, *DATABASE_ERRORS) as error:
                    day.result.problem = reason_of(error)
                    log.warning("a day cannot be dry-run", date=str(date), reason=day.result.problem)
                day.result.seconds = round(monotonic() - began, 3)
                output.day(day.finished())
    finally:
        pool.terminate()


def main() -> None:
    source = sys.stdin.buffer
    first = read_input(source)
    assert first is not None, "it is given its work"
    work = msgspec.msgpack.decode(first, type=Work)
    settings = Settings.model_validate_json(work.settings)
    logging.configure(settings, "dry_run")
    try:
        uvloop.run(run(work, settings, source, Output(sys.stdout.buffer)))
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
