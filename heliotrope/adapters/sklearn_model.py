"""The fitted model: preprocessing, estimator and calibration as one scikit-learn pipeline.

Preprocessing learns nothing, so the estimator is fitted on the float32 matrix straight from the
snapshot, and the pipeline is put round it afterwards; no data frame of the training rows is ever
built. `Pipeline.predict_proba(raw data frame)` then gives, to the bit, what the matrix gives.
"""

import itertools
import warnings as python_warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import threadpoolctl
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder
from sklearn.utils import check_array
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import has_fit_parameter

from heliotrope.adapters import onnx_model, skops_model
from heliotrope.adapters.estimators import build_estimator, describe, parameters
from heliotrope.adapters.tree_thresholds import forget_threads, round_thresholds
from heliotrope.domain.importance import loss, sample_rows
from heliotrope.errors import DataFault, HeliotropeError, UsageError
from heliotrope.ports import FloatMatrix, FloatVector, LabelledRows
from heliotrope.spec import Feature, FeatureType, ModelSpec
from heliotrope.vocabulary import ONNX_FILE, SKOPS_FILE, Task

MINIMUM_CALIBRATION = 10
"""Rows of the rarest class that calibration and early stopping need; Platt's two parameters on
fewer say more about chance than about the model."""

_CHUNK = 200_000
"""Rows scored at once: gradient boosting makes a float64 copy of what it is given."""


@dataclass(frozen=True)
class SklearnModel:
    """A fitted pipeline with what is known of its fitting; a `ports.FittedModel`."""

    spec: ModelSpec
    pipeline: Any
    """`Pipeline([("encode", ...), ("model", ...)])`, takes a data frame of raw columns."""
    estimator: str
    parameters: Mapping[str, Any]
    curve: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calibration: str | None = None
    warnings: tuple[str, ...] = ()

    def score(self, features: FloatMatrix) -> FloatVector:
        """[rows] or [rows, classes] float64 from the float32 matrix, past the encoder."""
        return score_matrix(self.pipeline.named_steps["model"], self.spec.task, features)

    def score_raw(self, rows: Sequence[Mapping[str, Any]]) -> FloatVector:
        """The same from raw rows, through the whole pipeline."""
        return score_frame(self.pipeline, self.spec, rows)

    def save(self, folder: Path) -> None:
        """Write SKOPS_FILE (the whole pipeline) and ONNX_FILE (what follows the encoder)."""
        onnx_model.export_onnx(
            self.pipeline.named_steps["model"],
            self.spec.task,
            len(self.spec.features),
            folder / ONNX_FILE,
        )
        skops_model.save_model(self.pipeline, folder / SKOPS_FILE)


class SklearnTrainer:
    """Fits a spec's estimator; a `ports.Trainer`."""

    def fit(
        self, spec: ModelSpec, train: LabelledRows, calibration: LabelledRows | None
    ) -> SklearnModel:
        """Fit, round thresholds to float32, calibrate, and put the encoder in front.

        BLAS runs on one thread, since its sums depend on their number; gradient boosting's own
        threads do not change its result.

        Raises:
            UsageError: the spec's trainer or its parameters are wrong.
            DataFault: the train rows lack a class.
            HeliotropeError: the estimator raised, or answers with NaN.
        """
        estimator = build_estimator(spec)
        notes = _label_notes(spec, train)
        usable, why = _usable_for_calibration(spec, calibration)
        notes += why
        with (
            threadpoolctl.threadpool_limits(1, user_api="blas"),
            python_warnings.catch_warnings(record=True) as caught,
        ):
            python_warnings.simplefilter("always")
            curve = _fit(spec, estimator, train, usable)
            round_thresholds(estimator)
            forget_threads(estimator)
            _require_finite(spec, estimator, usable or train)
            model, method, why = _calibrate(spec, estimator, usable)
        notes += why
        notes += [f"{w.category.__name__}: {w.message}" for w in caught]
        _require_finite(spec, model, usable or train)
        return SklearnModel(
            spec=spec,
            pipeline=Pipeline([("encode", raw_encoder(spec)), ("model", model)]),
            estimator=describe(estimator),
            parameters=parameters(estimator),
            curve=curve,
            calibration=method,
            warnings=tuple(dict.fromkeys(notes)),
        )


class SavedPipeline:
    """The pipeline of a model folder, for scoring what is served and what was trained alike."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        """Load SKOPS_FILE; NotFoundError or UsageError as `skops_model.load_model`."""
        self.spec = spec
        self.pipeline = skops_model.load_model(folder / SKOPS_FILE)

    def score(self, features: FloatMatrix) -> FloatVector:
        """From the float32 matrix; a `ports.Scorer`."""
        return score_matrix(self.pipeline.named_steps["model"], self.spec.task, features)

    def score_raw(self, rows: Sequence[Mapping[str, Any]]) -> FloatVector:
        """From raw rows, through the pipeline's own preprocessing."""
        return score_frame(self.pipeline, self.spec, rows)


