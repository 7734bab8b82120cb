"""Arrow rows of judged predictions as the arrays of `domain.outcomes`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from heliotrope.domain.events import FEATURE_PREFIX, TYPED_FEATURE_SEPARATOR
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import UsageError
from heliotrope.spec import FeatureType, ModelSpec

_ARROW = {
    FeatureType.FLOAT: pa.float32(),
    FeatureType.INTEGER: pa.int64(),
    FeatureType.CATEGORY: pa.string(),
    FeatureType.BOOLEAN: pa.bool_(),
}


def feature_names(spec: ModelSpec, features: Sequence[str] | None) -> list[str]:
    """The features asked for; all of the spec without a choice.

    Raises:
        UsageError: one is not of the spec.
    """
    if features is None:
        return spec.feature_names
    for name in features:
        if name not in spec.feature_names:
            known = ", ".join(spec.feature_names[:20])
            raise UsageError(f"features must be of the spec: {known}. Got {name!r}.")
    return list(features)


def logged_columns(
    spec: ModelSpec, names: Sequence[str], present: Sequence[str], schema: Any
) -> dict[str, str]:
    """The column that holds each feature in the spec's type; none for one that was never logged."""
    types = {feature.name: feature.type for feature in spec.features}
    found = {}
    for name in names:
        plain = FEATURE_PREFIX + name
        typed = f"{plain}{TYPED_FEATURE_SEPARATOR}{types[name]}"
        if typed in present:
            found[name] = typed
        elif plain in present and _fits(schema[plain], types[name]):
            found[name] = plain
    return found


def _fits(kind: Any, wanted: FeatureType) -> bool:
    fits = {
        FeatureType.FLOAT: kind.is_floating(),
        FeatureType.INTEGER: kind.is_integer(),
        FeatureType.CATEGORY: kind.is_string(),
        FeatureType.BOOLEAN: kind.is_boolean(),
    }
    return bool(fits[wanted])


def feature_types(spec: ModelSpec) -> dict[str, Any]:
    """The Arrow type that each feature is logged in."""
    return {feature.name: _ARROW[feature.type] for feature in spec.features}


def feature_table(
    spec: ModelSpec, names: Sequence[str], columns: dict[str, str], found: pa.Table
) -> pa.Table:
    """A column a feature, of the spec's type; nulls where it was never logged."""
    types = feature_types(spec)
    return pa.table(
        {
            name: found.column(columns[name]).cast(types[name])
            if name in columns
            else pa.nulls(found.num_rows, types[name])
            for name in names
        }
    )


def key_columns(found: pa.Table) -> dict[str, Any]:
    """What says which prediction a row is."""
    return {
        "prediction_id": texts(found, "prediction_id"),
        "version": texts(found, "version"),
        "role": texts(found, "role"),
        "predicted_at": times(found, "at"),
    }


def label_columns(found: pa.Table) -> dict[str, Any]:
    """The label, and when it came."""
    return {
        "label": numbers(found, "value", np.float64),
        "label_received_at": times(found, "told"),
    }


def class_scores(found: pa.Table, plan: TruthPlan, prefix: str = "") -> Any:
    """[rows, classes], for multiclass."""
    if not plan.score_columns:
        return None
    columns = [numbers(found, prefix + name, np.float64) for name in plan.score_columns]
    return np.stack(columns, axis=1)


def numbers(found: pa.Table, name: str, kind: Any) -> Any:
    """A column of numbers; NaN where it is null."""
    column = found.column(name)
    if column.null_count:
        column = column.cast(pa.float64())
    return column.to_numpy().astype(kind, copy=False)


def texts(found: pa.Table, name: str) -> Any:
    """A column of text."""
    return found.column(name).to_numpy(zero_copy_only=False).astype(object)


def times(found: pa.Table, name: str) -> Any:
    """A column of microseconds since 1970, as times."""
    return found.column(name).cast(pa.int64()).cast(pa.timestamp("us")).to_numpy()
