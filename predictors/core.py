"""What every protocol shares: score, check, write down, count; in that order, before answering."""

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.encoding import FloatMatrix, RowEncoder, show_value
from heliotrope.vocabulary import Role, Task
from predictors.loading import LoadedModel
from predictors.metrics import PredictorMetrics
from predictors.refusals import Refused
from predictors.spool import Spool

OFFLOAD_ROWS = 2000
"""Larger batches are scored on another thread, so that health probes are answered meanwhile."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}").fullmatch


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    request_id: str
    predictions: list[Any]
    """Class names; for regression the values."""
    scores: npt.NDArray[np.float32] | None
    """[rows] probability of the positive class, [rows, classes]; None for regression."""


def new_request_id() -> str:
    """A UUID of version 7 (RFC 9562): later ones sort behind earlier ones."""
    stamp = f"{time.time_ns() // 1_000_000:012x}"
    noise = os.urandom(10).hex()
    variant = "89ab"[int(noise[3], 16) & 3]
    return f"{stamp[:8]}-{stamp[8:]}-7{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"


def check_request_id(given: object, field: str) -> str:
    """A caller's id, if it may be used: it becomes part of prediction ids, headers and logs.

    Raises:
        Refused: it is too long or holds other characters than letters, digits and `._:-`.
    """
    if isinstance(given, str) and _REQUEST_ID(given):
        return given
    must = "1 to 128 letters, digits or ._:- and begin with a letter or digit"
    raise Refused(400, f"{field} must be text of {must}. Got {show_value(given)}.")


class PredictionCore:
    """Answers encoded rows for one model.

    Predictions are stamped with `now_ns`, which a simulated clock may tell; request ids, latency
    and the spool's own ages are the machine's.
    """

    def __init__(
        self,
        name: str,
        loaded: LoadedModel,
        metrics: PredictorMetrics,
        spool: Spool | None,
        max_rows: int,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self.contract = loaded.contract
        self.version = loaded.version
        self.metrics = metrics
        self.encoder = RowEncoder(loaded.contract)
        self.max_rows = max_rows
        self.score = loaded.scorer.score
        self._spool = spool
        self._now_ns = now_ns
        binary = loaded.contract.task is Task.BINARY
        self._threshold = loaded.contract.threshold if binary else None

    def change_role(self, role: Role) -> None:
        """Answer in another role from now on; for the serving thread, between two answers.

        Raises:
            OSError: the spool refuses; nothing has changed.
        """
        if self._spool is not None:
            self._spool.change_role(role)
        self.metrics.change_role(role)

    def check_rows(self, rows: int, field: str) -> None:
        """Refuse a request with no rows, or with too many."""
        if not 1 <= rows <= self.max_rows:
            must = f"hold between 1 and {self.max_rows} rows"
            raise Refused(400, f"{field} must {must}. Got {rows}.")

    async def answer(
        self,
        features: FloatMatrix,
        entity_keys: list[str | None] | None,
        request_id: str,
        protocol: str,
        started_ns: int,
    ) -> Answer:
        """`score` and `conclude`; a large batch is scored on another thread.

        Raises:
            Refused: the model has no finite score for a row.
        """
        if self.is_large(features):
            loop = asyncio.get_running_loop()
            scores = await loop.run_in_executor(None, self.score, features)
        else:
            scores = self.score(features)
        return self.conclude(features, scores, entity_keys, request_id, protocol, started_ns)

    @staticmethod
    def is_large(features: FloatMatrix) -> bool:
        """Whether scoring would keep the serving thread from its probes for too long."""
        return len(features) > OFFLOAD_ROWS

    def conclude(
        self,
        features: FloatMatrix,
        scores: npt.NDArray[np.float32],
        entity_keys: list[str | None] | None,
        request_id: str,
        protocol: str,
        started_ns: int,
    ) -> Answer:
        """Decide on scored rows; when this returns, they are in the spool (or counted as lost).

        `started_ns` is the `time.perf_counter_ns` at which the whole request was there.

        Raises:
            Refused: the model has no finite score for a row.
        """
        if not np.isfinite(scores).all():
            finite = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
            row = int(np.argmin(finite))
            raise Refused(422, f"Row {row} must be one the model can score. It has no finite score")
        positions = self._predict(scores)
        latency = time.perf_counter_ns() - started_ns
        if self._spool is not None:
            self._spool.append(
                request_id,
                protocol,
                features,
                scores,
                positions,
                entity_keys,
                self._now_ns(),
                latency,
            )
        self.metrics.answered(protocol, latency * 1e-9, scores, positions)
        if positions is None:
            return Answer(request_id, scores.tolist(), None)
        classes = self.contract.classes
        return Answer(request_id, [classes[p] for p in positions.tolist()], scores)

    def _predict(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16] | None:
        if self._threshold is not None:
            return (scores.astype(np.float64) >= self._threshold).astype(np.uint16)
        if self.contract.task is Task.MULTICLASS:
            best: npt.NDArray[np.uint16] = scores.argmax(axis=1).astype(np.uint16)
            return best
        return None
