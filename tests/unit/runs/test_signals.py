import os
import signal
import threading

import pytest

from resnext.errors import PreemptedError
from resnext.runs.signals import stopping

WANTED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(autouse=True)
def _as_it_was():
    before = {number: signal.getsignal(number) for number in WANTED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", WANTED, ids=lambda number: number.name)
def test_a_signal_is_a_wish(number):
    with stopping() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal is number
        assert stop.exit_code == (130 if number is signal.SIGINT else 75)


def test_the_first_one_counts():
    with stopping() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal is signal.SIGUSR1


def test_the_second_ctrl_c_interrupts():
    with stopping():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_behind_it_all_is_as_before():
    before = [signal.getsignal(number) for number in WANTED]
    wakeup = signal.set_wakeup_fd(-1)
    threads = threading.active_count()
    with stopping():
        assert [signal.getsignal(number) for number in WANTED] != before
    assert [signal.getsignal(number) for number in WANTED] == before
    assert signal.set_wakeup_fd(-1) == wakeup
    for _ in range(100):
        if threading.active_count() <= threads:
            break
        threading.Event().wait(0.05)
    assert threading.active_count() <= threads  # those of another test may have ended too


@pytest.mark.parametrize("ending", [False, True])
def test_a_process_that_ends_with_an_error_is_not_cut_short(ending):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PreemptedError), stopping(ending=ending):
        raise PreemptedError("saved")
    assert (signal.getsignal(signal.SIGTERM) != before) == ending
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
