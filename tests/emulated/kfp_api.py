"""Kubeflow Pipelines' REST API as a server with behaviour: what it keeps, lists, refuses, forgets.

It behaves as the backend of 2.17 does where that matters here: display names are not unique, lists
come in pages, a filter compares without regard to case, there is no update, times are whole
seconds, the first upload makes a version named after the pipeline. Every request and every answer
is held against the API's Swagger file; what does not fit makes the test fail at its end.
"""

import base64
import binascii
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.emulated.swagger import ContractError, Operation, Swagger

PREFIX = "/apis/v2beta1"
OVER = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
Item = dict[str, Any]
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 503: 14}
"""gRPC's code of each HTTP status, as grpc-gateway maps them."""


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Fault:
    """Something goes wrong with the next requests that match."""

    method: str
    path: str
    """A regular expression, searched for in the path."""
    status: int = 0
    """Answered in place of anything else; 0 breaks the connection."""
    times: int = 1
    after: bool = False
    """Whether the request is carried out first, so that only its answer is lost."""
    text: str | None = None
    """Body in place of an error's JSON."""


@dataclass
class FakeKfp:
    """The state of one KFP, and what it was asked."""

    swagger: Swagger
    multi_user: bool = False
    tokens: set[str] = field(default_factory=lambda: {"good-token"})
    namespaces: set[str] = field(default_factory=lambda: {"team-a"})
    experiments: dict[str, Item] = field(default_factory=dict)
    pipelines: dict[str, Item] = field(default_factory=dict)
    versions: dict[str, Item] = field(default_factory=dict)
    runs: dict[str, Item] = field(default_factory=dict)
    recurring: dict[str, Item] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What did not fit the contract."""
    before: Callable[[str, str], None] | None = None
    """Called with method and path before a request is carried out; may wait."""
    clock: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    ticking: bool = True
    """Whether each thing that is made is a second younger than the one before."""
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def named(self, run_key: str) -> list[Item]:
        """Runs of a display name."""
        with self.lock:
            return [run for run in self.runs.values() if run["display_name"] == run_key]

    def move(self, run_key: str, state: str) -> None:
        """Bring all runs of a name to a state."""
        with self.lock:
            for run in self.named(run_key):
                run["state"] = state
                if state in OVER:
                    run["finished_at"] = self.now()

    def now(self) -> str:
        """The time on the backend's clock, in whole seconds."""
        if self.ticking:
            self.clock += timedelta(seconds=1)
        return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def count(self, method: str, path: str) -> int:
        """How often something was asked."""
        return sum(m == method and re.search(path, p) is not None for m, p in self.asked)


