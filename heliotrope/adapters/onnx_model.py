"""The served graph: exported from the fitted model, loaded and scored with ONNX Runtime.

Contract (see `domain.serving`): one input `features`, float32 [rows, features]; one output
`scores`, float32 [rows] or [rows, classes].

Gradient boosting is written here as one TreeEnsembleRegressor over its margins, which needs no
label output and is the fastest that ONNX Runtime has; other estimators go through skl2onnx. The
calibration is always written here, since skl2onnx does not know FrozenEstimator.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from heliotrope.errors import HeliotropeError, NotFoundError, UsageError
from heliotrope.ports import FloatMatrix, FloatVector
from heliotrope.vocabulary import Task

INPUT, OUTPUT = "features", "scores"
OPSET, ML_OPSET, IR_VERSION = 18, 3, 9
"""Old enough for every ONNX Runtime since 1.14."""


@dataclass
class _Graph:
    """A graph under construction; `last` is the tensor computed so far."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    last: str = INPUT
    ml_opset: int = ML_OPSET
    opset: int = OPSET

    def add(self, kind: str, *constants: npt.NDArray[Any], before: bool = False, **kw: Any) -> None:
        """Append a node that takes `last` (and constants) and becomes `last`."""
        names = []
        for value in constants:
            names.append(f"h_constant_{len(self.constants)}")
            self.constants.append(numpy_helper.from_array(value, names[-1]))
        out = f"h_{kind.lower()}_{len(self.nodes)}"
        inputs = [*names, self.last] if before else [self.last, *names]
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, **kw))
        self.last = out


def export_onnx(model: Any, task: Task, features: int, path: Path) -> None:
    """Write the graph of a fitted model (the pipeline's last step); same model, same bytes.

    Raises:
        UsageError: the estimator cannot be exported, and why.
    """
    estimator, calibrator = _unwrap(model)
    graph = _Graph()
    margins = _estimator(graph, estimator, task, features, calibrated=calibrator is not None)
    if calibrator is not None:
        _calibrator(graph, calibrator, task, margins)
    elif margins and task is not Task.REGRESSION:
        graph.add("Sigmoid") if task is Task.BINARY else graph.add("Softmax", axis=1)
    if task is not Task.MULTICLASS:
        graph.add("Reshape", np.array([-1], dtype=np.int64))
    graph.nodes.append(helper.make_node("Identity", [graph.last], [OUTPUT], name=OUTPUT))
    shape = ["rows", "classes"] if task is Task.MULTICLASS else ["rows"]
    built = helper.make_graph(
        graph.nodes,
        "heliotrope",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
        graph.constants,
    )
    opsets = [
        helper.make_opsetid("", graph.opset),
        helper.make_opsetid("ai.onnx.ml", graph.ml_opset),
    ]
    proto = helper.make_model(
        built, producer_name="heliotrope", opset_imports=opsets, ir_version=IR_VERSION
    )
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _unwrap(model: Any) -> tuple[Any, Any]:
    """The estimator, and its calibrated wrapper where there is one."""
    inner = getattr(model, "calibrated_classifiers_", None)
    frozen = len(inner) == 1 and getattr(inner[0].estimator, "estimator", None) if inner else None
    if not inner or not frozen or type(inner[0].estimator).__name__ != "FrozenEstimator":
        return model, None
    return frozen, inner[0]


def _estimator(
    graph: _Graph, estimator: Any, task: Task, features: int, *, calibrated: bool
) -> bool:
    """Add the estimator; True if it ends in margins (logits), False in probabilities or values."""
    if hasattr(estimator, "_predictors") and hasattr(estimator, "_baseline_prediction"):
        return _boosting(graph, estimator, task)
    raw = calibrated and hasattr(estimator, "decision_function")
    _converted(graph, estimator, features, classifier=task is not Task.REGRESSION, raw=raw)
    if task is Task.BINARY:
        graph.add("Gather", np.array([1], dtype=np.int64), axis=1)
    return raw