def raw_encoder(spec: ModelSpec) -> Any:
    """Raw columns to the float32 matrix, as a fitted ColumnTransformer of standard classes only.

    One transformer a run of neighbouring features of a kind, so that the spec's order is kept.
    Values outside `categories` become NaN; a predictor refuses them before.
    """
    runs = itertools.groupby(spec.features, key=lambda f: f.type is FeatureType.CATEGORY)
    transformers = []
    for number, (categorical, group) in enumerate(runs):
        features = list(group)
        step = _category_step(features) if categorical else _number_step()
        names = [f.name for f in features]
        transformers.append((f"{number:04d}_{'code' if categorical else 'cast'}", step, names))
    encoder = ColumnTransformer(transformers, sparse_threshold=0.0)
    one_row = [{f.name: f.categories[0] if f.categories else 0.0 for f in spec.features}]
    encoder.fit(pd.DataFrame(one_row, columns=spec.feature_names))
    return encoder


def _number_step() -> Any:
    # check_array, not astype: it also takes None, pandas' NA and nullable types.
    return FunctionTransformer(
        check_array, kw_args={"dtype": "float32", "ensure_all_finite": "allow-nan"}
    )


def _category_step(features: list[Feature]) -> Any:
    return OrdinalEncoder(
        categories=[np.array(f.categories, dtype=object) for f in features],
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        dtype=np.float32,
    )


def score_matrix(model: Any, task: Task, features: npt.NDArray[np.floating]) -> FloatVector:
    """Scores of a fitted model on the encoded matrix, in chunks; see `ports.Scorer`."""
    if len(features) <= _CHUNK:
        return _scores(model, task, features)
    starts = range(0, len(features), _CHUNK)
    return np.concatenate([_scores(model, task, features[s : s + _CHUNK]) for s in starts])


def score_frame(pipeline: Any, spec: ModelSpec, rows: Sequence[Mapping[str, Any]]) -> FloatVector:
    """Scores of a whole pipeline on raw rows; a feature that a row lacks is missing."""
    columns = {
        f.name: pd.Series([row.get(f.name) for row in rows], dtype=object) for f in spec.features
    }
    frame = pd.DataFrame(columns, columns=spec.feature_names)
    return _scores(pipeline, spec.task, frame)


def _scores(model: Any, task: Task, rows: Any) -> FloatVector:
    if task is Task.REGRESSION:
        return np.asarray(model.predict(rows), dtype=np.float64)
    probabilities = np.asarray(model.predict_proba(rows), dtype=np.float64)
    return probabilities[:, 1] if task is Task.BINARY else probabilities


def _label_notes(spec: ModelSpec, train: LabelledRows) -> list[str]:
    if len(train.labels) == 0:
        raise DataFault("the train rows must not be empty. Got 0 rows.")
    if spec.task is not Task.REGRESSION:
        counts = np.bincount(train.labels.astype(np.intp), minlength=len(spec.classes))
        absent = [name for name, n in zip(spec.classes, counts, strict=True) if n == 0]
        if absent:
            raise DataFault(
                "the train rows must hold every class of the label. "
                f"Got none of {', '.join(map(repr, absent))} in {len(train.labels):,} rows."
            )
        return []
    if not np.isfinite(train.labels).all():
        raise DataFault("the labels of the train rows must be finite numbers. Got NaN or infinity.")
    if train.labels.min() == train.labels.max():
        return [f"the label of all {len(train.labels):,} train rows is {train.labels[0]:g}"]
    return []


def _usable_for_calibration(
    spec: ModelSpec, calibration: LabelledRows | None
) -> tuple[LabelledRows | None, list[str]]:
    """The calibration rows where they say enough, else None and why."""
    if calibration is None or len(calibration.labels) == 0:
        return None, []
    if spec.task is Task.REGRESSION:
        rarest, what = len(calibration.labels), "rows"
    else:
        codes = calibration.labels.astype(np.intp)
        counts = np.bincount(codes, minlength=len(spec.classes))
        rarest, what = int(counts.min()), f"rows of class {spec.classes[int(counts.argmin())]!r}"
    if rarest >= MINIMUM_CALIBRATION:
        return calibration, []
    return None, [
        f"calibration and early stopping left out: they need {MINIMUM_CALIBRATION} {what} in the "
        f"calibration part, which has {rarest}"
    ]


