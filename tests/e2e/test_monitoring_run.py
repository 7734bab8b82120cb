"""A model that was trained here, live rows in a real store, and everything that watches them."""

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.clock import set_clock
from heliotrope.domain.decisions import DecisionKind
from heliotrope.domain.drift import DriftReport
from heliotrope.domain.labels import LabelRows, LabelUpload
from heliotrope.domain.remedy import Remedy
from heliotrope.domain.spool_batch import decode_batch
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.domain.triggers import Cause, CauseKind, Trigger, TriggerState
from heliotrope.ports.state import StateKind
from heliotrope.service.drift_duty import DiagnosisDuty, DriftDuty, diagnose_alarm
from heliotrope.service.drift_reference import ReferenceBook
from heliotrope.spec import ModelSpec, load_spec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS
from heliotrope.vocabulary import ENV_CLOCK, Role, Verdict

FIRST = datetime(2024, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ROWS = 600


@dataclass
class Live:
    """The champion's spool and the labels of what it answered."""

    shop: Any
    spec: ModelSpec
    store: DeltaEventStore = field(init=False)
    days: int = 0

    def __post_init__(self) -> None:
        self.store = DeltaEventStore(self.shop.here.settings.store)
        book = ReferenceBook(self.spec.name, self.shop.here)
        found = book.champion()
        assert found is not None
        self.reference = found

    def day(
        self, number: int, *, shift: float = 0.0, scale: float = 1.0, flip: bool = False,
        labels: bool = True,
    ) -> None:  # fmt: skip
        """A day of traffic. `shift` moves incomes in the world, `scale` only in the data."""
        frame = self.shop.loans(ROWS, seed=1000 + number)
        income = frame["income"].to_numpy() * np.exp(shift)
        lean = -2.5 * (np.log(income) - 10) - 1.2 * frame["owner"].to_numpy() + 0.5 - 0.9
        chance = 1 / (1 + np.exp(-(-lean if flip else lean)))
        label = np.random.default_rng(number).random(ROWS) < chance
        place = {"01234": 0, "0999": 1, "07": 2}
        matrix = np.stack(
            [income * scale, frame["age"], frame["zip"].map(place), frame["owner"]], axis=1
        ).astype(np.float32)
        start = FIRST + number * DAY
        self._predict(number, start, matrix)
        if labels:
            self._label(number, start + timedelta(hours=30), label)

    def _predict(self, number: int, start: datetime, matrix: np.ndarray) -> None:
        scores = self.reference.scorer.score(matrix)
        head = SegmentHeader(
            spool=f"00000000-0000-0000-0000-{number:012d}", first_sequence=1, model="toy",
            version=self.reference.version, role=Role.CHAMPION, task=self.spec.task,
            features=self.spec.features, classes=tuple(self.spec.classes),
        )  # fmt: skip
        body = encode_header(head)
        for n, row in enumerate(matrix):
            at = start + DAY * (n / ROWS)
            body += encode_record(
                Record(
                    sequence=n + 1, predicted_at_ns=int(at.timestamp() * 1e9), latency_ns=1,
                    request_id=f"d{number}-{n}", protocol="v2", features=row[None, :],
                    scores=np.float32([scores[n]]),
                    predictions=np.array([scores[n] >= 0.5], np.uint16), entity_keys=None,
                )
            )  # fmt: skip
        at_us = int((start + DAY).timestamp() * 1e6)
        batch = decode_batch(body)
        assert self.store.append_predictions("toy", [batch], {head.spool: ROWS}, at_us)

    def _label(self, number: int, at: datetime, label: np.ndarray) -> None:
        # A row of a v2 request is named by its place.
        ids = [f"d{number}-{n}/0" for n in range(ROWS)]
        names = [str(int(one)) for one in label]
        rows = LabelRows(ids, [None] * ROWS, names, [None] * ROWS, list(range(ROWS)))
        upload = LabelUpload(rows, f"labels-{number}")
        assert self.store.append_labels("toy", [upload], [int(at.timestamp() * 1e6)])


@dataclass
class WaitingDoor:
    """A door behind which nobody is: what is asked waits, once a cause."""

    asked: dict[str, Cause] = field(default_factory=dict)

    def ask(self, cause: Cause, now: datetime) -> Trigger:
        self.asked[cause.hash] = cause
        return Trigger(
            cause=cause, state=TriggerState.WAITING, rule="test", reason="waits", decided_at=now
        )


MORE = "monitoring: {k: 2, n: 3}\n"


@pytest.fixture
def live(workshop: Any) -> Live:
    spec_file = workshop.write(workshop.loans(2500), MORE)
    workshop.train(spec_file)
    spec = load_spec(spec_file)
    return Live(workshop, spec.model_copy(update={"label": spec.label}))


def duty(live: Live, door: WaitingDoor) -> tuple[DriftDuty, Board]:
    board = Board(CONTROLLER_METRICS)
    return DriftDuty(live.spec, live.shop.here, board, door), board


def reports(live: Live) -> list[DriftReport]:
    kept = live.shop.here.state.kept(StateKind.DRIFT, "toy")
    found = [DriftReport.from_json(one.text) for one in kept]
    return sorted(found, key=lambda one: one.window_to or FIRST)


def after(day: int) -> datetime:
    """When everything of a day has arrived."""
    return FIRST + (day + 1) * DAY + timedelta(hours=1)


def test_drift_is_called_after_k_windows_and_the_same_window_is_judged_once(live: Live) -> None:
    door = WaitingDoor()
    watch, board = duty(live, door)
    watch.run(after(-1))
    assert not reports(live)
    live.day(0)
    for day, shift in ((1, 0.8), (2, 0.8)):
        live.day(day, shift=shift)
    for day in range(3):
        watch.run(after(day))
        watch.run(after(day) + timedelta(minutes=5))
        # Killed and started again, it does nothing twice.
        duty(live, door)[0].run(after(day) + timedelta(minutes=9))
    found = reports(live)
    assert [one.verdict is Verdict.FAIL for one in found] == [False, True, True]
    assert found[2].drifted[0].column in ("income", "prediction")
    causes = list(door.asked.values())
    assert [cause.kind for cause in causes] == [CauseKind.DRIFT]
    assert "income moved" in causes[0].text
    values = dict(board.snapshot(metrics.DRIFT_VERDICT))
    assert values[("toy", "FAIL")] == 1
    assert values[("toy", "PASS")] == 0
    log = live.shop.here.state.decisions("toy", kinds=[DecisionKind.VERDICT])
    assert len(log) == 3


def test_a_rescaled_column_is_a_fault_that_asks_for_no_retraining(live: Live) -> None:
    door = WaitingDoor()
    watch, board = duty(live, door)
    for day in range(3):
        live.day(day, scale=100.0)
        watch.run(after(day))
    assert not door.asked
    assert dict(board.snapshot(metrics.DATA_FAULTS))[("toy",)] == 1
    named = live.shop.here.state.decisions("toy", kinds=[DecisionKind.DIAGNOSIS])
    assert {one.evidence["remedy"] for one in named} == {"fix_data"}
    assert all("income" in one.reason for one in named)


def test_an_alarm_on_a_changed_world_names_it_and_asks_to_retrain(live: Live) -> None:
    for day in range(2):
        live.day(day, flip=True)
    now = after(3)
    book = ReferenceBook("toy", live.shop.here)
    cause = diagnose_alarm(
        live.spec, live.shop.here, book, "accuracy", "accuracy fell.", now, since=FIRST
    )
    assert cause is not None
    assert cause.kind is CauseKind.ACCURACY
    # Income now means the opposite: labels that are all flipped look so, and both need a person.
    assert cause.remedy in (Remedy.RETRAIN, Remedy.CHECK_LABELS)
    assert cause.champion == live.reference.version
    # An alarm of a version that is champion no more says nothing of the one that is.
    before = live.shop.here.state.decisions("toy")
    assert diagnose_alarm(
        live.spec, live.shop.here, book, "accuracy", "accuracy fell.", now, version="0"
    ) is None  # fmt: skip
    assert live.shop.here.state.decisions("toy") == before


def test_without_a_champion_or_rows_the_duties_do_nothing(workshop: Any) -> None:
    spec = load_spec(workshop.write(None, MORE))
    board = Board(CONTROLLER_METRICS)
    DriftDuty(spec, workshop.here, board, None).run(after(0))
    DiagnosisDuty(spec, workshop.here, None).run(after(0))
    assert not workshop.here.state.kept(StateKind.DRIFT)


def test_the_command_runs_the_pipeline_and_leaves_a_page_and_an_answer(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.day(0, shift=0.8)
    clock = tmp_path / "clock"
    set_clock(clock, 0.0, after(0))
    monkeypatch.setenv(ENV_CLOCK, str(clock))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    page = tmp_path / "drift.html"
    ran = live.shop.cli(
        "monitor", "toy", "--spec", "model.yaml", "--report", str(page), "--json"
    )  # fmt: skip
    assert ran.code == 0, ran.err
    shown = json.loads(ran.out)
    assert shown["drift"]["verdict"] == "FAIL"
    assert shown["performance"]["labelled"] == ROWS
    # Few rows of reference lie where these do, so what is left over may be the model's own.
    assert shown["diagnosis"]["kind"] in ("covariate_shift", "concept_shift")
    assert shown["diagnosis"]["labelled"] == ROWS
    assert "1 of the last 3 windows drifted" in shown["decision"]
    text = page.read_text()
    assert "income" in text
    assert "DecompressionStream" in text
    assert len(text) < 2_500_000
    run_id = live.shop.here.registry.find_run(shown["run_key"])
    assert run_id is not None
    assert "monitoring/drift.html" in live.shop.here.registry.list_files(run_id, "monitoring")
    assert not live.shop.here.state.kept(StateKind.TRIGGER)
    assert os.environ[ENV_CLOCK] == str(clock)


def test_a_window_that_is_no_time_is_refused(workshop: Any) -> None:
    ran = workshop.cli("monitor", "toy", "--window", "yesterday")
    assert ran.code == 2
    assert "FROM..TO" in ran.err
