"""The predictor's whole surface, against one real process: REST, gRPC, metrics, bad input."""

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import PredictorProcess
from bench.standin import build_model, loan_features, loan_rows
from heliotrope.domain.encoding import encode_rows
from heliotrope.domain.serving import ServingContract
from heliotrope.service.spool_reading import SpoolReader
from heliotrope.telemetry.catalogue import owned_by
from heliotrope.telemetry.metric import Owner
from predictors.loading import load_model

V1, V2 = "/v1/models/loans:predict", "/v2/models/loans/infer"
JSON = {"content-type": "application/json"}
LIMIT = 200_000
NAMES = [feature.name for feature in loan_features()]
DATATYPES = {"float": "FP64", "integer": "INT32", "category": "BYTES", "boolean": "BOOL"}


class Server:
    """The process, its contract, and what the model itself answers."""

    def __init__(self, process: PredictorProcess, contract: ServingContract, folder: Path) -> None:
        self.process, self.contract = process, contract
        self.scorer = load_model(folder, None).scorer
        self.channel = grpc.insecure_channel(f"127.0.0.1:{process.grpc_port}")
        self.stub = services.GRPCInferenceServiceStub(self.channel)

    def send(
        self, path: str, body: object, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and decoded body of a request."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        link = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=20)
        link.request(method, path, raw, {**JSON, **(headers or {})})
        answer = link.getresponse()
        data, found = answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        link.close()
        kind = found.get("content-type", "")
        return answer.status, found, json.loads(data) if "json" in kind else data.decode()

    def scores(self, rows: list[dict[str, Any]]) -> list[float]:
        """What the model gives, without the server."""
        answer: list[float] = self.scorer.score(encode_rows(self.contract, rows)).tolist()
        return answer

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """Every spooled row by request id."""
        entries = SpoolReader(self.process.spool).poll()
        return {entry.record.request_id: list(entry.rows()) for entry in entries}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    work = tmp_path_factory.mktemp("serving")
    contract = build_model(work / "model")
    flags = ("--max_body_bytes", str(LIMIT), "--max_rows", "200", "--role", "canary")
    with PredictorProcess(work / "model", work, *flags) as process:
        yield Server(process, contract, work / "model")
        assert process.stop() == 0


def v2_inputs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": feature.name,
            "shape": [len(rows)],
            "datatype": DATATYPES[feature.type],
            "data": [row[feature.name] for row in rows],
        }
        for feature in loan_features()
    ]


def grpc_inputs(rows: list[dict[str, Any]]) -> list[Any]:
    inputs = []
    for feature in loan_features():
        values = [row[feature.name] for row in rows]
        contents = {
            "float": lambda v: {"fp64_contents": [float("nan") if x is None else x for x in v]},
            "integer": lambda v: {"int_contents": v},
            "category": lambda v: {"bytes_contents": [(x or "").encode() for x in v]},
            "boolean": lambda v: {"bool_contents": v},
        }[feature.type](values)
        inputs.append(
            pb.ModelInferRequest.InferInputTensor(
                name=feature.name,
                datatype=DATATYPES[feature.type],
                shape=[len(rows)],
                contents=pb.InferTensorContents(**contents),
            )
        )
    return inputs


def grpc_request(rows: list[dict[str, Any]], **extra: Any) -> Any:
    return pb.ModelInferRequest(model_name="loans", inputs=grpc_inputs(rows), **extra)


ROWS = loan_rows(20, seed=5)
ROW = ROWS[0]


def test_every_protocol_answers_what_the_model_gives(server: Server) -> None:
    expected = np.float32(server.scores(ROWS))
    lists = {"instances": [[row[name] for name in NAMES] for row in ROWS]}
    nulls_left_out = [{k: v for k, v in row.items() if v is not None} for row in ROWS]
    for body in (lists, {"instances": ROWS}, {"instances": nulls_left_out}):
        status, _, answer = server.send(V1, body)
        assert status == 200
        assert np.array_equal(np.float32(answer["scores"]), expected)
        assert answer["predictions"] == ["default" if s >= 0.35 else "repaid" for s in expected]
    status, _, answer = server.send(V2, {"inputs": v2_inputs(ROWS)})
    assert status == 200
    assert [(o["name"], o["datatype"], o["shape"]) for o in answer["outputs"]] == [
        ("prediction", "BYTES", [20]),
        ("score", "FP32", [20]),
    ]
    assert np.array_equal(np.float32(answer["outputs"][1]["data"]), expected)
    reply = server.stub.ModelInfer(grpc_request(ROWS))
    assert np.array_equal(np.float32(reply.outputs[1].contents.fp32_contents), expected)
    assert reply.model_version == reply.parameters["model_version"].string_param == "3"


