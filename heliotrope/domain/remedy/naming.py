"""The diagnosis: what changed, told from evidence in a fixed order.

Wrong rows are looked for before wrong labels, these before a changed world, since each makes the
next look as if it were true. Loss is the log loss of scores calibrated on the reference (squared
error for regression). What the reference promises of the rows that came now is the covariate part
of its rise; the rest is the concept part (Cai, Namkoong and Yadlowsky, "Diagnosing model
performance under distribution shift", 2023, section 2).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.drift import DriftReport
from heliotrope.domain.remedy import labelling
from heliotrope.domain.remedy.attribution import importance_of_shift
from heliotrope.domain.remedy.case import LEAST_ROWS, Case, measure
from heliotrope.domain.remedy.documents import ChangeKind, Diagnosis, FeaturePart, Remedy
from heliotrope.domain.remedy.labelling import LabelSuspicion
from heliotrope.domain.remedy.rows import Floats, Sample, Score
from heliotrope.domain.remedy.segment import Segment, worst_segment
from heliotrope.domain.remedy.structure import hidden_structure
from heliotrope.spec import ModelSpec

SURE = 4.0
"""Standard errors from which a part of the fall is not chance."""


def diagnose(
    spec: ModelSpec,
    version: str,
    reference: Sample,
    now: Sample,
    score: Score,
    drift: DriftReport | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Name what changed.

    Args:
        spec: of the model.
        version: of the model that answered.
        reference: labelled rows that the version was not fitted on.
        now: rows of the window, labelled as far as labels came.
        score: the version.
        drift: the report on the window; its faults are the data faults.
        seed: of halves and draws.

    Returns:
        A diagnosis whatever comes: without labels only faults and drift can be named.
    """
    case = measure(spec, version, reference, now, score, drift, seed)
    return (
        _data_fault(case)
        or _label_counts(case)
        or _hidden_data_fault(case)
        or (_labels_or_concept(case, seed) if case.enough else None)
        or _covariate(case)
        or _nothing(case)
    )


def _data_fault(case: Case) -> Diagnosis | None:
    fatal = case.drift.fatal if case.drift else ()
    if not fatal:
        return None
    by_feature = {m.feature: m for m in case.mapped}
    weight = {c.column: c.weight for c in case.drift.columns} if case.drift else {}

    def damage(column: str | None) -> float:
        mapped = by_feature.get(column or "")
        return (mapped.regained if mapped else 0.0) + 1e-6 * weight.get(column or "", 0.0)

    worst = max(fatal, key=lambda f: damage(f.column))
    mapped = by_feature.get(worst.column or "")
    share = _share(mapped.regained, case.fall) if mapped and case.fall > 0 else None
    more = [f.message for f in fatal if f is not worst]
    says = f" Mapped back, {share:.0%} of the fall is regained." if share else ""
    return _named(
        case, ChangeKind.DATA_FAULT, Remedy.FIX_DATA, worst.column or "rows", share,
        worst.message + says, [worst.message, *more],
    )  # fmt: skip


def _hidden_data_fault(case: Case) -> Diagnosis | None:
    """A column that no rule caught, but whose values fit the labels better when mapped back."""
    if not case.enough or case.numbers["fall_z"] < 3:
        return None
    found = [m for m in case.mapped if m.z >= 5 and m.regained >= 0.5 * case.fall]
    if not found:
        return None
    best = max(found, key=lambda m: m.regained)
    share = _share(best.regained, case.fall)
    text = (
        f"{best.feature} is wrong: mapped back to the reference's values, {share:.0%} of the fall "
        f"is regained on the true labels (z = {best.z:.1f})."
    )
    return _named(case, ChangeKind.DATA_FAULT, Remedy.FIX_DATA, best.feature, share, text, [text])


def _label_counts(case: Case) -> Diagnosis | None:
    facts = case.now.facts
    suspicion = (
        labelling.missing_labels(facts)
        or labelling.late_labels(facts)
        or labelling.contradicting_labels(facts)
    )
    if suspicion is None and case.enough and case.losses.chance is not None:
        suspicion = labelling.lost_class(case.losses.chance, case.now.labels)
    return None if suspicion is None else _labels(case, suspicion)


