"""The predictor under fuzzing, kill -9, full and vanished disks, and broken model folders."""

import http.client
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import PredictorProcess
from bench.standin import build_model, loan_features, loan_rows
from heliotrope.service.spool_reading import SpoolReader, segment_files
from heliotrope.vocabulary import Task

V1, V2 = "/v1/models/loans:predict", "/v2/models/loans/infer"
ROW = loan_rows(1, seed=3)[0]
FUZZED_REST, FUZZED_GRPC = 8_000, 2_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "model"
    build_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictorProcess]:
    with PredictorProcess(model, tmp_path_factory.mktemp("faults")) as process:
        yield process


class Client:
    """One kept-alive connection, opened again when the server closed it."""

    def __init__(self, port: int) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __del__(self) -> None:
        """Close the connection with its last user."""
        self.link.close()

    def send(
        self, path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        kind = {"content-type": "application/json"}
        self.link.request(method, path, body, {**kind, **(headers or {})})
        answer = self.link.getresponse()
        data = answer.read()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data


def good(count: int = 1) -> bytes:
    return json.dumps({"instances": loan_rows(count, seed=4)}).encode()


def v2_document() -> dict[str, Any]:
    kinds = {"float": "FP64", "integer": "INT32", "category": "BYTES", "boolean": "BOOL"}
    inputs = [
        {"name": f.name, "shape": [1], "datatype": kinds[f.type], "data": [ROW[f.name]]}
        for f in loan_features()
    ]
    return {"id": "fuzz", "inputs": inputs}


ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.7, 1e308, -1e39, 2**24 + 1, 2**63, 2**64, 10**30),
    *("", "A", "\x00", "é" * 50, "NaN", "a/b", [], [[]], {}, {"a": 1}, [None], [1, "a"]),
    *("BYTES", "INT8", "UINT64", "FP16", "BOOL", [2, 9], [0], [-1], [1, 1], [10**18, 10**18]),
]


