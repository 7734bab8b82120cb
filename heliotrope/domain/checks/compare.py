"""One snapshot's columns against another's: moved, rescaled, or missing more often.

A change is reported when it is large enough to matter *and* beyond chance, with the chance of a
false alarm shared among all comparisons (Bonferroni): at a large number of rows everything is
significant, at a small one everything moves.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from heliotrope.domain.checks.label import CHANCE, two_proportions
from heliotrope.domain.profiling import Profiled
from heliotrope.domain.quality import ColumnProfile, Finding, Level
from heliotrope.domain.statistics import SAMPLE_ROWS
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

EXPECTED = 5.0
"""Sparse categories are merged until each is expected this often, as chi-square needs."""
_RESOLUTION = 0.01
"""Of a distribution known by 101 quantiles."""


def compare(spec: ModelSpec, now: Profiled, before: Profiled, other: str) -> list[Finding]:
    """Compare every column that both snapshots have.

    Args:
        spec: the limits.
        now: the snapshot at hand.
        before: the one compared with.
        other: how messages name it, such as `previous snapshot v3`.
    """
    findings = []
    names = list(spec.feature_names)
    if spec.task is Task.REGRESSION:
        names.append(spec.label.name)
    chance = CHANCE / (2 * len(names))
    for name in names:
        here, there = now.column(name), before.column(name)
        if here is None:
            continue
        if there is None or bool(here.quantiles) != bool(there.quantiles):
            text = f"{name} has nothing to compare with in the {other}."
            findings.append(
                Finding(check="not_compared", level=Level.INFO, column=name, message=text)
            )
            continue
        rescaled = _rescaled(spec, here, there, other)
        findings += rescaled or _moved(spec, here, there, other, chance)
        findings += _missing(spec, here, there, other, chance)
    return findings


def _rescaled(
    spec: ModelSpec, here: ColumnProfile, there: ColumnProfile, other: str
) -> list[Finding]:
    factor = scale_factor(here.quantiles, there.quantiles)
    limit = spec.validation.scale_change
    if factor is None or 1 / limit <= factor <= limit:
        return []
    power = 10.0 ** round(math.log10(factor))
    close = abs(factor / power - 1) < 0.25
    shown = f"{power:,.0f}" if close and power >= 1 else f"{power:g}" if close else f"{factor:.3g}"
    message = (
        f"{here.name} must keep its unit. Its median magnitude is {_magnitude(here.quantiles):.4g},"
        f" {_magnitude(there.quantiles):.4g} in the {other}: about x{shown}, allowed at most "
        f"x{limit:g} either way (validation.scale_change)."
    )
    return [Finding(check="rescaled", level=Level.FATAL, column=here.name, message=message)]


def scale_factor(here: tuple[float, ...], there: tuple[float, ...]) -> float | None:
    """Median magnitude of one column over another's; None where either is all zero or empty."""
    now, before = _magnitude(here), _magnitude(there)
    return now / before if now and before else None


def _magnitude(quantiles: tuple[float, ...]) -> float:
    magnitudes = np.abs(np.asarray(quantiles, dtype=np.float64))
    magnitudes = magnitudes[magnitudes > 0]
    return float(np.median(magnitudes)) if len(magnitudes) else 0.0


def _moved(
    spec: ModelSpec, here: ColumnProfile, there: ColumnProfile, other: str, chance: float
) -> list[Finding]:
    held, held_before = here.rows - here.nulls, there.rows - there.nulls
    if not held or not held_before:
        return []
    if here.quantiles:
        size = min(held, SAMPLE_ROWS), min(held_before, SAMPLE_ROWS)
        effect, measure = wasserstein_effect(here, there), "Wasserstein over sd"
        p = kolmogorov_p(here.quantiles, there.quantiles, *size)
        was, is_ = f"median {there.quantiles[50]:.4g}", f"median {here.quantiles[50]:.4g}"
    else:
        effect, measure = js_distance(here.shares, there.shares), "Jensen-Shannon distance"
        p = chi_square_p(here.shares, held, there.shares, held_before)
        was, is_ = _largest_move(here.shares, there.shares)
    if effect < spec.validation.drift_effect or p >= chance:
        return []
    message = (
        f"{here.name} moved against the {other}: {measure} {effect:.3f}, reported from "
        f"{spec.validation.drift_effect:g}, p = {p:.1g}; {is_}, before {was}."
    )
    return [Finding(check="moved", level=Level.WARNING, column=here.name, message=message)]


