"""ModelSpec and its blocks, other than features and policies."""

import re
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from heliotrope.spec.base import Duration, Part, show
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.spec.metrics import METRICS, metrics_for
from heliotrope.spec.policies import Gates, Monitoring, Retraining, Rollout, Validation
from heliotrope.vocabulary import COLUMN_ROW, Task


class SourceFormat(StrEnum):
    """How the training data is stored."""

    CSV = "csv"
    """Text with a header line."""
    PARQUET = "parquet"
    """A Parquet file or a folder of them."""
    DELTA = "delta"
    """A Delta table."""


_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")


class Source(Part):
    """Where the training data is."""

    path: str = Field(min_length=1)
    """A local path, relative to the spec, or s3://bucket/key. Credentials come from the
    environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION)."""
    format: SourceFormat | None = None
    """csv, parquet or delta; by the file's ending when left out."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Of a CSV file."""
    version: int | None = Field(default=None, ge=0)
    """Of a Delta table; the newest when left out."""
    predictions: bool = False
    """Whether answered requests whose labels came are added: features as the predictor saw them,
    the event time being that of the answer. So a retraining learns what changed since the source
    was written. A row of the source wins over a prediction of the same entity key."""

    @model_validator(mode="after")
    def _format_known(self) -> Self:
        scheme = _SCHEME.match(self.path)
        if scheme and scheme[1].lower() != "s3":
            raise ValueError(f"path|be a local path or s3://bucket/key|{show(self.path)}")
        if "@" in self.path.split("://", 1)[-1].split("/", 1)[0] and scheme:
            raise ValueError("path|hold no credentials; set AWS_* in the environment|user@host")
        if self.format is None and self._by_ending() is None:
            raise ValueError(
                "format|be csv, parquet or delta where the path's ending does not tell|"
                + show(self.path)
            )
        if self.version is not None and self.resolved_format is not SourceFormat.DELTA:
            raise ValueError(
                f"version|be left out for format {self.resolved_format}|{self.version}"
            )
        return self

    def _by_ending(self) -> SourceFormat | None:
        path = self.path.rstrip("/").lower()
        for ending, kind in (
            (".csv", SourceFormat.CSV),
            (".csv.gz", SourceFormat.CSV),
            (".parquet", SourceFormat.PARQUET),
            (".delta", SourceFormat.DELTA),
        ):
            if path.endswith(ending):
                return kind
        return None

    @property
    def resolved_format(self) -> SourceFormat:
        """The format given, or the one the path's ending tells."""
        resolved = self.format or self._by_ending()
        if resolved is None:
            raise AssertionError("validated on construction")
        return resolved

    @property
    def remote(self) -> bool:
        """Whether the path is an object store's."""
        return _SCHEME.match(self.path) is not None


def _one_class(value: object) -> object:
    if value is not None and not isinstance(value, str | int | bool):
        raise ValueError("be text, a whole number or true or false")
    return value


_Class = Annotated[str | int | bool | None, BeforeValidator(_one_class)]


LEAST_HORIZON = timedelta(days=90)


class Label(Part):
    """What is predicted, and how late its truth arrives."""

    name: str = Field(min_length=1)
    """The label's column."""
    positive: _Class = None
    """The positive class (binary only)."""
    negative: _Class = None
    """The other class (binary only). Where it is left out every other value is taken for it, a
    misspelt one too; so name it where the label is text."""
    classes: tuple[str, ...] | None = None
    """Every class (multiclass only), in the order scores are returned."""
    min: float | None = None
    """Smallest label (regression only)."""
    max: float | None = None
    """Largest label (regression only)."""
    delay: Duration = timedelta(0)
    """How long after the event the label is final. Younger rows are never trained or judged on."""
    horizon: Duration | None = None
    """How long after a prediction its label, or a correction, still restates the truth; at least
    `delay`. Left out, four times `delay` and at least 90 days. What comes later is kept in its
    table and restates no window; so the truth's state does not grow without end."""

    @property
    def restated_for(self) -> timedelta:
        """`horizon`, or what stands for it."""
        return max(4 * self.delay, LEAST_HORIZON) if self.horizon is None else self.horizon