def mutate(value: Any, dice: random.Random) -> Any:
    """The value with a few parts exchanged, dropped, doubled or added."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        changed = dict(value)
        key = dice.choice(list(changed))
        choice = dice.random()
        if choice < 0.12:
            del changed[key]
        elif choice < 0.2:
            changed[dice.choice(["", "extra", "x" * 300, "loan_id", "age"])] = dice.choice(ODD)
        else:
            changed[key] = mutate(changed[key], dice)
        return changed
    if isinstance(value, list) and value and dice.random() < 0.85:
        changed_list = list(value)
        place = dice.randrange(len(changed_list))
        choice = dice.random()
        if choice < 0.1:
            del changed_list[place]
        elif choice < 0.2:
            changed_list.append(changed_list[place])
        else:
            changed_list[place] = mutate(changed_list[place], dice)
        return changed_list
    return dice.choice(ODD)


def scramble(body: bytes, dice: random.Random) -> bytes:
    """The bytes with some overwritten, cut or doubled."""
    data = bytearray(body)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(data) + 1)
        data[place : place + dice.randint(0, 6)] = dice.randbytes(dice.randint(0, 6))
    return bytes(data)


def test_fuzzed_rest_requests_never_get_a_5xx_or_a_nan(server: PredictorProcess) -> None:
    dice = random.Random(20260801)
    client = Client(server.port)
    seeds = [
        (V1, {"instances": loan_rows(3, seed=1)}),
        (V1, {"instances": [list(row.values()) for row in loan_rows(3, seed=2)]}),
        (V2, v2_document()),
    ]
    headers: list[dict[str, str]] = [{}, {"x-request-id": "fuzz-1"}, {"x-request-id": "?"}]
    counts: dict[int, int] = {}
    for number in range(FUZZED_REST):
        path, document = seeds[number % 3]
        for _ in range(dice.randint(0, 3)):
            document = mutate(document, dice)
        body = json.dumps(document).encode()
        if dice.random() < 0.25:
            body = scramble(body, dice)
        status, found, data = client.send(path, body, dice.choice(headers))
        counts[status] = counts.get(status, 0) + 1
        assert status in (200, 400, 413, 415, 422), (path, body[:2000], data[:500])
        assert found["x-model-version"] == "3"
        assert found["x-request-id"]
        answer = json.loads(data, parse_constant=pytest.fail)
        assert ("error" in answer) == (status != 200)
        assert b"Traceback" not in data
    assert counts[200] > FUZZED_REST / 20
    assert counts[400] > FUZZED_REST / 2
    assert client.send(V1, good())[0] == 200


def grpc_seed() -> Any:
    kinds = {
        "float": ("FP64", "fp64_contents"),
        "integer": ("INT32", "int_contents"),
        "category": ("BYTES", "bytes_contents"),
        "boolean": ("BOOL", "bool_contents"),
    }
    inputs = []
    for feature in loan_features():
        kind, field = kinds[feature.type]
        value = ROW[feature.name]
        value = value.encode() if isinstance(value, str) else value
        contents = pb.InferTensorContents(**{field: [value]})
        tensor = pb.ModelInferRequest.InferInputTensor(
            name=feature.name, datatype=kind, shape=[1], contents=contents
        )
        inputs.append(tensor)
    return pb.ModelInferRequest(model_name="loans", inputs=inputs)


def fuzz_grpc(dice: random.Random) -> Any:
    request = grpc_seed()
    for _ in range(dice.randint(0, 3)):
        place = dice.randrange(len(request.inputs)) if request.inputs else 0
        tensor = request.inputs[place] if request.inputs else request.inputs.add()
        choice = dice.randrange(9)
        if choice == 0:
            tensor.datatype = dice.choice(["", "FP32", "FP16", "BYTES", "INT64", "BOOL", "X"])
        elif choice == 1:
            tensor.shape[:] = dice.choice([[], [0], [-1], [2], [1, 1], [1, 18], [2**62, 4]])
        elif choice == 2:
            tensor.name = dice.choice(["", "age", "nothing", "loan_id", "x" * 500])
        elif choice == 3:
            tensor.contents.fp64_contents[:] = [dice.choice([float("nan"), float("inf"), -1.0])]
        elif choice == 4:
            tensor.contents.bytes_contents[:] = [dice.randbytes(dice.randint(0, 5))]
        elif choice == 5:
            request.id = dice.choice(["", "ok", "not ok", "x" * 200])
        elif choice == 6:
            del request.inputs[place:]
        elif choice == 7:
            tensor.ClearField("contents")
        else:
            count = dice.choice([1, len(request.inputs)])
            request.raw_input_contents.extend(
                dice.randbytes(dice.choice([0, 1, 4, 8])) for _ in range(count)
            )
            if dice.random() < 0.7:
                for other in request.inputs:
                    other.ClearField("contents")
    return request


def test_fuzzed_grpc_requests_never_get_internal_or_unknown(server: PredictorProcess) -> None:
    dice = random.Random(7)
    allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    answered = refused = 0
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        for _ in range(FUZZED_GRPC):
            request = fuzz_grpc(dice)
            call = stub.ModelInfer.future(request)
            failure = call.exception(timeout=20)
            assert failure is None or call.code() in allowed, (request, failure)
            answered, refused = answered + (failure is None), refused + (failure is not None)
        assert stub.ModelInfer(grpc_seed()).id
    assert min(answered, refused) > FUZZED_GRPC / 10


def test_the_log_has_no_line_a_request_and_no_traceback(server: PredictorProcess) -> None:
    client = Client(server.port)
    before = len(server.log.read_text().splitlines())
    for _ in range(50):
        assert client.send(V1, good())[0] == 200
        assert client.send(V1, b"{")[0] == 400
    text = server.log.read_text()
    assert len(text.splitlines()) - before < 5
    assert "Traceback" not in text


class Load(threading.Thread):
    """Sends requests until the server is gone; keeps the ids that were answered."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.some = threading.Event()
        self._client, self._name = Client(port), name

    def run(self) -> None:
        """Send until a connection breaks."""
        body = good(3)
        for number in range(100_000):
            try:
                headers = {"x-request-id": f"{self._name}-{number}"}
                status, found, _ = self._client.send(V1, body, headers)
            except (OSError, http.client.HTTPException):
                return
            assert status == 200
            self.answered.append(found["x-request-id"])
            if len(self.answered) >= 100:
                self.some.set()


def under_load(model: Path, work: Path, number: int) -> tuple[int, list[str]]:
    process = PredictorProcess(model, work, "--spool_max_bytes", "4000000").wait_ready()
    loads = [Load(process.port, f"{number}-{i}") for i in range(3)]
    for load in loads:
        load.start()
    for load in loads:
        assert load.some.wait(30)
    code = process.stop(number)
    for load in loads:
        load.join(30)
    return code, [name for load in loads for name in load.answered]


def test_after_kill_9_under_load_every_answered_request_is_in_the_spool(
    model: Path, tmp_path: Path
) -> None:
    _, answered = under_load(model, tmp_path, signal.SIGKILL)
    spooled = {entry.record.request_id for entry in SpoolReader(tmp_path / "spool").poll()}
    assert len(answered) >= 300
    assert set(answered) <= spooled
    code, more = under_load(model, tmp_path, signal.SIGTERM)
    assert code == 0
    entries = list(SpoolReader(tmp_path / "spool").poll())
    sequences = [entry.record.sequence for entry in entries]
    assert sequences == sorted(set(sequences))
    assert {*answered, *more} <= {entry.record.request_id for entry in entries}


def metric(port: int, name: str, **labels: str) -> float:
    text = Client(port).send("/metrics", b"", method="GET")[2].decode()
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == name]
    return float(sum(s.value for s in samples if labels.items() <= s.labels.items()))


