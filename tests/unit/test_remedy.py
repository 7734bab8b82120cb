"""Diagnosis: each kind of change is named, with its subject, and only some retrain."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from bench.diagnosis import Trained, injections
from heliotrope.domain.drift import ColumnDrift, DriftReport, DriftRule
from heliotrope.domain.remedy import ChangeKind, Diagnosis, LabelFacts, Remedy, Sample, diagnose
from heliotrope.domain.remedy.attribution import map_back
from heliotrope.domain.remedy.calibration import calibrate, cross_fitted
from heliotrope.domain.remedy.labelling import (
    by_arrival,
    contradicting_labels,
    fit_flips,
    late_labels,
    missing_labels,
)
from heliotrope.domain.remedy.segment import worst_segment
from heliotrope.domain.remedy.structure import hidden_structure
from heliotrope.service.diagnosis import accuracy_cause
from heliotrope.spec import Feature, FeatureType, load_spec, parse_spec
from heliotrope.vocabulary import Task, Verdict

SPEC = Path(__file__).resolve().parents[2] / "examples" / "credit_risk" / "generated.yaml"
CHOSEN = (
    "scale", "stuck", "swapped", "missing", "null", "labels flipped 10%", "positives lost",
    "labels stopped", "covariate 0.9", "covariate 1.5", "concept 0.8", "concept 1, log-odds +0 w",
    "nothing",
)  # fmt: skip
REMEDY = {
    ChangeKind.DATA_FAULT: {Remedy.FIX_DATA},
    ChangeKind.LABEL_FAULT: {Remedy.CHECK_LABELS},
    ChangeKind.CONCEPT_SHIFT: {Remedy.RETRAIN},
    ChangeKind.COVARIATE_SHIFT: {Remedy.RETRAIN, Remedy.WAIT},
    ChangeKind.NO_CHANGE: {Remedy.WAIT},
}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained(load_spec(SPEC), "clear", 9000)


def test_injected_changes_are_named_and_only_a_changed_world_retrains(trained: Trained) -> None:
    every = injections(trained.base, 5, 2500)
    picked = {start: next(i for i in every if i.name.startswith(start)) for start in CHOSEN}
    found = {name: (i, trained.name(i)) for name, i in picked.items()}
    right = [name for name, (i, d) in found.items() if d.kind is i.kind]
    assert len(right) >= len(CHOSEN) - 1, {n: (d.kind, d.reason) for n, (_, d) in found.items()}
    for name in right:
        injected, named = found[name]
        assert named.remedy in REMEDY[injected.kind]
        assert named.share is None or 0 <= named.share <= 1
        if injected.kind is not ChangeKind.NO_CHANGE:
            assert named.subject
        assert Diagnosis.from_json(named.to_json()).reason == named.reason
    fault, named = found["scale"]
    assert named.subject == fault.knobs.faults[0].column
    assert not named.remedy.retrains


def test_a_segment_is_named_with_its_share(trained: Trained) -> None:
    every = injections(trained.base, 5, 6000)
    turned = next(i for i in every if "where RENT" in i.name)
    named = trained.name(turned)
    assert named.kind is ChangeKind.CONCEPT_SHIFT
    assert named.share is not None
    assert "z = " in named.reason


REGRESSION = parse_spec(
    "name: m\ntask: regression\nlabel: {name: y}\nsource: {path: x.csv}\n"
    "metrics: {primary: mae}\nfeatures: [{name: a, type: float}, {name: b, type: float}]"
)


def line(count: int, seed: int, bend: float = 1.0) -> Sample:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 2)).astype(np.float32)
    return Sample(features, bend * features[:, 0] + random.normal(0, 0.3, count))


def test_regression_and_few_labels_are_diagnosed_too() -> None:
    spec = REGRESSION

    def score(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0].astype(np.float64)

    same = diagnose(spec, "1", line(2000, 0), line(1000, 1), score)
    assert same.kind is ChangeKind.NO_CHANGE
    turned = diagnose(spec, "1", line(2000, 0), line(1000, 2, bend=-1.0), score)
    assert turned.kind is ChangeKind.CONCEPT_SHIFT
    assert turned.concept_part > 0.9 * turned.fall
    few = diagnose(spec, "1", line(2000, 0), line(20, 2, bend=-1.0), score)
    assert few.kind is ChangeKind.NO_CHANGE
    assert "20 labelled rows" in few.reason
    assert math.isnan(few.fall)


def moved(column: str) -> DriftReport:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    drifted = ColumnDrift(
        column=column, verdict=Verdict.FAIL, method="wasserstein", effect=0.9, p=0.0, budget=0.01,
        weight=1.0, text="moved",
    )  # fmt: skip
    return DriftReport(
        model="m", version="1", window_from=start, window_to=start + timedelta(days=1), rows=500,
        reference_rows=2000, rule=DriftRule(), verdict=Verdict.FAIL, reason="moved", score=0.9,
        columns=(drifted,), scored=1, expected=1, smallest_shift=0.1,
    )  # fmt: skip


def test_other_rows_with_too_few_labels_are_not_said_to_do_no_harm() -> None:
    def score(rows: np.ndarray) -> np.ndarray:
        return rows[:, 0].astype(np.float64)

    few = diagnose(REGRESSION, "1", line(2000, 0), line(20, 2), score, moved("a"))
    assert (few.kind, few.remedy) == (ChangeKind.COVARIATE_SHIFT, Remedy.WAIT)
    assert "20 labelled rows" in few.reason
    assert "no harm" not in few.reason
    enough = diagnose(REGRESSION, "1", line(2000, 0), line(1000, 1), score, moved("a"))
    assert "no harm seen" in enough.reason


def test_an_alarm_keeps_its_word_where_the_rows_of_a_window_name_no_change() -> None:
    few = diagnose(REGRESSION, "1", line(2000, 0), line(20, 2, bend=-1.0), lambda x: x[:, 0])
    now = datetime(2026, 3, 2, tzinfo=UTC)
    told = accuracy_cause(REGRESSION, few, "fall", "Errors rose from 0.1 to 0.4.", now)
    assert told.text.startswith("Errors rose from 0.1 to 0.4. What changed has no name yet.")
    assert (told.harm, told.remedy) == (True, None)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (LabelFacts(predicted=1000, labelled=300, coverage_before=0.9), True),
        (LabelFacts(predicted=1000, labelled=880, coverage_before=0.9), False),
        (LabelFacts(predicted=10, labelled=7, coverage_before=0.9), False),
        (LabelFacts(predicted=1000, labelled=900), False),
    ],
)
def test_labels_that_stopped_are_seen_where_they_were_due(facts: LabelFacts, found: bool) -> None:
    assert (missing_labels(facts) is not None) is found


def test_late_and_contradicting_labels_are_seen() -> None:
    hours = 3600.0
    assert late_labels(LabelFacts(delay_seconds=90 * hours, delay_before=24 * hours))
    assert late_labels(LabelFacts(delay_seconds=30 * hours, delay_before=24 * hours)) is None
    assert contradicting_labels(LabelFacts(labelled=100, repeated=40))
    assert contradicting_labels(LabelFacts(labelled=1000, repeated=12)) is None


def test_flips_are_found_where_they_are_and_not_where_not() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.02, 0.98, 5000)
    labels = (random.random(5000) < chance).astype(int)
    assert fit_flips(chance, labels).gain < 6
    flipped = labels ^ (random.random(5000) < 0.1)
    found = fit_flips(chance, flipped)
    assert found.share == pytest.approx(0.1, abs=0.02)
    assert found.gain > 50


def test_one_bad_upload_of_labels_is_told_by_when_it_came() -> None:
    random = np.random.default_rng(0)
    excess = random.normal(0, 0.5, 2000)
    received = np.datetime64("2026-03-01", "us") + np.repeat(np.arange(10), 200).astype(
        "timedelta64[D]"
    )
    assert by_arrival(excess, received) is None
    excess[600:800] += 2
    found = by_arrival(excess, received)
    assert found is not None
    assert "200 labels" in found.text


def test_mapping_back_keeps_ranks_and_gives_missing_ones_a_value() -> None:
    random = np.random.default_rng(0)
    before = random.normal(size=2000).astype(np.float32)
    now = np.float32(before * 100 + 7)
    back = map_back(now, before, random)
    assert np.corrcoef(back, before)[0, 1] > 0.999
    now[:1000] = np.nan
    assert not np.isnan(map_back(now, before, random)).any()


def test_a_reference_expects_of_itself_what_it_sees() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.05, 0.95, 4000)
    labels = (random.random(4000) < chance).astype(np.int8)
    own = cross_fitted(Task.BINARY, chance, labels)
    assert float(own.excess.mean()) == pytest.approx(0, abs=0.02)
    later = (random.random(4000) < chance).astype(np.int8)
    losses = calibrate(Task.BINARY, chance, labels).losses(chance, later)
    assert float(losses.excess.mean()) == pytest.approx(0, abs=0.03)


def test_structure_and_segments_are_not_found_in_noise() -> None:
    random = np.random.default_rng(3)
    features = (
        Feature(name="a", type=FeatureType.FLOAT),
        Feature(name="c", type=FeatureType.CATEGORY, categories=("x", "y")),
    )
    rows = np.stack([random.normal(size=3000), random.integers(0, 2, 3000)], 1).astype(np.float32)
    noise = random.normal(size=3000)
    assert abs(hidden_structure(features, rows, noise)[0]) < 4
    assert worst_segment(features, rows, noise) is None
    told = noise + 1.0 * (rows[:, 1] == 1)
    found = worst_segment(features, rows, told)
    assert found is not None
    assert found.text.startswith("c = y")
    assert hidden_structure(features, rows, told)[0] > 10


def test_unlabelled_rows_are_left_out_and_many_are_thinned() -> None:
    sample = line(1000, 0)
    labels = sample.labels.copy()
    labels[::2] = np.nan
    kept = replace(sample, labels=labels).labelled(most=100)
    assert len(kept) == 100
    assert not np.isnan(kept.labels).any()
