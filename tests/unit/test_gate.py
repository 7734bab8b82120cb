"""The gate: every check in numbers, and laws that hold whatever the evidence."""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.evaluation import Difference, Evaluation, MetricValue, SliceScore
from heliotrope.domain.gate import judge
from heliotrope.spec import parse_spec
from heliotrope.vocabulary import SEVERITY, Verdict

SPEC = """
name: loans
task: binary
event_time: at
stream: {stream}
label: {{name: bad, positive: 1}}
source: {{path: loans.csv}}
features:
  - {{name: x, type: float}}
metrics: {{primary: {primary}, others: [log_loss]}}
gates: {gates}
"""


@cache
def spec(gates="{}", stream="false", primary="roc_auc"):
    return parse_spec(SPEC.format(gates=gates, stream=stream, primary=primary))


def metric(value, width=0.02):
    return MetricValue(value=value, low=value - width, high=value + width)


def gap(value, width=0.02):
    return Difference(value=value, low=value - width, high=value + width)


@dataclass(frozen=True)
class Evidence:
    """A good evaluation, of which a test spoils one thing."""

    rows: int = 1000
    positives: int = 60
    auc: float = 0.72
    champion_version: str | None = "3"
    difference: Difference | None = field(default_factory=lambda: gap(0.05))
    baseline: Difference | None = field(default_factory=lambda: gap(0.22))
    slices: tuple[SliceScore, ...] = ()
    more: dict = field(default_factory=dict)

    def evaluation(self):
        gaps = {} if self.baseline is None else {"majority": self.baseline}
        return Evaluation(
            primary="roc_auc",
            rows=self.rows,
            class_counts={"0": self.rows - self.positives, "1": self.positives},
            metrics={"roc_auc": metric(self.auc), "log_loss": metric(0.2)},
            champion_version=self.champion_version,
            difference=self.difference,
            baselines={"majority": {"roc_auc": metric(0.5, 0)}},
            baseline_differences=gaps,
            slices=self.slices,
            classes=("0", "1"),
            **self.more,
        )


def part(name, value=0.0, width=0.02, rows=400, **more):
    found = {"difference": gap(value, width)} | more
    return SliceScore(name=name, rows=rows, candidate=metric(0.7), champion=metric(0.7), **found)


def of(check, report):
    return next(reason for reason in report.reasons if reason.check == check)


def test_good_evidence_passes_and_every_check_says_why():
    report = judge(spec(), Evidence().evaluation())
    assert report.verdict is Verdict.PASS
    assert report.blocking == ()
    assert {r.check for r in report.reasons} == {
        "rows",
        "class_rows",
        "metric",
        "champion",
        "baseline",
    }
    assert (
        "roc_auc 0.7200 [0.7000, 0.7400] over 1,000 rows (940 of class 0, 60 of class 1)"
        in of("metric", report).text
    )


