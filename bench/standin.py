"""A stand-in model of loans, for benchmarks and tests that must not wait for a training run.

Eighteen features, five of them categories; gradient boosting, or something linear where speed of
building matters; multiclass and regression too. It is a whole model folder: `model.onnx`,
`serving.json` and `model.skops`, the same pipeline that plain servers are given.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.serving import ServingContract
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import ONNX_FILE, SERVING_FILE, SKOPS_FILE, Task

_CATEGORIES = {
    "purpose": ("car", "home", "medical", "school", "wedding", "other"),
    "home_ownership": ("rent", "own", "mortgage"),
    "grade": ("A", "B", "C", "D", "E", "F", "G"),
    "region": ("north", "south", "east", "west"),
    "employment": ("salaried", "self-employed", "unemployed", "retired"),
}
CLASSES = ("low", "middle", "high")


def loan_features() -> tuple[Feature, ...]:
    """The eighteen columns, in serving order."""
    numbers = [
        Feature(name="annual_income", type=FeatureType.FLOAT, min=0, max=10_000_000),
        Feature(name="loan_amount", type=FeatureType.FLOAT, min=100, max=100_000),
        Feature(name="term_months", type=FeatureType.INTEGER, min=6, max=84),
        Feature(name="age", type=FeatureType.INTEGER, min=18, max=100),
        Feature(name="debt_to_income", type=FeatureType.FLOAT, min=0, max=5, nullable=True),
        Feature(name="has_guarantor", type=FeatureType.BOOLEAN),
        Feature(name="open_accounts", type=FeatureType.INTEGER, min=0),
        *(Feature(name=f"ratio_{i}", type=FeatureType.FLOAT) for i in range(6)),
    ]
    coded = [
        Feature(
            name=name, type=FeatureType.CATEGORY, categories=values, nullable=name == "employment"
        )
        for name, values in _CATEGORIES.items()
    ]
    return (*numbers, *coded)


def loan_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows that the model accepts."""
    random = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {
        "annual_income": random.uniform(10_000, 200_000, count).round(2).tolist(),
        "loan_amount": random.uniform(500, 50_000, count).round(2).tolist(),
        "term_months": random.integers(6, 85, count).tolist(),
        "age": random.integers(18, 90, count).tolist(),
        "debt_to_income": random.uniform(0, 2, count).round(4).tolist(),
        "has_guarantor": random.integers(0, 2, count).astype(bool).tolist(),
        "open_accounts": random.integers(0, 20, count).tolist(),
    }
    for number in range(6):
        columns[f"ratio_{number}"] = random.normal(0, 1, count).round(4).tolist()
    for name, values in _CATEGORIES.items():
        columns[name] = [values[i] for i in random.integers(0, len(values), count)]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for number, row in enumerate(rows):
        if number % 7 == 3:
            row["debt_to_income"] = None
        if number % 11 == 5:
            row["employment"] = None
    return rows


def build_model(
    folder: Path,
    *,
    task: Task = Task.BINARY,
    boosting: bool = False,
    version: str | None = "3",
    seed: int = 7,
) -> ServingContract:
    """Fit on generated loans and write a model folder; answers its contract."""
    features = loan_features()
    contract = ServingContract(
        model="loans",
        version=version,
        task=task,
        features=features,
        classes={Task.BINARY: ("repaid", "default"), Task.MULTICLASS: CLASSES}.get(task, ()),
        threshold=0.35 if task is Task.BINARY else None,
        entity_key="loan_id",
    )
    matrix, label = _training_data(contract, 4000 if boosting else 400, seed)
    pipeline = _fit(task, boosting, contract, matrix, label, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = export_onnx(pipeline, len(features), task)
    (folder / ONNX_FILE).write_bytes(model)
    contract = contract.model_copy(update={"model_hash": hashlib.sha256(model).hexdigest()})
    (folder / SERVING_FILE).write_text(contract.to_json())
    import skops.io

    skops.io.dump(pipeline, folder / SKOPS_FILE)
    return contract


def _training_data(
    contract: ServingContract, count: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    from heliotrope.domain.encoding import encode_rows

    matrix = encode_rows(contract, loan_rows(count, seed))
    random = np.random.default_rng(seed + 1)
    income, amount, ratio = matrix[:, 0], matrix[:, 1], matrix[:, 7]
    value = amount / (income + 1) * 2 + ratio + random.normal(0, 0.5, count)
    if contract.task is Task.REGRESSION:
        return matrix, value.astype(np.float32)
    if contract.task is Task.MULTICLASS:
        return matrix, np.digitize(value, np.quantile(value, [0.3, 0.7]))
    return matrix, (value > np.quantile(value, 0.7)).astype(int)


def _fit(
    task: Task,
    boosting: bool,
    contract: ServingContract,
    matrix: npt.NDArray[np.float32],
    label: npt.NDArray[Any],
    seed: int,
) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if boosting:
        coded = [i for i, f in enumerate(contract.features) if f.type is FeatureType.CATEGORY]
        encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        codes = make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), encode)
        columns = ColumnTransformer([("codes", codes, coded)], remainder="passthrough")
        model = HistGradientBoostingClassifier(max_iter=100, random_state=seed)
        return make_pipeline(columns, model).fit(matrix, label)
    last = Ridge() if task is Task.REGRESSION else LogisticRegression(max_iter=500)
    return make_pipeline(SimpleImputer(), StandardScaler(), last).fit(matrix, label)


def export_onnx(pipeline: Any, width: int, task: Task) -> bytes:
    """The pipeline as the graph that predictors read: `features` in, `scores` out."""
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    options = {} if task is Task.REGRESSION else {id(pipeline): {"zipmap": False}}
    model = convert_sklearn(
        pipeline,
        initial_types=[("features", FloatTensorType([None, width]))],
        options=options,
        target_opset=18,
    )
    graph = model.graph
    raw = graph.output[-1].name
    shape: list[Any] = [None]
    if task is Task.MULTICLASS:
        graph.node.append(helper.make_node("Identity", [raw], ["scores"]))
        shape = [None, len(CLASSES)]
    else:
        column = np.array(0 if task is Task.REGRESSION else 1, dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(column, "column"))
        graph.node.append(helper.make_node("Gather", [raw, "column"], ["scores"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape))
    exported: bytes = model.SerializeToString()
    return exported
