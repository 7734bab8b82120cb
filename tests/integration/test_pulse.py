"""A process that hangs is told from one that a busy machine holds up, by what it does."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heliotrope.adapters.embedded.supervisor.pulse import Pulse, pulse_of, still

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")

PATIENCE = 60.0
SPINS = "while True: pass"
A_THREAD_SPINS = """
import threading, time
def spin():
    while True: pass
threading.Thread(target=spin).start()
time.sleep(1000)
"""
SLEEPS = "import time; print(flush=True); time.sleep(1000)"


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def pulses(pid: int) -> tuple[Pulse | None, Pulse | None]:
    before = pulse_of(pid)
    time.sleep(0.05)
    return before, pulse_of(pid)


def await_that(check: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end, "it did not come about"


@pytest.mark.parametrize("code", [SPINS, A_THREAD_SPINS])
def test_one_that_works_is_never_still_until_it_is_stopped(code: str) -> None:
    with running(code) as process:
        await_that(lambda: (pulse_of(process.pid) or Pulse(0, False)).ticks > 10)
        # However little of the processor it is given, it wants it.
        assert not any(still(*pulses(process.pid)) for _ in range(10))
        process.send_signal(signal.SIGSTOP)
        await_that(lambda: still(*pulses(process.pid)))


def test_one_that_waits_is_still_and_one_that_is_gone_is_not_said_to_be() -> None:
    with running(SLEEPS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        await_that(lambda: still(*pulses(process.pid)))
    assert pulse_of(process.pid) is None
    assert not still(None, Pulse(1, False))
