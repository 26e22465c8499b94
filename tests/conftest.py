"""Tests run on uvloop, as the services do; those that take longest begin first."""

import asyncio
import os
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
import uvloop

from services.kit.runtime.forks import prepare_for_forks
from services.kit.runtime.grpc_io import wait_in_one_thread
from tests.support.time_limit import Limit, set_time_limit

# What starts a mesh takes minutes and comes first: of what comes last each file takes seconds, and whichever process of
# pytest-xdist is done earlier has something left to do.
ORDER: Final = ("e2e", "robustness", "integration", "contract", "parity", "unit")
ROOT: Final = Path(__file__).parent

STDERR: Final = pytest.StashKey[int]()

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

prepare_for_forks()
wait_in_one_thread()

# A shell makes what it starts in the background ignore Ctrl-C, and all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Loop(uvloop.Loop):
    """Reports what a test left open and closes it: a warning that is an error keeps uvloop from the latter."""

    def close(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            super().close()


class _Failures:
    """Names each test that fails at once: a run that is cut off prints no summary."""

    def __init__(self, stderr: int) -> None:
        self._stderr = stderr

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._stderr, f"\nfailed: {report.nodeid}, in its {report.when}\n".encode())


def pytest_configure(config: pytest.Config) -> None:
    # Before pytest captures what tests write there.
    config.stash[STDERR] = os.dup(2)
    # Those of pytest-xdist report to the process that started them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config.stash[STDERR]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    room = item.path.relative_to(ROOT).parts[0] if item.path.is_relative_to(ROOT) else ""
    return ORDER.index(room) if room in ORDER else len(ORDER)


def pytest_asyncio_loop_factories(item: pytest.Function) -> LoopFactories:
    return {"uvloop": _Loop}


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Limit) -> bool:
    return set_time_limit(item, settings, item.config.stash[STDERR])
