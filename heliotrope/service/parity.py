"""The parity gate: raw rows through the served path must score as through the trained pipeline."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from heliotrope.domain.encoding import encode_rows
from heliotrope.domain.parity import ParityReport, compare_scores
from heliotrope.domain.serving import ServingContract
from heliotrope.ports import FloatMatrix, FloatVector, Scorer

ROWS = 100_000
"""Rows compared at most; evenly spaced over the holdout when it has more."""

_CHUNK = 10_000

ScoreRaw = Callable[[Sequence[Mapping[str, Any]]], FloatVector]
"""The trained pipeline on raw rows, its own preprocessing included."""


def check_parity(
    contract: ServingContract,
    rows: Sequence[Mapping[str, Any]],
    trained: ScoreRaw,
    served: Scorer,
    encode: Callable[[ServingContract, Sequence[Mapping[str, Any]]], FloatMatrix] = encode_rows,
) -> ParityReport:
    """Compare the two paths on raw holdout rows.

    Args:
        contract: of the model folder.
        rows: raw holdout rows, one mapping a row; other columns than the features are left out.
        trained: the pipeline from the saved skops file.
        served: the saved ONNX file in ONNX Runtime.
        encode: the predictor's own encoding.

    Returns:
        The report; `report.require()` raises ParityError where it did not pass.

    Raises:
        InputRefused: a row the model was trained beside is one the predictor would refuse.
    """
    names = [feature.name for feature in contract.features]
    picked = [{name: row.get(name) for name in names} for row in thin(rows)]
    expected, answered = [], []
    for start in range(0, len(picked), _CHUNK):
        chunk = picked[start : start + _CHUNK]
        expected.append(trained(chunk))
        answered.append(served.score(encode(contract, chunk)))
    empty = [np.empty(0)]
    return compare_scores(
        np.concatenate(expected or empty),
        np.concatenate(answered or empty),
        contract.task,
        contract.threshold,
    )


def thin(rows: Sequence[Mapping[str, Any]], at_most: int = ROWS) -> Sequence[Mapping[str, Any]]:
    """All rows, or `at_most` evenly spaced ones with the first and the last."""
    if len(rows) <= at_most:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, at_most).round().astype(int)]
