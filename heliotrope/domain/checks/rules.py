"""What the spec demands of each row and of the table as a whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from heliotrope.domain.profiling import Profiled
from heliotrope.domain.quality import Finding, Level
from heliotrope.spec import Feature, ModelSpec

Examples = Mapping[tuple[str, str], tuple[dict[str, Any], ...]]
"""(column, check) -> offending rows."""
LABEL_OUT_OF_BOUNDS = "label_out_of_bounds"


def row_rules(
    spec: ModelSpec, rows: int, counts: Mapping[str, Mapping[str, int]], examples: Examples
) -> list[Finding]:
    """Rows that break a null, bound, category or infinity rule.

    The share of rows that break any rule is judged against `validation.out_of_bounds_share`:
    within it they are dropped (a warning), above it nothing is trained (fatal).

    Args:
        spec: the rules.
        rows: rows of the snapshot.
        counts: as `statistics.counts` gives them.
        examples: rows to show.
    """
    allowed = spec.validation.out_of_bounds_share
    unusable = rows - counts[""]["usable"]
    level = Level.FATAL if unusable > allowed * rows else Level.WARNING
    findings = []
    for feature in spec.features:
        for check, count in counts.get(feature.name, {}).items():
            if count and not (check == "null" and count == rows):
                findings.append(
                    _broken(feature.name, check, level, count, rows, _must(feature, check),
                            allowed, examples)
                )  # fmt: skip
    label = spec.label.name
    if count := counts.get(label, {}).get(LABEL_OUT_OF_BOUNDS, 0):
        must = f"be within {_span(spec.label.min, spec.label.max)}"
        findings.append(
            _broken(label, LABEL_OUT_OF_BOUNDS, level, count, rows, must, allowed, examples)
        )
    return findings


def _broken(
    column: str,
    check: str,
    level: Level,
    count: int,
    rows: int,
    must: str,
    allowed: float,
    examples: Examples,
) -> Finding:
    shown = examples.get((column, check), ())
    got = f" Got {shown[0].get(column)!r} at row {shown[0]['_row']}." if shown else ""
    if check == "null":
        got = f" The first is row {shown[0]['_row']}." if shown else ""
    fate = (
        "such rows are left out of training"
        if level is Level.WARNING
        else f"at most {allowed:.4g} of all rows may break a rule (validation.out_of_bounds_share)"
    )
    message = (
        f"{column} must {must} on every row. {count:,} of {rows:,} rows ({count / rows:.2%}) "
        f"break this; {fate}.{got}"
    )
    return Finding(
        check=check, level=level, column=column, message=message, rows=count, examples=shown
    )


def _must(feature: Feature, check: str) -> str:
    if check == "null":
        return "have a value (it is not nullable)"
    if check == "infinite":
        return "be a finite number that fits float32"
    if check == "unknown_category":
        known = feature.categories or ()
        listed = ", ".join(known[:8]) + (f", ... ({len(known)} in all)" if len(known) > 8 else "")
        return f"be one of {listed}"
    whole = feature.type == "integer"
    low = feature.min if feature.min is not None or not whole else -16_777_216
    high = feature.max if feature.max is not None or not whole else 16_777_216
    return f"be within {_span(low, high)}"


def _span(low: float | None, high: float | None) -> str:
    left = "(-inf" if low is None else f"[{low:.10g}"
    right = "inf)" if high is None else f"{high:.10g}]"
    return f"{left}, {right}"


def whole_columns(spec: ModelSpec, now: Profiled) -> list[Finding]:
    """Columns that hold nothing at all (fatal) or one value only (warning)."""
    findings = []
    for feature in spec.features:
        column = now.column(feature.name)
        if column is None:
            continue
        if column.nulls == column.rows:
            text = f"{column.name} must have values. All {column.rows:,} rows are missing."
            findings.append(_column("all_null", Level.FATAL, column.name, text, column.rows))
        elif column.infinite + column.nulls == column.rows:
            continue
        elif _constant(column.minimum, column.maximum, column.distinct):
            value = next(iter(column.shares), None)
            shown = f"{column.minimum:.7g}" if column.minimum is not None else repr(value)
            missing = f" and {column.nulls:,} missing" if column.nulls else ""
            text = (
                f"{column.name} should vary. It is {shown} on all {column.rows - column.nulls:,} "
                f"rows that have a value{missing}; a model learns nothing from it."
            )
            findings.append(_column("constant", Level.WARNING, column.name, text, column.rows))
    return findings


def _constant(minimum: float | None, maximum: float | None, distinct: int) -> bool:
    # Estimated counts of distinct values may be off by one; the ends of a number are exact.
    return minimum == maximum if minimum is not None else distinct == 1


def _column(check: str, level: Level, column: str, message: str, rows: int) -> Finding:
    return Finding(check=check, level=level, column=column, message=message, rows=rows)


def key_rules(
    key: str,
    missing: int,
    extra: int,
    worst: Sequence[tuple[Any, int]],
    examples: tuple[dict[str, Any], ...],
) -> list[Finding]:
    """The entity key must be there and name one row only."""
    findings = []
    if missing:
        text = f"entity key {key} must be given on every row. {missing:,} rows have none."
        findings.append(_column("key_missing", Level.FATAL, key, text, missing))
    if extra:
        listed = ", ".join(f"{value!r} on {count:,} rows" for value, count in worst[:3])
        findings.append(
            Finding(
                check="key_repeated",
                level=Level.FATAL,
                column=key,
                message=f"entity key {key} must be unique. {extra:,} rows repeat a key that "
                f"another row has: {listed}.",
                rows=extra,
                examples=examples,
            )
        )
    return findings


def row_count(spec: ModelSpec, usable: int, rows: int, previous: int | None) -> list[Finding]:
    """Enough rows, and not far fewer than last time."""
    rules, findings = spec.validation, []
    if usable < rules.minimum_rows:
        text = (
            f"the snapshot must have at least {rules.minimum_rows:,} usable rows "
            f"(validation.minimum_rows). Got {usable:,} of {rows:,}."
        )
        findings.append(Finding(check="too_few_rows", level=Level.FATAL, message=text, rows=usable))
    if previous and rows < previous * (1 - rules.row_count_drop):
        text = (
            f"the snapshot must not shrink by more than {rules.row_count_drop:.0%} "
            f"(validation.row_count_drop). Got {rows:,} rows after {previous:,}, "
            f"{1 - rows / previous:.0%} fewer."
        )
        findings.append(Finding(check="rows_lost", level=Level.FATAL, message=text, rows=rows))
    return findings