@dataclass(frozen=True)
class Asked:
    """One request, taken apart."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    form: Mapping[str, bytes]


class Backend:
    """What KFP does with a request.

    Args:
        kfp: the state.
    """

    def __init__(self, kfp: FakeKfp) -> None:
        self.kfp = kfp
        verbs: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", r"/healthz", self.health),
            ("GET", r"/experiments", self.list_experiments),
            ("POST", r"/experiments", self.create_experiment),
            ("GET", r"/pipelines", self.list_pipelines),
            ("POST", r"/pipelines", self.create_pipeline),
            ("POST", r"/pipelines/upload", self.upload),
            ("POST", r"/pipelines/upload_version", self.upload_version),
            ("GET", r"/pipelines/names/([^/]+)", self.pipeline_by_name),
            ("DELETE", r"/pipelines/([^/:]+)", self.delete_pipeline),
            ("GET", r"/pipelines/([^/:]+)/versions", self.list_versions),
            ("GET", r"/runs", self.list_runs),
            ("POST", r"/runs", self.create_run),
            ("GET", r"/runs/([^/:]+)", self.get_run),
            ("DELETE", r"/runs/([^/:]+)", self.delete_run),
            ("POST", r"/runs/([^/:]+):terminate", self.terminate_run),
            ("GET", r"/recurringruns", self.list_recurring),
            ("POST", r"/recurringruns", self.create_recurring),
            ("GET", r"/recurringruns/([^/:]+)", self.get_recurring),
            ("DELETE", r"/recurringruns/([^/:]+)", self.delete_recurring),
            ("POST", r"/recurringruns/([^/:]+):enable", self.enable),
            ("POST", r"/recurringruns/([^/:]+):disable", self.disable),
        ]
        self._verbs = [(method, re.compile(path), do) for method, path, do in verbs]

    def carry_out(self, asked: Asked) -> Any:
        """Answer a request, or raise a Refusal."""
        for method, path, do in self._verbs:
            found = path.fullmatch(asked.path)
            if method == asked.method and found:
                with self.kfp.lock:
                    return do(asked, *found.groups())
        raise Refusal(404, f"Not Found: {asked.method} {asked.path}")

    def health(self, _: Asked) -> Item:
        return {"multi_user": self.kfp.multi_user, "pipeline_store": "database"}

    # Experiments

    def list_experiments(self, asked: Asked) -> Item:
        items = self._of_namespace(asked, self.kfp.experiments.values())
        return self._page(asked, "experiments", items)

    def create_experiment(self, asked: Asked) -> Item:
        body, name = asked.body, asked.body.get("display_name")
        if not name:
            raise Refusal(400, "Invalid input error: Experiment must have a name")
        namespace = self._namespace(body.get("namespace", ""))
        for one in self.kfp.experiments.values():
            if (one["display_name"], one["namespace"]) == (name, namespace):
                raise Refusal(409, f"Already exist error: The name {name} already exists")
        made = {
            "experiment_id": _id(),
            "display_name": name,
            "description": body.get("description", ""),
            "created_at": self.kfp.now(),
            "namespace": namespace,
            "storage_state": "AVAILABLE",
            "last_run_created_at": "1970-01-01T00:00:00Z",
        }
        self.kfp.experiments[made["experiment_id"]] = made
        return made

    # Pipelines and versions

    def list_pipelines(self, asked: Asked) -> Item:
        return self._page(asked, "pipelines", list(self.kfp.pipelines.values()))

    def create_pipeline(self, asked: Asked) -> Item:
        body = asked.body
        return self._pipeline(body.get("name") or body.get("display_name"), body.get("namespace"))

    def upload(self, asked: Asked) -> Item:
        text = asked.form["uploadfile"].decode()
        spec = _compiled(text)
        name = asked.query.get("name") or spec["pipelineInfo"]["name"]
        pipeline = self._pipeline(name, asked.query.get("namespace"))
        self._version(pipeline["pipeline_id"], name, text)
        return pipeline

    def upload_version(self, asked: Asked) -> Item:
        text = asked.form["uploadfile"].decode()
        pipeline_id = asked.query.get("pipelineid", "")
        if pipeline_id not in self.kfp.pipelines:
            raise Refusal(404, f"Pipeline {pipeline_id} not found")
        return self._version(pipeline_id, asked.query["name"], text)

    def pipeline_by_name(self, asked: Asked, name: str) -> Item:
        namespace = self._pipeline_namespace(asked.query.get("namespace"))
        for one in self.kfp.pipelines.values():
            if (one["name"], one["namespace"]) == (name, namespace):
                return one
        raise Refusal(404, f"Pipeline {name} not found")

    def delete_pipeline(self, asked: Asked, pipeline_id: str) -> Item:
        self._get(self.kfp.pipelines, pipeline_id)
        mine = [k for k, v in self.kfp.versions.items() if v["pipeline_id"] == pipeline_id]
        if mine and asked.query.get("cascade") != "true":
            raise Refusal(400, "Failed to delete pipeline as it has existing pipeline versions")
        for one in mine:
            del self.kfp.versions[one]
        del self.kfp.pipelines[pipeline_id]
        return {}

    def list_versions(self, asked: Asked, pipeline_id: str) -> Item:
        self._get(self.kfp.pipelines, pipeline_id)
        mine = [v for v in self.kfp.versions.values() if v["pipeline_id"] == pipeline_id]
        return self._page(asked, "pipeline_versions", mine)

    def _pipeline(self, name: str | None, namespace: str | None) -> Item:
        if not name:
            raise Refusal(400, "pipeline's name cannot be empty")
        space = self._pipeline_namespace(namespace)
        if any((p["name"], p["namespace"]) == (name, space) for p in self.kfp.pipelines.values()):
            raise Refusal(409, f"Already exist error: The name {name} already exists")
        made = {
            "pipeline_id": _id(),
            "name": name,
            "display_name": name,
            "created_at": self.kfp.now(),
            "namespace": space,
        }
        self.kfp.pipelines[made["pipeline_id"]] = made
        return made

    def _version(self, pipeline_id: str, name: str, text: str) -> Item:
        spec = _compiled(text)
        for one in self.kfp.versions.values():
            if (one["pipeline_id"], one["name"]) == (pipeline_id, name):
                raise Refusal(409, f"Already exist error: version {name} already exists")
        made = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": _id(),
            "name": name,
            "display_name": name,
            "created_at": self.kfp.now(),
            "pipeline_spec": {"pipeline_spec": spec},
        }
        self.kfp.versions[made["pipeline_version_id"]] = made
        return made

    # Runs

    def list_runs(self, asked: Asked) -> Item:
        return self._page(asked, "runs", self._of_experiment(asked, self.kfp.runs.values()))

    def create_run(self, asked: Asked) -> Item:
        body = asked.body
        if not body.get("display_name"):
            raise Refusal(400, "Invalid input error: The run name is empty")
        experiment = self._experiment(body.get("experiment_id", ""))
        reference = self._reference(body)
        made = {
            **body,
            "pipeline_version_reference": reference,
            "run_id": _id(),
            "experiment_id": experiment["experiment_id"],
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            "created_at": self.kfp.now(),
            "scheduled_at": self.kfp.clock.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "service_account": body.get("service_account") or "pipeline-runner",
        }
        self.kfp.runs[made["run_id"]] = made
        return made

    def get_run(self, _: Asked, run_id: str) -> Item:
        return self._get(self.kfp.runs, run_id)

    def delete_run(self, _: Asked, run_id: str) -> Item:
        self._get(self.kfp.runs, run_id)
        del self.kfp.runs[run_id]
        return {}

    def terminate_run(self, _: Asked, run_id: str) -> Item:
        run = self._get(self.kfp.runs, run_id)
        if run["state"] in OVER:
            raise Refusal(400, f"Failed to terminate run {run_id}: it has finished")
        run["state"] = "CANCELING"
        return {}

    # Recurring runs

    def list_recurring(self, asked: Asked) -> Item:
        items = self._of_experiment(asked, self.kfp.recurring.values())
        return self._page(asked, "recurringRuns", items)

    def create_recurring(self, asked: Asked) -> Item:
        body = asked.body
        trigger, most = body.get("trigger") or {}, int(body.get("max_concurrency", 0))
        cron = (trigger.get("cron_schedule") or {}).get("cron")
        every = (trigger.get("periodic_schedule") or {}).get("interval_second")
        if not 1 <= most <= 10:
            raise Refusal(400, "The max concurrency of the recurring run must be 1 to 10")
        if cron is not None and len(cron.split()) not in (5, 6):
            raise Refusal(400, f"Schedule cron is not a supported format: {cron}")
        if cron is None and (every is None or int(every) < 1):
            raise Refusal(400, "Found invalid period schedule interval")
        experiment = self._experiment(body.get("experiment_id", ""))
        made = {
            **{key: value for key, value in body.items() if key != "mode"},
            "pipeline_version_reference": self._reference(body),
            "recurring_run_id": _id(),
            "mode": body.get("mode", "ENABLE"),
            "status": "ENABLED" if body.get("mode", "ENABLE") == "ENABLE" else "DISABLED",
            "created_at": self.kfp.now(),
            "updated_at": self.kfp.clock.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "namespace": experiment["namespace"],
            "service_account": body.get("service_account") or "pipeline-runner",
        }
        self.kfp.recurring[made["recurring_run_id"]] = made
        return made

    def get_recurring(self, _: Asked, one: str) -> Item:
        return self._get(self.kfp.recurring, one)

    def delete_recurring(self, _: Asked, one: str) -> Item:
        self._get(self.kfp.recurring, one)
        del self.kfp.recurring[one]
        return {}

    def enable(self, _: Asked, one: str) -> Item:
        self._get(self.kfp.recurring, one).update(status="ENABLED", mode="ENABLE")
        return {}

    def disable(self, _: Asked, one: str) -> Item:
        self._get(self.kfp.recurring, one).update(status="DISABLED", mode="DISABLE")
        return {}

    # What they share

    def _get(self, items: Mapping[str, Item], key: str) -> Item:
        if key not in items:
            raise Refusal(404, f"ResourceNotFoundError: {key} not found")
        return items[key]

    def _reference(self, body: Item) -> Item:
        told = body.get("pipeline_version_reference") or {}
        mine = [v for v in self.kfp.versions.values() if v["pipeline_id"] == told["pipeline_id"]]
        if not mine:
            raise Refusal(404, f"Pipeline {told.get('pipeline_id')} has no version")
        wanted = told.get("pipeline_version_id") or mine[-1]["pipeline_version_id"]
        version = self._get({v["pipeline_version_id"]: v for v in mine}, wanted)
        spec = version["pipeline_spec"]["pipeline_spec"]
        takes = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
        given = (body.get("runtime_config") or {}).get("parameters") or {}
        if given.keys() - takes.keys():
            raise Refusal(400, f"unknown parameter(s): {sorted(given.keys() - takes.keys())}")
        needed = {
            k for k, v in takes.items() if not v.get("isOptional") and "defaultValue" not in v
        }
        if needed - given.keys():
            raise Refusal(400, f"missing parameter(s): {sorted(needed - given.keys())}")
        return {"pipeline_id": told["pipeline_id"], "pipeline_version_id": wanted}

    def _experiment(self, one: str) -> Item:
        if not one:
            raise Refusal(400, "this fake has no default experiment: name one")
        return self._get(self.kfp.experiments, one)

    def _namespace(self, told: str) -> str:
        if not self.kfp.multi_user:
            if told:
                raise Refusal(400, "In single-user mode, a namespace cannot be given")
            return ""
        if not told:
            raise Refusal(400, "In multi-user mode, the namespace must be given")
        if told not in self.kfp.namespaces:
            raise Refusal(403, f"User is not authorized in namespace {told}")
        return told

    def _pipeline_namespace(self, told: str | None) -> str:
        # A pipeline without one is shared by all; single-user mode knows no other.
        if told and self.kfp.multi_user and told not in self.kfp.namespaces:
            raise Refusal(403, f"User is not authorized in namespace {told}")
        return (told or "") if self.kfp.multi_user else ""

    def _of_namespace(self, asked: Asked, items: Any) -> list[Item]:
        space = self._namespace(asked.query.get("namespace", ""))
        return [one for one in items if one["namespace"] == space]

    def _of_experiment(self, asked: Asked, items: Any) -> list[Item]:
        experiment = asked.query.get("experiment_id", "")
        if not experiment:
            space = self._namespace(asked.query.get("namespace", ""))
            mine = {k for k, v in self.kfp.experiments.items() if v["namespace"] == space}
            return [one for one in items if one["experiment_id"] in mine]
        self._get(self.kfp.experiments, experiment)
        return [one for one in items if one["experiment_id"] == experiment]

    def _page(self, asked: Asked, key: str, items: list[Item]) -> Item:
        found = [one for one in items if _passes(one, asked.query.get("filter"))]
        order, _, way = (asked.query.get("sort_by") or "created_at").partition(" ")
        found.sort(key=lambda one: str(one.get(order, "")), reverse=way == "desc")
        size = int(asked.query.get("page_size") or 20)
        try:
            start = int(base64.b64decode(asked.query.get("page_token", "") or "MA=="))
        except (binascii.Error, ValueError):
            raise Refusal(400, "Invalid page token") from None
        answer: Item = {"total_size": len(found)}
        if found[start : start + size]:
            # As protobuf's JSON does: an empty list is left out.
            answer[key] = found[start : start + size]
        if start + size < len(found):
            answer["next_page_token"] = base64.b64encode(str(start + size).encode()).decode()
        return answer


def _id() -> str:
    return str(uuid.uuid4())


def _compiled(text: str) -> Item:
    try:
        spec = next(yaml.load_all(text, yaml.CSafeLoader))
        _ = spec["pipelineInfo"]["name"], spec["root"]
    except (yaml.YAMLError, KeyError, TypeError, StopIteration):
        raise Refusal(400, "Failed to load the pipeline: unknown template format") from None
    return dict(spec)


def _passes(item: Item, asked: str | None) -> bool:
    if not asked:
        return True
    for one in json.loads(asked)["predicates"]:
        if one["operation"] != "EQUALS":
            raise Refusal(400, f"this fake knows no {one['operation']}")
        if str(item.get(one["key"], "")).lower() != one["stringValue"].lower():
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kfp: FakeKfp
    backend: Backend

    def answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(PREFIX)
        kfp = self.kfp
        with kfp.lock:
            kfp.asked.append((self.command, path))
            fault = self._fault(path)
        if kfp.before is not None:
            kfp.before(self.command, path)
        if fault and not fault.after and fault.status == 0:
            self.close_connection = True
            return
        if fault and not fault.after:
            self._send(fault.status, fault.text or _error(fault.status, "as the test wants"))
            return
        status, body = self._carry_out(path, dict(parse_qsl(parts.query)), raw)
        if fault:
            self.close_connection = True
            return
        try:
            self._send(status, body)
        except (BrokenPipeError, ConnectionResetError):
            # Whoever asked gave up waiting, which some tests are about.
            self.close_connection = True

    def _fault(self, path: str) -> Fault | None:
        for one in self.kfp.faults:
            if one.times > 0 and one.method == self.command and re.search(one.path, path):
                one.times -= 1
                return one
        return None

    def _carry_out(self, path: str, query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        kfp = self.kfp
        form, body = self._content(raw)
        operation: Operation | None = None
        try:
            operation = kfp.swagger.find(self.command, PREFIX + path)
            kfp.swagger.check_request(operation, query, body, form)
            self._authorize(path)
            answer = self.backend.carry_out(Asked(self.command, path, query, body or {}, form))
            status, found = 200, answer
        except Refusal as refusal:
            status, found = refusal.status, _error(refusal.status, refusal.message)
        except ContractError as error:
            kfp.broken.append(str(error))
            status, found = 400, _error(400, str(error))
        if operation is not None:
            try:
                kfp.swagger.check_answer(operation, status, found)
            except ContractError as error:
                kfp.broken.append(str(error))
        return status, found

    def _authorize(self, path: str) -> None:
        if not self.kfp.multi_user or path == "/healthz":
            return
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.kfp.tokens:
            raise Refusal(401, f"Unauthenticated: token {token} is not valid")

    def _content(self, raw: bytes) -> tuple[dict[str, bytes], Any]:
        kind = self.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            whole = BytesParser(policy=HTTP).parsebytes(
                f"content-type: {kind}\r\n\r\n".encode() + raw
            )
            parts = {
                str(part.get_param("name", header="content-disposition")): bytes(
                    part.get_payload(decode=True) or b""
                )
                for part in whole.iter_parts()  # type: ignore[attr-defined]
            }
            return parts, None
        return {}, json.loads(raw) if raw else None

    def _send(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(body, str) else "application/json"
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_PATCH = answer

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _error(status: int, message: str) -> Item:
    return {"code": _CODES.get(status, 2), "message": message, "details": []}


@contextmanager
def serve(kfp: FakeKfp) -> Iterator[FakeKfp]:
    """A KFP that answers at `kfp.url`.

    Raises:
        AssertionError: at the end, where anything that was said did not fit the contract.
    """
    handler = type("Handler", (_Handler,), {"kfp": kfp, "backend": Backend(kfp)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    kfp.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kfp
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert kfp.broken == []
