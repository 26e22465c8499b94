"""What a process asks of the scheduler, in processes of their own, since it is for good."""

import os
import subprocess
import sys

import pytest

from services.kit.runtime.priority import BACKGROUND_NICENESS, TURN_SECONDS, WORKER_NICENESS, thread_behind_the_others
from services.modules import MODULES, REPLAY

# Prints the turn that the system gives, in ns.
ASK = """
import ctypes, platform, struct
from services.kit.runtime.priority import work_in_short_turns
known = work_in_short_turns()
attributes = ctypes.create_string_buffer(56)
ctypes.CDLL(None).syscall({"x86_64": 315, "aarch64": 275}[platform.machine()], 0, attributes, 56, 0)
print(known, struct.unpack_from("=IIQiIQQQ", attributes)[5])
"""


def output(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_short_turns_are_given_where_linux_knows_them() -> None:
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 12):
        pytest.skip(f"Linux gives turns of another length from 6.12 on, this is {os.uname().release}")
    assert output(ASK) == f"True {round(TURN_SECONDS * 1e9)}"


def test_the_background_goes_behind_the_others() -> None:
    program = "import os; from services.kit.runtime.priority import *; work_in_the_background(); print(os.nice(0))"
    assert int(output(program)) == min(19, os.nice(0) + BACKGROUND_NICENESS)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_a_thread_goes_behind_the_others_and_leaves_its_process_where_it_was() -> None:
    with thread_behind_the_others("some") as thread:
        assert thread.submit(os.nice, 0).result() == min(19, os.nice(0) + WORKER_NICENESS)


def test_what_events_pass_through_has_short_turns() -> None:
    turns = {module.name: module.turn for module in (*MODULES, REPLAY)}
    tape = {"polygon_ws", "data_ingest", "scanner", "websocket_server", "replay"}
    assert {name for name, turn in turns.items() if turn == "tape"} == tape
