"""One run: faults in a seeded order, each followed by a recovery and a comparison of everything."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from tests.robustness.faults.checks import Epoch, NotShown, Twin, compare_all, health_warnings
from tests.robustness.faults.monitor import Monitor
from tests.robustness.faults.rig import Kind, Rig, running_rig
from tests.robustness.faults.steps import nothing, until_in_sync
from tests.robustness.faults.table import Fault

log = get_logger(__name__)

# A refused log-in is tried again after 60 s, and the last minute of a gap has to end.
RECOVERY_SECONDS: Final = 150.0
# Shares that only a snapshot told are exact to the second until the next minute bar, a quarter of a minute away.
AGAIN_SECONDS: Final = 4.0
AGAIN_TIMES: Final = 8
MOST_NAMED: Final = 5


# Without a fault everything has to be equal, too.
QUIET: Final = Fault("none", "nothing happens", nothing)


@dataclass
class Outcome:
    """What one fault did. Seconds; `problems` are broken promises."""

    fault: str
    held: float = 0.0
    recovery: float = 0.0
    wrong: dict[str, float] = field(default_factory=dict)
    holes: int = 0
    repeats: int = 0
    false_highs: int = 0
    bars: int = 0
    differences: int = 0
    problems: list[str] = field(default_factory=list)


async def inflict(rig: Rig, twin: Twin, monitor: Monitor, fault: Fault, rng: random.Random) -> Outcome:
    """Injects one fault, waits until nothing is wrong any more, and compares everything."""
    outcome = Outcome(fault.name)
    if fault.keeps_epoch:
        await until_in_sync(rig)
    epoch = Epoch(rig)
    monitor.reset()
    monitor.expect_others(set().union(*(rig.pids(name) for name in fault.ends)))
    rig.is_exact = rig.is_exact and not fault.loses
    outcome.held = round(rng.uniform(*fault.hold), 1)
    await fault.inject(rig, rng)
    await asyncio.sleep(outcome.held)
    if fault.is_right_meanwhile:
        for kind, problems in (await _settled(rig, twin, monitor, outcome)).items():
            outcome.problems += [f"{kind}, meanwhile: {each}" for each in problems[:MOST_NAMED]]
    warnings = await health_warnings(rig) if fault.says else []
    for text in fault.says:
        if not any(text in warning for warning in warnings):
            outcome.problems.append(f"expected /health to say {text!r}, said {warnings}")
    await fault.heal(rig, rng)
    began = monotonic()
    if fault.rewinds:
        monitor.forget_shown()
    found = await _settled(rig, twin, monitor, outcome)
    outcome.recovery = round(monotonic() - began, 1)
    outcome.wrong = {kind: round(seconds, 1) for kind, seconds in sorted(monitor.wrong.items())}
    if "fell" in outcome.wrong and not fault.rewinds:
        outcome.problems.append(f"rows showed fewer shares than before for {outcome.wrong['fell']} s")
    counts, examples = rig.ledger.take()
    outcome.holes, outcome.repeats, outcome.false_highs = counts["holes"], counts["repeats"], counts["false highs"]
    outcome.bars = len(found.get("bars", ()))
    outcome.differences = sum(map(len, found.values())) - outcome.bars
    outcome.problems += examples
    if fault.keeps_epoch:
        found["epoch"] = epoch.problems()
    for kind, problems in found.items():
        outcome.problems += [f"{kind}: {each}" for each in problems[:MOST_NAMED]]
    return outcome


async def _settled(rig: Rig, twin: Twin, monitor: Monitor, outcome: Outcome) -> dict[str, list[str]]:
    """Waits until nothing is wrong, and compares everything; returns what differs, by what it was."""
    began = monotonic()
    while not monitor.is_right:
        rig.check_tasks()
        if monotonic() - began > RECOVERY_SECONDS:
            outcome.problems.append(f"still wrong after {RECOVERY_SECONDS:g} s: {', '.join(sorted(monitor.now_wrong))}")
            break
        await asyncio.sleep(0.1)
    found: dict[str, list[str]] = {}
    times = 1 if rig.is_exact else AGAIN_TIMES
    for attempt in range(times):
        if attempt:
            await asyncio.sleep(AGAIN_SECONDS)
        try:
            found = await compare_all(rig, twin)
        except NotShown as error:
            found = {"copies": [str(error)]}
        finally:
            rig.feed.is_paused = False
        if not any(found.values()):
            break
        first = next(each for each in found.values() if each)[0]
        log.info("not equal yet", fault=outcome.fault, attempt=attempt, first=first)
    return found


def order(faults: Sequence[Fault], rng: random.Random) -> list[Fault]:
    """In random order; those by which trades are lost come last, because the twin cannot follow from there."""
    shuffled = rng.sample(list(faults), len(faults))
    return sorted(shuffled, key=lambda fault: (fault.rewinds, fault.loses))


async def run_round(
    faults: Sequence[Fault], seed: int, folder: Path, until: float, report: list[Outcome], kind: Kind = "one"
) -> None:
    """One mesh and the faults in their order, until all are done or `until` (monotonic); adds to `report`."""
    rng = random.Random(f"faults {seed}")
    async with running_rig(seed, folder, kind) as rig:
        twin, monitor = Twin(rig), Monitor(rig)
        rig.tasks.append(asyncio.create_task(monitor.run()))
        for fault in (QUIET, *order(faults, rng)):
            if monotonic() > until:
                return
            if fault.needs_disk and not rig.has_disk:
                log.warning("left out: a disk of its own can only be mounted by root", fault=fault.name)
                continue
            await asyncio.sleep(rng.uniform(1, 3))
            report.append(outcome := await inflict(rig, twin, monitor, fault, rng))
            log.info("done", fault=fault.name, recovery=outcome.recovery, problems=len(outcome.problems))
