"""A thousand duplicate and flapping alerts, with restarts between: how many runs do they start?

    python -m bench.alerts [--alerts 1000] [--restarts 20] [--seeds 5] [--write]

The webhook's own parsing, the real intake, duty and door, and a real state database. What is told
is what Alertmanager tells of a model that fell and stays so: alerts fire, are told again word for
word, are over, fire again under the same fingerprint and under new ones, two of them at once; late
copies come after the new champion did. Again and again the controller is gone and started anew; its
run goes on meanwhile, ends, its version is rolled out and promoted. Beside it a receiver that
starts a run a firing call, one that remembers fingerprints since its start, and one with a cooldown
of an hour in memory. `--write` writes docs/tables/alerts.md.
"""

import argparse
import json
import random
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from heliotrope.adapters.embedded.run_log import FileRunLog
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.alarms import read_call
from heliotrope.domain.decisions import DecisionEntry, DecisionKind, first_broken
from heliotrope.domain.evaluation import Evaluation, MetricValue
from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.domain.truth.documents import Maturity, WindowTruth
from heliotrope.errors import NotFoundError
from heliotrope.ports.registry import RegisteredVersion
from heliotrope.ports.runs import RunState
from heliotrope.service.alerts import AlertIntake
from heliotrope.service.retraining_duty import RetrainingDuty
from heliotrope.service.retraining_facts import RetrainingTools
from heliotrope.service.run_outcome import REPORT
from heliotrope.spec import parse_spec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board
from heliotrope.vocabulary import (
    ALIAS_CANDIDATE,
    ALIAS_CHAMPION,
    ARTIFACT_EVALUATION_FILE,
    Outcome,
)

TABLE = Path("docs/tables/alerts.md")
TICK = 10
"""Calls between two ticks of the controller."""
T0 = datetime(2026, 3, 2, tzinfo=UTC)
SPEC = """
name: loans
task: binary
label: {name: y, positive: 1}
source: {path: loans.csv}
metrics: {primary: accuracy}
features: [{name: x, type: float}]
retraining: {minimum_new_labels: 100, cooldown: 6h}
"""
NAMES = ("HeliotropeAccuracyFell", "HeliotropeAccuracyBelowFloor")


@dataclass
class Clock:
    """Moves when it is told to."""

    at: datetime = T0

    def now(self) -> datetime:
        """The time."""
        return self.at


@dataclass
class Registry:
    """Aliases and reports, which outlive the controller."""

    aliases: dict[str, str] = field(default_factory=lambda: {ALIAS_CHAMPION: "1"})

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """As the port says."""
        version = self.aliases.get(alias)
        if version is None:
            return None
        return RegisteredVersion(model, version, f"run-{version}", T0, (), {}, {}, True)

    def versions(self, model: str) -> list[RegisteredVersion]:
        """As the port says."""
        return [v for a in self.aliases if (v := self.by_alias(model, a)) is not None]

    def read_text(self, run_id: str, path: str) -> str:
        """As the port says."""
        if path != ARTIFACT_EVALUATION_FILE:
            raise NotFoundError(f"{path} of {run_id}")
        value = MetricValue(value=0.94, low=0.92, high=0.95)
        return Evaluation(primary="accuracy", rows=900, metrics={"accuracy": value}).to_json()

    def find_run(self, run_key: str) -> str | None:  # noqa: ARG002 - none is kept
        """As the port says."""
        return None

    def discard_incomplete(self, model: str) -> list[str]:  # noqa: ARG002 - there is none
        """As the port says."""
        return []


@dataclass
class Launchpad:
    """Runs, which outlive the controller too."""

    folder: Path
    states: dict[str, RunState] = field(default_factory=dict)

    def start(self, pipeline: str, arguments: Any, run_key: str, **_: Any) -> None:  # noqa: ARG002
        """As the port says: the same key is the same run."""
        self.states.setdefault(run_key, RunState.RUNNING)

    def state(self, run_key: str) -> RunState:
        """As the port says."""
        return self.states.get(run_key, RunState.ABSENT)

    def log(self, run_key: str) -> FileRunLog:
        """As the port says."""
        return FileRunLog(self.folder / run_key)

    def end(self, version: str) -> None:
        """The runs there are register a version."""
        for key, state in self.states.items():
            if state is RunState.RUNNING:
                said = RunOutcome(
                    model="loans", run_key=key, outcome=Outcome.REGISTERED, reason="PASS",
                    version=version,
                )  # fmt: skip
                self.log(key).add(RunEvent(at=T0, step=REPORT, kind=EventKind.FINISHED))
                self.log(key).set_outcome(said)
                self.states[key] = RunState.ENDED


def windows(_: datetime) -> list[WindowTruth]:
    """A mature window that is far below what was accepted."""
    value = MetricValue(value=0.72, low=0.69, high=0.75)
    return [
        WindowTruth(
            model="loans", version="1", role="champion", slice=None,
            window_from=T0 - timedelta(hours=2), window_to=T0 - timedelta(hours=1),
            predicted=1000, labelled=1000, unjudged=0, coverage=1.0, correct=720, class_counts={},
            primary="accuracy", metrics={"accuracy": value}, binning_error=0.0, delay=None,
            maturity=Maturity.BY_DELAY, estimate={},
        )
    ]  # fmt: skip