def _largest_move(here: Mapping[str, float], there: Mapping[str, float]) -> tuple[str, str]:
    names = sorted({*here, *there})
    moved = max(names, key=lambda name: abs(here.get(name, 0.0) - there.get(name, 0.0)))
    return f"{there.get(moved, 0.0):.1%}", f"{moved!r} {here.get(moved, 0.0):.1%}"


def _missing(
    spec: ModelSpec, here: ColumnProfile, there: ColumnProfile, other: str, chance: float
) -> list[Finding]:
    now, before = here.nulls / here.rows, there.nulls / there.rows
    shares = {"missing": now, "there": 1 - now}, {"missing": before, "there": 1 - before}
    effect = js_distance(*shares)
    p = two_proportions(here.nulls, here.rows, there.nulls, there.rows)
    if effect < spec.validation.drift_effect or p >= chance:
        return []
    message = (
        f"{here.name} is missing on {now:.2%} of rows, {before:.2%} in the {other} "
        f"(Jensen-Shannon distance {effect:.3f}, p = {p:.1g})."
    )
    return [
        Finding(
            check="missing_share", level=Level.WARNING, column=here.name, message=message,
            rows=here.nulls,
        )
    ]  # fmt: skip


def wasserstein_effect(here: ColumnProfile, there: ColumnProfile) -> float:
    """Wasserstein distance of the inner 99 quantiles over the reference's spread.

    The outermost per cent on either side is left out, so one absurd value is no drift; a
    reference that is constant counts as moved (1.0) when the median leaves it by 0.1%.
    """
    inner = np.asarray(here.quantiles[1:-1]), np.asarray(there.quantiles[1:-1])
    distance = float(np.mean(np.abs(inner[0] - inner[1])))
    spread = float(np.std(inner[1])) or float(there.sd or 0.0)
    if spread > 1e-9 * abs(inner[1][49]):
        return distance / spread
    return 1.0 if distance > 1e-3 * abs(inner[1][49]) else 0.0


def kolmogorov_p(
    here: tuple[float, ...], there: tuple[float, ...], rows: int, other_rows: int
) -> float:
    """Two-sample Kolmogorov-Smirnov p-value from quantiles; errs to the large side."""
    from scipy.stats import kstwobign

    first, second = np.asarray(here), np.asarray(there)
    points = np.union1d(first, second)
    gap = np.max(np.abs(_cumulative(first, points) - _cumulative(second, points)))
    distance = max(0.0, float(gap) - _RESOLUTION)
    return float(kstwobign.sf(distance * math.sqrt(rows * other_rows / (rows + other_rows))))


def _cumulative(
    quantiles: npt.NDArray[np.float64], points: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.searchsorted(quantiles, points, side="right") / len(quantiles)


def js_distance(here: Mapping[str, float], there: Mapping[str, float]) -> float:
    """Jensen-Shannon distance, base 2: 0 for equal shares, 1 for nothing in common.

    >>> js_distance({"a": 1.0}, {"b": 1.0})
    1.0
    """
    names = sorted({*here, *there})
    p, q = np.array([here.get(n, 0.0) for n in names]), np.array([there.get(n, 0.0) for n in names])
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return math.sqrt(max(0.0, divergence))


def _relative_entropy(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    there = p > 0
    return float(np.sum(p[there] * np.log2(p[there] / q[there])))


def chi_square_p(
    here: Mapping[str, float], rows: int, there: Mapping[str, float], other_rows: int
) -> float:
    """Chi-square p-value that two samples of categories are alike, sparse ones merged."""
    from scipy.stats import chi2

    kept: list[tuple[float, float]] = []
    rest = [0.0, 0.0]
    for name in sorted({*here, *there}):
        pair = here.get(name, 0.0) * rows, there.get(name, 0.0) * other_rows
        if sum(pair) * min(rows, other_rows) / (rows + other_rows) >= EXPECTED:
            kept.append(pair)
        else:
            rest = [rest[0] + pair[0], rest[1] + pair[1]]
    if sum(rest) > 0:
        kept.append((rest[0], rest[1]))
    if len(kept) < 2:
        return 1.0
    seen = np.asarray(kept)
    expected = seen.sum(axis=1, keepdims=True) * seen.sum(axis=0) / seen.sum()
    safe = expected > 0
    statistic = float(np.sum((seen - expected)[safe] ** 2 / expected[safe]))
    return float(chi2.sf(statistic, len(kept) - 1))
