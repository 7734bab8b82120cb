"""Validate a snapshot: gather its numbers and those of its forebears, and let the checks judge."""

from typing import Any

import numpy as np

from heliotrope.domain import statistics
from heliotrope.domain.checks import compare as comparing
from heliotrope.domain.checks import label as labels
from heliotrope.domain.checks import leakage, rules
from heliotrope.domain.profiling import COLUMNS_A_SAMPLE, Profiled, profile, share_name
from heliotrope.domain.quality import Finding, Level, QualityReport
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.errors import DataFault, NotFoundError
from heliotrope.ports import SnapshotStore
from heliotrope.spec import FeatureType, ModelSpec
from heliotrope.vocabulary import Task

EXAMPLES = 5
_ORDER = {Level.FATAL: 0, Level.WARNING: 1, Level.INFO: 2}


def validate_data(
    spec: ModelSpec,
    ref: SnapshotRef,
    store: SnapshotStore,
    previous: SnapshotRef | None = None,
    champion: SnapshotRef | None = None,
) -> QualityReport:
    """Judge a snapshot on its own and against what came before.

    Args:
        spec: the rules.
        ref: the snapshot.
        store: holds it and those compared with.
        previous: the snapshot before it.
        champion: the one the champion was trained on.

    Returns:
        Everything found, fatal first. A column the snapshot lacks is a fatal finding, not an
        error; a comparison snapshot that is gone is an info.

    Raises:
        NotFoundError: the snapshot itself is gone.
        UnavailableError: the object store does not answer.
    """
    with store.open(ref) as table:
        missing = _missing_columns(table, spec, ref)
        if missing:
            return QualityReport(
                model=spec.name, rows=ref.rows, usable_rows=0, columns=(), findings=(missing,)
            )
        now = profile(table, spec, ref.rows)
        counts = statistics.counts(table, spec)
        usable = counts[""]["usable"]
        classes = _classes(table, spec)
        findings = rules.whole_columns(spec, now)
        findings += rules.row_rules(spec, ref.rows, counts, _examples(table, spec, counts))
        findings += _key_findings(table, spec)
        findings += _label_findings(table, spec, classes, counts, now)
        findings += _leaks(table, spec, ref.rows)
    findings += rules.row_count(spec, usable, ref.rows, previous.rows if previous else None)
    compared, against = _comparisons(spec, ref, store, now, classes, previous, champion)
    findings += against
    return QualityReport(
        model=spec.name,
        rows=ref.rows,
        usable_rows=usable,
        label_rate=_positives(spec, classes) / ref.rows if spec.task is Task.BINARY else None,
        class_counts={share_name(value): count for value, count in classes},
        columns=now.columns,
        findings=tuple(sorted(findings, key=lambda finding: _ORDER[finding.level])),
        compared_with=tuple(compared),
    )


def _missing_columns(table: Any, spec: ModelSpec, ref: SnapshotRef) -> Finding | None:
    try:
        statistics.require_columns(
            [name for name in table.columns if name != "_row"],
            spec,
            f"snapshot {ref.model} v{ref.version}",
        )
    except DataFault as error:
        return Finding(check="missing_column", level=Level.FATAL, message=str(error))
    return None


def _classes(table: Any, spec: ModelSpec) -> list[tuple[Any, int]]:
    if spec.task is Task.REGRESSION:
        return []
    return statistics.value_counts(table, spec.label.name)


def _positives(spec: ModelSpec, classes: list[tuple[Any, int]]) -> int:
    return sum(count for value, count in classes if value == spec.label.positive)


def _examples(
    table: Any, spec: ModelSpec, counts: dict[str, dict[str, int]]
) -> dict[tuple[str, str], tuple[dict[str, Any], ...]]:
    broken = {(f.name, check): rule for f in spec.features
              for check, rule in statistics.rules(table, f).items()}  # fmt: skip
    label = spec.label.name
    broken |= {(label, check): rule for check, rule in statistics.label_rules(table, spec).items()}
    return {
        (column, check): statistics.examples(table, spec, rule, column, EXAMPLES)
        for (column, check), rule in broken.items()
        if counts[column][check]
    }