def test_the_answer_carries_id_and_version_and_its_record_is_already_spooled(
    server: Server,
) -> None:
    row = {**ROW, "loan_id": "L-77"}
    status, headers, answer = server.send(V1, {"instances": [row, ROW]}, {"X-Request-Id": "mine-1"})
    spooled = server.records()["mine-1"]
    assert status == 200
    assert headers["x-request-id"] == answer["id"] == "mine-1"
    assert headers["x-model-version"] == answer["model_version"] == "3"
    assert (
        answer["prediction_ids"]
        == [r["prediction_id"] for r in spooled]
        == ["mine-1/0", "mine-1/1"]
    )
    assert [r["entity_key"] for r in spooled] == ["L-77", None]
    assert [r["prediction"] for r in spooled] == answer["predictions"]
    assert np.array_equal(np.float32([r["score"] for r in spooled]), np.float32(answer["scores"]))
    assert {r["role"] for r in spooled} == {"canary"}
    for name, value in ROW.items():
        assert spooled[1]["features"][name] == (
            pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        )


def test_the_body_id_wins_over_the_header_and_grpc_takes_both(server: Server) -> None:
    body = {"id": "body-id", "inputs": v2_inputs([ROW])}
    _, headers, answer = server.send(V2, body, {"x-request-id": "proxy-id"})
    assert headers["x-request-id"] == answer["id"] == "body-id"
    reply, call = server.stub.ModelInfer.with_call(grpc_request([ROW], id="rpc-1"))
    metadata = dict(call.trailing_metadata())
    assert (reply.id, metadata["x-request-id"], metadata["x-model-version"]) == (
        "rpc-1",
        "rpc-1",
        "3",
    )
    header = (("x-request-id", "rpc-2"),)
    assert server.stub.ModelInfer(grpc_request([ROW]), metadata=header).id == "rpc-2"
    assert {"body-id", "rpc-1", "rpc-2"} <= set(server.records())


def test_new_ids_differ_and_sort_by_time(server: Server) -> None:
    made = [server.send(V1, {"instances": [ROW]})[2]["id"] for _ in range(5)]
    assert len(set(made)) == 5
    assert [i[:13] for i in made] == sorted(i[:13] for i in made)


def test_named_outputs_shapes_of_one_column_and_raw_tensors_are_understood(server: Server) -> None:
    body = {"inputs": v2_inputs(ROWS), "outputs": [{"name": "score"}]}
    for tensor in body["inputs"]:
        tensor["shape"], tensor["data"] = [20, 1], [[value] for value in tensor["data"]]
    status, _, answer = server.send(V2, body)
    assert (status, [o["name"] for o in answer["outputs"]]) == (200, ["score"])
    request = grpc_request([])
    for tensor, feature in zip(request.inputs, loan_features(), strict=True):
        values = [row[feature.name] for row in ROWS]
        tensor.ClearField("contents")
        tensor.shape[:] = [20]
        if feature.type == "category":
            texts = [(v or "").encode() for v in values]
            raw = b"".join(len(t).to_bytes(4, "little") + t for t in texts)
        else:
            kind = {"float": "<f8", "integer": "<i4", "boolean": "?"}[feature.type]
            raw = np.array([np.nan if v is None else v for v in values], dtype=kind).tobytes()
        request.raw_input_contents.append(raw)
    reply = server.stub.ModelInfer(request)
    assert np.array_equal(
        np.float32(reply.outputs[1].contents.fp32_contents),
        np.float32(answer["outputs"][0]["data"]),
    )


def one(**changes: Any) -> dict[str, Any]:
    return {"instances": [ROW, {**ROW, **changes}]}