def _boosting(graph: _Graph, estimator: Any, task: Task) -> bool:
    if getattr(estimator, "is_categorical_", None) is not None:
        raise UsageError(
            "the estimator must not use categorical_features: categorical splits cannot be "
            "exported. Categories reach it as their position; leave them numeric."
        )
    link = type(estimator._loss.link).__name__
    if task is Task.REGRESSION and link not in ("IdentityLink", "LogLink"):
        raise UsageError(f"the loss {estimator.loss!r} cannot be exported: its link is {link}.")
    attributes = _tree_attributes(estimator._predictors)
    base = np.asarray(estimator._baseline_prediction, dtype=np.float32).ravel()
    graph.add(
        "TreeEnsembleRegressor",
        domain="ai.onnx.ml",
        n_targets=len(base),
        base_values=base.tolist(),
        aggregate_function="SUM",
        post_transform="NONE",
        **attributes,
    )
    if task is Task.REGRESSION and link == "LogLink":
        graph.add("Exp")
    return True


def _tree_attributes(stages: list[list[Any]]) -> dict[str, Any]:
    """ONNX's flat lists from gradient boosting's trees, one tree a stage and target."""
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    leaves: dict[str, list[npt.NDArray[Any]]] = {}
    modes: list[str] = []
    tree_id = 0
    for stage in stages:
        for target, tree in enumerate(stage):
            nodes = tree.nodes
            leaf = nodes["is_leaf"].astype(bool)
            ids = np.arange(len(nodes))
            for name, values in {
                "treeids": np.full(len(nodes), tree_id),
                "nodeids": ids,
                "featureids": np.where(leaf, 0, nodes["feature_idx"]),
                "values": np.where(leaf, 0.0, nodes["num_threshold"]),
                "truenodeids": np.where(leaf, 0, nodes["left"]),
                "falsenodeids": np.where(leaf, 0, nodes["right"]),
                "missing_value_tracks_true": np.where(leaf, 0, nodes["missing_go_to_left"]),
            }.items():
                columns.setdefault(f"nodes_{name}", []).append(values)
            modes += ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf]
            for name, values in {
                "treeids": np.full(leaf.sum(), tree_id),
                "nodeids": ids[leaf],
                "ids": np.full(leaf.sum(), target),
                "weights": nodes["value"][leaf],
            }.items():
                leaves.setdefault(f"target_{name}", []).append(values)
            tree_id += 1
    attributes: dict[str, Any] = {"nodes_modes": modes}
    for name, parts in {**columns, **leaves}.items():
        real = name in ("nodes_values", "target_weights")
        joined = np.concatenate(parts)
        attributes[name] = joined.astype(np.float32 if real else np.int64).tolist()
    return attributes