HELD = {
    "few rows": (Evidence(rows=150), "rows", "50 more are needed"),
    "few positives": (Evidence(positives=13), "class_rows", "7 more are needed"),
    "champion undecided": (
        Evidence(difference=gap(0.01)),
        "champion",
        "if it stays 0.0100, about 4,000 rows would show it",
    ),
    "champion ahead, undecided": (
        Evidence(difference=gap(-0.01)),
        "champion",
        "would not pass at any number of rows",
    ),
    "baseline undecided": (Evidence(baseline=gap(0.01)), "baseline", "about 4,000 rows"),
}
FAILED = {
    "worse than the champion": (
        Evidence(difference=gap(-0.05)),
        "champion",
        "difference -0.0500 [-0.0700, -0.0300]",
    ),
    "the champion again": (
        Evidence(difference=gap(0, 0)),
        "champion",
        "not better: difference +0.0000 [+0.0000, +0.0000] at 95% one-sided, 1,000 rows; it does "
        "not differ",
    ),
    "worse than the majority": (Evidence(baseline=gap(-0.1)), "baseline", "does not beat"),
    "a slice falls": (
        Evidence(slices=(part("grade = A"), part("grade = C", -0.1))),
        "slice",
        "grade = C: roc_auc falls by more than 0.05 below the champion: difference -0.1000",
    ),
}
BROKEN = {
    "metric undefined": (Evidence(auc=math.nan), "metric", "undefined"),
    "champion broken": (
        Evidence(difference=None, more={"champion_error": "no column `grade`"}),
        "champion",
        "the champion v3 could not be scored: no column `grade`",
    ),
    "no difference": (Evidence(difference=None), "champion", "was not computed"),
    "difference undefined": (Evidence(difference=gap(math.nan)), "champion", "is undefined"),
    "no baseline": (Evidence(baseline=None), "baseline", "was not computed"),
    "baseline undefined": (Evidence(baseline=gap(math.nan)), "baseline", "is undefined"),
    "slice undefined": (Evidence(slices=(part("a", math.nan),)), "slice", "is undefined"),
    "slice not computed": (
        Evidence(slices=(part("a", difference=None),)),
        "slice",
        "was not computed",
    ),
    "difference without champion": (Evidence(champion_version=None), "champion", "no champion"),
}
CASES = [
    pytest.param(verdict, *case, id=name)
    for verdict, cases in ((Verdict.HOLD, HELD), (Verdict.FAIL, FAILED), (Verdict.ERROR, BROKEN))
    for name, case in cases.items()
]


@pytest.mark.parametrize(("verdict", "evidence", "check", "says"), CASES)
def test_one_bad_thing_decides_and_stands_first(verdict, evidence, check, says):
    report = judge(spec(), evidence.evaluation())
    assert report.verdict is verdict
    assert [(r.check, r.verdict) for r in report.blocking] == [(check, verdict)]
    assert report.reasons[0].check == check
    assert says in report.reasons[0].text


@pytest.mark.parametrize(
    ("bounds", "verdict", "says"),
    [
        ("{roc_auc: 0.72}", Verdict.PASS, "0.7200 [0.7000, 0.7400] >= floor 0.72; the floor lies"),
        ("{roc_auc: 0.725}", Verdict.FAIL, "< floor 0.725; the floor lies within the interval"),
        ("{roc_auc: 0.6}", Verdict.PASS, ">= floor 0.6"),
        ("{log_loss: 0.2}", Verdict.PASS, "<= ceiling 0.2"),
        ("{log_loss: 0.1}", Verdict.FAIL, "> ceiling 0.1"),
        ("{brier: 0.1}", Verdict.ERROR, "brier was not computed; its ceiling is 0.1"),
    ],
)
def test_bounds_are_judged_on_the_point_value(bounds, verdict, says):
    report = judge(spec(f"{{bounds: {bounds}}}"), Evidence().evaluation())
    assert report.verdict is verdict
    assert says in of("bound", report).text


def test_an_undefined_bounded_metric_is_an_error():
    evaluation = Evidence().evaluation()
    metrics = evaluation.metrics | {"precision": metric(math.nan)}
    report = judge(
        spec("{bounds: {precision: 0.3}}"), evaluation.model_copy(update={"metrics": metrics})
    )
    assert of("bound", report).verdict is Verdict.ERROR


@pytest.mark.parametrize(
    ("gates", "difference", "verdict"),
    [
        ("{margin: 0.01}", gap(0.04, 0.02), Verdict.PASS),
        ("{margin: 0.02}", gap(0.04, 0.02), Verdict.HOLD),
        ("{margin: 0.03}", gap(0.04, 0.02), Verdict.HOLD),
        ("{margin: 0.06}", gap(0.04, 0.02), Verdict.FAIL),
        ("{tolerance: 0.02}", gap(0.0, 0.02), Verdict.PASS),
        ("{tolerance: 0.02}", gap(0.0, 0.0), Verdict.PASS),
        ("{tolerance: 0.02}", gap(-0.01, 0.02), Verdict.HOLD),
        ("{tolerance: 0.02}", gap(-0.05, 0.035), Verdict.HOLD),
        ("{tolerance: 0.02}", gap(-0.05, 0.02), Verdict.FAIL),
    ],
)
def test_margin_and_tolerance_move_what_the_champion_check_asks(gates, difference, verdict):
    report = judge(spec(gates), Evidence(difference=difference).evaluation())
    assert report.verdict is verdict