def tensor(name: str, /, **changes: Any) -> dict[str, Any]:
    inputs = [{**t, **changes} if t["name"] == name else t for t in v2_inputs([ROW])]
    return {"inputs": inputs}


def nested(depth: int) -> bytes:
    return b'{"instances":' + b"[" * depth + b"]" * depth + b"}"


REST_FAULTS: list[tuple[str, object, dict[str, str], int, str]] = [
    (V1, b"{", {}, 400, "The body must be JSON"),
    (V1, b"", {}, 400, "The body must be JSON"),
    (V1, b"\xff\xfe", {}, 400, "The body must be JSON"),
    (V1, b'{"instances": [[NaN]]}', {}, 400, "JSON has no NaN"),
    (V1, b'{"instances": [[1e999]]}', {}, 400, ""),
    (V1, nested(5000), {}, 400, "The body must be JSON"),
    (V1, nested(200), {}, 400, "instances"),
    (V1, b"[]", {}, 400, "The body must be"),
    (V1, {}, {}, 400, "Got nothing for instances"),
    (V1, {"instances": {}}, {}, 400, "Got an object of 0 for instances"),
    (V1, {"instances": []}, {}, 400, "instances must hold between 1 and 200 rows. Got 0."),
    (V1, {"instances": [[]] * 201}, {}, 400, "between 1 and 200 rows. Got 201."),
    (V1, {"instances": [1]}, {}, 400, "instances[0] must be a list in the order"),
    (V1, {"instances": [ROW, [1]]}, {}, 400, "instances[1] must be an object, like the first"),
    (V1, {"instances": [[1, 2]]}, {}, 400, "instances[0] must hold 18 values"),
    (V1, one(annual_income=-1), {}, 400, "instances[1].annual_income must be between 0 and 1e+07"),
    (V1, one(annual_income=None), {}, 400, "instances[1].annual_income must be given"),
    (V1, one(annual_income="1"), {}, 400, 'must be a number. Got "1"'),
    (V1, one(annual_income=10**40), {}, 400, "instances[1].annual_income must be between"),
    (V1, one(age=30.5), {}, 400, "instances[1].age must be a whole number. Got 30.5."),
    (V1, one(open_accounts=2**24 + 1), {}, 400, "must be a finite number, 0 or more"),
    (V1, one(grade="Z"), {}, 400, "instances[1].grade must be one of A, B, C, D, E, F, G"),
    (V1, one(grade="Z" * 9999), {}, 400, 'Got "' + "Z" * 40 + "..."),
    (V1, one(has_guarantor="yes"), {}, 400, "must be true or false"),
    (V1, one(unheard_of=1), {}, 400, "instances[1].unheard_of must be left out"),
    (V1, one(loan_id=1.5), {}, 400, "instances[1].loan_id must be text"),
    (V1, {"instances": [{"age": 30}]}, {}, 400, "instances[0].annual_income must be given"),
    (V1, one(), {"content-type": "text/csv"}, 415, "content-type must be application/json"),
    (V1, one(), {"content-type": "application/json; charset=utf-16"}, 415, "in UTF-8"),
    (V1, one(), {"content-encoding": "gzip"}, 415, "content-encoding must be left out"),
    (V1, one(), {"x-request-id": "a b"}, 400, "x-request-id must be text of 1 to 128"),
    (V1, one(), {"x-request-id": "x" * 129}, 400, "x-request-id must be"),
    (V1, b" " * (LIMIT + 1), {}, 413, f"at most {LIMIT} bytes. Got {LIMIT + 1}."),
    (V2, b"{", {}, 400, "The body must be JSON"),
    (V2, {}, {}, 400, "Got nothing for inputs"),
    (V2, {"inputs": []}, {}, 400, "inputs"),
    (V2, {"inputs": [5]}, {}, 400, "inputs[0] must be an object. Got 5."),
    (V2, {"id": 7, "inputs": v2_inputs([ROW])}, {}, 400, "id must be text"),
    (V2, {"id": "a/b", "inputs": v2_inputs([ROW])}, {}, 400, "id must be text"),
    (V2, tensor("age", shape=[2]), {}, 400, "inputs.age.data must hold 2 values"),
    (V2, tensor("age", shape=[1, 2]), {}, 400, "inputs.age.shape must be [n] or [n, 1]"),
    (V2, tensor("age", shape=[]), {}, 400, "inputs.age.shape must be"),
    (V2, tensor("age", shape=[-1]), {}, 400, "between 1 and 200 rows. Got -1."),
    (V2, tensor("age", shape=["1"]), {}, 400, "shape must be a list of whole numbers"),
    (V2, tensor("age", shape=[10**15]), {}, 400, "between 1 and 200 rows"),
    (V2, tensor("age", datatype="INT99"), {}, 400, "datatype must be one of BOOL"),
    (V2, tensor("age", datatype="BYTES"), {}, 400, "inputs.age.datatype must be one of INT8"),
    (V2, tensor("age", data=[1.7]), {}, 400, "inputs.age[0] must be a whole number, as datatype"),
    (V2, tensor("age", data=[2**40]), {}, 400, "inputs.age[0] must be between -2147483648"),
    (V2, tensor("age", data=[None]), {}, 400, "inputs.age[0] must be given"),
    (V2, tensor("age", data=[[[1]]]), {}, 400, "inputs.age"),
    (V2, tensor("age", data=5), {}, 400, "data must be a list. Got 5."),
    (V2, tensor("age", data=[17]), {}, 400, "inputs.age[0] must be between 18 and 100. Got 17."),
    (V2, tensor("age", name="agee"), {}, 400, "inputs.agee must be left out"),
    (V2, tensor("age", name="grade"), {}, 400, "grade"),
    (V2, tensor("age", name="term_months"), {}, 400, "inputs.term_months must be given once"),
    (V2, {"inputs": v2_inputs([ROW])[1:]}, {}, 400, "inputs.annual_income must be given"),
    (V2, tensor("grade", data=["Z"]), {}, 400, "inputs.grade[0] must be one of A"),
    (V2, tensor("grade", data=[1]), {}, 400, "inputs.grade[0] must be text"),
    (
        *(V2, tensor("age", data=None, parameters={"binary_data_size": 4}), {}, 400),
        "binary tensors are not read over REST",
    ),
    (V2, one(), {"inference-header-content-length": "4"}, 415, "binary tensors are not read"),
    (
        *(V2, {"inputs": v2_inputs([ROW]), "outputs": [{"name": "nothing"}]}, {}, 400),
        "outputs[0].name must be one of prediction, score",
    ),
    (
        *(V2, {"inputs": [{"name": "f", "shape": [1, 18], "datatype": "FP32", "data": [0] * 18}]}),
        *({}, 400, "inputs must be one tensor a feature, since has_guarantor is a boolean"),
    ),
    ("/v1/models/other:predict", one(), {}, 404, "The model must be loans. Got other."),
    ("/v2/models/other/infer", one(), {}, 404, "The model must be loans. Got other."),
    ("/v2/models/loans/versions/9/infer", one(), {}, 404, "The version must be 3. Got 9."),
    ("/v1/models/loans:explain", one(), {}, 404, "The verb must be predict. Got explain."),
    ("/v2/repository/models/loans/unload", {}, {}, 404, "not loaded or unloaded"),
    ("/v2/repository/models/loans/load", {}, {}, 404, "not loaded or unloaded"),
    ("/nothing", {}, {}, 404, "nothing at this path"),
]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "message"),
    REST_FAULTS,
    ids=[f"{number}-{fault[4][:40]}" for number, fault in enumerate(REST_FAULTS)],
)
def test_a_bad_request_is_refused_in_words_with_id_and_version(
    server: Server, path: str, body: object, headers: dict[str, str], status: int, message: str
) -> None:
    got, found, answer = server.send(path, body, headers)
    assert (got, answer["model_version"]) == (status, "3")
    assert message in answer["error"]
    assert len(answer["error"]) < 600
    assert found["x-model-version"] == "3"
    assert found["x-request-id"] == answer["id"]


