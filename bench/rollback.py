"""A breach on the embedded platform: how soon every user is back on the old version.

    python -m bench.rollback [--rounds 5] [--rate 100] [--write]

The whole of `heliotrope up` (predictors, Envoy, collector, controller) on real time, with requests
through the gateway all the while. Each round registers a version, makes it champion by a person's
word so that it has all of the traffic, and then has it die (SIGKILL) or hang (SIGSTOP). Counted
from there: to the decision in the log, to the last answer of the broken version, to the moment
from which Envoy's split says 100% of the old one; and every answer that was no 200. `--write`
writes docs/tables/rollback.md.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.standin import build_model, loan_features, loan_rows
from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.mlflow_registry import MlflowRegistry
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.service.rollout_keeping import RolloutBook
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import ALIAS_CANDIDATE, ALIAS_CHAMPION, ENV_HOME

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "tables" / "rollback.md"
BREACHES = {"dies": signal.SIGKILL, "hangs": signal.SIGSTOP}
PATIENCE = 180.0
SPEC = """
name: loans
task: binary
entity_key: loan_id
event_time: issued
label: {name: outcome, positive: default, delay: 1h}
source: {path: nowhere.parquet}
metrics: {primary: accuracy}
rollout: {bake: 12h}
features:
"""


def wait_for(check: Callable[[], bool], what: str) -> None:
    """Until it is so."""
    end = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > end:
            raise SystemExit(f"It must come about within {PATIENCE:g} s: {what}.")
        time.sleep(0.02)


@dataclass
class Users:
    """Requests at a steady rate from some threads; every answer with its time."""

    gateway: str
    rate: float
    threads: int = 8
    answers: list[tuple[float, int, str]] = field(default_factory=list)
    """When it came, its code, its version."""

    def __enter__(self) -> "Users":
        """Begin."""
        self._stopping = threading.Event()
        self._made = [threading.Thread(target=self._send, daemon=True) for _ in range(self.threads)]
        for thread in self._made:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, every request answered."""
        self._stopping.set()
        for thread in self._made:
            thread.join(60)

    def _send(self) -> None:
        link = http.client.HTTPConnection(urlsplit(self.gateway).netloc, timeout=60)
        body = json.dumps({"instances": loan_rows(1, seed=5)}).encode()
        while not self._stopping.wait(self.threads / self.rate):
            try:
                kind = {"content-type": "application/json"}
                link.request("POST", "/v1/models/loans:predict", body, kind)
                answer = link.getresponse()
                answer.read()
                found = (answer.status, answer.headers.get("x-model-version", ""))
            except OSError as error:
                found = (0, type(error).__name__)
                link.close()
            self.answers.append((time.monotonic(), *found))
        link.close()