def _fit(
    spec: ModelSpec, estimator: Any, train: LabelledRows, later: LabelledRows | None
) -> dict[str, tuple[float, ...]]:
    labels = train.labels if spec.task is Task.REGRESSION else train.labels.astype(np.int64)
    default = spec.trainer.build == "default"
    stops = default and later is not None and estimator.early_stopping is not False
    weighted = _weighted(estimator, train)
    try:
        if stops and later is not None:
            estimator.set_params(early_stopping=True)
            late = later.labels if spec.task is Task.REGRESSION else later.labels.astype(np.int64)
            estimator.fit(train.features, labels, X_val=later.features, y_val=late, **weighted)
            return _keep_best(estimator)
        if default:
            # Left to itself it would split at random, across time.
            estimator.set_params(early_stopping=False)
        estimator.fit(train.features, labels, **weighted)
    except InvalidParameterError as error:
        raise UsageError(f"trainer.parameters: {error}") from error
    except Exception as error:
        raise HeliotropeError(
            f"{describe(estimator)} could not be fitted on {len(labels):,} rows. "
            f"{type(error).__name__}: {error}"
        ) from error
    return _staged_curve(spec, estimator, train)


def _weighted(estimator: Any, train: LabelledRows) -> dict[str, FloatVector]:
    if train.weights is None:
        return {}
    if not has_fit_parameter(estimator, "sample_weight"):
        raise UsageError(
            "an estimator that recent rows are weighted up for must take sample_weight in fit. "
            f"Got {describe(estimator)}."
        )
    return {"sample_weight": train.weights}


def _keep_best(estimator: Any) -> dict[str, tuple[float, ...]]:
    """Drop the rounds after the best validation loss, and answer with the losses by round."""
    if estimator.scoring != "loss":
        return {
            "train_score": tuple(map(float, estimator.train_score_)),
            "validation_score": tuple(map(float, estimator.validation_score_)),
        }
    best = max(1, int(np.argmax(estimator.validation_score_)))
    del estimator._predictors[best:]
    return {
        "train": tuple(float(-v) for v in estimator.train_score_),
        "validation": tuple(float(-v) for v in estimator.validation_score_),
    }


def _staged_curve(
    spec: ModelSpec, estimator: Any, train: LabelledRows
) -> dict[str, tuple[float, ...]]:
    """Train loss by round on a sample, for estimators that work in rounds."""
    stages = "staged_predict" if spec.task is Task.REGRESSION else "staged_predict_proba"
    if not hasattr(estimator, stages):
        return {}
    picked = sample_rows(len(train.labels), spec.trainer.seed, 20_000)
    features, labels = train.features[picked], train.labels[picked]
    losses = []
    for stage in getattr(estimator, stages)(features):
        scores = stage[:, 1] if spec.task is Task.BINARY else stage
        losses.append(loss(spec.task, np.asarray(scores, dtype=np.float64), labels))
    return {"train": tuple(losses)}


def _calibrate(
    spec: ModelSpec, estimator: Any, later: LabelledRows | None
) -> tuple[Any, str | None, list[str]]:
    if spec.task is Task.REGRESSION or not spec.trainer.calibrate or later is None:
        return estimator, None, []
    margins = hasattr(estimator, "decision_function")
    method = "temperature" if spec.task is Task.MULTICLASS and margins else "sigmoid"
    calibrated = CalibratedClassifierCV(FrozenEstimator(estimator), method=method)
    try:
        calibrated.fit(later.features, later.labels.astype(np.int64))
    except Exception as error:
        raise HeliotropeError(
            f"{describe(estimator)} could not be calibrated; trainer.calibrate: false leaves it "
            f"out. {type(error).__name__}: {error}"
        ) from error
    (inner,) = calibrated.calibrated_classifiers_
    if spec.task is Task.BINARY and inner.calibrators[0].a_ >= 0:
        return estimator, None, [
            "calibration left out: on the calibration rows higher scores are not likelier to be "
            "positive, so calibrating would turn the ranking round"
        ]  # fmt: skip
    return calibrated, method, []


def _require_finite(spec: ModelSpec, model: Any, rows: LabelledRows) -> None:
    picked = sample_rows(len(rows.labels), spec.trainer.seed, 20_000)
    scores = score_matrix(model, spec.task, rows.features[picked])
    bad = np.count_nonzero(~np.isfinite(scores.reshape(len(picked), -1)).all(axis=1))
    if bad:
        raise HeliotropeError(
            f"the fitted {describe(model)} must answer with finite scores. "
            f"Got NaN or infinity for {bad:,} of {len(picked):,} rows."
        )
