"""The model as KServe knows it: health, metadata, and prediction by KServe's routes."""

import time
from typing import Any

from kserve import InferRequest, Model
from kserve.errors import InvalidInput

from heliotrope.domain.encoding import InputRefused
from heliotrope.vocabulary import Task
from predictors.core import PredictionCore, check_request_id, new_request_id
from predictors.refusals import Refused
from predictors.tensors import OFFERED
from predictors.v1 import encode_v1, parse_json, write_v1
from predictors.v2 import encode_v2, output_names, write_v2

Types = list[dict[str, Any]]


def tensor_types(core: PredictionCore) -> tuple[Types, Types]:
    """Name, datatype and shape of each input and output."""
    inputs: Types = [
        {"name": feature.name, "datatype": OFFERED[feature.type], "shape": [-1]}
        for feature in core.contract.features
    ]
    task = core.contract.task
    outputs: Types = []
    for name in output_names(core):
        shape = [-1, len(core.contract.classes)] if name == "probabilities" else [-1]
        text = name == "prediction" and task is not Task.REGRESSION
        outputs.append({"name": name, "datatype": "BYTES" if text else "FP32", "shape": shape})
    return inputs, outputs


class TabularModel(Model):  # type: ignore[misc]
    """A model of named columns.

    The predictor's own server answers the hot routes in front of this; `predict` serves a plain
    `kserve.ModelServer` that the model is registered with.
    """

    def __init__(self, core: PredictionCore) -> None:
        super().__init__(core.name)
        self.core = core
        self.ready = True

    def stop(self) -> None:
        """Called when the server stops: probes say so, open requests are still answered."""
        self.ready = False
        self.core.metrics.ready = False

    def get_input_types(self) -> Types:
        """One input a feature."""
        return tensor_types(self.core)[0]

    def get_output_types(self) -> Types:
        """Prediction, and score or probabilities of a classifier."""
        return tensor_types(self.core)[1]

    async def predict(
        self,
        payload: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,  # noqa: ARG002 (KServe's signature)
    ) -> Any:
        """Answer a v1 document or a v2 request.

        Raises:
            kserve.errors.InvalidInput: it was refused; KServe answers 400 with the reason.
        """
        started = time.perf_counter_ns()
        given = (headers or {}).get("x-request-id")
        try:
            request_id = check_request_id(given, "x-request-id") if given else new_request_id()
            if isinstance(payload, InferRequest):
                return await self._predict_v2(payload, request_id, started)
            document = parse_json(payload) if isinstance(payload, bytes) else payload
            features, keys = encode_v1(document, self.core)
            answer = await self.core.answer(features, keys, request_id, "v1", started)
            return parse_json(write_v1(answer, self.core))
        except (InputRefused, Refused) as refused:
            raise InvalidInput(str(refused)) from refused

    async def _predict_v2(self, request: Any, request_id: str, started: int) -> Any:
        document, _ = request.to_rest()
        given = document.get("id")
        request_id = check_request_id(given, "id") if given else request_id
        features, keys, asked = encode_v2(document, self.core)
        answer = await self.core.answer(features, keys, request_id, "v2", started)
        return parse_json(write_v2(answer, self.core, asked))
