"""Data faults: what pipelines do to good rows, told apart from a world that moved."""

import difflib
import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import binom

from heliotrope.domain.drift.chance import share_change
from heliotrope.domain.drift.documents import DriftRule
from heliotrope.domain.drift.effect import clip_outliers, jensen_shannon, wasserstein
from heliotrope.domain.drift.sketch import ColumnSketch, ReferenceSketch
from heliotrope.domain.drift.window import Column, DriftWindow, Floats, Unreadable, Words
from heliotrope.domain.encoding import bounds
from heliotrope.domain.quality import Finding, Level
from heliotrope.spec import Feature

CERTAIN = 1e-6
"""Chance below which a stuck or spiked column is no accident."""
SPIKE = 0.15
"""By how much the share of one value must rise to be a fault."""
NULLS = 0.10
"""By how much the share of missing values must rise to be fatal where they are allowed."""
BEYOND = 0.01
"""Share of values as far again from what the reference held that a column counts as broken."""


def find_faults(
    features: tuple[Feature, ...],
    window: DriftWindow,
    reference: ReferenceSketch,
    rule: DriftRule,
    chance: float,
) -> list[Finding]:
    """Everything wrong with the rows of a window, fatal first.

    Args:
        features: of the spec.
        window: the rows; none gives no finding.
        reference: what the columns were like.
        rule: the limits.
        chance: what a p-value of a column's missing values must be below.
    """
    if not window.rows:
        return []
    found = list(_absent(features, window))
    for feature in features:
        column, sketch = window.columns.get(feature.name), reference.column(feature.name)
        if column is not None:
            found += _of_column(feature, column, sketch, rule, chance)
    if window.repeated_keys > 0:
        text = (
            f"entity keys should be unique in a window. {window.repeated_keys:,} of "
            f"{window.rows:,} rows repeat one that another row has."
        )
        share = window.repeated_keys / window.rows
        level = Level.FATAL if share > 0.05 else Level.WARNING
        found.append(_finding("key_repeated", level, None, text, window.repeated_keys))
    order = {Level.FATAL: 0, Level.WARNING: 1, Level.INFO: 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _finding(
    check: str, level: Level, column: str | None, message: str, rows: int | None = None
) -> Finding:
    return Finding(check=check, level=level, column=column, message=message, rows=rows)


def _absent(features: tuple[Feature, ...], window: DriftWindow) -> Iterator[Finding]:
    spare = list(window.extra)
    for feature in features:
        if feature.name in window.columns:
            continue
        close = difflib.get_close_matches(feature.name, spare, n=1)
        hint = f" Was it renamed to {close[0]}?" if close else ""
        also = (
            f" Columns that no feature has: {', '.join(spare[:5])}." if spare and not hint else ""
        )
        text = f"{feature.name} must be a column of the window. It is not there.{hint}{also}"
        yield _finding("missing_column", Level.FATAL, feature.name, text, window.rows)


def _of_column(
    feature: Feature, column: Column, sketch: ColumnSketch | None, rule: DriftRule, chance: float
) -> list[Finding]:
    name = feature.name
    if isinstance(column, Unreadable):
        return [_finding("wrong_type", Level.FATAL, name, f"{name} must {column.problem}.")]
    rows = len(column)
    nulls = int((column.codes < 0).sum() if isinstance(column, Words) else np.isnan(column).sum())
    if nulls == rows:
        if sketch is not None and sketch.nulls == sketch.rows:
            return []
        text = f"{name} must have values. All {rows:,} rows are missing."
        return [_finding("all_null", Level.FATAL, name, text, rows)]
    found = list(_missing(feature, column, nulls, sketch, rule, chance))
    if isinstance(column, Words):
        return [*found, *_words(feature, column, sketch, rule)]
    here = np.isfinite(column)
    finite = column if here.all() else column[here]
    infinite = rows - nulls - len(finite)
    if infinite:
        text = f"{name} must be finite. {infinite:,} of {rows:,} rows are infinite."
        found.append(_finding("infinite", Level.FATAL, name, text, infinite))
    if len(finite):
        found += _numbers(feature, finite, sketch, rule)
    return found


def _missing(
    feature: Feature,
    column: Floats | Words,
    nulls: int,
    sketch: ColumnSketch | None,
    rule: DriftRule,
    chance: float,
) -> Iterator[Finding]:
    rows = len(column)
    if not nulls and (sketch is None or not sketch.nulls):
        return
    now = nulls / rows
    if nulls and not feature.nullable:
        text = (
            f"{feature.name} must not be missing. It is on {nulls:,} of {rows:,} rows ({now:.1%})."
        )
        yield _finding("null", Level.FATAL, feature.name, text, nulls)
        return
    if sketch is None or not sketch.rows:
        return
    before = sketch.nulls / sketch.rows
    p = share_change(nulls, rows, sketch.nulls, sketch.rows)
    if p >= chance or abs(now - before) < 0.02:
        return
    # A source that loses values loses any; where a world moved, the values that are left moved too.
    moved = _left_over(column, sketch) >= rule.effect
    fault = abs(now - before) >= NULLS and not moved
    level = Level.FATAL if fault or now - before >= 0.6 else Level.WARNING
    also = ", and the values that are left moved too" if moved else ""
    text = (
        f"{feature.name} is missing on {now:.1%} of {rows:,} rows, {before:.1%} in the reference "
        f"(p = {p:.1g}){also}."
    )
    yield _finding("missing_share", level, feature.name, text, nulls)


def _left_over(column: Floats | Words, sketch: ColumnSketch) -> float:
    if isinstance(column, Words):
        return 0.0 if sketch.points else jensen_shannon(sketch.counts, column.counts())
    finite = column[np.isfinite(column)]
    if not len(finite) or not sketch.points:
        return 0.0
    return wasserstein(sketch, np.sort(clip_outliers(sketch, finite)[0]))


def _words(
    feature: Feature, column: Words, sketch: ColumnSketch | None, rule: DriftRule
) -> Iterator[Finding]:
    counts = column.counts()
    held = sum(counts.values())
    known = set(feature.categories or ()) | set(sketch.counts if sketch else ())
    strange = {word: n for word, n in counts.items() if word not in known}
    if strange:
        rows = sum(strange.values())
        worst = max(strange, key=lambda word: strange[word])
        text = (
            f"{feature.name} must be one of {', '.join((feature.categories or ())[:6])}. Got "
            f"{worst!r} on {strange[worst]:,} rows; {rows:,} of {held:,} rows hold words it does "
            f"not know."
        )
        level = Level.FATAL if rows > rule.out_of_bounds_share * held else Level.WARNING
        yield _finding("unknown_category", level, feature.name, text, rows)
        return
    if sketch is None or not sketch.held:
        return
    top = max(counts, key=lambda word: counts[word])
    yield from _stuck(feature.name, repr(top), counts[top], held, sketch.counts.get(top, 0), sketch)


def _numbers(
    feature: Feature, finite: Floats, sketch: ColumnSketch | None, rule: DriftRule
) -> list[Finding]:
    low, high = bounds(feature)
    least, most = finite.min(), finite.max()
    outside = 0
    if least < np.float32(low) or most > np.float32(high):
        outside = int(((finite < np.float32(low)) | (finite > np.float32(high))).sum())
    found = []
    if outside > rule.out_of_bounds_share * len(finite):
        span = f"[{low:.6g}, {high:.6g}]"
        worst = finite[np.argmax(np.maximum(finite - high, low - finite))]
        text = (
            f"{feature.name} must be within {span}. {outside:,} of {len(finite):,} values are not, "
            f"such as {worst:.6g}."
        )
        found.append(_finding("out_of_bounds", Level.FATAL, feature.name, text, outside))
    if sketch is None or not sketch.points:
        return found
    rescaled = list(_rescaled(feature.name, finite, sketch, rule))
    found += rescaled or list(_beyond(feature.name, finite, sketch))
    values, counts = _commonest(finite)
    before = _held_before(sketch, values)
    found += _stuck(feature.name, f"{values:.6g}", counts, len(finite), before, sketch)
    return found


def _commonest(finite: Floats) -> tuple[float, int]:
    # The median is the only value that can hold half the rows; a spike below half is looked for
    # among the values of a few hundred rows.
    picked = finite[:: max(1, len(finite) // 400)]
    values, counts = np.unique(picked, return_counts=True)
    value = values[int(np.argmax(counts))]
    return float(value), int((finite == value).sum())


def _held_before(sketch: ColumnSketch, value: float) -> int:
    points = np.asarray(sketch.points)
    near = np.isclose(points, value, rtol=1e-6, atol=0.0)
    # One part may straddle each end of a run of equal values.
    return int((near.sum() + 2) / len(points) * sketch.held)


def _stuck(
    name: str, value: str, count: int, held: int, before: int, sketch: ColumnSketch
) -> Iterator[Finding]:
    was, now = before / max(1, sketch.held), count / held
    if sketch.commonest >= 1 or now - was < SPIKE:
        return
    margin = was + 3 * math.sqrt(max(was, 0.01) / max(1, sketch.held))
    p = float(binom.sf(count - 1, held, min(margin, 1.0)))
    if p >= CERTAIN or held < 20:
        return
    if count == held:
        text = (
            f"{name} must vary. It is {value} on all {held:,} rows; in the reference on "
            f"{was:.1%} of them."
        )
        yield _finding("stuck", Level.FATAL, name, text, count)
    elif now - was >= 0.3 or was < 0.02:
        # Half a day of a stuck sensor, or a default that is filled in.
        level = Level.FATAL if was < 0.05 or now > 0.95 else Level.WARNING
        text = (
            f"{name} is {value} on {now:.1%} of {held:,} rows, in the reference on {was:.1%}: a "
            f"default or a stuck source."
        )
        yield _finding("spike", level, name, text, count)


def _rescaled(
    name: str, finite: Floats, sketch: ColumnSketch, rule: DriftRule
) -> Iterator[Finding]:
    now, before = _magnitude(finite), _magnitude(np.asarray(sketch.points))
    if not now or not before or len(finite) < 5:
        return
    factor = now / before
    if 1 / rule.scale_change < factor < rule.scale_change:
        return
    # Divided by the factor the column must look like itself again, or it is something else.
    points = np.asarray(sketch.points)
    there = np.quantile(finite, (np.arange(len(points)) + 0.5) / len(points)) / factor
    apart = float(np.abs(there - points).mean()) / sketch.spread
    like = apart < 0.5 or len(finite) < 50
    shape = "" if like else ", and its shape changed too"
    text = (
        f"{name} must keep its unit. Its median magnitude is {now:.4g}, {before:.4g} in the "
        f"reference: about x{_round(factor)}{shape}."
    )
    yield _finding("rescaled", Level.FATAL, name, text, len(finite))


def _round(factor: float) -> str:
    power = 10.0 ** round(math.log10(factor))
    return f"{power:g}" if abs(factor / power - 1) < 0.25 else f"{factor:.3g}"


def _magnitude(values: Floats) -> float:
    # A median of some thousand values tells a factor of ten.
    sizes = np.abs(values[:: max(1, len(values) // 20_000)])
    sizes = sizes[sizes > 0]
    return float(np.median(sizes)) if len(sizes) else 0.0


def _beyond(name: str, finite: Floats, sketch: ColumnSketch) -> Iterator[Finding]:
    # A reference of many rows holds nearly all there can be: a world that moves stays near it.
    low, high = sketch.minimum or 0.0, sketch.maximum or 0.0
    room = high - low
    if finite.min() >= low - room and finite.max() <= high + room:
        return
    outside = int(((finite < low - room) | (finite > high + room)).sum())
    if outside < 3 or outside <= BEYOND * len(finite) or sketch.held < 1000:
        return
    text = (
        f"{name} must be like what was learnt from, {low:.6g} to {high:.6g}. {outside:,} of "
        f"{len(finite):,} values lie far outside."
    )
    yield _finding("beyond_reference", Level.FATAL, name, text, outside)


def find_swaps(
    window: DriftWindow, reference: ReferenceSketch, moved: dict[str, float]
) -> list[Finding]:
    """Pairs of columns that fit each other's past far better than their own.

    Args:
        window: the rows.
        reference: what the columns were like.
        moved: effect of the columns that drifted, or have a fault of their values.
    """
    names = sorted(moved, key=lambda name: -moved[name])[:40]
    best: list[tuple[float, str, str]] = []
    for index, left in enumerate(names):
        for right in names[index + 1 :]:
            crossed = _crossed(window, reference, left, right)
            if crossed is not None and crossed < 0.25 * (moved[left] + moved[right]):
                best.append((crossed, left, right))
    found: list[Finding] = []
    used: set[str] = set()
    for crossed, left, right in sorted(best):
        if {left, right} & used:
            continue
        used |= {left, right}
        text = (
            f"{left} and {right} hold each other's values: distances {moved[left]:.3g} and "
            f"{moved[right]:.3g} from their own past, {crossed:.3g} together from each other's."
        )
        found.append(_finding("swapped", Level.FATAL, left, text, window.rows))
    return found


def _crossed(
    window: DriftWindow, reference: ReferenceSketch, left: str, right: str
) -> float | None:
    distances = []
    for name, other in ((left, right), (right, left)):
        column, sketch = window.columns.get(name), reference.column(other)
        if column is None or sketch is None or isinstance(column, Unreadable):
            return None
        if isinstance(column, Words):
            if sketch.points or not sketch.held:
                return None
            distances.append(jensen_shannon(sketch.counts, column.counts()))
            continue
        finite = column[np.isfinite(column)]
        if not sketch.points or len(finite) < 50:
            return None
        points = np.asarray(sketch.points)
        there = np.quantile(finite, (np.arange(len(points)) + 0.5) / len(points))
        distances.append(float(np.abs(there - points).mean()) / sketch.spread)
    return sum(distances)
