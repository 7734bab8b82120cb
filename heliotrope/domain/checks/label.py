"""What the label must be before anything can be learned from it."""

import math
from collections.abc import Sequence
from typing import Any

from heliotrope.domain.profiling import share_name
from heliotrope.domain.quality import ColumnProfile, Finding, Level
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

CHANCE = 0.01


def label_values(
    spec: ModelSpec,
    values: Sequence[tuple[Any, int]],
    unknown: int,
    examples: tuple[dict[str, Any], ...],
    profile: ColumnProfile | None = None,
) -> list[Finding]:
    """Every label value is known, and there is more than one.

    Args:
        spec: names the classes.
        values: distinct stored values with their rows, commonest first.
        unknown: rows whose label has no code.
        examples: some of those rows.
        profile: of the label (regression).
    """
    if spec.task is Task.REGRESSION:
        return _regression(spec, unknown, examples, profile)
    named = {share_name(value): count for value, count in values}
    label, findings = spec.label.name, []
    if spec.task is Task.BINARY:
        positive = share_name(spec.label.positive)
        others = [name for name in named if name != positive]
        negative = spec.label.negative
        odd = others[1:] if negative is None else [n for n in others if n != share_name(negative)]
        if odd:
            other = "one other value" if negative is None else repr(share_name(negative))
            findings.append(_finding(
                "label_unknown", label,
                f"label {label} must be {positive!r} or {other}. Got {len(named)} "
                f"different values: {_counted(named)}.", sum(named[name] for name in odd),
            ))  # fmt: skip
        if positive not in named and named:
            findings.append(_finding(
                "single_class", label,
                f"label {label} must have both classes. No row is {positive!r} "
                f"(label.positive); got {_counted(named)}.",
            ))  # fmt: skip
    elif unknown:
        strange = {name: n for name, n in named.items() if name not in spec.classes}
        findings.append(_finding(
            "label_unknown", label,
            f"label {label} must be one of {', '.join(spec.classes)} (label.classes). "
            f"{unknown:,} rows are not: {_counted(strange)}.", unknown, examples,
        ))  # fmt: skip
    if len(named) == 1 and not findings:
        findings.append(_finding(
            "single_class", label,
            f"label {label} must have more than one class. Got only {_counted(named)}.",
        ))  # fmt: skip
    if spec.task is Task.MULTICLASS and len(named) > 1:
        findings += [
            Finding(check="class_absent", level=Level.WARNING, column=label,
                    message=f"class {name!r} of label {label} has no row; it cannot be learned.")
            for name in spec.classes if name not in named
        ]  # fmt: skip
    return findings


def _regression(
    spec: ModelSpec,
    unknown: int,
    examples: tuple[dict[str, Any], ...],
    profile: ColumnProfile | None,
) -> list[Finding]:
    label, findings = spec.label.name, []
    if unknown:
        text = f"label {label} must be a finite number. {unknown:,} rows are not."
        findings.append(_finding("label_unknown", label, text, unknown, examples))
    if profile is not None and profile.minimum is not None and profile.minimum == profile.maximum:
        text = f"label {label} must vary. It is {profile.minimum:.7g} on every row."
        findings.append(_finding("single_class", label, text, profile.rows))
    return findings


def _finding(
    check: str,
    column: str,
    message: str,
    rows: int | None = None,
    examples: tuple[dict[str, Any], ...] = (),
) -> Finding:
    return Finding(
        check=check, level=Level.FATAL, column=column, message=message, rows=rows,
        examples=examples,
    )  # fmt: skip


def _counted(named: dict[str, int], most: int = 6) -> str:
    shown = [f"{name!r} on {count:,} rows" for name, count in list(named.items())[:most]]
    return ", ".join(shown) + (", ..." if len(named) > most else "")


def label_rate(
    spec: ModelSpec, now: tuple[int, int], before: tuple[int, int], other: str
) -> list[Finding]:
    """A positive rate that moved by more than a share of itself, and by more than chance.

    Args:
        spec: names the label and the allowed change.
        now: (positives, rows).
        before: the same of the other snapshot.
        other: how messages name it.
    """
    (hits, rows), (hits_before, rows_before) = now, before
    if not rows or not rows_before or not hits_before:
        return []
    rate, rate_before = hits / rows, hits_before / rows_before
    change = abs(rate - rate_before) / rate_before
    chance = two_proportions(hits, rows, hits_before, rows_before)
    if change <= spec.validation.label_rate_change or chance >= CHANCE:
        return []
    message = (
        f"the share of {share_name(spec.label.positive)!r} in label {spec.label.name} is "
        f"{rate:.2%} of {rows:,} rows, {rate_before:.2%} of {rows_before:,} in the {other}: a "
        f"change by {change:.0%}, allowed {spec.validation.label_rate_change:.0%}, "
        f"p = {chance:.1g}."
    )
    return [
        Finding(check="label_rate", level=Level.WARNING, column=spec.label.name, message=message)
    ]


def two_proportions(hits: int, rows: int, other_hits: int, other_rows: int) -> float:
    """Two-sided p-value that two shares are equal (pooled z-test); 1 where it is undefined.

    >>> round(two_proportions(50, 1000, 90, 1000), 4)
    0.0005
    """
    if not rows or not other_rows:
        return 1.0
    pooled = (hits + other_hits) / (rows + other_rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / other_rows))
    if error == 0:
        return 1.0
    return math.erfc(abs(hits / rows - other_hits / other_rows) / error / math.sqrt(2))
