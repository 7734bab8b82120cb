"""Kill everything at random points; afterwards every acknowledged event is there exactly once."""

import ctypes
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.adapters.truth_access import open_truth
from heliotrope.domain.spool_format import _RECORD as RECORD_HEAD
from heliotrope.domain.spool_format import Kind, scan
from heliotrope.service.truth import Truth
from heliotrope.settings import Settings
from heliotrope.spec import load_spec

TOKEN = "a-token-for-tests-only"
MODEL = "chaos"
BIG_UPLOAD = 120
SPEC = """
name: chaos
task: binary
label: {name: y, positive: "yes", delay: 1h}
event_time: at
source: {path: nowhere.parquet}
features:
  - {name: a, type: float}
  - {name: b, type: float}
  - {name: c, type: float}
  - {name: d, type: float}
metrics: {primary: accuracy, others: [log_loss]}
monitoring: {window: 1m}
"""
WRITER = """
import os, sys, time
from pathlib import Path
import numpy as np
from heliotrope.domain.serving import ServingContract
from predictors.spool import Spool, SpoolOptions

folder, ledger, budget, version, run, pause = sys.argv[1:]
features = [{"name": n, "type": "float"} for n in "abcd"]
contract = ServingContract(
    model="chaos", task="binary", features=features, classes=("no", "yes"), threshold=0.5
)
options = SpoolOptions(Path(folder), int(budget), 0.05, 1 << 16)
spool = Spool(options, contract, version, "champion")
book = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
number = 0
while True:
    number += 1
    name, rows = f"{run}-{number}", 1 + number % 3
    marks = np.full((rows, 4), number, np.float32)
    scores = np.full(rows, 0.25, np.float32)
    refused = spool.lost["write"]
    spool.append(
        name, "v1", marks, scores, np.zeros(rows, np.uint16), None, time.time_ns(), 1000
    )
    if spool.lost["write"] == refused:
        last = spool.current.last_sequence
        os.write(book, f"{name} {last} {rows} {version} {spool.id} {number}\\n".encode())
    time.sleep(float(pause))
"""


@dataclass
class Process:
    """A process that is started again each time it is killed."""

    command: Callable[[int], list[str]]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    starts: int = 0
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.starts += 1
        environment = {
            **os.environ,
            **self.environment,
            "HELIOTROPE_COLLECTOR_TOKEN": TOKEN,
            "OMP_NUM_THREADS": "1",
        }
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command(self.starts), env=environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()
            self.running = None


@dataclass
class Labeller:
    """Sends uploads of labels until each is acknowledged; some are sent twice."""

    ports: list[int]
    ledgers: list[Path]
    rng: random.Random
    acknowledged: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    batches: dict[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    sent: int = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            ids = self._ids()
            if not ids:
                self.stopping.wait(0.1)
                continue
            size = self.rng.choice([1, 7, BIG_UPLOAD])
            chosen = [(self.rng.choice(ids), self.rng.choice(["yes", "no"])) for _ in range(size)]
            self.sent += 1
            key = f"upload-{self.sent}"
            body = json.dumps([{"prediction_id": i, "label": label} for i, label in chosen])
            batch = self._until_acknowledged(key, body)
            if batch is not None:
                self.acknowledged[key] = chosen
                self.batches[key] = batch
                if self.rng.random() < 0.3:
                    self._post(key, body)

    def _ids(self) -> list[str]:
        names = []
        for ledger in self.ledgers:
            if ledger.exists():
                names += [f"{line.split()[0]}/0" for line in whole_lines(ledger)[-500:]]
        # Some never had a prediction.
        return [*names, "unknown/0"] if names else []

    def _until_acknowledged(self, key: str, body: str) -> str | None:
        while not self.stopping.is_set():
            answer = self._post(key, body)
            if answer is not None:
                return str(answer["batch_id"])
            self.stopping.wait(0.05)
        return None

    def _post(self, key: str, body: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.rng.choice(self.ports), timeout=5)
        headers = {"authorization": f"Bearer {TOKEN}", "idempotency-key": key}
        try:
            connection.request("POST", f"/v1/labels?model={MODEL}", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer if response.status == 200 else None


def whole_lines(ledger: Path) -> list[str]:
    return ledger.read_text().rpartition("\n")[0].splitlines()


def exchange(one: Path, other: Path) -> None:
    """Swap two paths in one step, so that nobody sees the store missing."""
    at_cwd, swap = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), swap) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