class Controller:
    """A process: what is in it is gone with it."""

    def __init__(self, url: str, registry: Registry, launchpad: Launchpad, clock: Clock) -> None:
        self.state = SqlStateStore(url)
        tools = RetrainingTools(self.state, lambda: registry, launchpad, windows)
        board = Board(metrics.CONTROLLER_METRICS)
        self.duty = RetrainingDuty(parse_spec(SPEC, "loans"), tools, board)
        self.intake = AlertIntake(self.state, clock, lambda: None)
        self.seen: set[str] = set()
        self.started: datetime | None = None


def call(random_: random.Random, clock: Clock, promoted: bool) -> dict[str, Any]:
    """One webhook call; after the promotion only late copies come."""
    kind = random_.random()
    flap = "same" if kind < 0.5 else f"flap{random_.randrange(10)}"
    began = T0 if promoted or kind < 0.4 else clock.at - timedelta(seconds=random_.randrange(600))
    status = "resolved" if promoted or kind > 0.75 else "firing"
    return {
        "version": "4",
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": name, "model": "loans", "instance": flap},
                "annotations": {"summary": "accuracy .72"},
                "startsAt": began.isoformat(),
                "endsAt": clock.at.isoformat(),
                "fingerprint": f"{name[-4:]}{flap}".lower(),
            }
            for name in NAMES[: random_.randrange(1, 3)]
        ],
    }


def storm(seed: int, alerts: int, restarts: int) -> dict[str, int]:
    """How many runs each receiver started."""
    random_ = random.Random(seed)
    clock, registry = Clock(), Registry()
    count = {"ours": 0, "a run a firing call": 0, "fingerprints in memory": 0, "cooldown": 0}
    with tempfile.TemporaryDirectory() as folder:
        launchpad = Launchpad(Path(folder) / "runs")
        url = f"sqlite:///{folder}/state.db"
        here = Controller(url, registry, launchpad, clock)
        here.state.apply(T0, decisions=[diagnosis()])
        gone = set(random_.sample(range(alerts), restarts))
        for number in range(alerts):
            clock.at += timedelta(seconds=12)
            if number in gone:
                here.state.close()
                here = Controller(url, registry, launchpad, clock)
            if number == alerts * 4 // 10:
                launchpad.end("2")
                registry.aliases[ALIAS_CANDIDATE] = "2"
            promoted = number >= alerts * 7 // 10
            if promoted:
                registry.aliases = {ALIAS_CHAMPION: "2"}
            told = read_call(json.dumps(call(random_, clock, promoted)).encode())
            here.intake.receive(told)
            if number % TICK == 0 or number in gone:
                here.duty.run(clock.at)
            naive(here, told, clock, count)
        count["ours"] = len(launchpad.states)
        if first_broken(here.state.decisions("loans")) is not None:
            raise SystemExit("The log must be whole.")
        here.state.close()
    return count


def naive(here: Controller, told: Any, clock: Clock, count: dict[str, int]) -> None:
    """What simpler receivers would have started."""
    firing = [one.key for one in told if one.status == "firing"]
    count["a run a firing call"] += bool(firing)
    count["fingerprints in memory"] += bool(set(firing) - here.seen)
    here.seen |= set(firing)
    here.seen -= {one.key for one in told if one.status == "resolved"}
    if firing and (here.started is None or clock.at - here.started >= timedelta(hours=1)):
        here.started = clock.at
        count["cooldown"] += 1


def diagnosis() -> DecisionEntry:
    """What the controller found before."""
    return DecisionEntry(
        model="loans", at=T0, kind=DecisionKind.DIAGNOSIS, actor="controller", subject="alarm",
        reason="concept shift", evidence={"remedy": Remedy.RETRAIN.value, "version": "1"},
    )  # fmt: skip


def main() -> None:
    """Measure, print, and where asked write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=1000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = [storm(seed, given.alerts, given.restarts) for seed in range(given.seeds)]
    lines = []
    for name in found[0]:
        runs = sorted(one[name] for one in found)
        lines.append(f"| {name} | {runs[0]:,} | {runs[-1]:,} |")
    text = "\n".join([
        "# Alerts: how many training runs a storm of them starts",
        "",
        f"Made by `python -m bench.alerts --write`: {given.seeds} storms of {given.alerts:,} "
        f"webhook calls over {given.alerts * 12 / 3600:.1f} hours, firing, repeated, flapping, of "
        f"two alerts under eleven fingerprints each, {given.restarts} restarts of the controller "
        "in each. Wanted: exactly 1 run.",
        "",
        "| receiver | fewest runs | most runs |",
        "|---|---:|---:|",
        *lines,
        "",
    ])  # fmt: skip
    print(text)
    if given.write:
        TABLE.write_text(text)
    if any(one["ours"] != 1 for one in found):
        raise SystemExit("A storm must start exactly one run.")


if __name__ == "__main__":
    main()