def test_a_refused_request_leaves_no_record(server: Server) -> None:
    headers = {"x-request-id": "refused-1"}
    assert server.send(V1, one(age=1), headers)[0] == 400
    assert "refused-1" not in server.records()


def test_the_wrong_method_is_405_and_json_with_a_charset_is_accepted(server: Server) -> None:
    assert server.send(V1, b"", method="GET")[0] == 405
    assert server.send(V2, b"", method="PUT")[0] == 405
    for kind in ("application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        assert server.send(V1, one(), {"content-type": kind})[0] == 200


def test_a_chunked_body_over_the_limit_is_413_without_being_read_to_its_end(
    server: Server,
) -> None:
    with socket.create_connection(("127.0.0.1", server.process.port), timeout=20) as link:
        head = f"POST {V1} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        link.sendall(head.encode() + b"%x\r\n" % (LIMIT + 9) + b"x" * (LIMIT + 9))
        assert link.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_client_that_goes_away_in_the_middle_harms_nobody(server: Server) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.process.port)) as link:
            link.sendall(f"POST {V1} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{{".encode())
    assert server.send(V1, one())[0] == 200


def change(**fields: Any) -> Any:
    request = grpc_request([ROW])
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def changed_tensor(number: int, **fields: Any) -> Any:
    request = grpc_request([ROW])
    for name, value in fields.items():
        if name == "shape":
            request.inputs[number].shape[:] = value
        elif name == "contents":
            request.inputs[number].contents.CopyFrom(pb.InferTensorContents(**value))
        else:
            setattr(request.inputs[number], name, value)
    return request


