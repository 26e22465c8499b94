"""Tests run on uvloop, as the services do."""

import asyncio
import os
import signal
import warnings
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.support.time_limit import Limit, set_time_limit

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

# uvloop forks to start a program; gRPC's handlers of a fork may hold that child up for ever (services/cli/main.py).
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell makes what it starts in the background ignore Ctrl-C, and all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Loop(uvloop.Loop):
    """Reports what a test left open and closes it: a warning that is an error keeps uvloop from the latter."""

    def close(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            super().close()


def pytest_asyncio_loop_factories(item: pytest.Function) -> LoopFactories:
    return {"uvloop": _Loop}


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Limit) -> bool:
    return set_time_limit(item, settings)
