"""The v2 protocol over gRPC, through the same core as REST.

KServe's servicer answers health; inference is ours, so that ids, versions, checks, the spool and
metrics are the same. Messages above `max_body_bytes` end as RESOURCE_EXHAUSTED inside gRPC, before
any of this.
"""

import logging
import struct
import time
from typing import Any

import numpy as np
from grpc import StatusCode, aio
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from heliotrope.domain.encoding import InputRefused
from heliotrope.vocabulary import HEADER_MODEL_VERSION, HEADER_REQUEST_ID
from predictors.core import Answer, PredictionCore, check_request_id, new_request_id
from predictors.refusals import Refused, no_such_model
from predictors.tabular import tensor_types
from predictors.tensors import DATATYPES, Tensor, encode_tensors
from predictors.v2 import INPUTS_MAX, output_names

logger = logging.getLogger("heliotrope.predictor")

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_RAW = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_STATUS = {
    404: StatusCode.NOT_FOUND,
    422: StatusCode.INVALID_ARGUMENT,
    400: StatusCode.INVALID_ARGUMENT,
}


class PredictionServicer(InferenceServicer):  # type: ignore[misc]
    """KServe's gRPC service with our inference and without the model repository."""

    def __init__(self, data_plane: DataPlane, extension: Any, core: PredictionCore) -> None:
        super().__init__(data_plane, extension)
        self._core = core

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> Any:
        """Predict; errors are INVALID_ARGUMENT or NOT_FOUND and say what to mend."""
        core, started = self._core, time.perf_counter_ns()
        request_id = ""
        try:
            request_id = _request_id(request, context) or new_request_id()
            self._check_model(request.model_name, request.model_version)
            features, keys = encode_tensors(read_tensors(request), core)
            answer = await core.answer(features, keys, request_id, "grpc", started)
        except (InputRefused, Refused) as refused:
            status = refused.status if isinstance(refused, Refused) else 400
            await self._abort(context, request_id, status, str(refused))
        except Exception:
            logger.exception("request %s could not be answered", request_id)
            must = "The predictor must answer this and could not. Its log says why."
            await self._abort(context, request_id, 500, must)
        core.metrics.requests["grpc", 200] += 1
        context.set_trailing_metadata(self._metadata(request_id))
        return write_response(answer, core)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> Any:
        """Whether the model is ready; NOT_FOUND for another one."""
        if request.name != self._core.name:
            refused = no_such_model(request.name, self._core.name)
            await context.abort(StatusCode.NOT_FOUND, str(refused))
        return pb.ModelReadyResponse(ready=self._core.metrics.ready)

    async def ServerReady(self, _request: pb.ServerReadyRequest, _context: Any) -> Any:
        """Whether the server takes requests: whether its model is ready."""
        return pb.ServerReadyResponse(ready=self._core.metrics.ready)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> Any:
        """Names, datatypes and shapes of the model's tensors."""
        try:
            self._check_model(request.name, request.version)
        except Refused as refused:
            await context.abort(StatusCode.NOT_FOUND, str(refused))
        inputs, outputs = tensor_types(self._core)
        kind = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=self._core.name,
            versions=[self._core.version],
            platform="onnx",
            inputs=[kind(**tensor) for tensor in inputs],
            outputs=[kind(**tensor) for tensor in outputs],
        )

    async def RepositoryModelLoad(self, _request: Any, context: Any) -> Any:
        """Not offered."""
        await context.abort(StatusCode.UNIMPLEMENTED, "Models are not loaded over the network.")

    async def RepositoryModelUnload(self, _request: Any, context: Any) -> Any:
        """Not offered."""
        await context.abort(StatusCode.UNIMPLEMENTED, "Models are not unloaded over the network.")

    def _check_model(self, name: str, version: str) -> None:
        if name != self._core.name:
            raise no_such_model(name, self._core.name)
        if version not in ("", self._core.version):
            raise Refused(404, f"The version must be {self._core.version}. Got {version[:80]}.")

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        return (HEADER_REQUEST_ID, request_id), (HEADER_MODEL_VERSION, self._core.version)

    async def _abort(self, context: Any, request_id: str, status: int, message: str) -> None:
        self._core.metrics.requests["grpc", status] += 1
        metadata = self._metadata(request_id or new_request_id())
        code = _STATUS.get(status, StatusCode.INTERNAL)
        await context.abort(code, message, metadata)


def _request_id(request: pb.ModelInferRequest, context: Any) -> str | None:
    if request.id:
        return check_request_id(request.id, "id")
    for name, value in context.invocation_metadata() or ():
        if name == HEADER_REQUEST_ID:
            return check_request_id(value, HEADER_REQUEST_ID)
    return None


