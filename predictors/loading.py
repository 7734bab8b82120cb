"""Opening a model folder, and refusing one that would not serve what was trained."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from pydantic import ValidationError

from heliotrope.domain.encoding import bounds
from heliotrope.domain.serving import FORMAT, ServingContract
from heliotrope.errors import UsageError
from heliotrope.vocabulary import ONNX_FILE, SERVING_FILE, Task

_ORT_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
UNVERSIONED = "unversioned"


class OnnxScorer:
    """Scores a float32 matrix with ONNX Runtime on the calling thread only."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._run = self.session.run
        self._outputs = ["scores"]

    def score(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[rows] or [rows, classes] scores of [rows, features]."""
        scores: npt.NDArray[np.float32] = self._run(self._outputs, {"features": features})[0]
        return scores


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer."""

    contract: ServingContract
    version: str
    scorer: OnnxScorer


def load_model(folder: Path, version: str | None) -> LoadedModel:
    """Open a model folder and try it on one row.

    Raises:
        UsageError: a file is missing, damaged, of a newer format, or not what the contract says.
    """
    contract = _read_contract(folder / SERVING_FILE)
    if version is not None and contract.version not in (None, version):
        said = f"model_version must be {contract.version}, as {SERVING_FILE} says."
        raise UsageError(f"{said} Got {version}.")
    path = folder / ONNX_FILE
    model = _read(path)
    found = hashlib.sha256(model).hexdigest()
    expected = (contract.model_hash or found).removeprefix("sha256:")
    if found != expected:
        raise UsageError(f"{path} must have sha256 {expected}, as trained. Got {found}.")
    try:
        scorer = OnnxScorer(model)
    except _ORT_ERRORS as error:
        raise UsageError(f"{path} must be an ONNX model that can be run. It is not.") from error
    _check_graph(path, scorer, contract)
    return LoadedModel(contract, version or contract.version or UNVERSIONED, scorer)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{path} must be there, as part of a model folder. It is not.") from error
    except OSError as error:
        raise UsageError(f"{path} must be readable. Got: {error.strerror}.") from error


def _read_contract(path: Path) -> ServingContract:
    text = _read(path)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{path} must be JSON. Line {error.lineno} is not.") from error
    if isinstance(document, dict) and isinstance(document.get("format"), int):
        newest = document["format"]
        if newest > FORMAT:
            raise UsageError(
                f"{path}: format must be at most {FORMAT} for this predictor. Got {newest}; "
                "use the predictor of the release that trained it."
            )
    try:
        contract = ServingContract.from_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {where or 'the document'}: {first['msg']}.") from error
    _check_task(path, contract)
    return contract


def _check_task(path: Path, contract: ServingContract) -> None:
    count = len(contract.classes)
    if contract.task is Task.BINARY and (count != 2 or contract.threshold is None):
        raise UsageError(f"{path}: a binary model must have 2 classes and a threshold. Got {count}")
    if contract.task is Task.MULTICLASS and count < 3:
        raise UsageError(f"{path}: a multiclass model must have 3 classes or more. Got {count}.")


def _check_graph(path: Path, scorer: OnnxScorer, contract: ServingContract) -> None:
    session = scorer.session
    inputs = [(i.name, i.type) for i in session.get_inputs()]
    outputs = [(o.name, o.type) for o in session.get_outputs()]
    if inputs != [("features", "tensor(float)")] or outputs != [("scores", "tensor(float)")]:
        raise UsageError(
            f"{path} must have one float input `features` and one float output `scores`. "
            f"Got {inputs} and {outputs}."
        )
    width = session.get_inputs()[0].shape[-1]
    if isinstance(width, int) and width != len(contract.features):
        raise UsageError(f"{path} must take {len(contract.features)} features. Got {width}.")
    expected: tuple[Any, ...] = (2,)
    if contract.task is Task.MULTICLASS:
        expected = (2, len(contract.classes))
    try:
        scores = scorer.score(_two_rows(contract))
    except _ORT_ERRORS as error:
        raise UsageError(f"{path} must score a row of its features. It does not.") from error
    if scores.shape != expected:
        raise UsageError(f"{path} must answer {expected} for two rows. Got {scores.shape}.")


def _two_rows(contract: ServingContract) -> npt.NDArray[np.float32]:
    ends = [bounds(feature) for feature in contract.features]
    row = [min(max(0.0, low), high) for low, high in ends]
    return np.array([row, row], dtype=np.float32)
