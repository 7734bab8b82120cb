"""The v1 protocol: `{"instances": [...]}` of lists in the features' order, or of objects.

A name given twice in one object counts once, with its last value: JSON leaves that open, and to
tell it every body would have to be parsed a second time.
"""

from typing import Any

import orjson

from heliotrope.domain.encoding import FloatMatrix, show_value
from predictors.core import Answer, PredictionCore
from predictors.refusals import Refused


def parse_json(body: bytes | bytearray) -> Any:
    """Decode a JSON body.

    Raises:
        Refused: it is not JSON; the message says where, and never repeats the body.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        hint = "; JSON has no NaN or Infinity, a missing value is null"
        raise Refused(400, f"The body must be JSON in UTF-8{hint}. It is not, at {at}.") from None


def encode_v1(document: Any, core: PredictionCore) -> tuple[FloatMatrix, list[str | None] | None]:
    """The features of a request, and its entity keys where it gives them.

    Raises:
        Refused: the document is not a v1 request.
        InputRefused: a row may not be scored.
    """
    instances = document.get("instances") if type(document) is dict else None
    if type(instances) is not list:
        got = "nothing" if instances is None else show_value(instances)
        raise Refused(400, f'The body must be {{"instances": [...]}}. Got {got} for instances.')
    core.check_rows(len(instances), "instances")
    kinds = set(map(type, instances))
    if kinds == {list}:
        return core.encoder.matrix(instances), None
    if kinds == {dict}:
        rows, keys = core.encoder.named(instances)
        return core.encoder.matrix(rows), keys
    first = type(instances[0])
    wanted = first if first in (list, dict) else None
    number = next((i for i, row in enumerate(instances) if type(row) is not wanted), 0)
    must = "be a list in the order of the features, or an object of named values"
    if wanted is not None:
        must = "be a list, like the first" if wanted is list else "be an object, like the first"
    raise Refused(400, f"instances[{number}] must {must}. Got {show_value(instances[number])}.")


def write_v1(answer: Answer, core: PredictionCore) -> bytes:
    """An answer's body."""
    document: dict[str, Any] = {"predictions": answer.predictions}
    if answer.scores is not None:
        document["scores"] = answer.scores
    name = answer.request_id
    document["id"] = name
    document["prediction_ids"] = [f"{name}/{row}" for row in range(len(answer.predictions))]
    document["model_name"] = core.name
    document["model_version"] = core.version
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
