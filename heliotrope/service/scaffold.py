"""A first spec for a table that nobody has described: to be read, corrected and trained at once."""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from heliotrope.domain.checks.leakage import leak
from heliotrope.errors import SpecError, UsageError
from heliotrope.service.scaffold_label import Hints, Roles, settle_roles
from heliotrope.service.scaffold_profile import ColumnProfile, present, profile_table
from heliotrope.spec import Validation, parse_spec
from heliotrope.spec.features import FLOAT32_MAX
from heliotrope.vocabulary import COLUMN_ROW, Task

EXACT = 2**24
"""Whole numbers beyond +-16,777,216 are not exact in float32."""
LEAK_SCORE = Validation().leakage_score
_SAMPLE_ROWS = 20_000
_COLUMNS_A_SAMPLE = 50
_ORDER_ROWS = 1_000_000
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.\-]*$")
_MODEL_NAME = re.compile(r"^[a-z]([a-z0-9-]*[a-z0-9])?$")


@dataclass(frozen=True)
class FeatureLine:
    """One feature as the YAML will show it."""

    block: Mapping[str, Any]
    comment: str


@dataclass(frozen=True)
class Scaffold:
    """A spec's text and what a person should know of it."""

    text: str
    notes: tuple[str, ...]
    """What was guessed and why."""
    left_out: Mapping[str, str]
    """Columns that are no feature, with the reason."""
    features: int


def infer_spec(table: Any, name: str, source: Mapping[str, Any], hints: Hints) -> Scaffold:
    """Infer a spec that parses and trains.

    Args:
        table: Ibis table of at least one row, as a `SourceReader` opens it (CSV columns are text).
        name: of the model.
        source: the spec's source block.
        hints: what a person said.

    Raises:
        UsageError: the name or a hint cannot be, no label can be guessed, or no feature is left.
    """
    if not _MODEL_NAME.match(name) or len(name) > 50:
        raise UsageError(
            "the model's name must be lower-case letters, digits and dashes, begin with a letter "
            f"and have at most 50. Got {name}."
        )
    profiles = profile_table(table)
    roles = settle_roles(profiles, hints)
    reserved = {roles.label.name, roles.key, roles.time}
    features, left_out = _features([p for p in profiles if p.name not in reserved])
    for leaking, reason in _leaks(table, features, roles).items():
        del features[leaking]
        left_out[leaking] = reason
    if not features:
        reasons = "; ".join(f"{column}: {reason}" for column, reason in left_out.items())
        raise UsageError(f"the table must have a column to learn from. Got {reasons or 'none'}.")
    notes = [*roles.notes, *_order_note(table, roles)]
    text = _render(name, source, replace(roles, notes=notes), features, left_out)
    try:
        parse_spec(text, f"the spec of {name}")
    except SpecError as error:
        raise UsageError(f"{error}\nMend the table or write the spec by hand.") from error
    return Scaffold(text, tuple(notes), left_out, len(features))


def _features(
    profiles: Sequence[ColumnProfile],
) -> tuple[dict[str, FeatureLine], dict[str, str]]:
    features: dict[str, FeatureLine] = {}
    left_out: dict[str, str] = {}
    for profile in profiles:
        decided = _refusal(profile) or _feature(profile)
        if isinstance(decided, str):
            left_out[profile.name] = decided
        else:
            features[profile.name] = decided
    return features, left_out


def _refusal(column: ColumnProfile) -> str | None:
    if not _NAME.match(column.name) or len(column.name) > 200:
        return (
            "rename it: a feature's name begins with a letter or _ and has only letters, digits, "
            "_ . and -"
        )
    if column.name == COLUMN_ROW:
        return "the name is reserved"
    if column.present == 0:
        return "every value is missing"
    if column.kind == "other":
        return "it is neither text, number, boolean nor time"
    if column.distinct == 1:
        return f"constant: always {_short((*column.words, '?')[0])}"
    if column.time:
        return "a time; make a number of it (an age, an hour) if it should count"
    if column.infinite:
        return f"{column.infinite:,} values are infinite"
    return None


def _feature(column: ColumnProfile) -> FeatureLine | str:
    missing = column.rows - column.present
    nullable = {"nullable": True} if missing else {}
    share = f"{missing / column.rows:.1%} missing" if missing else ""
    if column.boolean:
        return FeatureLine({"name": column.name, "type": "boolean", **nullable}, share)
    if column.numeric:
        return _number(column, nullable, share)
    if not column.words:
        mostly = column.numbers / column.present
        if mostly > 0.5:
            return f"{mostly:.1%} are numbers, but not all: {_short(column.odd)}"
        return (
            f"{column.distinct:,} different texts: a category must be one of a short list, and one "
            "never seen in training tells a model nothing"
        )
    block = {
        "name": column.name,
        "type": "category",
        "categories": sorted(column.words),
        **nullable,
    }
    return FeatureLine(block, share)


