"""What is shown of a model folder before it is registered: it answers as trained, and how fast."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliotrope.domain.encoding import encode_rows
from heliotrope.domain.parity import ParityReport
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.service.parity import ROWS, check_parity
from heliotrope.service.serving import read_contract
from heliotrope.service.training_tools import TrainingTools
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ONNX_FILE

_BENCHMARK_ROWS = 100


@dataclass(frozen=True)
class Proof:
    """The evidence."""

    report: ParityReport
    benchmark: Mapping[str, float]
    """How quick the served model is on the machine that registered it."""
    example: Mapping[str, Any]
    """A raw holdout row, as a request would hold it."""


def prove_parity(
    tools: TrainingTools, spec: ModelSpec, ref: SnapshotRef, record: TrainingRecord, folder: Path
) -> Proof:
    """Score raw holdout rows through the served path and through the trained pipeline.

    Args:
        tools: reads the snapshot and loads both models from their files.
        spec: of the model.
        ref: the snapshot it was trained on.
        record: says where the holdout is.
        folder: the model folder, as it will be registered.
    """
    data = tools.evaluation_data(ref, spec)
    judged = data.history(range(record.holdout.row_from, record.holdout.row_to))
    rows = data.raw(judged, ROWS)
    contract = read_contract(folder)
    report = check_parity(
        contract,
        rows,
        tools.load_pipeline(folder, spec).score_raw,
        tools.load_scorer(folder / ONNX_FILE),
    )
    few = encode_rows(contract, rows[:_BENCHMARK_ROWS])
    return Proof(report, tools.benchmark(folder / ONNX_FILE, few), rows[0])
