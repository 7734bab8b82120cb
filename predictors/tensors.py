"""The v2 protocol's tensors, of REST or gRPC, as columns of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

from heliotrope.domain.encoding import FloatMatrix, key_text, show_value
from heliotrope.spec.features import FeatureType
from predictors.core import PredictionCore
from predictors.refusals import Refused

_NONE = type(None)
FLOATS = ("FP16", "FP32", "FP64")
_LIMITS = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
INTEGERS = tuple(_LIMITS)
DATATYPES = ("BOOL", *INTEGERS, *FLOATS, "BYTES")
_PYTHON: dict[str, set[type]] = {
    "BOOL": {bool, _NONE},
    "BYTES": {str, _NONE},
    **{name: {int, _NONE} for name in INTEGERS},
    **{name: {float, int, _NONE} for name in FLOATS},
}
_CALLED = {
    "BOOL": "true or false",
    "BYTES": "text",
    **dict.fromkeys(INTEGERS, "a whole number"),
    **dict.fromkeys(FLOATS, "a number"),
}
ACCEPTED: dict[FeatureType, tuple[str, ...]] = {
    FeatureType.FLOAT: (*FLOATS, *INTEGERS),
    FeatureType.INTEGER: (*INTEGERS, *FLOATS),
    FeatureType.CATEGORY: ("BYTES",),
    FeatureType.BOOLEAN: ("BOOL", *INTEGERS),
}
OFFERED: dict[FeatureType, str] = {
    FeatureType.FLOAT: "FP32",
    FeatureType.INTEGER: "INT32",
    FeatureType.CATEGORY: "BYTES",
    FeatureType.BOOLEAN: "BOOL",
}
"""The datatype that metadata names for each type of feature."""


@dataclass(slots=True)
class Tensor:
    """One input as it was sent; nothing about it is known to be right."""

    name: str
    shape: Sequence[int]
    datatype: str
    data: list[Any]


def _where(row: int, name: str) -> str:
    return f"inputs.{name}[{row}]" if name else f"row {row}"


def encode_tensors(
    tensors: Sequence[Tensor], core: PredictionCore
) -> tuple[FloatMatrix, list[str | None] | None]:
    """The features of one tensor a column, or of one tensor of all columns.

    Raises:
        Refused: a tensor is not what it claims, or not of this model.
        InputRefused: a value may not be scored.
    """
    encoder = core.encoder
    if len(tensors) == 1 and tensors[0].name not in encoder.names:
        return encoder.matrix(_wide(tensors[0], core), _where), None
    columns: dict[str, list[Any]] = {}
    rows = -1
    for tensor in tensors:
        if tensor.name in columns:
            raise Refused(400, f"inputs.{tensor.name[:80]} must be given once. Got it twice.")
        values = _column(tensor, core)
        if rows not in (-1, len(values)):
            must = f"have {rows} rows, like the others"
            raise Refused(400, f"inputs.{tensor.name}.shape must {must}. Got {len(values)}.")
        rows = len(values)
        columns[tensor.name] = values
    keys = columns.pop(encoder.entity_key, None) if encoder.entity_key is not None else None
    if not columns:
        raise Refused(400, "inputs must hold one tensor a feature. Got none.")
    ordered = []
    for feature in encoder.features:
        values = columns.get(feature.name, [])
        if not values:
            if not feature.nullable:
                must = "be given: it may not be missing"
                raise Refused(400, f"inputs.{feature.name} must {must}. Got nothing.")
            values = [None] * rows
        ordered.append(values)
    texts = None
    if keys is not None and encoder.entity_key is not None:
        texts = [key_text(k, _where(i, encoder.entity_key)) for i, k in enumerate(keys)]
    return encoder.matrix(list(zip(*ordered, strict=True)), _where), texts


def _accepted(tensor: Tensor, core: PredictionCore) -> tuple[str, ...]:
    for feature in core.encoder.features:
        if feature.name == tensor.name:
            return ACCEPTED[feature.type]
    if tensor.name == core.encoder.entity_key:
        return ("BYTES", *INTEGERS)
    must = "be left out: the model has no such feature"
    raise Refused(400, f"inputs.{tensor.name[:80]} must {must}.")


def _column(tensor: Tensor, core: PredictionCore) -> list[Any]:
    accepted = _accepted(tensor, core)
    name, shape = tensor.name, tensor.shape
    if tensor.datatype not in accepted:
        must = f"be one of {', '.join(accepted)}"
        raise Refused(400, f"inputs.{name}.datatype must {must}. Got {tensor.datatype[:40]}.")
    if not 1 <= len(shape) <= 2 or (shape[-1] != 1 and len(shape) == 2):
        raise Refused(400, f"inputs.{name}.shape must be [n] or [n, 1]. Got {_shape(shape)}.")
    core.check_rows(shape[0], f"inputs.{name}")
    return _values(tensor, 1)


def _wide(tensor: Tensor, core: PredictionCore) -> list[Sequence[Any]]:
    features, name, shape = core.encoder.features, tensor.name, tensor.shape
    if not all(feature.type.numeric for feature in features):
        other = next(f for f in features if not f.type.numeric)
        must = f"be one tensor a feature, since {other.name} is a {other.type}"
        raise Refused(400, f"inputs must {must}. Got only {name[:80]}.")
    width = len(features)
    if tensor.datatype not in (*FLOATS, *INTEGERS):
        must = f"be one of {', '.join((*FLOATS, *INTEGERS))}"
        raise Refused(400, f"inputs.{name[:80]}.datatype must {must}. Got {tensor.datatype[:40]}.")
    if len(shape) != 2 or shape[1] != width:
        must = f"be [n, {width}], or one tensor a feature must be sent"
        raise Refused(400, f"inputs.{name[:80]}.shape must {must}. Got {_shape(shape)}.")
    core.check_rows(shape[0], f"inputs.{name[:80]}")
    flat = _values(tensor, width)
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(str(n)[:20] for n in shape[:5])}{', ...' if len(shape) > 5 else ''}]"


def _values(tensor: Tensor, width: int) -> list[Any]:
    """A tensor's values, flat, each of the Python type that its datatype says."""
    name, data, datatype = tensor.name[:80], tensor.data, tensor.datatype
    kinds = set(map(type, data))
    if kinds == {list}:
        if set(map(len, data)) != {width}:
            raise Refused(400, f"inputs.{name}.data must be rows of {width} values.")
        data = list(chain.from_iterable(data))
        kinds = set(map(type, data))
    expected = prod(tensor.shape)
    if len(data) != expected:
        must = f"hold {expected} values, as shape {_shape(tensor.shape)} says"
        raise Refused(400, f"inputs.{name}.data must {must}. Got {len(data)}.")
    allowed = _PYTHON[datatype]
    if not kinds <= allowed:
        place = next(i for i, value in enumerate(data) if type(value) not in allowed)
        _refuse_value(tensor, data, place, width, _CALLED[datatype])
    limits = _LIMITS.get(datatype)
    if limits is not None:
        low, high = limits
        for place, value in enumerate(data):
            if value is not None and not low <= value <= high:
                _refuse_value(tensor, data, place, width, f"between {low} and {high}")
    return data


def _refuse_value(tensor: Tensor, data: list[Any], place: int, width: int, what: str) -> None:
    at = f"[{place}]" if width == 1 else f"[{place // width}][{place % width}]"
    field = f"inputs.{tensor.name[:80]}{at}"
    got = show_value(data[place])
    raise Refused(400, f"{field} must be {what}, as datatype {tensor.datatype} says. Got {got}.")