def _number(column: ColumnProfile, nullable: Mapping[str, Any], share: str) -> FeatureLine | str:
    beyond = max(abs(column.low), abs(column.high)) > EXACT
    if column.integer and beyond and column.distinct > 0.9 * column.present:
        return "whole numbers beyond 16,777,216, nearly all different: it looks like an identifier"
    if max(abs(column.low), abs(column.high)) > FLOAT32_MAX:
        return f"numbers beyond float32: up to {max(abs(column.low), abs(column.high)):.3g}"
    integer = column.integer and not beyond
    low, high = friendly_bounds(column.low, column.high, integer)
    block = {
        "name": column.name,
        "type": "integer" if integer else "float",
        "min": low,
        "max": high,
        **nullable,
    }
    seen = f"seen {_plain(column.low)} to {_plain(column.high)}"
    inexact = (
        "whole numbers beyond 16,777,216, rounded to 7 digits" if column.integer and beyond else ""
    )
    return FeatureLine(block, ", ".join(part for part in (seen, share, inexact) if part))


def friendly_bounds(low: float, high: float, integer: bool) -> tuple[float, float]:
    """Bounds with half the span to spare at both ends, on round numbers; a sign is kept.

    >>> friendly_bounds(1000, 40000, integer=True)
    (0, 60000)
    >>> friendly_bounds(0, 1, integer=True)
    (0, 1)
    """
    if (low, high) == (0, 1):
        return (0, 1) if integer else (0.0, 1.0)
    span = high - low
    # Below the smallest normal number a power of ten would be zero.
    unit = 10.0 ** math.floor(math.log10(span)) if span > sys.float_info.min else 1.0
    unit = max(unit, 1.0) if integer else unit
    lowest = _rounded(low - span / 2, unit, math.floor)
    highest = _rounded(high + span / 2, unit, math.ceil)
    # A value that was never negative is taken for one that cannot be, and the other way round.
    lowest = max(lowest, 0.0) if low >= 0 else lowest
    highest = min(highest, 0.0) if high <= 0 else highest
    limit = float(EXACT) if integer else FLOAT32_MAX
    lowest, highest = max(min(lowest, low), -limit), min(max(highest, high), limit)
    return (int(lowest), int(highest)) if integer else (lowest, highest)


def _rounded(value: float, unit: float, how: Any) -> float:
    steps = value / unit
    # Where a unit is below the value's own precision, rounding to it would do nothing but harm.
    if not math.isfinite(value) or abs(steps) > 1e15:
        return value
    return float(f"{how(steps) * unit:.12g}")


def _leaks(table: Any, features: Mapping[str, FeatureLine], roles: Roles) -> dict[str, str]:
    """Features that tell the label by themselves, by the measure the validation refuses by."""
    found = {}
    names = list(features)
    for start in range(0, len(names), _COLUMNS_A_SAMPLE):
        chunk = names[start : start + _COLUMNS_A_SAMPLE]
        rows = _sample(table, chunk, features, roles)
        truth = _codes(rows.column("label"), roles.task is Task.REGRESSION)
        for position, name in enumerate(chunk):
            kind = features[name].block["type"]
            values = _codes(rows.column(f"v{position}"), kind in ("float", "integer"))
            known = ~np.isnan(truth)
            told = leak(values[known], truth[known], roles.task, kind == "category")
            if told is not None and told.score >= LEAK_SCORE:
                found[name] = (
                    f"tells the label by itself ({told.measure} {told.score:.3f}): known only "
                    "afterwards, or a copy of it"
                )
    return found


