"""The v2 protocol in JSON: one tensor a feature, or one tensor of all of them."""

from collections.abc import Sequence
from typing import Any

import orjson

from heliotrope.domain.encoding import FloatMatrix, show_value
from heliotrope.vocabulary import Task
from predictors.core import Answer, PredictionCore
from predictors.refusals import Refused
from predictors.tensors import DATATYPES, Tensor, encode_tensors

INPUTS_MAX = 4096
"""More tensors than any model has columns."""


def output_names(core: PredictionCore) -> tuple[str, ...]:
    """The outputs of an answer: prediction, and score or probabilities of a classifier."""
    task = core.contract.task
    if task is Task.REGRESSION:
        return ("prediction",)
    return ("prediction", "score" if task is Task.BINARY else "probabilities")


def encode_v2(
    document: Any, core: PredictionCore
) -> tuple[FloatMatrix, list[str | None] | None, Sequence[str]]:
    """The features of a request, its entity keys, and the outputs it asks for.

    Raises:
        Refused: the document is not a v2 request of this model.
        InputRefused: a value may not be scored.
    """
    inputs = document.get("inputs") if type(document) is dict else None
    if type(inputs) is not list or not 1 <= len(inputs) <= INPUTS_MAX:
        got = "nothing" if inputs is None else show_value(inputs)
        raise Refused(400, f'The body must be {{"inputs": [...]}}. Got {got} for inputs.')
    asked = _outputs(document.get("outputs"), core)
    tensors = [_tensor(number, value) for number, value in enumerate(inputs)]
    return *encode_tensors(tensors, core), asked


def _tensor(number: int, value: Any) -> Tensor:
    if type(value) is not dict:
        raise Refused(400, f"inputs[{number}] must be an object. Got {show_value(value)}.")
    get = value.get
    name, shape, datatype, data = get("name"), get("shape"), get("datatype"), get("data")
    if type(name) is not str or not name:
        raise Refused(400, f"inputs[{number}].name must be text. Got {show_value(name)}.")
    if type(shape) is not list or not set(map(type, shape)) <= {int}:
        must = "be a list of whole numbers"
        raise Refused(400, f"inputs[{number}].shape must {must}. Got {show_value(shape)}.")
    if type(datatype) is not str or datatype not in DATATYPES:
        must = f"be one of {', '.join(DATATYPES)}"
        raise Refused(400, f"inputs[{number}].datatype must {must}. Got {show_value(datatype)}.")
    if type(data) is not list:
        extra = get("parameters")
        if type(extra) is dict and "binary_data_size" in extra:
            must = "be JSON: binary tensors are not read over REST, send them over gRPC"
            raise Refused(400, f"inputs[{number}].data must {must}.")
        raise Refused(400, f"inputs[{number}].data must be a list. Got {show_value(data)}.")
    return Tensor(name, shape, datatype, data)


def _outputs(asked: Any, core: PredictionCore) -> Sequence[str]:
    known = output_names(core)
    if asked is None or asked == []:
        return known
    names = []
    for number, output in enumerate(asked if type(asked) is list else [asked]):
        name = output.get("name") if type(output) is dict else output
        if not isinstance(name, str) or name not in known:
            must = f"be one of {', '.join(known)}"
            raise Refused(400, f"outputs[{number}].name must {must}. Got {show_value(name)}.")
        parameters = output.get("parameters") if type(output) is dict else None
        if type(parameters) is dict and parameters.get("binary_data"):
            must = "be left out: binary tensors are not written over REST"
            raise Refused(400, f"outputs[{number}].parameters.binary_data must {must}.")
        names.append(name)
    return names


def write_v2(answer: Answer, core: PredictionCore, asked: Sequence[str]) -> bytes:
    """An answer's body; scores are float32."""
    rows = len(answer.predictions)
    outputs: list[dict[str, Any]] = []
    for name in asked:
        if name == "prediction":
            datatype = "BYTES" if answer.scores is not None else "FP32"
            outputs.append(
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": [rows],
                    "data": answer.predictions,
                }
            )
        elif answer.scores is not None:
            outputs.append(
                {
                    "name": name,
                    "datatype": "FP32",
                    "shape": list(answer.scores.shape),
                    "data": answer.scores.ravel(),
                }
            )
    document = {
        "model_name": core.name,
        "model_version": core.version,
        "id": answer.request_id,
        "outputs": outputs,
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