def _key_findings(table: Any, spec: ModelSpec) -> list[Finding]:
    key = spec.entity_key
    if key is None:
        return []
    missing = table.aggregate(n=table[key].isnull().sum()).to_pyarrow().to_pylist()[0]["n"]
    extra, worst = statistics.duplicates(table, key, EXAMPLES)
    shown: tuple[dict[str, Any], ...] = ()
    if worst:
        repeated = table[key].isin([value for value, _ in worst])
        shown = statistics.examples(table, spec, repeated, spec.label.name, EXAMPLES * 2)
    return rules.key_rules(key, int(missing or 0), extra, worst, shown)


def _label_findings(
    table: Any,
    spec: ModelSpec,
    classes: list[tuple[Any, int]],
    counts: dict[str, dict[str, int]],
    now: Profiled,
) -> list[Finding]:
    unknown = counts[spec.label.name]["label_unknown"]
    shown: tuple[dict[str, Any], ...] = ()
    if unknown:
        rule = statistics.label_rules(table, spec)["label_unknown"]
        shown = statistics.examples(table, spec, rule, spec.label.name, EXAMPLES)
    return labels.label_values(spec, classes, unknown, shown, now.column(spec.label.name))


def _leaks(table: Any, spec: ModelSpec, rows: int) -> list[Finding]:
    findings: list[Finding] = []
    features = list(spec.features)
    for start in range(0, len(features), COLUMNS_A_SAMPLE):
        chunk = features[start : start + COLUMNS_A_SAMPLE]
        columns = {f"v{i}": table[feature.name] for i, feature in enumerate(chunk)}
        frame = statistics.sample(
            table, {**columns, "label": statistics.label_code(table, spec)}, rows
        )
        codes = frame["label"].to_numpy(dtype=np.float64, na_value=np.nan)
        known = ~np.isnan(codes)
        for i, feature in enumerate(chunk):
            values = _numbers(frame[f"v{i}"], feature.type)[known]
            category = feature.type is FeatureType.CATEGORY
            found = leakage.leak(values, codes[known], spec.task, category)
            findings += leakage.leakage(spec, feature.name, found, int(known.sum()))
    return findings


def _numbers(column: Any, kind: FeatureType) -> leakage.Numbers:
    if kind is FeatureType.CATEGORY:
        codes, _ = column.factorize(sort=True, use_na_sentinel=True)
        numbers: leakage.Numbers = np.where(codes < 0, np.nan, codes.astype(np.float64))
        return numbers
    return np.asarray(column.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))


def _comparisons(
    spec: ModelSpec,
    ref: SnapshotRef,
    store: SnapshotStore,
    now: Profiled,
    classes: list[tuple[Any, int]],
    previous: SnapshotRef | None,
    champion: SnapshotRef | None,
) -> tuple[list[str], list[Finding]]:
    compared: list[str] = []
    findings: list[Finding] = []
    seen = {ref.content_hash}
    for other, what in ((previous, "previous snapshot"), (champion, "champion's snapshot")):
        if other is None or other.content_hash in seen:
            continue
        seen.add(other.content_hash)
        name = f"{what} v{other.version}"
        try:
            with store.open(other) as table:
                before = profile(table, spec, other.rows)
                classes_before = _classes(table, spec) if spec.label.name in table.columns else []
        except NotFoundError as error:
            text = f"the {name} cannot be compared with: {error}"
            findings.append(Finding(check="not_compared", level=Level.INFO, message=text))
            continue
        compared.append(name)
        findings += comparing.compare(spec, now, before, name)
        if spec.task is Task.BINARY:
            findings += labels.label_rate(
                spec,
                (_positives(spec, classes), ref.rows),
                (_positives(spec, classes_before), other.rows),
                name,
            )
    return compared, findings
