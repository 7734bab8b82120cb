"""A hundred injected changes of the generator, and whether the diagnosis names each right.

`python -m bench.diagnosis` writes docs/tables/diagnosis.md. A model is trained once on loans of two
default rates; then changes of every kind that the generator knows are put into a window of
labelled loans, with other seeds, columns, shares and strengths each.
"""

import argparse
import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from heliotrope.domain.drift import DriftRule, DriftWindow, Words, judge_window
from heliotrope.domain.drift.sketch import ReferenceSketch, reference_of_window
from heliotrope.domain.remedy import ChangeKind, Diagnosis, LabelFacts, Sample, diagnose
from heliotrope.domain.synthetic import (
    ConceptShift,
    CovariateShift,
    Fault,
    FaultKind,
    LabelNoise,
    LoanBatch,
    LoanKnobs,
    generate_loans,
)
from heliotrope.domain.synthetic.columns import Categorical
from heliotrope.spec import Feature, ModelSpec, load_spec

SPEC = Path("examples/credit_risk/generated.yaml")
TABLE = Path("docs/tables/diagnosis.md")
SETTINGS = {
    "clear": {"default_rate": 0.3, "signal": 9.0},
    "usual": {"default_rate": 0.2, "signal": 2.5},
}
"""Nearly certain defaults, as in the story, and ones that are hard to foresee."""
NUMBERS = ["annual_income", "interest_rate", "debt_to_income", "emp_length", "credit_utilization"]
WORDS = ["homeownership", "loan_purpose", "verified_income", "grade"]


@dataclass(frozen=True)
class Injected:
    """One change put in."""

    name: str
    kind: ChangeKind
    knobs: LoanKnobs
    facts: LabelFacts = field(default_factory=LabelFacts)
    lose_positives: bool = False


def matrix(features: tuple[Feature, ...], batch: LoanBatch) -> np.ndarray:
    """Rows in the model's coding."""
    out = np.full((len(batch), len(features)), np.nan, dtype=np.float32)
    for index, feature in enumerate(features):
        column = batch.columns.get(feature.name)
        if isinstance(column, Categorical):
            known = {w: i for i, w in enumerate(feature.categories or ())}
            table = np.array([*(known.get(w, np.nan) for w in column.values), np.nan])
            out[:, index] = table[column.codes]
        elif column is not None:
            out[:, index] = np.asarray(column, dtype=np.float32)
    return out


def window(features: tuple[Feature, ...], batch: LoanBatch) -> DriftWindow:
    """Rows as they came."""
    known = {f.name for f in features}
    columns = {}
    for name, column in batch.columns.items():
        if name not in known:
            continue
        if isinstance(column, Categorical):
            columns[name] = Words(column.codes.astype(np.int32), column.values)
        else:
            columns[name] = np.asarray(column).astype(np.float32)
    usual = {"loan_id", "issued_at", "defaulted"}
    extra = tuple(sorted(set(batch.columns) - known - usual))
    keys = np.asarray(batch.columns["loan_id"])
    return DriftWindow(
        len(batch), columns, extra=extra, repeated_keys=len(keys) - len(np.unique(keys))
    )


class Trained:
    """A model, its labelled reference, and a sketch of what it learnt from."""

    def __init__(self, spec: ModelSpec, setting: str, rows: int = 24_000) -> None:
        self.spec = spec
        self.base = LoanKnobs(rows=rows, seed=11, days=180, **SETTINGS[setting])
        batch = generate_loans(self.base)
        features, labels = matrix(spec.features, batch), np.asarray(batch.columns["defaulted"])
        cut = int(0.7 * rows)
        self.model = HistGradientBoostingClassifier(max_iter=120, random_state=7).fit(
            features[:cut], labels[:cut]
        )
        self.reference = Sample(features[cut:], labels[cut:].astype(np.int8))
        self.sketch: ReferenceSketch = reference_of_window(
            spec.features, window(spec.features, batch)
        )

    def score(self, features: np.ndarray) -> np.ndarray:
        """As the served model; what is not finite is missing to it."""
        clean = np.where(np.isfinite(features), features, np.nan)
        return self.model.predict_proba(clean)[:, 1]

    def name(self, injected: Injected) -> Diagnosis:
        """Diagnose a window with the change in it."""
        batch = generate_loans(injected.knobs)
        labels = np.asarray(batch.columns["defaulted"]).astype(np.float64)
        if injected.lose_positives:
            labels[labels == 1] = np.nan
        report = judge_window(
            self.spec.features, window(self.spec.features, batch), self.sketch, DriftRule()
        )
        now = Sample(matrix(self.spec.features, batch), labels, facts=injected.facts)
        return diagnose(self.spec, "1", self.reference, now, self.score, report)


