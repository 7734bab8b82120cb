"""`python -m predictors.shipper`: ships a spool folder to a collector, as a process of its own.

A process, not a thread of the predictor: a thread would take the interpreter from the serving
thread for every frame it looks at, and would die with the predictor while rows wait. One runs for
a folder at a time, by a lock; a second one waits for it. Started by a predictor, it goes on for a
while after the predictor is gone, until everything is acknowledged. In a container nothing outlives
the predictor, which therefore waits for it (`--drain_seconds`).
"""

import argparse
import fcntl
import logging
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from heliotrope.vocabulary import ENV_COLLECTOR_TOKEN, ENV_COLLECTOR_URL

LOCK_FILE = "shipper.lock"
_LOCK_SECONDS = 0.5
_RESTART_SECONDS = 0.5
_RESTART_LONGEST = 30.0
_LINGER = 30.0
LEFT = 75
"""Exit code where something was left in the spool (EX_TEMPFAIL of sysexits.h)."""
logger = logging.getLogger("heliotrope.shipper")


@dataclass(frozen=True)
class ShipperSettings:
    """Parsed flags; seconds and bytes."""

    folder: Path
    collector: str
    token: str
    batch_bytes: int
    longest_pause: float
    parent: int | None
    linger: float


def parse_settings(arguments: Sequence[str]) -> ShipperSettings:
    """Read the flags; exits with a message where they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m predictors.shipper", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the predictor's spool")
    parser.add_argument(
        "--collector",
        default=os.environ.get(ENV_COLLECTOR_URL),
        help=f"its address ({ENV_COLLECTOR_URL})",
    )
    parser.add_argument(
        "--token-file", type=Path, help=f"holds the token; else {ENV_COLLECTOR_TOKEN}"
    )
    parser.add_argument("--batch-bytes", type=int, default=4 << 20)
    parser.add_argument("--longest-pause", type=float, default=10.0)
    parser.add_argument("--parent", type=int, help="process after whose end it lingers, then ends")
    parser.add_argument("--linger", type=float, default=_LINGER, help="seconds, at most")
    given = parser.parse_args(arguments)
    token = _token(parser, given.token_file)
    if not given.collector:
        parser.error(f"--collector or {ENV_COLLECTOR_URL} must be given.")
    if given.batch_bytes < 1024:
        parser.error(f"--batch-bytes must be 1024 or more. Got {given.batch_bytes}.")
    return ShipperSettings(
        folder=given.folder,
        collector=given.collector,
        token=token,
        batch_bytes=given.batch_bytes,
        longest_pause=given.longest_pause,
        parent=given.parent,
        linger=given.linger,
    )


def _token(parser: argparse.ArgumentParser, file: Path | None) -> str:
    token = os.environ.get(ENV_COLLECTOR_TOKEN, "")
    if file is not None:
        try:
            words = file.read_text().split()
        except OSError as error:
            parser.error(f"--token-file must be a readable file. {error.strerror}: {file}.")
        token = words[0] if words else ""
    if not token:
        parser.error(f"a token must be given, by --token-file or {ENV_COLLECTOR_TOKEN}.")
    return token


def ship(settings: ShipperSettings, stopping: threading.Event) -> bool:
    """Ship until told to stop, or until the parent is gone and all is acknowledged.

    Returns:
        Whether nothing is left, as far as it was its own to ship: False where the time to linger
        was over before.

    Raises:
        UsageError: the collector's address is none.
    """
    from heliotrope.adapters.collector_client import CollectorClient
    from heliotrope.service.shipping import ShipOptions, SpoolShipper, drained

    client = CollectorClient(settings.collector, settings.token)
    options = ShipOptions(batch_bytes=settings.batch_bytes, longest_pause=settings.longest_pause)
    settings.folder.mkdir(parents=True, exist_ok=True)
    with (settings.folder / LOCK_FILE).open("w") as lock:
        if not _locked(lock.fileno(), settings, stopping):
            return True
        shipper = SpoolShipper(settings.folder, client.send_batch, options, random.Random())
        orphaned_at: float | None = None
        while not stopping.is_set():
            pause = shipper.step()
            if _orphaned(settings.parent):
                orphaned_at = orphaned_at or time.monotonic()
                if pause > 0 and drained(settings.folder, shipper.state):
                    return True
                if time.monotonic() - orphaned_at > settings.linger:
                    return False
            stopping.wait(pause)
    client.close()
    return True


def _locked(descriptor: int, settings: ShipperSettings, stopping: threading.Event) -> bool:
    # Tried before all else: a shipper may be started for the rest, when nothing more will come.
    while not stopping.is_set():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _orphaned(settings.parent):
                return False
            stopping.wait(_LOCK_SECONDS)
        else:
            return True
    return False


def _orphaned(parent: int | None) -> bool:
    """Whether the parent is gone, or has closed our input to say that nothing more will come."""
    if parent is None:
        return False
    return os.getppid() != parent or bool(select.select([0], [], [], 0)[0])


def start_shipper(
    folder: Path, collector: str, token: str, linger: float = _LINGER
) -> subprocess.Popen[bytes]:
    """Start a shipper for this process's spool.

    It ends once its input is closed, or this process gone, and all is acknowledged, `linger`
    seconds later at most.

    The token travels in the environment, where other users cannot read it.
    """
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "predictors.shipper"),
            *("--folder", str(folder), "--collector", collector),
            *("--parent", str(os.getpid()), "--linger", f"{linger:g}"),
        ],
        env={**os.environ, ENV_COLLECTOR_TOKEN: token, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
    )


class _Keeper:
    """Keeps a shipper running: one that dies is started again, with a pause."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._shipper: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Until `end`."""
        pause = _RESTART_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            told = self._once()
            lived = time.monotonic() - began
            pause = _RESTART_SECONDS if lived > 60 else min(2 * pause, _RESTART_LONGEST)
            if not self._stopping.wait(pause):
                logger.warning("A shipper must go on; it %s, and is started again.", told)

    def _once(self) -> str:
        """Start one and wait for its end; answers how it ended."""
        with self._lock:
            if self._stopping.is_set():
                return "was not started"
            try:
                self._shipper = self._start()
            except OSError as error:
                # Out of memory or of processes: what passes must not end shipping for good.
                return f"could not be started: {error.strerror}"
        return f"ended with {self._shipper.wait()}"

    def end(self, seconds: float) -> None:
        """Start no other, and wait until all is acknowledged, for `seconds` at most."""
        with self._lock:
            self._stopping.set()
        shipper, until = self._shipper, time.monotonic() + seconds
        while seconds and (left := until - time.monotonic()) > 0:
            try:
                shipper = shipper or self._start()
                shipper.communicate(timeout=left)
            except (subprocess.TimeoutExpired, OSError):
                break
            if shipper.returncode == 0:
                return
            shipper = None
        if seconds:
            logger.warning(
                "The spool must be shipped within %g s of the end. What is left stays on its disk.",
                seconds,
            )