class Chaos:
    """Two spools with a shipper each, two collectors on one store, a labeller, a controller."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.store, self.block = folder / "store", folder / "block"
        self.store.mkdir()
        self.block.write_text("a file where the store was")
        self.spools = [folder / "spool-0", folder / "spool-1"]
        self.ledgers = [folder / "ledger-0", folder / "ledger-1"]
        ports = [free_port(), free_port()]
        self.collectors = [
            self._process(f"collector-{i}", self._collector(p)) for i, p in enumerate(ports)
        ]
        self.shippers = [
            self._process(f"shipper-{i}", self._shipper(i, p)) for i, p in enumerate(ports)
        ]
        # The second spool's budget is soon full when nothing is acknowledged.
        self.writers = [
            self._process(f"writer-{i}", self._writer(i, budget))
            for i, budget in enumerate([64 << 20, 40_000])
        ]
        self.home = folder / "home"
        (folder / "chaos.yaml").write_text(SPEC)
        self.controller = self._process("controller", self._controller())
        self.controller.environment = {
            "HELIOTROPE_HOME": str(self.home),
            "HELIOTROPE_STORE": str(self.store),
            "HELIOTROPE_CONTROLLER_TOKEN": TOKEN,
        }
        self.labeller = Labeller(ports, self.ledgers, random.Random(seed + 1))
        self.ports = ports

    def _process(self, name: str, command: Callable[[int], list[str]]) -> Process:
        return Process(command, self.folder / f"{name}.log")

    def _collector(self, port: int) -> Callable[[int], list[str]]:
        code = "from heliotrope.cli import main; main()"
        options = ["--store", str(self.store), "--port", str(port), "--commit-ms", "40"]
        upkeep = ["--upkeep-seconds", "1.5", "--vacuum-seconds", "10"]
        return lambda _: [sys.executable, "-c", code, "collector", *options, *upkeep]

    def _controller(self) -> Callable[[int], list[str]]:
        code = "from heliotrope.cli import main; main()"
        options = ["--spec", str(self.folder / "chaos.yaml"), "--port", "0"]
        return lambda _: [
            *(sys.executable, "-c", code, "controller", *options, "--tick-seconds", "0.1")
        ]

    def _shipper(self, index: int, port: int) -> Callable[[int], list[str]]:
        place = ["--folder", str(self.spools[index]), "--collector", f"http://127.0.0.1:{port}"]
        sizes = ["--longest-pause", "0.3", "--batch-bytes", "20000"]
        return lambda _: [sys.executable, "-m", "predictors.shipper", *place, *sizes]

    def _writer(self, index: int, budget: int) -> Callable[[int], list[str]]:
        files = [str(self.spools[index]), str(self.ledgers[index]), str(budget)]
        return lambda start: [
            *(sys.executable, "-c", WRITER, *files),
            *(str(start), f"w{index}-{start}", "0.004"),
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        everything = [*self.collectors, *self.shippers, *self.writers, self.controller]
        labelling = threading.Thread(target=self.labeller.run)
        try:
            for process in everything:
                process.start()
            labelling.start()
            yield
        finally:
            self.labeller.stopping.set()
            if labelling.ident is not None:
                labelling.join()
            for process in everything:
                process.kill()

    def rage(self, kills: int) -> None:
        """Kill, block the store, send old batches again; a kill every second or so."""
        self._await_first_answers()
        waiting = [*self.collectors, *self.shippers, *self.writers, self.controller]
        for number in range(kills):
            time.sleep(self.rng.uniform(0.2, 1.2))
            # Of those that have run the longest, since one that still starts has nothing to lose.
            victim = waiting.pop(self.rng.randrange(3))
            waiting.append(victim)
            if victim is self.controller:
                self._await_controller()
            victim.kill()
            if number % 6 == 2:
                self._block_store()
            if number % 4 == 1:
                self._send_shuffled()
            victim.start()

    def _await_first_answers(self) -> None:
        deadline = time.monotonic() + 60
        while not (
            self.labeller.acknowledged and all(acknowledged(folder) for folder in self.spools)
        ):
            assert time.monotonic() < deadline, "nothing was acknowledged"
            time.sleep(0.1)
        self._await_controller()

    def _await_controller(self) -> None:
        """Wait until it acts, since one that still starts has nothing to lose, and a little on."""
        deadline = time.monotonic() + 90
        while self.controller.log.read_text().count("Controller at") < self.controller.starts:
            assert time.monotonic() < deadline, self.controller.log.read_text()[-2000:]
            time.sleep(0.1)
        time.sleep(self.rng.uniform(0.0, 1.0))

    def _block_store(self) -> None:
        exchange(self.store, self.block)
        try:
            time.sleep(self.rng.uniform(0.2, 0.8))
        finally:
            exchange(self.store, self.block)

    def _send_shuffled(self) -> None:
        """Batches out of order, and again, each honest about what it follows."""
        folder = self.rng.choice(self.spools)
        for path in sorted(folder.glob("*.spool"), key=lambda _: self.rng.random())[:3]:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            frames = [(data[i.start : i.end], i.payload) for i in scan(data) if i.payload]
            records = [f for f in frames if f[1][0] == Kind.RECORD]
            if not records:
                continue
            start = self.rng.randrange(len(records))
            some = records[start : start + self.rng.randint(1, 20)]
            follows = RECORD_HEAD.unpack_from(some[0][1])[6] - 1
            body = frames[0][0] + b"".join(frame for frame, _ in some)
            headers = {"authorization": f"Bearer {TOKEN}", "x-spool-follows": str(follows)}
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.rng.choice(self.ports), timeout=5
            )
            try:
                connection.request("POST", "/v1/spools", body, headers)
                assert connection.getresponse().status in (200, 409, 429, 503)
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()

    def settle(self, seconds: float) -> None:
        """Let the writers end, and wait until all that is on disk was acknowledged."""
        for writer in self.writers:
            writer.kill()
        last = [int(whole_lines(ledger)[-1].split()[1]) for ledger in self.ledgers]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shipped = [acknowledged(folder) for folder in self.spools]
            if all(have >= want for have, want in zip(shipped, last, strict=True)):
                return
            time.sleep(0.1)
        raise AssertionError(f"not settled: shipped {shipped}, written {last}")

    def await_truth(self, seconds: float) -> None:
        """Wait until the controller has taken something in."""
        deadline = time.monotonic() + seconds
        while not self._taken_in():
            assert time.monotonic() < deadline, self.controller.log.read_text()[-2000:]
            time.sleep(0.1)

    def _taken_in(self) -> int:
        if not (self.home / "truth" / f"{MODEL}.db").exists():
            return 0
        with self.truth() as truth:
            return sum(one.predicted for one in truth.windows(datetime.now(UTC)))

    def truth(self) -> AbstractContextManager[Truth]:
        """What the controller keeps, opened beside it."""
        settings = Settings(home=self.home, store=str(self.store), tracking_uri="unused")
        return open_truth(settings, load_spec(self.folder / "chaos.yaml"))

    def table(self, kind: str) -> Any:
        uri = self.store / kind / MODEL
        return DeltaTable(uri).to_pyarrow_table() if uri.exists() else None


def acknowledged(folder: Path) -> int:
    try:
        return int(json.loads((folder / "shipped.json").read_text())["sequence"])
    except (OSError, ValueError):
        return 0


def check_predictions(chaos: Chaos) -> Counter[str]:
    held = chaos.table("predictions")
    names = held["prediction_id"].to_pylist()
    assert len(set(names)) == len(names), "a prediction is there twice"
    marks = dict(
        zip(
            names,
            zip(held["version"].to_pylist(), held["f_a"].to_pylist(), strict=True),
            strict=True,
        )
    )
    losses = chaos.table("losses")
    gaps = [] if losses is None else losses.to_pylist()
    found: Counter[str] = Counter()
    for ledger in chaos.ledgers:
        for line in whole_lines(ledger):
            name, sequence, rows, version, spool, number = line.split()
            there = [marks.get(f"{name}/{row}") for row in range(int(rows))]
            lost = any(
                gap["spool_id"] == spool
                and gap["first_sequence"] <= int(sequence) <= gap["last_sequence"]
                for gap in gaps
            )
            if lost:
                assert there == [None] * int(rows), f"{name} is there and declared lost"
                found["lost"] += 1
            else:
                assert there == [(version, float(number))] * int(rows), f"{name} is not there"
                found["there"] += 1
    assert {gap["reason"] for gap in gaps} <= {"budget"}
    return found


def check_labels(chaos: Chaos) -> int:
    held = chaos.table("labels")
    first: dict[str, tuple[str, str]] = {}
    ordered = held.take(pc.sort_indices(held["received_at"]))
    for row in ordered.select(["label_id", "prediction_id", "label"]).to_pylist():
        first.setdefault(row["label_id"], (row["prediction_id"], row["label"]))
    copies = Counter(held["label_id"].to_pylist())
    for key, rows in chaos.labeller.acknowledged.items():
        batch = chaos.labeller.batches[key]
        assert [first.get(f"{batch}-{n}") for n in range(len(rows))] == rows
        if len(rows) == BIG_UPLOAD:
            assert all(copies[f"{batch}-{n}"] == 1 for n in range(len(rows)))
    return len(chaos.labeller.acknowledged)


def check_truth(chaos: Chaos) -> int:
    """What the controller added up, killed again and again, is what the tables hold, once each."""
    now = datetime.now(UTC)
    with chaos.truth() as truth:
        kept = truth.windows(now)
        assert sum(one.predicted for one in kept) > 0, "the controller took nothing in"
        truth.tick()
        added_up, afresh = truth.windows(now), truth.recomputed(now)
    # As text, in which a metric that is not defined is "NaN" on both sides, and equal.
    assert [one.model_dump_json() for one in added_up] == [one.model_dump_json() for one in afresh]
    whole = [one for one in added_up if one.slice is None]
    names = chaos.table("predictions")["prediction_id"].to_pylist()
    labelled = set(chaos.table("labels")["prediction_id"].to_pylist()) & set(names)
    assert sum(one.predicted for one in whole) == len(set(names))
    assert sum(one.labelled for one in whole) == len(labelled)
    return chaos.controller.starts


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("kills", "seed"), [(25, 11), pytest.param(1000, 12, marks=pytest.mark.slow)]
)
def test_every_acknowledged_event_is_there_once_after_kills_and_outages(
    tmp_path: Path, kills: int, seed: int
) -> None:
    chaos = Chaos(tmp_path, seed)
    with chaos.running():
        chaos.rage(kills)
        chaos.settle(120)
        chaos.await_truth(60)
    found = check_predictions(chaos)
    uploads = check_labels(chaos)
    assert check_truth(chaos) > 1 + kills // 12
    assert found["there"] > 20 * kills
    assert uploads > kills // 5
    sys.stdout.write(f"{kills} kills: {dict(found)} requests, {uploads} uploads acknowledged\n")
