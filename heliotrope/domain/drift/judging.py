"""The verdict on a window: each column's, the whole report's, and why."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from heliotrope.domain.drift import chance, classifier
from heliotrope.domain.drift.documents import SCORE, ColumnDrift, DriftReport, DriftRule
from heliotrope.domain.drift.effect import clip_outliers, jensen_shannon, wasserstein
from heliotrope.domain.drift.faults import find_faults, find_swaps
from heliotrope.domain.drift.sketch import ColumnSketch, ReferenceSketch, value_name
from heliotrope.domain.drift.window import Column, DriftWindow, Floats, Unreadable, Words
from heliotrope.domain.quality import Finding
from heliotrope.spec import Feature
from heliotrope.vocabulary import Verdict

NULL_SHARE = 0.1
"""Part of the false-alarm budget that is kept for shares of missing values."""
SCORE_SHARE = 0.1
"""For the model's answers."""
CLASSIFIER_SHARE = 0.1
"""For the classifier, where it is asked."""


def judge_window(
    features: Sequence[Feature],
    window: DriftWindow,
    reference: ReferenceSketch,
    rule: DriftRule,
    *,
    joint: classifier.JointSample | None = None,
) -> DriftReport:
    """Score a window, column by column, and judge it.

    A column has drifted when its p-value is below its share of `rule.false_alarm` and its effect
    reaches `rule.effect`. Shares go half evenly and half by importance (a weighted Bonferroni
    bound, so the whole report's false alarms stay within the budget whatever depends on what): a
    feature the model leans on is watched more closely.

    Args:
        features: of the spec.
        window: the rows.
        reference: the champion's.
        rule: what is demanded.
        joint: sampled rows of both, for the classifier.

    Returns:
        A report for anything that is handed over: a broken column is a fault and an ERROR of that
        column, never an exception.
    """
    chosen = tuple(features)
    missing_chance = rule.false_alarm * NULL_SHARE / max(1, len(chosen))
    faults = find_faults(chosen, window, reference, rule, missing_chance)
    columns = [
        _judge(
            feature.name,
            window.columns.get(feature.name),
            reference.column(feature.name),
            rule,
            _budget(reference, feature.name, rule),
            reference.weight(feature.name),
        )
        for feature in chosen
    ]
    if window.rows:
        moved = {c.column: c.effect for c in columns if c.effect >= 2 * rule.effect}
        swaps = find_swaps(window, reference, moved) if window.rows >= 50 else []
        faults = swaps + faults
    if window.score is not None and reference.score is not None:
        budget = rule.false_alarm * SCORE_SHARE
        columns.append(_judge(SCORE, window.score, reference.score, rule, budget, 0.0))
    if rule.multivariate and joint is not None:
        columns.append(_classified(joint, rule))
    return _report(window, reference, rule, tuple(columns), faults)


def _budget(reference: ReferenceSketch, name: str, rule: DriftRule) -> float:
    kept = NULL_SHARE + (SCORE_SHARE if reference.score is not None else 0.0)
    kept += CLASSIFIER_SHARE if rule.multivariate else 0.0
    even = 1 / max(1, len(reference.columns))
    return rule.false_alarm * (1 - kept) * (even + reference.weight(name)) / 2


def _judge(
    name: str,
    column: Column | None,
    sketch: ColumnSketch | None,
    rule: DriftRule,
    budget: float,
    weight: float,
) -> ColumnDrift:
    if sketch is None or not sketch.held:
        return _unscored(name, "has no values in the reference to compare with", budget, weight)
    if column is None:
        return _unscored(name, "is not in the window", budget, weight)
    if isinstance(column, Unreadable):
        return _unscored(name, f"must {column.problem}", budget, weight)
    if isinstance(column, Words):
        if sketch.points:
            return _unscored(name, "was a number in the reference", budget, weight)
        return _by_words(name, column.counts(), sketch, rule, budget, weight)
    here = np.isfinite(column)
    finite = column if here.all() else column[here]
    if not len(finite):
        return _unscored(name, "has no finite value in the window", budget, weight)
    if not sketch.points:
        return _unscored(name, "was a word in the reference", budget, weight)
    if sketch.as_words and len(sketch.counts) > 1:
        counts = _counted(finite)
        return _by_words(name, counts, sketch, rule, budget, weight)
    return _by_numbers(name, finite, sketch, rule, budget, weight)