def test_a_first_model_is_judged_without_a_champion_and_says_so():
    report = judge(spec(), Evidence(champion_version=None, difference=None).evaluation())
    assert report.verdict is Verdict.PASS
    assert "no champion yet" in of("champion", report).text


def test_a_champion_trained_on_the_holdout_holds_and_says_what_is_missing():
    more = {
        "comparison_rows": 150,
        "comparison_class_counts": {"0": 145, "1": 5},
        "champion_trained_until": datetime(2018, 3, 1, tzinfo=UTC),
    }
    report = judge(spec(), Evidence(more=more).evaluation())
    assert report.verdict is Verdict.HOLD
    text = of("champion", report).text
    for part_of in (
        "trained on data up to 2018-03-01 00:00 UTC",
        "850 of the 1,000 holdout rows would flatter it",
        "50 more mature rows are needed",
        "5 of class 1 of at least 20: 15 more are needed",
    ):
        assert part_of in text


def test_an_overlap_that_leaves_enough_rows_is_compared_on_those():
    more = {"comparison_rows": 700, "comparison_class_counts": {"0": 660, "1": 40}}
    report = judge(spec(), Evidence(more=more).evaluation())
    assert report.verdict is Verdict.PASS
    assert "700 rows" in of("champion", report).text


def test_a_stream_must_beat_persistence_too():
    evaluation = Evidence().evaluation()
    assert judge(spec(stream="true"), evaluation).verdict is Verdict.ERROR
    gaps = {"majority": gap(0.2), "persistence": gap(-0.1)}
    beaten = evaluation.model_copy(update={"baseline_differences": gaps})
    report = judge(spec(stream="true"), beaten)
    assert report.verdict is Verdict.FAIL
    assert "does not beat the persistence baseline" in report.reasons[0].text


def test_baselines_are_left_out_only_when_the_spec_says_so():
    report = judge(spec("{beat_baselines: false}"), Evidence(baseline=gap(-0.1)).evaluation())
    assert report.verdict is Verdict.PASS
    assert "beat_baselines: false" in of("baseline", report).text


def test_calibration_error_asks_for_no_majority_baseline():
    metrics = {"calibration_error": metric(0.02, 0.01)}
    update = {"primary": "calibration_error", "metrics": metrics, "baseline_differences": {}}
    evaluation = Evidence().evaluation().model_copy(update=update)
    report = judge(spec(primary="calibration_error"), evaluation)
    assert report.verdict is Verdict.PASS
    assert "by construction" in of("baseline", report).text


def test_small_slices_are_reported_and_not_judged():
    slices = (
        part("grade = F", -0.4, rows=99),
        part("grade = G", difference=None, note="3 of class 1, 10 needed"),
    )
    report = judge(spec(), Evidence(slices=slices).evaluation())
    assert report.verdict is Verdict.PASS
    text = of("slices", report).text
    assert "grade = F (99 of 100 rows), grade = G (3 of class 1, 10 needed)" in text


def test_gates_that_are_off_pass_loudly_and_say_what_they_would_have_said():
    report = judge(spec("{enabled: false}"), Evidence(baseline=gap(-0.1)).evaluation())
    assert report.verdict is Verdict.PASS
    assert len(report.reasons) == 1
    assert report.reasons[0].text.startswith("GATES ARE OFF")
    assert "would be FAIL: roc_auc does not beat" in report.reasons[0].text


def test_an_evaluation_of_another_metric_is_an_error():
    report = judge(spec(primary="log_loss"), Evidence().evaluation())
    assert report.verdict is Verdict.ERROR
    assert "primary metric is roc_auc, the spec's log_loss" in report.reasons[0].text


def test_no_evidence_at_all_never_passes():
    empty = Evaluation(primary="roc_auc", rows=0, metrics={})
    assert judge(spec(), empty).verdict is not Verdict.PASS


