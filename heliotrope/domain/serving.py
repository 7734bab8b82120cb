"""The contract between a trained model and the predictor: `serving.json` beside `model.onnx`."""

from heliotrope.domain.document import Document
from heliotrope.spec.features import Feature
from heliotrope.vocabulary import Task

FORMAT = 1
"""Raised when a predictor could no longer read an older folder."""


class ServingContract(Document):
    """All a predictor needs to know of a model.

    The ONNX graph has one input, `features`: float32 [rows, len(features)], columns in this order.
    A number is itself, a boolean 0 or 1, a category its position in `categories`, a missing value
    NaN. Its one output, `scores`, is float32: [rows] probability of the positive class (binary),
    [rows, classes] (multiclass) or [rows] value (regression).
    """

    format: int = FORMAT
    model: str
    version: str | None = None
    """Registry version; None in a folder that was not registered yet (then given at start)."""
    task: Task
    features: tuple[Feature, ...]
    classes: tuple[str, ...] = ()
    """Class names in score order; binary: negative, positive."""
    threshold: float | None = None
    """Probability from which a row is called positive (binary)."""
    entity_key: str | None = None
    """Name of an optional, extra request column that identifies the row; logged, never scored."""
    label_delay_seconds: float = 0.0
    model_hash: str | None = None
    """sha256 of model.onnx, checked at start."""
