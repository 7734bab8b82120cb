"""Windows of a backtest's log, as every judgement reads them (`ports.outcomes.OutcomeReader`)."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.adapters.embedded.history_log import ROLES, HistoryLog, Logged
from heliotrope.domain.backtest.history import slice_codes
from heliotrope.domain.outcomes import FeatureWindow, Outcomes, PairedOutcomes, Places
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role

_FAR = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


class HistoryOutcomes:
    """Reads a log as it is by its own clock; labels that have not come yet are not there."""

    def __init__(self, log: HistoryLog) -> None:
        self._log = log
        self._slices: dict[str, Places] | None = None
        self._places: dict[int, npt.NDArray[np.int64]] = {}

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
        """As the port says."""
        found = self._log.between(since, until, version, role)
        columns = self._columns(found, known_by)
        if self._slices is None:
            self._slices = slice_codes(spec, self._log.history.matrix)
        whole = Outcomes(
            **columns, slices={name: codes[found.row] for name, codes in self._slices.items()}
        )
        if not unlabelled:
            whole = whole.where(whole.labelled)
        return whole if limit is None else whole.where(np.arange(min(limit, len(whole))))

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
        found = self._log.between(since, until, version, role)
        total = len(found)
        if sample_rows is not None and total > sample_rows:
            place = self._sample_places(seed)[found.row]
            found = found.where(place <= np.partition(place, sample_rows - 1)[sample_rows - 1])
        names = list(spec.feature_names if features is None else features)
        columns = self._columns(found, known_by)
        columns.pop("scores")
        table = self._log.history.table.select(names)
        return FeatureWindow(**columns, features=table.take(found.row), total_rows=total)

    def pairs(
        self,
        spec: ModelSpec,  # noqa: ARG002 - the log is of one model
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
        first = _one_role(self._log.between(since, until, champion))
        second = _one_role(self._log.between(since, _FAR, candidate))
        _, mine, theirs = np.intersect1d(first.row, second.row, return_indices=True)
        order = np.argsort(mine)
        ours, other = _at(first, mine[order]), _at(second, theirs[order])
        a, b = self._columns(ours, known_by), self._columns(other, known_by)
        judged = np.isfinite(a["score"]) & np.isfinite(b["score"])
        found = PairedOutcomes(
            prediction_id=a["prediction_id"],
            predicted_at=a["predicted_at"],
            champion_prediction=a["prediction"],
            candidate_prediction=b["prediction"],
            champion_score=a["score"],
            candidate_score=b["score"],
            champion_scores=a["scores"],
            candidate_scores=b["scores"],
            candidate_role=b["role"],
            label=np.where(judged, a["label"], np.nan),
            label_received_at=a["label_received_at"],
        )
        if labelled:
            found = found.where(found.labelled)
        return found if limit is None else found.where(np.arange(min(limit, len(found))))

    def _columns(self, found: Logged, known_by: datetime | None) -> dict[str, Any]:
        called = np.zeros(len(found), np.int32)
        score = np.full(len(found), np.nan)
        scores = None
        for number in np.unique(found.version):
            says = self._log.answer(str(number))
            mine = found.version == number
            called[mine], score[mine] = says.called[found.row[mine]], says.score[found.row[mine]]
            if says.scores is not None:
                if scores is None:
                    scores = np.full((len(found), says.scores.shape[1]), np.nan)
                scores[mine] = says.scores[found.row[mine]]
        names = np.array([str(role) for role in ROLES], dtype=object)
        return {
            "prediction_id": self._log.ids[found.row],
            "version": found.version.astype(str).astype(object),
            "role": names[found.role],
            "predicted_at": found.at,
            "prediction": called,
            "score": score,
            "scores": scores,
            **self._log.labels(found.row, found.at, known_by),
        }

    def _sample_places(self, seed: int) -> npt.NDArray[np.int64]:
        """[rows of the history] an order of all that is the same whenever it is read."""
        if seed not in self._places:
            hashed = [
                hashlib.blake2b(f"{name}#{seed}".encode(), digest_size=8).digest()
                for name in self._log.ids
            ]
            order = np.argsort(np.array(hashed), kind="stable")
            places = np.empty(len(order), np.int64)
            places[order] = np.arange(len(order))
            self._places[seed] = places
        return self._places[seed]


def _at(found: Logged, places: npt.NDArray[np.int64]) -> Logged:
    return Logged(found.row[places], found.version[places], found.role[places], found.at[places])


def _one_role(found: Logged) -> Logged:
    """Each row once: as the champion answered it, then as canary, then as shadow."""
    order = np.lexsort((found.at, found.role, found.row))
    ranked = _at(found, order)
    _, first = np.unique(ranked.row, return_index=True)
    kept = _at(ranked, first)
    return _at(kept, np.lexsort((kept.row, kept.at)))
