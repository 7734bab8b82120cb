"""The clock that all processes share: it pauses, runs, moves, and is never read half-written."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.clock import SimulatedClock, SystemClock, clock_of, set_clock
from heliotrope.errors import UsageError
from heliotrope.vocabulary import ENV_CLOCK

START = datetime(2026, 3, 1, 12, 30, 15, 123457, tzinfo=UTC)
# A reader in a process of its own: notes whether time ever lies outside what was set.
READER = """
import sys
from pathlib import Path
from heliotrope.clock import SimulatedClock

clock, done = SimulatedClock(Path(sys.argv[1])), Path(sys.argv[2])
torn, reads = 0, 0
print("reading", flush=True)
while not done.exists():
    for _ in range(200):
        real, simulated, speed = clock.read()
        # The writer moves the clock to whole hours of its count, at that many times the speed.
        torn += simulated != int(speed) * 3_600_000_000_000
        reads += 1
print(torn, reads, flush=True)
"""


def test_paused_clock_stands_still_to_the_microsecond(tmp_path: Path) -> None:
    set_clock(tmp_path / "clock", 0.0, START)
    clock = SimulatedClock(tmp_path / "clock")
    assert [clock.now(), clock.now()] == [START, START]
    assert clock.speed == 0


def test_clock_runs_as_many_times_as_fast_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = [1_000_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: real[0])
    set_clock(tmp_path / "clock", 3600.0, START)
    clock = SimulatedClock(tmp_path / "clock")
    real[0] += 24_000_000_000
    assert clock.now() == START + timedelta(days=1)


def test_change_of_speed_goes_on_from_where_the_clock_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = [1_000_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: real[0])
    file = tmp_path / "clock"
    set_clock(file, 60.0, START)
    clock = SimulatedClock(file)
    for speed in (0.0, 10.0, 0.0):
        real[0] += 60_000_000_000
        set_clock(file, speed)
    real[0] += 60_000_000_000
    # A minute at 60, one paused, one at 10, one paused.
    assert clock.now() == START + timedelta(minutes=60 + 0 + 10 + 0)


def test_clock_can_be_moved_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    set_clock(file, 0.0, START)
    clock = SimulatedClock(file)
    for days in (400, -10):
        set_clock(file, 0.0, START + timedelta(days=days))
        assert clock.now() == START + timedelta(days=days)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_time_is_told_as_it_was_set(moment: datetime) -> None:
    file = Path(tempfile.gettempdir()) / f"clock-of-test-{os.getpid()}"
    try:
        set_clock(file, 0.0, moment)
        assert SimulatedClock(file).now() == moment
    finally:
        file.unlink(missing_ok=True)


def test_two_processes_never_read_a_half_written_setting(tmp_path: Path) -> None:
    file, done = tmp_path / "clock", tmp_path / "done"
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    set_clock(file, 1.0, epoch + timedelta(hours=1))
    command = [sys.executable, "-c", READER, str(file), str(done)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
        for number in range(2, 5000):
            set_clock(file, float(number), epoch + timedelta(hours=number))
    finally:
        done.touch()
        said = [reader.communicate(timeout=60)[0] for reader in readers]
    counts = [[int(word) for word in text.split()] for text in said]
    assert [torn for torn, _ in counts] == [0, 0]
    assert all(reads > 100 for _, reads in counts)


def test_writer_that_died_midway_leaves_the_setting_before(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    set_clock(file, 0.0, START)
    clock = SimulatedClock(file)
    whole = bytearray(file.read_bytes())
    # What a writer has done before it says which slot counts: the idle slot is half overwritten.
    whole[40:56] = b"\xff" * 16
    with file.open("r+b") as opened:
        opened.write(whole)
    assert clock.now() == SimulatedClock(file).now() == START
    set_clock(file, 0.0, START + timedelta(hours=1))
    assert clock.now() == START + timedelta(hours=1)


@pytest.mark.parametrize("content", [None, b"", b"no clock", bytes(56), b"rubbish " * 100])
def test_missing_or_rubbish_file_is_refused_naming_it(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "clock"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"HELIOTROPE_CLOCK must be a clock file.*clock"):
        clock_of({ENV_CLOCK: str(file)})
    if content is not None:
        with pytest.raises(UsageError, match="must be a clock file"):
            set_clock(file, 1.0)
        assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("speed", "at", "says"),
    [
        (-1.0, START, "speed must be from 0"),
        (float("nan"), START, "speed must be from 0"),
        (1.0, None, "new clock must be given a time"),
        (1.0, START.replace(tzinfo=None), "with its zone"),
        (1.0, datetime(1969, 1, 1, tzinfo=UTC), "from 1970"),
    ],
)
def test_setting_that_is_none_is_refused(
    tmp_path: Path, speed: float, at: datetime | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        set_clock(tmp_path / "clock", speed, at)
    assert not (tmp_path / "clock").exists()


def test_without_a_clock_file_the_machines_time_is_told() -> None:
    clock = clock_of({})
    assert isinstance(clock, SystemClock)
    before = datetime.now(UTC)
    assert before <= clock.now() <= datetime.now(UTC)
    first = time.time_ns()
    assert first <= clock.now_ns() <= time.time_ns()