def with_raw(raw: list[bytes]) -> Any:
    request = grpc_request([ROW])
    request.raw_input_contents.extend(raw)
    return request


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
NAN, INF = float("nan"), float("inf")
GRPC_FAULTS: list[tuple[Any, grpc.StatusCode, str]] = [
    (change(model_name="other"), MISSING, "The model must be loans. Got other."),
    (change(model_version="9"), MISSING, "The version must be 3. Got 9."),
    (change(id="a b"), INVALID, "id must be text"),
    (pb.ModelInferRequest(model_name="loans"), INVALID, "inputs must hold"),
    (changed_tensor(0, shape=[2]), INVALID, "inputs.annual_income.data must hold 2 values"),
    (changed_tensor(0, shape=[-1]), INVALID, "rows"),
    (changed_tensor(0, datatype="FP99"), INVALID, "datatype must be one of"),
    (changed_tensor(0, datatype="INT32"), INVALID, "contents must be int_contents for INT32"),
    (
        changed_tensor(0, contents={"fp64_contents": [NAN]}),
        INVALID,
        "annual_income[0] must be given",
    ),
    (changed_tensor(0, contents={"fp64_contents": [INF]}), INVALID, "Got Infinity"),
    (changed_tensor(0, contents={}), INVALID, "Got nothing"),
    (changed_tensor(2, contents={"int_contents": [99]}), INVALID, "between 6 and 84. Got 99."),
    (changed_tensor(15, contents={"bytes_contents": [b"Z"]}), INVALID, "grade[0] must be one of"),
    (changed_tensor(15, contents={"bytes_contents": [b"\xff"]}), INVALID, "must be UTF-8"),
    (changed_tensor(15, contents={"bytes_contents": [b""]}), INVALID, "grade[0] must be given"),
    (with_raw([b"x"]), INVALID, "raw_input_contents must hold one entry"),
    (with_raw([b"x"] * 18), INVALID, "must be left out beside raw_input_contents"),
]


@pytest.mark.parametrize(("request_", "code", "message"), GRPC_FAULTS)
def test_a_bad_grpc_request_is_refused_in_words_with_id_and_version(
    server: Server, request_: Any, code: grpc.StatusCode, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.stub.ModelInfer(request_)
    metadata = dict(refused.value.trailing_metadata())
    assert refused.value.code() is code
    assert message in refused.value.details()
    assert metadata["x-model-version"] == "3"
    assert metadata["x-request-id"]


def test_grpc_does_not_load_or_unload_and_large_messages_are_refused(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        server.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="loans"))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as refused:
        server.stub.ModelInfer(change(id="x" * LIMIT))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.stub.ModelReady(pb.ModelReadyRequest(name="loans")).ready


