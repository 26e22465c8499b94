"""Ctrl-C ends a command as such, whatever error a library makes of it."""

import contextlib
import signal
from collections.abc import Iterator

import pytest

from services.cli.signals import ctrl_c_is_an_interrupt


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_error_that_ctrl_c_led_to_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, ctrl_c_is_an_interrupt():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("Query interrupted")
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_itself_and_other_errors_stay_what_they_are() -> None:
    with pytest.raises(KeyboardInterrupt), ctrl_c_is_an_interrupt():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(ValueError, match="a disk is full"), ctrl_c_is_an_interrupt():
        raise ValueError("a disk is full")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(ValueError, match="of its own"), ctrl_c_is_an_interrupt():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("of its own")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