class Trainer(Part):
    """What is fitted."""

    build: str = "default"
    """`default`, or the dotted path `module:function` of a `build(spec)` that returns an unfitted
    scikit-learn estimator. It is given a float32 matrix, one column a feature in the spec's
    order, categories as their position, missing values as NaN."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the default estimator; a trainer of one's own reads them itself."""
    seed: int = Field(default=7, ge=0, le=2**32 - 1)
    """Of everything random in the run."""
    calibrate: bool = True
    """Whether probabilities are calibrated on rows later than those trained on."""

    @field_validator("build")
    @classmethod
    def _dotted(cls, build: str) -> str:
        if build != "default" and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", build):
            raise ValueError("be `default` or a dotted path such as my_package.trainers:build")
        return build


class Split(Part):
    """How rows are divided, oldest to newest: train, calibration, holdout."""

    holdout: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of the newest rows that judges the model; never trained on."""
    calibration: float = Field(default=0.15, ge=0, lt=0.9)
    """Share, just before the holdout, that calibrates probabilities."""

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.holdout + self.calibration > 0.9:
            raise ValueError(
                "calibration|leave at least a tenth of the rows to train on: holdout + "
                f"calibration at most 0.9|{self.holdout + self.calibration:g}"
            )
        return self


class Metrics(Part):
    """What a model is judged by."""

    primary: str
    """The metric that decides."""
    others: tuple[str, ...] = ()
    """Reported beside it."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability from which a row is called positive (binary); 0.5 when left out."""

    @property
    def names(self) -> tuple[str, ...]:
        """The primary metric, then the others, each once."""
        return tuple(dict.fromkeys((self.primary, *self.others)))


