"""Makes a model folder a model of MLflow's own: MLmodel, signature, input example, requirements.

The folder stays what a predictor reads: model.onnx and serving.json at its root. The flavors are
MLflow's stock `onnx` and `python_function`, so `mlflow.pyfunc.load_model("models:/name@champion")`
works where Heliotrope is not installed. They take the encoded matrix, one named column a feature;
serving.json says how to encode (categories as positions). No flavor loads a pickle.
Layout as MLflow 3.17 writes it: https://mlflow.org/docs/latest/ml/model/
"""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from heliotrope.domain.serving import ServingContract
from heliotrope.errors import UsageError
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import ONNX_FILE, SERVING_FILE, SKOPS_FILE

EXAMPLE_FILE = "example.json"
"""One row of features as a request would carry it, categories as text."""
_ENCODED_EXAMPLE = "input_example.json"


def encode(feature: Feature, value: Any) -> float:
    """One value as the ONNX graph takes it; see `domain.serving` for the rule.

    Raises:
        UsageError: a category that the feature does not have.
    """
    if value is None:
        return math.nan
    if feature.type is FeatureType.CATEGORY:
        categories = feature.categories or ()
        if value not in categories:
            raise UsageError(
                f"example.{feature.name} must be one of {', '.join(categories)}. Got {value!r}."
            )
        return float(categories.index(value))
    return float(value)


def compose(folder: Path, to: Path, example: Mapping[str, Any], run_id: str, model_id: str) -> None:
    """Copy a model folder and add what MLflow needs beside it. serving.json is left out.

    Args:
        folder: holds ONNX_FILE, SERVING_FILE and SKOPS_FILE.
        to: where the composed folder goes; made here.
        example: one row of features by name.
        run_id: the MLflow run that trained it.
        model_id: the MLflow logged model it will be.

    Raises:
        UsageError: a file is missing from the folder, or the example lacks a feature.
    """
    missing = [n for n in (ONNX_FILE, SERVING_FILE, SKOPS_FILE) if not (folder / n).is_file()]
    if missing:
        raise UsageError(f"{folder} must hold {', '.join(missing)}.")
    contract = ServingContract.from_json((folder / SERVING_FILE).read_bytes())
    lacking = [f.name for f in contract.features if f.name not in example]
    if lacking:
        raise UsageError(f"example must have every feature. Got none of {', '.join(lacking)}.")
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(SERVING_FILE))
    (to / EXAMPLE_FILE).write_text(json.dumps(dict(example), indent=2) + "\n", encoding="utf-8")
    row = [encode(feature, example[feature.name]) for feature in contract.features]
    _write_encoded(to, [feature.name for feature in contract.features], row)
    requirements = _write_environment(to)
    _write_mlmodel(to, contract, run_id, model_id, requirements)


def versioned_contract(folder: Path, version: str) -> str:
    """The folder's serving.json with the registry version filled in."""
    contract = ServingContract.from_json((folder / SERVING_FILE).read_bytes())
    return contract.model_copy(update={"version": version}).to_json()


def _write_encoded(to: Path, columns: list[str], row: list[float]) -> None:
    # JSON has no NaN; MLflow reads null in a double column back as NaN.
    values = [None if math.isnan(value) else value for value in row]
    text = json.dumps({"columns": columns, "data": [values]})
    (to / _ENCODED_EXAMPLE).write_text(text, encoding="utf-8")


def _write_environment(to: Path) -> list[str]:
    from importlib.metadata import version

    from mlflow.utils.environment import _PythonEnv

    packages = ("mlflow", "onnx", "onnxruntime", "numpy", "pandas")
    requirements = [f"{name}=={version(name)}" for name in packages]
    (to / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    environment = _PythonEnv.current()
    environment.dependencies = ["-r requirements.txt"]
    environment.to_yaml(str(to / "python_env.yaml"))
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={environment.python}", "pip", {"pip": requirements}],
    }
    (to / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), encoding="utf-8")
    return requirements


def _write_mlmodel(
    to: Path, contract: ServingContract, run_id: str, model_id: str, requirements: list[str]
) -> None:
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec

    # Doubles, since MLflow refuses to narrow a column and pandas reads every number as double;
    # the onnx flavor casts to the float32 that the graph takes.
    inputs = Schema([ColSpec(DataType.double, feature.name) for feature in contract.features])
    classes = len(contract.classes)
    shape = (-1, classes) if classes > 2 else (-1,)
    outputs = Schema([TensorSpec(np.dtype(np.float32), shape, "scores")])
    model = Model(
        run_id=run_id,
        model_id=model_id,
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        saved_input_example_info={
            "artifact_path": _ENCODED_EXAMPLE,
            "type": "dataframe",
            "pandas_orient": "split",
        },
        metadata={"serving": SERVING_FILE, "example": EXAMPLE_FILE, "sklearn": SKOPS_FILE},
    )
    onnx_version = next(r.split("==")[1] for r in requirements if r.startswith("onnx=="))
    model.add_flavor(
        "onnx",
        onnx_version=onnx_version,
        data=ONNX_FILE,
        providers=["CPUExecutionProvider"],
        code=None,
    )
    model.add_flavor(
        "python_function",
        loader_module="mlflow.onnx",
        python_version=_python(),
        data=ONNX_FILE,
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    model.save(str(to / "MLmodel"))


def _python() -> str:
    import platform

    return platform.python_version()