def _counted(finite: Floats) -> dict[str, int]:
    values, counts = np.unique(finite, return_counts=True)
    return {value_name(v): int(n) for v, n in zip(values[:1000], counts[:1000], strict=True)}


def _unscored(name: str, why: str, budget: float, weight: float) -> ColumnDrift:
    return ColumnDrift(
        column=name,
        verdict=Verdict.ERROR,
        method="none",
        effect=math.nan,
        p=math.nan,
        budget=budget,
        weight=weight,
        text=f"{name} {why}.",
    )


def _by_numbers(
    name: str, finite: Floats, sketch: ColumnSketch, rule: DriftRule, budget: float, weight: float
) -> ColumnDrift:
    clipped, outliers = clip_outliers(sketch, finite)
    ordered = np.sort(clipped)
    p, gap = chance.kolmogorov(sketch, ordered)
    middle, before = float(ordered[len(ordered) // 2]), sketch.points[len(sketch.points) // 2]
    if sketch.commonest >= 1:
        # A constant has no spread to measure in: it moved when its median left it by 0.1%.
        left = abs(middle - before) > 1e-3 * abs(before)
        effect = wasserstein(sketch, ordered) if left else 0.0
    else:
        effect = wasserstein(sketch, ordered)
    wanted = chance.critical_gap(budget)
    size = len(ordered) * sketch.held / (len(ordered) + sketch.held)
    needed = chance.rows_needed(gap * math.sqrt(size), len(ordered), sketch.held, wanted)
    odd = f"; {outliers:,} outliers clipped" if outliers else ""
    what = f"median {middle:.4g}, was {before:.4g}{odd}"
    return _column(name, "wasserstein", effect, p, rule, budget, weight, len(ordered), needed, what)


def _by_words(
    name: str,
    counts: Mapping[str, int],
    sketch: ColumnSketch,
    rule: DriftRule,
    budget: float,
    weight: float,
) -> ColumnDrift:
    rows = sum(counts.values())
    if not rows:
        return _unscored(name, "has no value in the window", budget, weight)
    effect = jensen_shannon(sketch.counts, counts)
    p, statistic = chance.chi_square(sketch.counts, counts)
    degrees = max(1, len(sketch.counts) - 1)
    root = math.sqrt(max(0.0, statistic - degrees))
    wanted = math.sqrt(chance.critical_square(budget, degrees))
    needed = chance.rows_needed(root, rows, sketch.held, wanted)
    return _column(
        name, "jensenshannon", effect, p, rule, budget, weight, rows, needed,
        _largest_move(sketch, counts, rows),
    )  # fmt: skip


def _largest_move(sketch: ColumnSketch, counts: Mapping[str, int], rows: int) -> str:
    held = max(1, sketch.held)

    def share(word: str) -> tuple[float, float]:
        return counts.get(word, 0) / rows, sketch.counts.get(word, 0) / held

    word = max(sorted({*counts, *sketch.counts}), key=lambda w: abs(share(w)[0] - share(w)[1]))
    now, before = share(word)
    return f"{word} {now:.1%}, was {before:.1%}"


def _column(
    name: str,
    method: str,
    effect: float,
    p: float,
    rule: DriftRule,
    budget: float,
    weight: float,
    rows: int,
    needed: int | None,
    what: str,
) -> ColumnDrift:
    large, certain = effect >= rule.effect, p < budget
    verdict = Verdict.PASS
    if large:
        verdict = Verdict.FAIL if certain and rows >= rule.minimum_rows else Verdict.HOLD
    label = "Wasserstein/sd" if method == "wasserstein" else "Jensen-Shannon"
    numbers = f"{label} {effect:.3f}, p = {p:.1g} over {rows:,} rows; {what}"
    if verdict is Verdict.FAIL:
        text = f"{name} moved: {numbers}."
        needed = None
    elif verdict is Verdict.PASS:
        text = f"{name} stays: {numbers}."
        needed = None
    else:
        if certain:
            needed = rule.minimum_rows
        more = f"{needed:,} rows would tell" if needed else "no number of rows would tell"
        text = f"{name} may have moved, and that may be chance: {numbers}. If it stays, {more}."
    return ColumnDrift(
        column=name, verdict=verdict, method=method, effect=effect, p=p, budget=budget,
        weight=weight, rows_needed=needed, text=text,
    )  # fmt: skip


def _classified(joint: classifier.JointSample, rule: DriftRule) -> ColumnDrift:
    auc, p, rows = classifier.tell_apart(joint)
    effect, budget = max(0.0, 2 * auc - 1), rule.false_alarm * CLASSIFIER_SHARE
    certain = p < budget and effect >= rule.effect and rows >= rule.minimum_rows
    return ColumnDrift(
        column="rows",
        verdict=Verdict.FAIL if certain else Verdict.PASS,
        method="classifier",
        effect=effect,
        p=p,
        budget=budget,
        weight=0.0,
        text=f"A classifier tells live rows from reference rows with ROC AUC {auc:.3f} "
        f"(p = {p:.1g}, {rows:,} live rows it had not seen).",
    )


def _report(
    window: DriftWindow,
    reference: ReferenceSketch,
    rule: DriftRule,
    columns: tuple[ColumnDrift, ...],
    faults: list[Finding],
) -> DriftReport:
    scored = [c for c in columns if c.verdict is not Verdict.ERROR]
    weights = sum(c.weight for c in scored)
    total = sum(c.weight * min(c.effect, 10.0) for c in scored) / weights if weights else 0.0
    mean_budget = rule.false_alarm * 0.8 / max(1, len(reference.columns))
    verdict, reason = _verdict(window, rule, columns)
    shift = chance.smallest_shift(window.rows, reference.rows, mean_budget)
    return DriftReport(
        model=reference.model,
        version=reference.version,
        window_from=window.start,
        window_to=window.end,
        rows=window.rows,
        reference_rows=reference.rows,
        rule=rule,
        verdict=verdict,
        reason=reason,
        score=total,
        columns=columns,
        faults=tuple(faults),
        scored=len(scored),
        expected=len(columns),
        smallest_shift=min(shift, 1e9),
    )


def _verdict(
    window: DriftWindow, rule: DriftRule, columns: tuple[ColumnDrift, ...]
) -> tuple[Verdict, str]:
    if not window.rows:
        return Verdict.HOLD, "the window has no rows"
    if window.rows < rule.minimum_rows:
        return Verdict.HOLD, (
            f"{window.rows:,} rows are too few: drift is judged from {rule.minimum_rows:,} on "
            f"(monitoring.minimum_rows)"
        )
    moved = [c for c in columns if c.verdict is Verdict.FAIL]
    if moved:
        worst = sorted(moved, key=lambda c: (-c.weight * c.effect, -c.effect))
        listed = "; ".join(c.text.rstrip(".") for c in worst[:3])
        more = f"; and {len(moved) - 3} more" if len(moved) > 3 else ""
        return Verdict.FAIL, f"{len(moved)} of {len(columns)} columns moved. {listed}{more}"
    broken = [c for c in columns if c.verdict is Verdict.ERROR]
    if broken:
        return Verdict.ERROR, (
            f"{len(columns) - len(broken)} of {len(columns)} columns could be scored. "
            f"{broken[0].text.rstrip('.')}"
        )
    open_ = [c for c in columns if c.verdict is Verdict.HOLD]
    if open_:
        likely = min(open_, key=lambda c: c.p)
        return Verdict.HOLD, likely.text.rstrip(".")
    largest = max(columns, key=lambda c: c.effect)
    return Verdict.PASS, (
        f"nothing moved by {rule.effect:g} over {window.rows:,} rows; most: "
        f"{largest.column} {largest.effect:.3f}"
    )
