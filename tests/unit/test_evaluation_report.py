"""From scores to a verdict to a page: candidate, champion, baselines and slices together."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sklearn import metrics as sk

from heliotrope.adapters.plots import plots_svg
from heliotrope.adapters.reports.evaluation import (
    render_evaluation_html,
    render_evaluation_markdown,
    render_gate_html,
    render_gate_markdown,
)
from heliotrope.domain.curves import POINTS, confusion_matrix, roc_points
from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import judge
from heliotrope.domain.training import SplitRange, TrainingRecord
from heliotrope.errors import UsageError
from heliotrope.service.evaluation import Champion, Holdout, Rows, evaluate
from heliotrope.spec import parse_spec
from heliotrope.vocabulary import Verdict

START = datetime(2018, 1, 1, tzinfo=UTC)
SPEC = """
name: loans
task: {task}
event_time: at
stream: true
label: {label}
source: {{path: loans.csv}}
features:
  - {{name: grade, type: category, categories: [A, "<b>|x"]}}
  - {{name: signal, type: float}}
metrics: {{primary: {primary}}}
slices: [{{feature: grade}}]
"""


def spec(task="binary", label="{name: bad, positive: 1, delay: 2h}", primary="roc_auc"):
    return parse_spec(SPEC.format(task=task, label=label, primary=primary))


class Logistic:
    """Scores by the signal, blurred."""

    def __init__(self, blur=0.0, seed=0):
        self.blur, self.seed = blur, seed

    def score(self, features):
        noise = np.random.default_rng(self.seed).normal(0, 1, len(features))
        return 1 / (1 + np.exp(-(features[:, 1] - 1.2 + self.blur * noise)))


class Broken:
    def score(self, features):
        raise RuntimeError("the graph has no input `features`")


class NotFinite:
    def score(self, features):
        return np.where(np.arange(len(features)) == 3, np.nan, 0.5)


def world(rows=1600, holdout=1000, seed=0):
    rng = np.random.default_rng(seed)
    features = np.column_stack([rng.integers(0, 2, rows), rng.normal(0, 1.5, rows)])
    labels = (rng.random(rows) < 1 / (1 + np.exp(-(features[:, 1] - 1.2)))).astype(int)
    times = np.datetime64("2018-01-01", "us") + np.arange(rows).astype("timedelta64[h]")
    cut = rows - holdout
    return (
        Holdout(labels[cut:], times[cut:], features[cut:].astype(np.float32)),
        Rows(labels[:cut], times[:cut]),
    )


def run(candidate=None, champion=None, the_spec=None, **options):
    holdout, history = world(**options)
    return evaluate(
        the_spec or spec(),
        candidate or Logistic(),
        holdout,
        history,
        seed=7,
        champion=champion,
        resamples=120,
    )


def champion_reason(evaluation):
    return next(r for r in judge(spec(), evaluation).reasons if r.check == "champion")


def test_a_first_good_model_passes_and_its_numbers_are_scikit_learns():
    evaluation = run()
    holdout, _ = world()
    expected = sk.roc_auc_score(holdout.labels, Logistic().score(holdout.features))
    assert evaluation.metrics["roc_auc"].value == pytest.approx(expected)
    assert judge(spec(), evaluation).verdict is Verdict.PASS
    assert set(evaluation.baseline_differences) == {"majority", "persistence"}
    assert evaluation.event_from == START + timedelta(hours=600)


def test_retraining_to_the_same_model_is_a_fail_that_says_so():
    reason = champion_reason(run(champion=Champion("1", Logistic())))
    assert reason.verdict is Verdict.FAIL
    assert "not better: difference +0.0000 [+0.0000, +0.0000]" in reason.text
    assert "does not differ on any row" in reason.text


@pytest.mark.parametrize(
    ("blur", "other", "verdict"),
    [(0, 4, Verdict.PASS), (4, 0, Verdict.FAIL), (0.3, 0.3, Verdict.HOLD)],
)
def test_the_better_model_wins_either_way(blur, other, verdict):
    evaluation = run(Logistic(blur, 1), Champion("1", Logistic(other, 2)))
    assert champion_reason(evaluation).verdict is verdict


@pytest.mark.parametrize(
    ("champion", "says"),
    [
        (Champion("4", error="no column `grade` in the data"), "no column `grade`"),
        (Champion("4", Broken()), "RuntimeError: the graph has no input"),
        (Champion("4", NotFinite()), "1 of its 1,000 scores are not finite"),
        (Champion("4"), "no model was loaded"),
    ],
)
def test_a_champion_that_cannot_be_scored_is_an_error(champion, says):
    evaluation = run(champion=champion)
    assert says in evaluation.champion_error
    assert evaluation.difference is None
    assert judge(spec(), evaluation).verdict is Verdict.ERROR


def test_rows_the_champion_was_trained_on_are_not_compared():
    until = START + timedelta(hours=999)
    evaluation = run(champion=Champion("1", Logistic(4, 2), trained_until=until))
    assert evaluation.comparison_rows == 600
    assert evaluation.metrics["roc_auc"] != evaluation.candidate_compared["roc_auc"]
    assert champion_reason(evaluation).verdict is Verdict.PASS


@pytest.mark.parametrize("hours", [1599, 1499])
def test_too_few_rows_new_to_the_champion_hold(hours):
    until = START + timedelta(hours=hours)
    evaluation = run(champion=Champion("1", Logistic(4, 2), trained_until=until))
    assert champion_reason(evaluation).verdict is Verdict.HOLD
    assert evaluation.comparison_rows == 1599 - hours
    assert f"{200 - (1599 - hours)} more mature rows are needed" in champion_reason(evaluation).text


def test_rows_known_to_be_seen_override_the_time():
    seen = np.arange(1000) < 100
    champion = Champion("1", Logistic(4, 2), trained_until=START + timedelta(9999), seen=seen)
    assert run(champion=champion).comparison_rows == 900


def test_a_candidate_that_is_not_finite_is_an_error_and_never_a_pass():
    evaluation = run(NotFinite())
    assert evaluation.roc is None
    assert judge(spec(), evaluation).verdict is Verdict.ERROR


def test_a_random_model_does_not_beat_the_baselines():
    class Noise:
        def score(self, features):
            return np.random.default_rng(5).random(len(features))

    assert judge(spec(), run(Noise())).verdict in (Verdict.FAIL, Verdict.HOLD)


def test_one_more_slice_moves_no_other_number():
    plain = spec().model_copy(update={"slices": ()})
    with_slices, without = run(), run(the_spec=plain)
    assert with_slices.metrics == without.metrics
    assert {part.name for part in with_slices.slices} == {"grade = A", "grade = <b>|x"}


def test_the_same_seed_gives_the_same_document():
    champion = Champion("1", Logistic(1, 2))
    assert run(champion=champion).to_json() == run(champion=champion).to_json()


def test_regression_and_multiclass_are_judged_too():
    holdout, history = world()
    number = spec("regression", "{name: bad, delay: 2h}", "rmse")
    rows = Holdout(holdout.features[:, 1].astype(float), holdout.times, holdout.features)
    past = Rows(np.linspace(-2, 2, len(history.labels)), history.times)

    class Exact:
        def score(self, features):
            return features[:, 1] + 0.1

    evaluation = evaluate(number, Exact(), rows, past, seed=7, resamples=100)
    assert evaluation.metrics["rmse"].value == pytest.approx(0.1, abs=1e-6)
    assert judge(number, evaluation).verdict is Verdict.PASS
    three = spec("multiclass", "{name: bad, classes: [x, y, z], delay: 2h}", "log_loss")
    labels = np.digitize(holdout.features[:, 1], [-1, 1])
    classes = Holdout(labels, holdout.times, holdout.features)

    class Cut:
        def score(self, features):
            return 0.85 * np.eye(3)[np.digitize(features[:, 1], [-1, 1])] + 0.05

    past = Rows(np.arange(600) % 3, history.times)
    evaluation = evaluate(three, Cut(), classes, past, seed=7, resamples=100)
    assert evaluation.metrics["accuracy"].value == 1
    assert evaluation.metrics["accuracy"].low < 1
    assert judge(three, evaluation).verdict is Verdict.PASS
    assert "<svg" in render_evaluation_html(evaluation, None, None, plots_svg(evaluation))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"times": np.empty(3, "datetime64[us]")}, "holdout.times must have 1000 rows"),
        ({"features": np.zeros((1000, 3), np.float32)}, "must have 2 columns"),
        ({"times": None}, "times must be given for a stream"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(change, says):
    holdout, history = world()
    parts = {"labels": holdout.labels, "times": holdout.times, "features": holdout.features}
    with pytest.raises(UsageError, match=says):
        evaluate(spec(), Logistic(), Holdout(**(parts | change)), history, seed=7)


def test_candidate_scores_of_the_wrong_shape_are_refused():
    class Pairs:
        def score(self, features):
            return np.zeros((len(features), 2))

    with pytest.raises(UsageError, match=r"shape \[1000\] for task binary. Got \[1000, 2\]"):
        run(Pairs())


def test_curves_for_the_pipeline_ui_are_short_finite_and_true():
    evaluation = run()
    fpr, tpr, thresholds = roc_points(evaluation)
    assert len(fpr) == len(tpr) == len(thresholds) <= POINTS
    assert np.isfinite([fpr, tpr, thresholds]).all()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(fpr) >= 0)
    assert np.all(np.diff(thresholds) < 0)
    assert sk.auc(fpr, tpr) == pytest.approx(evaluation.metrics["roc_auc"].value, abs=0.003)
    holdout, _ = world()
    called = Logistic().score(holdout.features) >= thresholds[50]
    assert tpr[50] == pytest.approx(sk.recall_score(holdout.labels, called))
    names, cells = confusion_matrix(evaluation)
    assert names == ["0", "1"]
    assert (
        cells
        == sk.confusion_matrix(holdout.labels, Logistic().score(holdout.features) >= 0.5).tolist()
    )
    json.dumps([fpr, tpr, thresholds, cells], allow_nan=False)


def test_the_document_survives_json():
    evaluation = run(champion=Champion("1", Logistic(1, 2)))
    assert Evaluation.from_json(evaluation.to_json()).to_json() == evaluation.to_json()


def record():
    part = SplitRange(rows=10, event_from=START, event_to=START)
    return TrainingRecord(
        train=part,
        calibration=part,
        holdout=part,
        estimator="sklearn.X",
        parameters={},
        seed=7,
        classes=("0", "1"),
        importances={"signal": 0.9, "<i>grade": 0.1},
        curve={"train": (0.7, 0.5, 0.4)},
        seconds=1.5,
        peak_rss_bytes=2**28,
        warnings=("did not <converge>",),
    )


def test_the_page_leads_with_the_verdict_and_is_small_safe_and_self_contained():
    evaluation = run(champion=Champion("1", Logistic()))
    gate = judge(spec(), evaluation)
    plots = plots_svg(evaluation, record())
    assert list(plots) == [
        "roc",
        "precision_recall",
        "calibration",
        "confusion",
        "importances",
        "training_curve",
    ]
    page = render_evaluation_html(evaluation, gate, record(), plots, model="loans <x>")
    assert len(page.encode()) < 500_000
    assert page.index("FAIL") < page.index("not better") < page.index("<h2>Metrics")
    for unsafe in ("<b>|x", "<i>grade", "<converge>", "loans <x>"):
        assert unsafe not in page
    for outside in ("<script", "<link", 'src="http', "url(http", "@import"):
        assert outside not in page
    assert page.count("<svg") == 6
    assert "currentColor" in page


def test_plots_are_whole_pictures_and_drawn_the_same_each_time():
    evaluation = run()
    pictures = plots_svg(evaluation)
    assert pictures == plots_svg(evaluation)
    assert set(pictures) == {"roc", "precision_recall", "calibration", "confusion"}
    # Each is also stored as a file of its own, where a viewer needs the namespace.
    assert all('xmlns="http://www.w3.org/2000/svg"' in svg for svg in pictures.values())


def test_markdown_tables_hold_their_columns_whatever_the_names():
    evaluation = run(champion=Champion("1", Logistic(1, 2)))
    gate = judge(spec(), evaluation)
    text = render_evaluation_markdown(evaluation, gate, model="loans")
    assert f"**Verdict: {gate.verdict}**" in text
    tables, block = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append(line.replace("\\|", "").count("|"))
        elif block:
            tables.append(block)
            block = []
    assert [len(set(block)) for block in tables] == [1, 1]
    assert [len(block) for block in tables] == [13, 4]


def test_the_gate_has_a_page_and_markdown_of_its_own():
    gate = judge(spec(), run(champion=Champion("1", Logistic())))
    for text in (render_gate_markdown(gate, model="loans"), render_gate_html(gate, model="loans")):
        assert "FAIL" in text
        assert text.index("does not differ") < text.index("enough")


def test_a_broken_champion_and_an_overlap_are_told_on_the_page():
    broken = run(champion=Champion("4", Broken()))
    assert "could not be scored" in render_evaluation_html(broken)
    assert "could not be scored" in render_evaluation_markdown(broken)
    until = START + timedelta(hours=999)
    overlap = run(champion=Champion("1", Logistic(4, 2), trained_until=until))
    assert "the 600 rows it has not seen" in render_evaluation_html(overlap)
    assert "the 600 rows it has not seen" in render_evaluation_markdown(overlap)