@contextmanager
def shipping(
    spool: Path | None, environ: Mapping[str, str], drain_seconds: float = 0
) -> Iterator[None]:
    """Ship a spool while the block runs, where the environment names a collector.

    Args:
        spool: its folder; None ships nothing.
        environ: names the collector and holds the token.
        drain_seconds: how long, after the block, the end of shipping is waited for. 0 leaves the
            shipper running, which ends itself once everything is acknowledged.

    Raises:
        UsageError: a collector is named and no token is given.
    """
    collector = environ.get(ENV_COLLECTOR_URL)
    if not collector or spool is None:
        yield
        return
    from heliotrope.errors import UsageError

    token = environ.get(ENV_COLLECTOR_TOKEN)
    if not token:
        raise UsageError(f"{ENV_COLLECTOR_TOKEN} must be set beside {ENV_COLLECTOR_URL}.")

    def start() -> subprocess.Popen[bytes]:
        shipper = start_shipper(spool, collector, token, drain_seconds or _LINGER)
        logger.info("Shipping %s to %s by process %d.", spool, collector, shipper.pid)
        return shipper

    keeper = _Keeper(start)
    threading.Thread(target=keeper.run, name="shipper-keeper", daemon=True).start()
    try:
        yield
    finally:
        keeper.end(drain_seconds)


def main(arguments: Sequence[str]) -> int:
    """Ship until stopped; 0 then, LEFT, or the error's exit code with its message on stderr."""
    settings = parse_settings(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    from heliotrope.errors import HeliotropeError

    stopping = threading.Event()

    def stop(_sign: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return 0 if ship(settings, stopping) else LEFT
    except HeliotropeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