def test_reasons_stand_in_order_of_severity():
    evidence = Evidence(rows=150, auc=math.nan, baseline=gap(-0.1))
    report = judge(spec(), evidence.evaluation())
    order = [SEVERITY[reason.verdict] for reason in report.reasons]
    assert order == sorted(order, reverse=True)
    assert report.verdict is report.reasons[0].verdict is Verdict.ERROR


gaps = st.builds(gap, st.floats(-0.3, 0.3), st.floats(0, 0.2))
parts = st.lists(
    st.builds(
        part,
        st.text("abcdef", min_size=1),
        st.floats(-0.3, 0.3),
        st.floats(0, 0.2),
        st.integers(1, 500),
    ),
    max_size=4,
).map(tuple)
evidences = st.builds(
    Evidence,
    rows=st.integers(50, 2000),
    positives=st.integers(0, 50),
    auc=st.floats(0, 1),
    difference=gaps,
    baseline=gaps,
    slices=parts,
)
all_gates = st.sampled_from(
    ["{}", "{margin: 0.05}", "{tolerance: 0.05}", "{bounds: {roc_auc: 0.6}}", "{slice_drop: 0}"]
)


@settings(max_examples=100, deadline=None)
@given(evidence=evidences, gates=all_gates, bad=parts, fewer=st.integers(0, 40))
def test_bad_evidence_added_never_improves_the_verdict(evidence, gates, bad, fewer):
    before = judge(spec(gates), evidence.evaluation()).verdict
    worse = replace(
        evidence,
        slices=evidence.slices + bad,
        rows=evidence.rows - fewer,
        positives=max(0, evidence.positives - fewer),
    )
    assert SEVERITY[judge(spec(gates), worse.evaluation()).verdict] >= SEVERITY[before]


@settings(max_examples=100, deadline=None)
@given(evidence=evidences, gates=all_gates, less=st.floats(0, 0.3), which=st.integers(0, 2))
def test_the_verdict_never_improves_when_a_number_gets_worse(evidence, gates, less, which):
    before = judge(spec(gates), evidence.evaluation()).verdict

    def lower(difference):
        moved = {name: getattr(difference, name) - less for name in ("value", "low", "high")}
        return Difference(**moved)

    worse = (
        replace(evidence, auc=evidence.auc - less),
        replace(evidence, difference=lower(evidence.difference)),
        replace(evidence, baseline=lower(evidence.baseline)),
    )[which]
    assert SEVERITY[judge(spec(gates), worse.evaluation()).verdict] >= SEVERITY[before]


@settings(max_examples=100, deadline=None)
@given(evidence=evidences, order=st.randoms(use_true_random=False))
def test_the_order_of_slices_changes_nothing(evidence, order):
    shuffled = list(evidence.slices)
    order.shuffle(shuffled)
    first = judge(spec(), evidence.evaluation())
    second = judge(spec(), replace(evidence, slices=tuple(shuffled)).evaluation())
    assert first.verdict is second.verdict
    assert sorted(r.text for r in first.blocking) == sorted(r.text for r in second.blocking)


@settings(max_examples=150, deadline=None)
@given(
    evidence=evidences,
    gates=all_gates,
    where=st.sampled_from(["metric", "difference", "baseline", "slice"]),
    end=st.sampled_from(["value", "low", "high"]),
    wrong=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_a_number_that_is_not_finite_never_passes(evidence, gates, where, end, wrong):
    numbers = {"value": 0.1, "low": 0.08, "high": 0.12} | {end: wrong}
    spoilt = Difference(**numbers)
    bad = {
        "difference": {"difference": spoilt},
        "baseline": {"baseline": spoilt},
        "slice": {"slices": (*evidence.slices, part("z", difference=spoilt))},
    }.get(where, {})
    evaluation = replace(evidence, **bad).evaluation()
    if where == "metric":
        metrics = evaluation.metrics | {"roc_auc": MetricValue(**numbers)}
        evaluation = evaluation.model_copy(update={"metrics": metrics})
    assert judge(spec(gates), evaluation).verdict is Verdict.ERROR