def _labels(case: Case, suspicion: LabelSuspicion) -> Diagnosis:
    text = suspicion.text[:1].upper() + suspicion.text[1:] + "."
    return _named(
        case, ChangeKind.LABEL_FAULT, Remedy.CHECK_LABELS, "labels", suspicion.share, text, [text]
    )


def _labels_or_concept(case: Case, seed: int) -> Diagnosis | None:
    if case.losses.chance is None or case.then.chance is None:
        return _concept_by_loss(case, seed)
    flips = labelling.fit_flips(case.losses.chance, case.now.labels)
    shape = _recalibrated(case.losses.chance, case.now.labels)
    residual = case.now.labels - flips.chance
    structure, found = hidden_structure(case.spec.features, case.now.features, residual, seed)
    usual, usual_found = hidden_structure(
        case.spec.features, case.reference.features, case.reference.labels - case.then.chance, seed
    )
    case.numbers.update(
        flips=flips.share, flips_gain=flips.gain, shape_gain=shape, structure_z=structure,
        structure_found=found, usual_structure_z=usual,
    )  # fmt: skip
    case.evidence.append(
        f"{flips.share:.1%} of labels flipped at random would explain {flips.gain:.1f} nats, "
        f"other odds and another slope {shape:.1f}"
    )
    case.evidence.append(
        f"features foretell what scores do not by z = {structure:.1f} ({found:.2%} of it), "
        f"{usual:.1f} ({usual_found:.2%}) in the reference"
    )
    changed = max(flips.gain, shape) > 12 or structure > max(SURE, usual + 3)
    if not changed or _explained_by_rows(case):
        return None
    arrival = labelling.by_arrival(case.losses.excess, case.now.received)
    if arrival is not None:
        return _labels(case, arrival)
    plain = structure < max(SURE, usual + 3) or found < 0.01 + max(usual_found, 0.0)
    if (
        flips.share >= labelling.FLIPS
        and flips.gain > 12
        and plain
        and (flips.gain > shape - 6 - 0.03 * shape)
    ):
        text = (
            f"labels look flipped at random, {flips.share:.0%} of them: that explains "
            f"{flips.gain:.0f} nats, and no feature tells which (z = {structure:.1f})"
        )
        return _labels(case, LabelSuspicion(text, flips.share))
    return _concept(case, seed, max(case.numbers["concept_z"], structure))


def _recalibrated(chance: Floats, labels: npt.NDArray[Any]) -> float:
    """Log likelihood won by other odds and another slope of the scores."""
    logit = np.log(chance) - np.log1p(-chance)
    design = np.stack([np.ones(len(logit)), logit], axis=1)
    weights = np.array([0.0, 1.0])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        inner = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(inner, design.T @ (labels - p))
        weights = weights + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    p = np.clip(1 / (1 + np.exp(-np.clip(design @ weights, -30, 30))), 1e-9, 1 - 1e-9)
    won = np.where(labels == 1, np.log(p / chance), np.log((1 - p) / (1 - chance)))
    return float(won.sum())


def _explained_by_rows(case: Case) -> bool:
    """Whether other rows came and the change beyond what they promise does no harm of its own.

    No model is calibrated everywhere: where rows move far, some of what is left over is the
    reference's own, seen from another place.
    """
    if case.drift is None or not case.drift.drifted:
        return False
    harmless = case.fall <= 0 or case.numbers["fall_z"] < 3
    return harmless or case.concept < 0.4 * case.fall


def _concept_by_loss(case: Case, seed: int) -> Diagnosis | None:
    z = case.numbers["concept_z"]
    if abs(z) < SURE or abs(case.concept) < 0.3 * abs(case.fall):
        return None
    arrival = labelling.by_arrival(case.losses.excess, case.now.received)
    return _labels(case, arrival) if arrival is not None else _concept(case, seed, z)