def _converted(
    graph: _Graph, estimator: Any, features: int, *, classifier: bool, raw: bool
) -> None:
    """Add an estimator by way of skl2onnx, without its label output."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    options: dict[Any, Any] = {}
    if classifier:
        steps = getattr(estimator, "steps", None)
        options[id(steps[-1][1] if steps else estimator)] = {"zipmap": False}
        if raw:
            options[id(steps[-1][1] if steps else estimator)]["raw_scores"] = True
    try:
        proto = skl2onnx.convert_sklearn(
            estimator,
            name="heliotrope",
            initial_types=[(INPUT, FloatTensorType([None, features]))],
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            options=options or None,
        )
    except Exception as error:
        hint = " trainer.calibrate: false may help." if raw and "raw_scores" in str(error) else ""
        raise UsageError(
            f"{type(estimator).__name__} cannot be exported to ONNX.{hint} "
            f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        ) from error
    output = proto.graph.output[1 if classifier else 0].name
    wanted, kept = {output}, []
    for node in reversed(proto.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    graph.nodes += reversed(kept)
    graph.constants += [c for c in proto.graph.initializer if c.name in wanted]
    graph.last = output
    for opset in proto.opset_import:
        if opset.domain == "ai.onnx.ml":
            graph.ml_opset = opset.version
        elif opset.domain == "":
            graph.opset = opset.version


def _calibrator(graph: _Graph, calibrated: Any, task: Task, margins: bool) -> None:
    """Add Platt's sigmoid (one, or one a class and normalised) or temperature scaling."""
    parts = calibrated.calibrators
    if calibrated.method == "temperature":
        if not margins:
            raise UsageError("temperature calibration can only be exported over margins.")
        graph.add("Mul", np.array([parts[0].beta_], dtype=np.float32))
        graph.add("Softmax", axis=1)
        return
    if calibrated.method != "sigmoid":
        raise UsageError(
            f"calibration {calibrated.method!r} cannot be exported: it differs in float32."
        )
    graph.add("Mul", np.array([-p.a_ for p in parts], dtype=np.float32))
    graph.add("Add", np.array([-p.b_ for p in parts], dtype=np.float32))
    graph.add("Sigmoid")
    if task is Task.MULTICLASS:
        every = graph.last
        graph.add("ReduceSum", np.array([1], dtype=np.int64), keepdims=1)
        total, graph.last = graph.last, every
        name = f"h_share_{len(graph.nodes)}"
        graph.nodes.append(helper.make_node("Div", [every, total], [name], name=name))
        graph.last = name


class OnnxScorer:
    """A loaded graph on one thread; a `ports.Scorer`."""

    def __init__(self, path: Path) -> None:
        """Load a graph.

        Raises:
            NotFoundError: there is no such file.
            HeliotropeError: it is not a graph of the serving contract.
        """
        if not path.is_file():
            raise NotFoundError(f"the model file must exist. Got {path}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise HeliotropeError(
                f"{path} must be an ONNX model. {type(error).__name__}: {str(error)[:300]}"
            ) from error
        inputs = [i.name for i in self._session.get_inputs()]
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != [INPUT] or outputs != [OUTPUT]:
            raise HeliotropeError(
                f"{path} must have the input {INPUT!r} and the output {OUTPUT!r}. "
                f"Got {inputs} and {outputs}."
            )

    def score(self, features: FloatMatrix) -> FloatVector:
        """[rows] or [rows, classes]; see `ports.Scorer`."""
        if len(features) == 0:
            # Not every operator takes no rows; one row tells the width.
            return self.score(np.zeros((1, features.shape[1]), dtype=np.float32))[:0]
        (scores,) = self._session.run([OUTPUT], {INPUT: features})
        return np.asarray(scores, dtype=np.float64)


def benchmark_onnx(path: Path, features: FloatMatrix, *, repeats: int = 300) -> dict[str, float]:
    """Speed and size of a graph on one thread, logged with a version.

    Args:
        path: of the graph.
        features: [rows, features], at least one row; rows are taken in turn.
        repeats: single rows timed; a tenth as many batches of 100.

    Returns:
        `onnx_row_us` (median microseconds a single row), `onnx_rows_per_second` (batches of 100)
        and `onnx_bytes`.
    """
    scorer = OnnxScorer(path)
    single = [np.ascontiguousarray(features[[i % len(features)]]) for i in range(repeats)]
    batch = np.ascontiguousarray(np.resize(features, (100, features.shape[1])))
    for row in single[:20]:
        scorer.score(row)
    row_times = [_seconds(scorer, row) for row in single]
    batch_times = [_seconds(scorer, batch) for _ in range(max(1, repeats // 10))]
    return {
        "onnx_row_us": float(np.median(row_times)) * 1e6,
        "onnx_rows_per_second": 100 / float(np.median(batch_times)),
        "onnx_bytes": float(path.stat().st_size),
    }


def _seconds(scorer: OnnxScorer, features: FloatMatrix) -> float:
    start = time.perf_counter()
    scorer.score(features)
    return time.perf_counter() - start