def injections(base: LoanKnobs, seed: int, rows: int) -> list[Injected]:
    """Fifty changes: twenty data faults, ten of each kind of shift, ten of labels, with no change
    among them."""
    rng = np.random.default_rng(seed)
    found: list[Injected] = []

    def knobs(**more: object) -> LoanKnobs:
        return replace(base, rows=rows, seed=int(rng.integers(1, 2**40)), **more)  # type: ignore[arg-type]

    def fault(kind: FaultKind, column: str, **more: object) -> None:
        made = Fault(kind, column, **more)  # type: ignore[arg-type]
        named = f"{kind.value} {column} {made.share:.0%}"
        found.append(Injected(named, ChangeKind.DATA_FAULT, knobs(faults=(made,))))

    numbers, words = list(rng.permutation(NUMBERS)), list(rng.permutation(WORDS))
    fault(FaultKind.SCALE, numbers[0], factor=1000.0)
    fault(FaultKind.SCALE, numbers[1], factor=0.01)
    fault(FaultKind.SCALE, numbers[2], factor=100.0, share=0.4)
    fault(FaultKind.NULL, numbers[3])
    fault(FaultKind.NULL, words[0], share=0.5)
    fault(FaultKind.NULL, numbers[4], share=0.3)
    fault(FaultKind.STUCK, numbers[0])
    fault(FaultKind.STUCK, numbers[1], share=0.5)
    fault(FaultKind.STUCK, words[1])
    fault(FaultKind.MISSING, numbers[2])
    fault(FaultKind.MISSING, words[2])
    fault(FaultKind.RENAMED, numbers[3], other=f"{numbers[3]}_v2")
    fault(FaultKind.RENAMED, words[3], other="other_name")
    fault(FaultKind.SWAPPED, "annual_income", other="total_credit_limit")
    fault(FaultKind.SWAPPED, "interest_rate", other="debt_to_income")
    fault(FaultKind.INFINITE, numbers[4], share=0.05)
    fault(FaultKind.INFINITE, numbers[0], share=0.5)
    fault(FaultKind.NEW_CATEGORY, words[0], other="UNKNOWN", share=0.1)
    fault(FaultKind.NEW_CATEGORY, words[1], other="n/a")
    fault(FaultKind.DUPLICATE_KEYS, "loan_id", share=0.3)
    found += [
        Injected(
            f"covariate {strength:g}",
            ChangeKind.COVARIATE_SHIFT,
            knobs(covariate_shifts=(CovariateShift(strength),)),
        )
        for strength in (0.5, 0.7, 0.9, 1.0, 1.2, 1.5, -0.7, -1.0)
    ]
    for shift, more in (
        (ConceptShift(0.4), 0.0),
        (ConceptShift(0.6), 0.0),
        (ConceptShift(0.8), 0.0),
        (ConceptShift(1.0), 0.0),
        (ConceptShift(0.6, log_odds=0.3), 0.3),
        (ConceptShift(0.0, log_odds=1.5), 0.0),
        (ConceptShift(1.0, segment=("homeownership", "RENT")), 0.0),
        (ConceptShift(1.0, segment=("homeownership", "MORTGAGE")), 0.0),
        (ConceptShift(1.0, log_odds=0.5), 0.25),
        (ConceptShift(0.5, log_odds=0.5), 0.0),
    ):
        covariate = (CovariateShift(more),) if more else ()
        where = f" where {shift.segment[1]}" if shift.segment else ""
        also = f" and covariate {more:g}" if more else ""
        found.append(
            Injected(
                f"concept {shift.strength:g}, log-odds {shift.log_odds:+g}{where}{also}",
                ChangeKind.CONCEPT_SHIFT,
                knobs(concept_shifts=(shift,), covariate_shifts=covariate),
            )
        )
    found += [
        Injected(
            f"labels flipped {share:.0%}",
            ChangeKind.LABEL_FAULT,
            knobs(label_noise=LabelNoise(share)),
        )
        for share in (0.05, 0.08, 0.1, 0.2, 0.3, 0.9)
    ]
    found.append(Injected("positives lost", ChangeKind.LABEL_FAULT, knobs(), lose_positives=True))
    stopped = LabelFacts(predicted=rows * 3, labelled=rows, coverage_before=0.95)
    found.append(Injected("labels stopped", ChangeKind.LABEL_FAULT, knobs(), stopped))
    found += [Injected("nothing", ChangeKind.NO_CHANGE, knobs()) for _ in range(4)]
    return found


def measure(
    rows: int, seed: int, settings: tuple[str, ...]
) -> list[tuple[str, Injected, Diagnosis]]:
    """Every change, diagnosed."""
    spec = load_spec(SPEC)
    answers = []
    for index, setting in enumerate(settings):
        trained = Trained(spec, setting)
        for injected in injections(trained.base, seed + index, rows):
            found = trained.name(injected)
            answers.append((setting, injected, found))
            if found.kind is not injected.kind:
                print(f"{setting}, {injected.name}: {found.kind}. {found.reason}", flush=True)
    return answers


def render(answers: list[tuple[str, Injected, Diagnosis]], rows: int, seconds: float) -> str:
    """The table."""
    right = sum(d.kind is i.kind for _, i, d in answers)
    lines = [
        "# Why did it drop? Injected changes and what the diagnosis says",
        "",
        f"`python -m bench.diagnosis`: **{right} of {len(answers)} named right**, windows of "
        f"{rows:,} labelled rows, {seconds / len(answers):.1f} s of CPU a diagnosis.",
        "",
        "| injected | n | right | otherwise called |",
        "|---|---|---|---|",
    ]
    for kind in ChangeKind:
        mine = [(i, d) for _, i, d in answers if i.kind is kind]
        wrong = Counter(d.kind.value for i, d in mine if d.kind is not kind)
        called = ", ".join(f"{name} {n}" for name, n in wrong.items()) or "-"
        lines.append(f"| {kind} | {len(mine)} | {len(mine) - sum(wrong.values())} | {called} |")
    lines += ["", "| setting | injected | called | subject | share of the fall | right |"]
    lines += ["|---|---|---|---|---|---|"]
    for setting, injected, found in answers:
        share = "-" if found.share is None else f"{found.share:.0%}"
        mark = "yes" if found.kind is injected.kind else "**no**"
        lines.append(
            f"| {setting} | {injected.name} | {found.kind} | {found.subject} | {share} | {mark} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="labelled rows of a window")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--out", type=Path, default=TABLE)
    chosen = parser.parse_args()
    began = time.process_time()
    answers = measure(chosen.rows, chosen.seed, tuple(SETTINGS))
    text = render(answers, chosen.rows, time.process_time() - began)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