def _sample(
    table: Any, names: Sequence[str], features: Mapping[str, FeatureLine], roles: Roles
) -> Any:
    """Arrow table of rows spread over the whole table: `label`, then `v0`, `v1`, ... as names."""
    import ibis

    label = table[roles.label.name]
    columns = {"label": _readable(label, roles.task is Task.REGRESSION)}
    for position, name in enumerate(names):
        numeric = features[name].block["type"] in ("float", "integer")
        columns[f"v{position}"] = _readable(table[name], numeric)
    every = max(1, roles.label.rows // _SAMPLE_ROWS)
    chosen = table.filter(present(label)).select(place=ibis.row_number(), **columns)
    return chosen.filter(chosen["place"] % every == 0).to_pyarrow()


def _readable(column: Any, numeric: bool) -> Any:
    import ibis

    if not numeric:
        return present(column).ifelse(column.cast("string"), ibis.null("string"))
    text = column.type().is_string()
    return column.strip().try_cast("float64") if text else column.cast("float64")


def _codes(column: Any, numeric: bool) -> npt.NDArray[np.float64]:
    """Numbers as they are, texts by their position in the alphabet; NaN where missing."""
    if numeric:
        numbers: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        return numbers.astype(np.float64)
    words = column.to_pylist()
    place = {word: float(i) for i, word in enumerate(sorted({w for w in words if w is not None}))}
    return np.array([place.get(word, math.nan) for word in words], dtype=np.float64)


def _order_note(table: Any, roles: Roles) -> list[str]:
    """Say so when the newest rows lack a class, since rows are divided in the source's order."""
    if roles.time is not None or roles.task is Task.REGRESSION:
        return []
    label = table[roles.label.name]
    shown = table.filter(present(label)).select(label=label.cast("string")).limit(_ORDER_ROWS)
    words = shown.to_pyarrow().column("label").to_pylist()
    held = max(1, len(words) // 5)
    lacking = sorted(set(words[:-held]) ^ set(words[-held:]))
    if not lacking:
        return []
    return [
        f"Shuffle the source before training: its last fifth judges the model, and the class "
        f"{lacking[0]!r} is only on one side of that."
    ]


def _render(
    name: str,
    source: Mapping[str, Any],
    roles: Roles,
    features: Mapping[str, FeatureLine],
    left_out: Mapping[str, str],
) -> str:
    rows = roles.label.rows
    lines = [
        f"# Written by `heliotrope init` from {rows:,} rows, to be corrected by you: what a column",
        "# means is not in its values. `heliotrope spec schema` explains every key.",
        *(f"# {_one_line(note)}" for note in roles.notes),
        _yaml({"name": name, "task": str(roles.task)}),
    ]
    if roles.key is not None:
        lines.append(_yaml({"entity_key": roles.key}) + " # unique in every row")
    if roles.time is not None:
        lines.append(_yaml({"event_time": roles.time}) + " # judged on later rows than trained on")
    lines += ["", _yaml({"label": dict(roles.label_yaml)})]
    if roles.time is not None:
        lines.append("  delay: 0s # how long after the event the label is final, such as 30d")
    lines += ["", _yaml({"source": dict(source)}), ""]
    lines += [
        "# In the order they are served. Bounds have room beyond what was seen; they are held in",
        "# training and in every request.",
        "features:",
    ]
    for line in features.values():
        comment = f" # {line.comment}" if line.comment else ""
        lines.append(f"  - {_flow(line.block)}{comment}")
    if left_out:
        lines += ["# Left out:"]
        lines += [
            f"#   {_short(column)}: {_one_line(reason)}" for column, reason in left_out.items()
        ]
    return "\n".join([*lines, "", *_demands(roles)]) + "\n"


def _demands(roles: Roles) -> list[str]:
    """Metrics, gates and what small data needs, so that a first training can pass."""
    rows = roles.label.present
    metrics = {
        Task.BINARY: {
            "primary": "roc_auc",
            "others": ["average_precision", "log_loss", "brier", "accuracy"],
        },
        Task.MULTICLASS: {"primary": "accuracy", "others": ["log_loss", "f1"]},
        Task.REGRESSION: {"primary": "mae", "others": ["rmse", "r2"]},
    }[roles.task]
    gates: dict[str, Any] = {"minimum_rows": max(1, min(200, int(rows * 0.15)))}
    if roles.task is not Task.REGRESSION:
        gates["minimum_positives"] = max(0, min(20, int(roles.rarest * 0.1)))
    if roles.task is Task.BINARY:
        gates["bounds"] = {"roc_auc": 0.55}
    lines = [_yaml({"metrics": metrics})]
    if roles.task is not Task.REGRESSION and roles.rarest * 0.15 < 10:
        lines += [
            "",
            "# Too few of the rarest class to calibrate on.",
            _yaml({"trainer": {"calibrate": False}}),
        ]
    lines += ["", _yaml({"validation": {"minimum_rows": max(1, min(100, rows // 2))}})]
    lines += [
        "",
        "# What a candidate must show on the holdout; raise it to what you need.",
        _yaml({"gates": gates}),
    ]
    return lines


def _yaml(block: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(block), sort_keys=False, allow_unicode=True, width=100).rstrip("\n")


def _flow(block: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(
        dict(block), sort_keys=False, allow_unicode=True, default_flow_style=True, width=math.inf
    )
    return str(text).strip()


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _one_line(text: str) -> str:
    # A comment ends at any line break, and YAML refuses what cannot be printed.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
