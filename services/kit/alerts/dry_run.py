"""The work of a process that dry-runs an alert rule, and its messages: services/dry_run has that process.

Its input is a Work, then the days to run, one after the other; its output DryRunAlertRuleResponses, of which `day`
ends a day.
"""

from typing import Final

import msgspec

WORKER: Final = "services.dry_run.worker"


class Work(msgspec.Struct):
    """`settings`: as JSON; `rule`: an encoded AlertRule.

    `symbols`: those whose alerts are wanted, all if empty; `limit`: the most alerts of a day that are sent. `source`: a
    directory of flat files; `scratch`: one for files that nobody needs afterwards.
    """

    settings: str
    rule: bytes
    symbols: list[str]
    limit: int
    source: str
    scratch: str
