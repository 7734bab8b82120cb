"""The estimate without labels: how far off it is, and how soon labels say that it is blind.

    python -m bench.estimate [--windows 200] [--write]

A boosted model with isotonic calibration on later rows, as a training run makes it, over generated
loans of two kinds. An error is set against the sampling error: the standard deviation of the
window's own accuracy over windows of one population. Beside it what most people do without labels:
to believe the accuracy that the model had when it was accepted. `--write` writes
docs/tables/estimate.md.
"""

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression

from bench.diagnosis import SETTINGS, SPEC, matrix
from heliotrope.domain.estimate import Contradiction, ScoredBins, log_evidence, promised
from heliotrope.domain.metrics import Answers
from heliotrope.domain.synthetic import ConceptShift, CovariateShift, LoanKnobs, generate_loans
from heliotrope.spec import load_spec

TABLE = Path("docs/tables/estimate.md")
METRICS = ("accuracy", "roc_auc")
ROWS = 1000
"""Of a window."""
SHIFTS: dict[str, dict[str, object]] = {
    "none": {},
    "covariate .5": {"covariate_shifts": (CovariateShift(0.5),)},
    "covariate 1": {"covariate_shifts": (CovariateShift(1.0),)},
    "concept .6 (blind by nature)": {"concept_shifts": (ConceptShift(0.6),)},
}
FLIPPED = 0.2
LABELS = (25, 50, 100, 200)
"""Labels of a mature window, in which contradiction is looked for once."""
GOOD_WINDOWS = 50


@dataclass(frozen=True)
class Window:
    """Rows of one window."""

    score: np.ndarray
    label: np.ndarray

    def promised(self) -> dict[str, float]:
        """By scores alone."""
        return promised(bins_of(self.score), METRICS)

    def true(self) -> dict[str, float]:
        """By labels."""
        return Answers.binary(self.label, self.score).values(list(METRICS))


def bins_of(score: np.ndarray) -> ScoredBins:
    """Every row a group of its own."""
    return ScoredBins(score, (score >= 0.5).astype(np.int64), np.ones(len(score)))


class World:
    """A model of one population, and windows of what comes later."""

    def __init__(self, setting: str) -> None:
        self.features = load_spec(SPEC).features
        self.base = LoanKnobs(rows=30_000, seed=11, days=180, **SETTINGS[setting])
        batch = generate_loans(self.base)
        rows, labels = matrix(self.features, batch), np.asarray(batch.columns["defaulted"])
        cut, later = 18_000, 26_000
        self.model = HistGradientBoostingClassifier(max_iter=120, random_state=7)
        self.model.fit(rows[:cut], labels[:cut])
        raw = self.model.predict_proba(rows[cut:later])[:, 1]
        self.calibration = IsotonicRegression(out_of_bounds="clip", y_min=0.001, y_max=0.999)
        self.calibration.fit(raw, labels[cut:later])
        self.accepted = Window(self._score(rows[later:]), labels[later:].astype(int)).true()

    def _score(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.calibration.predict(self.model.predict_proba(rows)[:, 1]))

    def rows(self, count: int, seed: int, **more: object) -> Window:
        """Fresh rows."""
        batch = generate_loans(replace(self.base, rows=count, seed=seed, **more))  # type: ignore[arg-type]
        return Window(
            self._score(matrix(self.features, batch)),
            np.asarray(batch.columns["defaulted"]).astype(int),
        )

    def windows(self, count: int, seed: int, **more: object) -> list[Window]:
        """Windows of `ROWS` rows of one population, dealt out by chance."""
        whole = self.rows(count * ROWS, seed, **more)
        dealt = np.random.default_rng(seed).permutation(count * ROWS).reshape(count, ROWS)
        return [Window(whole.score[place], whole.label[place]) for place in dealt]


def errors(setting: str, world: World, count: int) -> list[str]:
    """Rows of the first table."""
    lines = []
    for number, (name, more) in enumerate(SHIFTS.items()):
        windows = world.windows(count, 500 + number, **more)
        true = {m: np.array([w.true()[m] for w in windows]) for m in METRICS}
        said = {m: np.array([w.promised()[m] for w in windows]) for m in METRICS}
        cells = [setting, name]
        for metric in METRICS:
            sampling = float(true[metric].std())
            ours = float(np.sqrt(np.mean((said[metric] - true[metric]) ** 2)))
            theirs = float(np.sqrt(np.mean((world.accepted[metric] - true[metric]) ** 2)))
            cells += [
                f"{true[metric].mean():.3f}", f"{sampling:.4f}",
                f"{ours:.4f} ({ours / sampling:.2f}x)", f"{theirs:.4f} ({theirs / sampling:.2f}x)",
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def evidence(rows: Window) -> tuple[float, float]:
    """A mature window's evidence, and the miss of its accuracy."""
    positive = rows.label.astype(float)
    miss = rows.promised()["accuracy"] - rows.true()["accuracy"]
    return log_evidence(rows.score, positive, 1 - positive), miss


def blindness(setting: str, world: World, tries: int) -> list[str]:
    """Rows of the second table."""
    pool, rng = world.rows(120_000, 900), np.random.default_rng(901)
    lines = []
    for labels in LABELS:

        def drawn(flip: float, labels: int = labels) -> Window:
            place = rng.integers(0, len(pool.score), labels)
            turned = rng.random(labels) < flip
            return Window(
                pool.score[place], np.where(turned, 1 - pool.label[place], pool.label[place])
            )

        found, marked, windows = [], 0, 0
        for _ in range(tries):
            state = Contradiction()
            for _ in range(GOOD_WINDOWS):
                before, state = state.marked, state.after(*evidence(drawn(0.0)))
                marked += state.marked and not before
                windows += 1
            state = replace(state, marked=False, log_level=min(state.log_level, 0.0))
            told = 0
            while not state.marked and told < 5000:
                state = state.after(*evidence(drawn(FLIPPED)))
                told += labels
            found.append(told)
        half, most = np.quantile(found, [0.5, 0.95], method="higher")
        lines.append(
            f"| {setting} | {labels} | {half:,.0f} / {most:,.0f} | {marked} in {windows:,} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, print, and where asked write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=200, help="windows a line")
    parser.add_argument("--tries", type=int, default=200, help="streams whose labels get flipped")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    worlds = {setting: World(setting) for setting in SETTINGS}
    first = [line for s, w in worlds.items() for line in errors(s, w, given.windows)]
    second = [line for s, w in worlds.items() for line in blindness(s, w, given.tries)]
    text = "\n".join([
        "# The estimate without labels",
        "",
        f"Made by `python -m bench.estimate --write`: {given.windows:,} windows of {ROWS:,} rows a "
        "line. Error: root mean square of estimate less truth; sampling error: standard deviation "
        "of the truth over those windows; wanted at most 1.5 times it. *Believed* is the accuracy "
        "the model was accepted with. Under concept shift no estimate from scores can be right; "
        "labels say so, below.",
        "",
        "| loans | shift | accuracy | sampling error | estimate's error | believed's error "
        "| ROC AUC | sampling error | estimate's error | believed's error |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *first,
        "",
        f"## Labels until it is marked, after {FLIPPED:.0%} of labels flip",
        "",
        f"{given.tries:,} streams a line, each after {GOOD_WINDOWS} good windows; looked at once a "
        "mature window, as the truth does. Wanted: at most 200. A false mark is stated to come no "
        "more often than every 1,000 windows.",
        "",
        "| loans | labels a mature window | labels until marked, p50 / p95 | false marks |",
        "|---|---|---|---|",
        *second,
        "",
    ])  # fmt: skip
    if given.write:
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