def read_tensors(request: pb.ModelInferRequest) -> list[Tensor]:
    """A request's inputs, of typed or of raw contents.

    An empty text is a missing value, since the protocol has no null; so is a floating-point NaN.

    Raises:
        Refused: contents are missing, doubled, or not what the datatype says.
    """
    inputs, raw = request.inputs, request.raw_input_contents
    if not 1 <= len(inputs) <= INPUTS_MAX:
        raise Refused(400, f"inputs must hold one tensor a feature. Got {len(inputs)}.")
    if raw and len(raw) != len(inputs):
        must = f"hold one entry for each of the {len(inputs)} inputs"
        raise Refused(400, f"raw_input_contents must {must}. Got {len(raw)}.")
    return [
        Tensor(tensor.name, list(tensor.shape), tensor.datatype, _data(tensor, raw, number))
        for number, tensor in enumerate(inputs)
    ]


def _data(tensor: Any, raw: Any, number: int) -> list[Any]:
    field = f"inputs.{tensor.name[:80]}"
    if tensor.datatype not in DATATYPES:
        must = f"be one of {', '.join(DATATYPES)}"
        raise Refused(400, f"{field}.datatype must {must}. Got {tensor.datatype[:40]}.")
    if raw:
        if tensor.HasField("contents"):
            raise Refused(400, f"{field}.contents must be left out beside raw_input_contents.")
        return _raw_data(field, tensor.datatype, raw[number])
    wanted = _CONTENTS.get(tensor.datatype)
    given = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if wanted is None or given != [wanted]:
        must = wanted or "sent as raw_input_contents"
        got = ", ".join(given) or "nothing"
        raise Refused(400, f"{field}.contents must be {must} for {tensor.datatype}. Got {got}.")
    values = getattr(tensor.contents, wanted)
    return _texts(field, values) if tensor.datatype == "BYTES" else list(values)


def _raw_data(field: str, datatype: str, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        return _texts(field, _split(field, raw))
    kind = np.dtype(_RAW[datatype])
    if len(raw) % kind.itemsize:
        must = f"be a multiple of {kind.itemsize} bytes long for {datatype}"
        raise Refused(400, f"{field}: raw contents must {must}. Got {len(raw)}.")
    values: list[Any] = np.frombuffer(raw, kind).tolist()
    return values


def _split(field: str, raw: bytes) -> list[bytes]:
    """Elements of raw BYTES: each a little-endian length of four bytes, then as many bytes."""
    parts, at = [], 0
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at)[0] if len(raw) - at >= 4 else len(raw)
        if at + 4 + size > len(raw):
            raise Refused(400, f"{field}: raw contents must hold whole elements. The last is cut.")
        parts.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return parts


def _texts(field: str, values: Any) -> list[str | None]:
    texts: list[str | None] = []
    for number, value in enumerate(values):
        try:
            texts.append(value.decode() or None)
        except UnicodeDecodeError:
            raise Refused(400, f"{field}[{number}] must be UTF-8. It is not.") from None
    return texts


def write_response(answer: Answer, core: PredictionCore) -> Any:
    """An answer as KServe's message."""
    output = pb.ModelInferResponse.InferOutputTensor
    contents, shape = pb.InferTensorContents, [len(answer.predictions)]
    if answer.scores is None:
        values = contents(fp32_contents=answer.predictions)
        outputs = [output(name="prediction", datatype="FP32", shape=shape, contents=values)]
    else:
        texts = contents(bytes_contents=[name.encode() for name in answer.predictions])
        numbers = contents(fp32_contents=answer.scores.ravel().tolist())
        name = output_names(core)[1]
        outputs = [
            output(name="prediction", datatype="BYTES", shape=shape, contents=texts),
            output(name=name, datatype="FP32", shape=answer.scores.shape, contents=numbers),
        ]
    return pb.ModelInferResponse(
        model_name=core.name,
        model_version=core.version,
        id=answer.request_id,
        parameters={"model_version": pb.InferParameter(string_param=core.version)},
        outputs=outputs,
    )


class PredictorRpcServer(GRPCServer):  # type: ignore[misc]
    """KServe's gRPC server with our service, and no log line a request."""

    def __init__(self, port: int, servicer: PredictionServicer, limit: int, grace: int) -> None:
        super().__init__(port, None, None, kwargs={}, grace_period=grace)
        self._servicer = servicer
        self._limit = limit

    async def start(self, _max_workers: int) -> None:
        """Serve until stopped."""
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limit),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ]
        )
        services.add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        if not self._server.add_insecure_port(f"[::]:{self._port}"):
            raise OSError(98, f"grpc_port must be free. Got {self._port}")
        await self._server.start()
        await self._server.wait_for_termination()