def test_health_and_metadata_are_kserves_and_name_the_inputs(server: Server) -> None:
    ready = ("/v2/health/ready", "/v2/health/live", "/v2/models/loans/ready", "/v1/models/loans")
    for path in (*ready, "/v2/models/loans/versions/3/ready"):
        status, headers, _ = server.send(path, b"", method="GET")
        assert (path, status, headers["x-model-version"]) == (path, 200, "3")
    _, _, metadata = server.send("/v2/models/loans", b"", method="GET")
    assert [t["name"] for t in metadata["inputs"]] == NAMES
    assert metadata["versions"] == ["3"]
    assert {t["name"]: t["datatype"] for t in metadata["inputs"]}["grade"] == "BYTES"
    reply = server.stub.ModelMetadata(pb.ModelMetadataRequest(name="loans"))
    assert [t.name for t in reply.inputs] == NAMES
    assert server.send("/v2/models/other", b"", method="GET")[0] == 404


def families(server: Server) -> dict[str, Any]:
    text = server.send("/metrics", b"", method="GET")[2]
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_the_scrape_is_the_catalogue_beside_kserves_own(server: Server) -> None:
    server.send(V1, one())
    found = families(server)
    for metric in owned_by(Owner.PREDICTOR):
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
        if metric.buckets:
            bounds = [float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")]
            assert set(bounds) == {*metric.buckets, INF}
    ours = {n for n in found if n.startswith("ml_")}
    assert ours == {m.name.removesuffix("_total") for m in owned_by(Owner.PREDICTOR)}
    assert "request_predict_seconds" in found


def value(found: dict[str, Any], name: str, **labels: str) -> float:
    samples = [s for family in found.values() for s in family.samples if s.name == name]
    assert samples
    return float(sum(s.value for s in samples if labels.items() <= s.labels.items()))


def test_metrics_count_requests_rows_and_scores(server: Server) -> None:
    before = families(server)
    _, _, answer = server.send(V1, {"instances": ROWS})
    server.send(V2, {})
    after = families(server)

    def rise(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert rise("ml_prediction_requests_total", protocol="v1", code="200") == 1
    assert rise("ml_prediction_requests_total", protocol="v2", code="400") == 1
    for outcome in ("repaid", "default"):
        assert rise("ml_predictions_total", outcome=outcome) == answer["predictions"].count(outcome)
    assert rise("ml_prediction_score_count") == len(ROWS)
    assert rise("ml_prediction_score_sum") == pytest.approx(sum(answer["scores"]), rel=1e-5)
    assert rise("ml_prediction_latency_seconds_count", protocol="v1") == 1
    assert rise("ml_spool_rows") == len(ROWS)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_repeated_from_the_log_is_written_down_as_a_shadow_s(
    server: Server, chunked: bool
) -> None:
    name, before = f"again-{chunked}", families(server)
    asked = {**JSON, "x-request-id": name, "x-heliotrope-replay": "1"}
    body = json.dumps({"instances": ROWS}).encode()
    link = http.client.HTTPConnection("127.0.0.1", server.process.port, timeout=20)
    # What comes in chunks takes the long way through the server.
    link.request("POST", V1, iter([body]) if chunked else body, asked)
    answer = link.getresponse()
    assert (answer.status, len(json.loads(answer.read())["predictions"])) == (200, len(ROWS))
    link.close()
    assert {row["role"] for row in server.records()[name]} == {"shadow"}
    labels = {"protocol": "replay", "code": "200"}
    counted = [
        value(x, "ml_prediction_requests_total", **labels) for x in (before, families(server))
    ]
    assert counted[1] - counted[0] == 1


def test_concurrent_clients_each_get_their_own_answer(server: Server) -> None:
    rows = loan_rows(60, seed=9)
    expected = np.float32(server.scores(rows))

    def ask(number: int) -> tuple[int, float]:
        body, headers = {"instances": [rows[number]]}, {"x-request-id": f"c-{number}"}
        _, found, answer = server.send(V1, body, headers)
        assert found["x-request-id"] == f"c-{number}"
        return number, answer["scores"][0]

    with ThreadPoolExecutor(2) as pool:
        for number, score in pool.map(ask, range(60)):
            assert score == pytest.approx(float(expected[number]), abs=1e-6)