class Place:
    """A platform that is up, with a registry to put versions into."""

    def __init__(self, folder: Path) -> None:
        features = "".join(f"  - {f.model_dump_json(exclude_none=True)}\n" for f in loan_features())
        (folder / "model.yaml").write_text(SPEC + features)
        self.spec: ModelSpec = parse_spec(SPEC + features)
        self.folder, self.home = folder, folder / ".heliotrope"
        self.home.mkdir()
        self.environment = {
            **os.environ, ENV_HOME: str(self.home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.registry = MlflowRegistry(f"sqlite:///{self.home}/mlflow.db")
        build_model(folder / "bits", version=None)
        self.serving = EmbeddedServing(self.home)
        self.book = RolloutBook(SqlStateStore(f"sqlite:///{self.home}/state.db"))

    def command(self, *words: str) -> str:
        """A command of ours, to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "heliotrope", *words], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def register(self, key: str, alias: str) -> str:
        """One more version of the same bits."""
        run = self.registry.start_run("loans", key, {})
        example = loan_rows(1, seed=1)[0]
        made = self.registry.register(self.spec, run, self.folder / "bits", {}, {}, example)
        self.registry.set_alias("loans", alias, made.version)
        return made.version

    def rollout(self) -> Rollout | None:
        """The latest."""
        kept = self.book.latest("loans")
        return kept.rollout if kept else None

    def weights(self) -> dict[str, int]:
        """What Envoy splits by."""
        seen = self.serving.observe("loans")
        return dict(seen.weights) if seen else {}

    def process(self, version: str) -> int:
        """The predictor of a version."""
        state: dict[str, Any] = json.loads((self.home / "platform" / "state.json").read_bytes())
        pids = [c["pid"] for c in state["children"] if c["name"] == f"loans/{version}"]
        return int(pids[0])


def one_round(place: Place, users: Users, number: int, breach: str) -> dict[str, float]:
    """A version that gets all of the traffic, and breaks."""
    old = place.registry.by_alias("loans", ALIAS_CHAMPION)
    assert old is not None
    version = place.register(f"round-{number}", ALIAS_CANDIDATE)

    def opened() -> bool:
        rollout = place.rollout()
        return rollout is not None and rollout.candidate == version

    wait_for(opened, f"a rollout of version {version}")
    wait_for(
        lambda: (s := place.serving.observe("loans")) is not None
        and (r := s.revision(version)) is not None and r.ready,
        f"version {version} ready",
    )  # fmt: skip
    place.command("rollout", "promote", "loans", "--why", "to see it break", "--by", "bench")

    def settled() -> bool:
        rollout = place.rollout()
        baking = rollout is not None and rollout.state is RolloutState.BAKING and rollout.settled
        return baking and place.weights() == {version: 100}

    wait_for(settled, "all of the traffic on it")
    before = len(users.answers)
    wait_for(lambda: len(users.answers) > before + 50, "some answers of it")
    broken = place.process(version)
    began, count = time.monotonic(), len(users.answers)
    os.kill(broken, BREACHES[breach])
    decided = moved = 0.0
    while not moved:
        rollout = place.rollout()
        if not decided and rollout is not None and rollout.state is RolloutState.ROLLED_BACK:
            decided = time.monotonic() - began
        if decided and place.weights() == {old.version: 100}:
            moved = time.monotonic() - began
        if time.monotonic() - began > PATIENCE:
            raise SystemExit("It must be taken back.")
        time.sleep(0.01)
    wait_for(lambda: place.rollout().concluded, "the end of it")  # type: ignore[union-attr]
    since = users.answers[count:]
    late = [at - began for at, _, by in since if by == version]
    gaps = [at for at, code, by in since if code == 200 and by == old.version]
    codes = Counter(code for _, code, _ in since)
    return {
        "decided": decided,
        "moved": moved,
        "last": max(late, default=0.0),
        "first": min(gaps, default=began) - began,
        "bad": float(sum(n for code, n in codes.items() if code != 200)),
        "answers": float(len(since)),
    }


def measured(rounds: int, rate: float) -> list[str]:
    """Rows of the table."""
    folder = Path(tempfile.mkdtemp(prefix="heliotrope-bench-"))
    lines = []
    place = Place(folder)
    try:
        place.register("first", ALIAS_CHAMPION)
        place.command("up", "model.yaml", "--detach", "--without", "mlflow",
                      "--without", "prometheus", "--without", "alertmanager")  # fmt: skip
        wait_for(lambda: place.weights() == {"1": 100}, "the first version")
        seen = place.serving.observe("loans")
        assert seen is not None
        assert seen.gateway is not None
        with Users(seen.gateway, rate) as users:
            for breach in BREACHES:
                found = []
                for number in range(rounds):
                    found.append(one_round(place, users, len(lines) * rounds + number, breach))
                    print(breach, found[-1], flush=True)
                lines.append(row(breach, found))
    finally:
        place.command("down")
        shutil.rmtree(folder, ignore_errors=True)
    return lines


def row(breach: str, found: list[dict[str, float]]) -> str:
    """Median and worst of the rounds."""
    cells = [breach, str(len(found))]
    for name in ("decided", "moved", "last", "first"):
        values = [one[name] for one in found]
        cells.append(f"{statistics.median(values):.2f} / {max(values):.2f}")
    bad, answers = (sum(one[name] for one in found) for name in ("bad", "answers"))
    return "| " + " | ".join([*cells, f"{bad:,.0f} of {answers:,.0f}"]) + " |"


def main() -> None:
    """Measure, print, and where asked write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each breach")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    lines = measured(given.rounds, given.rate)
    text = "\n".join([
        "# A breach: back on the old version",
        "",
        f"Made by `python -m bench.rollback --write` on two cores: `heliotrope up`, "
        f"{given.rate:g} requests a second through the gateway, a version with all of the traffic "
        "that breaks while its predecessor is kept warm. Seconds from the breach, median / worst. "
        "Wanted: all of the traffic on the old version within 5, and no 5xx. Users are answered by "
        "the old version before anything is decided: Envoy tries it where the broken one does not "
        "answer, after 3 s where it hangs.",
        "",
        "| the version | rounds | decided | Envoy: 100% old | its last answer "
        "| first answer of the old | answers that were no 200 |",
        "|---|---|---|---|---|---|---|",
        *lines,
        "",
    ])  # fmt: skip
    print(text)
    if given.write:
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