def await_true(check: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if check():
            return
        pause.wait(0.05)
    raise AssertionError("did not become true in time")


def test_a_disk_that_refuses_writes_loses_records_and_counts_them_while_serving_goes_on(
    model: Path, tmp_path: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with PredictorProcess(model, tmp_path, before=limit) as process:
        client = Client(process.port)
        for _ in range(40):
            assert client.send(V1, good(20))[0] == 200
        lost = metric(process.port, "ml_spool_lost_rows_total", reason="write")
        kept = sum(e.record.rows for e in SpoolReader(process.spool).poll())
        assert lost > 0
        assert lost + kept == 800
        assert max(path.stat().st_size for path in segment_files(process.spool)) <= 20_000
        assert process.log.read_text().count("must be writable") == 1


def test_a_small_budget_and_a_deleted_folder_do_not_stop_serving(
    model: Path, tmp_path: Path
) -> None:
    with PredictorProcess(model, tmp_path, "--spool_max_bytes", "200000") as process:
        client = Client(process.port)
        for _ in range(120):
            assert client.send(V1, good(50))[0] == 200
        lost = metric(process.port, "ml_spool_lost_rows_total", reason="budget")
        assert sum(path.stat().st_size for path in segment_files(process.spool)) <= 200_000
        assert lost + metric(process.port, "ml_spool_rows") == 6000
        shutil.rmtree(process.spool)
        assert client.send(V1, good())[0] == 200
        await_true(lambda: metric(process.port, "ml_spool_lost_rows_total", reason="deleted") > 0)
        await_true(lambda: metric(process.port, "ml_spool_writable") == 1)
        assert client.send(V1, good(), {"x-request-id": "after"})[0] == 200
        names = [e.record.request_id for e in SpoolReader(process.spool).poll()]
        assert "after" in names


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "predictors", "--http_port", "1", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def broken(model: Path, to: Path, fault: str) -> Path:
    shutil.copytree(model, to)
    contract = json.loads((to / "serving.json").read_text())
    if fault == "graph":
        (to / "model.onnx").write_bytes(b"not a graph")
        contract["model_hash"] = None
    elif fault == "hash":
        contract["model_hash"] = "0" * 64
    elif fault == "newer":
        contract["format"] = 99
    elif fault == "width":
        contract["features"] = contract["features"][:-1]
    elif fault == "task":
        contract["task"] = "sorting"
    (to / "serving.json").write_text("{" if fault == "json" else json.dumps(contract))
    if fault == "none":
        (to / "serving.json").unlink()
    return to


FAULTS = [
    ("graph", "model.onnx must be an ONNX model that can be run"),
    ("hash", "model.onnx must have sha256 0000"),
    ("newer", "format must be at most 1 for this predictor. Got 99"),
    ("width", "model.onnx must take 17 features. Got 18."),
    ("task", "serving.json: task"),
    ("json", "serving.json must be JSON"),
    ("none", "serving.json must be there"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_a_broken_model_folder_is_refused_before_serving(
    model: Path, tmp_path: Path, fault: str, message: str
) -> None:
    from heliotrope.errors import UsageError
    from predictors.loading import load_model

    with pytest.raises(UsageError) as refused:
        load_model(broken(model, tmp_path / "broken", fault), None)
    assert message in str(refused.value)


def test_the_process_ends_with_2_and_no_traceback_for_a_broken_folder_or_flag(
    model: Path, tmp_path: Path
) -> None:
    folder = broken(model, tmp_path / "broken", "graph")
    for flags in (
        ("--model_dir", str(folder)),
        ("--model_dir", str(model), "--model_version", "9"),
        ("--model_dir", str(model), "--role", "king"),
    ):
        ended = run(*flags)
        assert ended.returncode == 2
        assert "must" in ended.stderr or "invalid" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_second_predictor_on_the_same_spool_is_refused(
    model: Path, server: PredictorProcess
) -> None:
    ended = run("--model_dir", str(model), "--spool_dir", str(server.spool))
    assert ended.returncode == 7
    assert "must have one writer" in ended.stderr


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.REGRESSION])
def test_other_tasks_are_served(tmp_path: Path, task: Task) -> None:
    build_model(tmp_path / "model", task=task)
    with PredictorProcess(tmp_path / "model", tmp_path) as process:
        client = Client(process.port)
        answer = json.loads(client.send(V1, good(5))[2])
        second = json.loads(client.send(V2, json.dumps(v2_document()).encode())[2])
        rows = [row for e in SpoolReader(process.spool).poll() for row in e.rows()]
    spooled = [row["prediction"] for row in rows[:5]]
    if task is Task.REGRESSION:
        assert spooled == pytest.approx(answer["predictions"], rel=1e-6)
        assert all(isinstance(value, float) for value in answer["predictions"])
        assert [o["name"] for o in second["outputs"]] == ["prediction"]
    else:
        assert spooled == answer["predictions"]
        assert [len(row) for row in answer["scores"]] == [3] * 5
        assert [sum(row) for row in answer["scores"]] == pytest.approx([1] * 5, abs=1e-5)
        assert second["outputs"][1]["name"] == "probabilities"
        assert second["outputs"][1]["shape"] == [1, 3]
