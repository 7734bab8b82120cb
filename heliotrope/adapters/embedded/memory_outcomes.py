"""The event log in memory: for simulations, and for tests of what reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from heliotrope.domain.outcomes import FeatureWindow, Outcomes, PairedOutcomes
from heliotrope.errors import UnavailableError
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role, Task


@dataclass(frozen=True)
class LoggedPrediction:
    """A prediction as a predictor logs it."""

    prediction_id: str
    version: str
    role: Role
    predicted_at: datetime
    prediction: int
    """Place of the class; 0 for regression."""
    score: float
    features: Mapping[str, Any]


class MemoryOutcomes:
    """Predictions and labels of one model (`ports.outcomes.OutcomeReader`), binary or regression.

    Keeps the readers' rules: a prediction counts once by id, version and role, and of its labels
    the last received. `away` makes it unavailable.
    """

    def __init__(self) -> None:
        self._predictions: dict[tuple[str, str, Role], LoggedPrediction] = {}
        self._labels: dict[str, list[tuple[datetime, float]]] = {}
        self.away = False

    def add(self, prediction: LoggedPrediction) -> None:
        """Log a prediction; one that is there already stays as it is."""
        key = (prediction.prediction_id, prediction.version, prediction.role)
        self._predictions.setdefault(key, prediction)

    def add_label(self, prediction_id: str, value: float, received_at: datetime) -> None:
        """Log a label."""
        self._labels.setdefault(prediction_id, []).append((received_at, value))

    def outcomes(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        role: Role | None = None,
        limit: int | None = None,
        unlabelled: bool = False,
        known_by: datetime | None = None,
    ) -> Outcomes:
        """As the port says; multiclass is not kept here."""
        rows = self._rows(spec, since, until, version, role)
        labels = [self._label(row, known_by) for row in rows]
        kept = [
            (row, label)
            for row, label in zip(rows, labels, strict=True)
            if unlabelled or label is not None
        ][:limit]
        return Outcomes(
            **_columns([row for row, _ in kept]),
            scores=None,
            **_told([label for _, label in kept]),
            slices={},
        )

    def window(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        role: Role | None = None,
        features: Sequence[str] | None = None,
        sample_rows: int | None = None,
        seed: int = 0,
        known_by: datetime | None = None,
    ) -> FeatureWindow:
        """As the port says."""
        import pyarrow as pa

        rows = self._rows(spec, since, until, version, role)
        total = len(rows)
        if sample_rows is not None and total > sample_rows:
            places = np.random.default_rng(seed).permutation(total)[:sample_rows]
            rows = [rows[place] for place in sorted(places)]
        names = features or spec.feature_names
        table = pa.table({name: [row.features.get(name) for row in rows] for name in names})
        return FeatureWindow(
            **_columns(rows),
            **_told([self._label(row, known_by) for row in rows]),
            features=table,
            total_rows=total,
        )

    def pairs(
        self,
        spec: ModelSpec,
        champion: str,
        candidate: str,
        since: datetime,
        until: datetime,
        *,
        labelled: bool = True,
        limit: int | None = None,
        known_by: datetime | None = None,
    ) -> PairedOutcomes:
        """As the port says."""
        far = datetime.max.replace(tzinfo=UTC)
        other = {row.prediction_id: row for row in self._rows(spec, since, far, candidate, None)}
        found = [
            (row, other[row.prediction_id], self._label(row, known_by))
            for row in self._rows(spec, since, until, champion, None)
            if row.prediction_id in other
        ]
        found = [one for one in found if not labelled or one[2] is not None][:limit]
        mine, theirs = _columns([a for a, _, _ in found]), _columns([b for _, b, _ in found])
        told = _told([label for _, _, label in found])
        judged = np.isfinite(mine["score"]) & np.isfinite(theirs["score"])
        return PairedOutcomes(
            prediction_id=mine["prediction_id"],
            predicted_at=mine["predicted_at"],
            champion_prediction=mine["prediction"],
            candidate_prediction=theirs["prediction"],
            champion_score=mine["score"],
            candidate_score=theirs["score"],
            champion_scores=None,
            candidate_scores=None,
            candidate_role=theirs["role"],
            label=np.where(judged, told["label"], np.nan),
            label_received_at=told["label_received_at"],
        )

    def _rows(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        version: str | None,
        role: Role | None,
    ) -> list[LoggedPrediction]:
        if self.away:
            raise UnavailableError("the event log must answer. It is away.")
        if spec.task is Task.MULTICLASS:
            raise NotImplementedError("the log in memory keeps one score a row")
        rows = [
            row
            for row in self._predictions.values()
            if since <= row.predicted_at < until
            and version in (None, row.version)
            and role in (None, row.role)
        ]
        return sorted(rows, key=lambda row: (row.predicted_at, row.prediction_id))

    def _label(
        self, row: LoggedPrediction, known_by: datetime | None
    ) -> tuple[datetime, float] | None:
        known = [
            label
            for label in self._labels.get(row.prediction_id, [])
            if known_by is None or label[0] <= known_by
        ]
        return max(known, default=None)


def _columns(rows: Sequence[LoggedPrediction]) -> dict[str, Any]:
    return {
        "prediction_id": np.array([row.prediction_id for row in rows], dtype=object),
        "version": np.array([row.version for row in rows], dtype=object),
        "role": np.array([str(row.role) for row in rows], dtype=object),
        "predicted_at": _times([row.predicted_at for row in rows]),
        "prediction": np.array([row.prediction for row in rows], dtype=np.int32),
        "score": np.array([row.score for row in rows], dtype=np.float64),
    }


def _told(labels: Sequence[tuple[datetime, float] | None]) -> dict[str, Any]:
    return {
        "label": np.array([np.nan if one is None else one[1] for one in labels], dtype=np.float64),
        "label_received_at": _times([None if one is None else one[0] for one in labels]),
    }


def _times(moments: Sequence[datetime | None]) -> Any:
    plain = [None if at is None else at.replace(tzinfo=None) for at in moments]
    return np.array(plain, dtype="datetime64[us]")
