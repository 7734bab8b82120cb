"""What is fitted: the default gradient boosting, or an estimator a person's own function builds.

Categories reach the estimator as their position in the spec, an ordinary number. Gradient
boosting's own categorical splits are not used: skl2onnx exports them as if they were numeric,
wrongly and without a word, they stop at 255 categories, and they make scikit-learn copy the whole
matrix twice. scikit-learn's comparison of the encodings ("Categorical Feature Support in Gradient
Boosting", in its user guide) finds ordinal positions as accurate as categorical splits.
"""

import importlib
import inspect
from typing import Any

from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from heliotrope.errors import UsageError
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

DEFAULTS: dict[str, Any] = {
    "learning_rate": 0.1,
    "max_iter": 200,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 50,
    "l2_regularization": 1.0,
    "n_iter_no_change": 20,
}
"""Of the default trainer where the spec gives none: smaller trees than scikit-learn's, since rare
classes (2% defaults) are overfitted within tens of rounds by 31 leaves of 20 rows."""

_OURS = {
    "random_state": "it is trainer.seed",
    "categorical_features": "categories are positions, and categorical splits cannot be exported",
    "validation_fraction": "it splits at random; split.calibration is the validation part",
    "warm_start": "a run trains once",
    "verbose": "curves are logged instead",
}


def build_estimator(spec: ModelSpec) -> Any:
    """The unfitted scikit-learn estimator of a spec, every `random_state` set to its seed.

    Raises:
        UsageError: a parameter is unknown, or the dotted path has no module, no such function, or
            the function does not return an estimator of the spec's task.
    """
    if spec.trainer.build == "default":
        estimator = _default(spec)
    else:
        estimator = _checked(spec, _call_builder(spec))
    for name, value in sorted(estimator.get_params(deep=True).items()):
        if name.rpartition("__")[2] == "random_state" and value is None:
            estimator.set_params(**{name: spec.trainer.seed})
    return estimator


def describe(estimator: Any) -> str:
    """Dotted name of an estimator's class; the steps' names too for a pipeline."""
    steps = getattr(estimator, "steps", None)
    if steps:
        return "Pipeline(" + ", ".join(describe(step) for _, step in steps) + ")"
    kind = type(estimator)
    public = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
    return f"{public}.{kind.__name__}"


def parameters(estimator: Any) -> dict[str, Any]:
    """An estimator's own parameters as plain values; nested estimators as their names."""
    return {
        name: value if isinstance(value, bool | int | float | str | None) else str(value)
        for name, value in sorted(estimator.get_params(deep=True).items())
        if not isinstance(value, BaseEstimator) and name != "steps"
    }


def _default(spec: ModelSpec) -> Any:
    kind = (
        HistGradientBoostingRegressor
        if spec.task is Task.REGRESSION
        else HistGradientBoostingClassifier
    )
    given = spec.trainer.parameters
    known = [name for name in inspect.signature(kind).parameters if name not in _OURS]
    for name in given:
        if name in _OURS:
            raise UsageError(f"trainer.parameters.{name} must be left out: {_OURS[name]}.")
        if name not in known:
            raise UsageError(
                f"trainer.parameters.{name} must be a known parameter of {kind.__name__}: "
                f"{', '.join(known)}."
            )
    stop = given.get("early_stopping", "auto")
    if stop is True and (spec.split.calibration == 0):
        raise UsageError(
            "split.calibration must be above 0 for trainer.parameters.early_stopping: the rounds "
            "are stopped on rows later than those trained on. Got 0."
        )
    return kind(**{**DEFAULTS, **given})


def _call_builder(spec: ModelSpec) -> Any:
    path = spec.trainer.build
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        absent = error.name or module_name
        if module_name == absent or module_name.startswith(absent + "."):
            raise UsageError(
                f"trainer.build must name a module that can be imported. Got {path!r}: "
                f"there is no module {absent!r} on the Python path."
            ) from error
        raise UsageError(
            f"trainer.build {path!r} could not be imported: it needs {absent!r}, which is not "
            "installed."
        ) from error
    except Exception as error:
        raise UsageError(
            f"trainer.build {path!r} could not be imported: {type(error).__name__}: {error}"
        ) from error
    builder = getattr(module, name, None)
    if builder is None:
        raise UsageError(
            f"trainer.build must name a function of {module_name}. Got {path!r}, which it lacks."
        )
    if not callable(builder):
        raise UsageError(
            f"trainer.build must name a function. Got {path!r}, a {type(builder).__name__}."
        )
    try:
        return builder(spec)
    except Exception as error:
        raise UsageError(
            f"trainer.build {path!r} raised {type(error).__name__}: {error}"
        ) from error


def _checked(spec: ModelSpec, estimator: Any) -> Any:
    path = spec.trainer.build
    got = f"Got {type(estimator).__name__} from {path!r}."
    if isinstance(estimator, type) or not isinstance(estimator, BaseEstimator):
        raise UsageError(f"trainer.build must return an unfitted scikit-learn estimator. {got}")
    if spec.task is Task.REGRESSION:
        if not is_regressor(estimator):
            raise UsageError(f"trainer.build must return a regressor for task regression. {got}")
        return estimator
    if not is_classifier(estimator):
        raise UsageError(f"trainer.build must return a classifier for task {spec.task}. {got}")
    if not hasattr(estimator, "predict_proba"):
        raise UsageError(
            f"trainer.build must return a classifier with predict_proba for task {spec.task}. {got}"
        )
    return estimator
