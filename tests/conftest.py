"""Tests run on uvloop, as the services do."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

# uvloop forks to start a program; gRPC's handlers of a fork may hold that child up for ever (services/cli/main.py).
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell makes what it starts in the background ignore Ctrl-C, and all that is started from there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(item: pytest.Function) -> LoopFactories:
    return {"uvloop": uvloop.new_event_loop}
