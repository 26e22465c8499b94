"""Which event loop a test runs on: asyncio's, or uvloop as services do when its module says USES_UVLOOP."""

import asyncio
import signal
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

# A shell makes what it starts in the background deaf to Ctrl-C, and all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(item: pytest.Function) -> LoopFactories:
    if getattr(item.module, "USES_UVLOOP", False):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