def _concept(case: Case, seed: int, z: float) -> Diagnosis:
    found: Segment | None = worst_segment(
        case.spec.features, case.now.features, case.losses.excess, seed
    )
    if found is None:
        text = (
            f"What follows from the features changed, in all segments: mean loss rose by "
            f"{case.fall:.4f}, of it {case.concept:.4f} beyond what these rows promise "
            f"(z = {z:.1f})."
        )
        share = _share(case.concept, case.fall) if case.fall > 0 else None
        return _named(
            case, ChangeKind.CONCEPT_SHIFT, Remedy.RETRAIN, "all rows", share, text, [text]
        )
    share = found.share * (_share(case.concept, case.fall) if case.fall > 0 else 1.0)
    text = (
        f"What follows from the features changed, most where {found.text}: {found.rows:.0%} of "
        f"rows with {found.share:.0%} of the excess loss, on rows not used to find it "
        f"(z = {found.z:.1f}); mean loss rose by {case.fall:.4f}, of it {case.concept:.4f} beyond "
        f"what these rows promise."
    )
    return _named(case, ChangeKind.CONCEPT_SHIFT, Remedy.RETRAIN, found.text, share, text, [text])


def _covariate(case: Case) -> Diagnosis | None:
    drifted = [c for c in case.drift.drifted if c.column in case.spec.feature_names] if (
        case.drift
    ) else []  # fmt: skip
    if not drifted:
        return None
    harmed = case.enough and case.numbers["fall_z"] >= 3 and case.covariate > 0.3 * case.fall
    ranked = importance_of_shift(case.mapped, max(case.covariate, 0.0)) if harmed else []
    best, share = ranked[0] if ranked else (None, None)
    subject = best.feature if best else drifted[0].column
    names = ", ".join(c.column for c in drifted[:4])
    if harmed:
        text = (
            f"Other rows come ({names}), harder ones for the model: {case.covariate:.4f} of the "
            f"rise of {case.fall:.4f} in mean loss is to be expected of them; mapped back, "
            f"{subject} alone gives back {share:.0%}."
        )
        return _named(
            case, ChangeKind.COVARIATE_SHIFT, Remedy.RETRAIN, subject, share, text, [text]
        )
    seen = f"whether they do harm cannot be told yet: {_too_few(case)}"
    if case.enough:
        z = case.numbers["fall_z"]
        seen = (
            f"no harm seen: mean loss {case.fall:+.4f} (z = {z:.1f})"
            if z < 3
            else f"they are not why mean loss rose by {case.fall:.4f} (z = {z:.1f}): "
            f"{case.covariate:+.4f} is to be expected of them"
        )
    text = f"Other rows come ({names}); {seen}."
    return _named(case, ChangeKind.COVARIATE_SHIFT, Remedy.WAIT, subject, None, text, [text])


def _nothing(case: Case) -> Diagnosis:
    if not case.enough:
        text = f"Nothing can be told yet: {_too_few(case)}."
    else:
        text = (
            f"Nothing in these rows alone that is not chance: mean loss {case.fall:+.4f} "
            f"(z = {case.numbers['fall_z']:.1f}), no column moved, no fault."
        )
    return _named(case, ChangeKind.NO_CHANGE, Remedy.WAIT, "", None, text, [])


def _too_few(case: Case) -> str:
    return (
        f"{len(case.now):,} labelled rows, and {len(case.reference):,} in the reference, "
        f"{LEAST_ROWS} needed of each"
    )


def _share(part: float, whole: float) -> float:
    return float(np.clip(part / whole, 0.0, 1.0)) if whole > 0 else 0.0


def _named(
    case: Case,
    kind: ChangeKind,
    remedy: Remedy,
    subject: str,
    share: float | None,
    reason: str,
    first: Sequence[str],
) -> Diagnosis:
    has = case.enough
    parts = tuple(
        FeaturePart(feature=m.feature, expected=m.expected, regained=m.regained, share=share_)
        for m, share_ in importance_of_shift(case.mapped, case.fall if has else 0.0)
    )
    facts = case.now.facts
    return Diagnosis(
        model=case.spec.name,
        version=case.version,
        kind=kind,
        remedy=remedy,
        subject=subject,
        share=share,
        reason=reason,
        fall=case.fall if has else math.nan,
        covariate_part=case.covariate if has else math.nan,
        concept_part=case.concept if has else math.nan,
        rows=case.drift.rows if case.drift else facts.predicted or len(case.now),
        labelled=len(case.now),
        reference_rows=len(case.reference),
        window_from=case.window[0],
        window_to=case.window[1],
        evidence=(*first, *case.evidence),
        numbers=case.numbers,
        features=parts[:10],
    )