class Slice(Part):
    """A part of the population that is judged on its own."""

    feature: str
    """The feature that divides it."""
    bins: tuple[float, ...] | None = Field(default=None, min_length=1)
    """Rising inner edges for a numeric feature; each category is a slice otherwise."""

    @field_validator("bins")
    @classmethod
    def _bins_rise(cls, bins: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if bins is not None and any(b <= a for a, b in pairwise(bins)):
            raise ValueError("rise strictly")
        return bins


class ModelSpec(Part):
    """One model: its data, its features, what is demanded of it and how it is kept right.

    Read one with `load_spec`; see `heliotrope spec schema` for the schema editors use.
    """

    name: str = Field(max_length=50, pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")
    """Lower-case letters, digits and dashes: it names Kubernetes objects."""
    description: str = ""
    """One line for reports and the registry."""
    task: Task
    """binary, multiclass or regression."""
    entity_key: str | None = None
    """Column that identifies a row; unique when given."""
    event_time: str | None = None
    """Column with the time the row happened. Splits are ordered by it."""
    stream: bool = False
    """Whether rows are a stream whose last label is a baseline to beat (persistence)."""
    label: Label
    """What is predicted."""
    source: Source
    """Where the training data is."""
    features: tuple[Feature, ...] = Field(min_length=1, max_length=2000)
    """The input columns, in the order they are served."""
    trainer: Trainer = Trainer()
    """What is fitted."""
    split: Split = Split()
    """How rows are divided in time."""
    metrics: Metrics
    """What it is judged by."""
    slices: tuple[Slice, ...] = ()
    """Parts of the population judged on their own."""
    validation: Validation = Validation()
    """What is demanded of the data."""
    gates: Gates = Gates()
    """What is demanded of a candidate."""
    rollout: Rollout = Rollout()
    """How a candidate becomes champion."""
    monitoring: Monitoring = Monitoring()
    """What is watched when it is live."""
    retraining: Retraining = Retraining()
    """When it is trained again."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        problems = [
            *self._column_problems(),
            *self._label_problems(),
            *self._metric_problems(),
            *self._slice_problems(),
        ]
        if self.stream and self.event_time is None:
            problems.append("event_time|be set for a stream|None")
        if self.label.delay and self.event_time is None:
            problems.append("event_time|be set where the label has a delay|None")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _column_problems(self) -> list[str]:
        problems = []
        seen: set[str] = set()
        reserved = {
            self.label.name: "the label",
            self.entity_key: "the entity key",
            self.event_time: "the event time",
        }
        for index, feature in enumerate(self.features):
            if feature.name in seen:
                problems.append(f"features[{index}].name|be unique|{show(feature.name)} twice")
            if feature.name in reserved:
                what = reserved[feature.name]
                problems.append(f"features[{index}].name|not be {what}|{show(feature.name)}")
            if feature.name == COLUMN_ROW:
                problems.append(f"features[{index}].name|not be reserved|{COLUMN_ROW!r}")
            seen.add(feature.name)
        special = [n for n in (self.label.name, self.entity_key, self.event_time) if n]
        return problems + [
            f"label.name|differ from entity_key and event_time, as they do|{show(name)}"
            for name in sorted({n for n in special if special.count(n) > 1})
        ]

    def _label_problems(self) -> list[str]:
        label, problems = self.label, []
        allowed = {
            Task.BINARY: {"positive", "negative"},
            Task.MULTICLASS: {"classes"},
            Task.REGRESSION: {"min", "max"},
        }[self.task]
        for field in ("positive", "negative", "classes", "min", "max"):
            value = getattr(label, field)
            if value is not None and field not in allowed:
                problems.append(f"label.{field}|be left out for task {self.task}|{show(value)}")
        if self.task is Task.BINARY and label.positive is None:
            problems.append("label.positive|name the positive class for task binary|None")
        elif label.negative is not None and (
            type(label.negative) is not type(label.positive) or label.negative == label.positive
        ):
            problems.append(
                "label.negative|be another value than label.positive, and of its type|"
                + show(label.negative)
            )
        if self.task is Task.MULTICLASS:
            classes = label.classes or ()
            if len(set(classes)) < 3 or len(set(classes)) != len(classes):
                problems.append(
                    f"label.classes|list three or more different classes|{show(label.classes)}"
                )
        if label.horizon is not None and label.horizon < label.delay:
            problems.append(
                f"label.horizon|be at least label.delay ({label.delay})|{label.horizon}"
            )
        if label.min is not None and label.max is not None and label.min >= label.max:
            problems.append(f"label.min|be below label.max ({label.max})|{label.min}")
        return problems

    def _metric_problems(self) -> list[str]:
        fitting = metrics_for(self.task)
        problems = [
            f"{field}|be one of {', '.join(fitting)} for task {self.task}|{show(name)}"
            for field, name in [
                ("metrics.primary", self.metrics.primary),
                *((f"metrics.others[{i}]", n) for i, n in enumerate(self.metrics.others)),
                *((f"gates.bounds.{n}", n) for n in self.gates.bounds),
            ]
            if name not in fitting
        ]
        problems += [
            f"{field}|be {info.span}, as {info.name} is|{bound}"
            for field, name, bound in [
                *((f"gates.bounds.{n}", n, bound) for n, bound in self.gates.bounds.items()),
                ("monitoring.floor", self.metrics.primary, self.monitoring.floor),
            ]
            if (info := METRICS.get(name)) and bound is not None and not info.holds(bound)
        ]
        problems += [
            f"metrics.others[{i}]|be named once|{show(name)} twice"
            for i, name in enumerate(self.metrics.others)
            if name in self.metrics.others[:i]
        ]
        if self.metrics.threshold is not None and self.task is not Task.BINARY:
            problems.append(
                f"metrics.threshold|be left out for task {self.task}|{self.metrics.threshold}"
            )
        return problems

    def _slice_problems(self) -> list[str]:
        by_name = {feature.name: feature for feature in self.features}
        problems = []
        for index, part in enumerate(self.slices):
            feature = by_name.get(part.feature)
            if any(part.feature == other.feature for other in self.slices[:index]):
                problems.append(f"slices[{index}].feature|divide once|{show(part.feature)} twice")
            if feature is None:
                problems.append(f"slices[{index}].feature|be a feature|{show(part.feature)}")
            elif feature.type.numeric and part.bins is None:
                problems.append(f"slices[{index}].bins|give edges for a numeric feature|None")
            elif not feature.type.numeric and part.bins is not None:
                problems.append(
                    f"slices[{index}].bins|be left out for type {feature.type}|{show(part.bins)}"
                )
        return problems

    @property
    def feature_names(self) -> list[str]:
        """Names in serving order."""
        return [feature.name for feature in self.features]

    @property
    def categorical(self) -> list[str]:
        """Names of the category features."""
        return [f.name for f in self.features if f.type is FeatureType.CATEGORY]

    @property
    def threshold(self) -> float:
        """Probability from which a row is called positive."""
        return self.metrics.threshold if self.metrics.threshold is not None else 0.5

    @property
    def classes(self) -> list[str]:
        """Class names in score order: `["negative", "positive"]`'s names for binary, else spec's.

        A negative class that the spec does not name is `not <positive>`.
        """
        if self.task is Task.MULTICLASS:
            return list(self.label.classes or ())
        if self.task is Task.BINARY:
            positive = self.label.positive
            if isinstance(positive, bool):
                return [str(not positive).lower(), str(positive).lower()]
            if positive in (0, 1):
                return [str(1 - int(positive)), str(positive)]
            if self.label.negative is not None:
                return [str(self.label.negative), str(positive)]
            return [f"not {positive}", str(positive)]
        return []
