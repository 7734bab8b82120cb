"""The client of Kubernetes' API: what it repeats, what it never does, and what it says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.errors import ConflictError, NotFoundError, RefusedError, UnavailableError


@dataclass
class Script:
    """A server that gives the answers it was told, then the last one for ever."""

    url: str = ""
    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def say(self, status: int, body: Any = None, **headers: str) -> "Script":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {} if body is None else body, named))
        return self

    def next(self) -> tuple[int, Any, dict[str, str]]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Iterator[Script]:
    told = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            told.asked.append((self.command, self.path, json.loads(body) if body else None))
            status, value, headers = told.next()
            if status == 0:
                self.close_connection = True
                return
            data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            for name, one in headers.items():
                self.send_header(name, one)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def client(script: Script, account: Account = Account.DEPLOYER, patience: float = 30) -> KubeClient:
    return client_of(script.url, account, "shop", token="secret-token", patience=patience)


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status", "code": code, "reason": reason, "message": message, "details": details,
    }  # fmt: skip


MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}


def test_an_apply_is_one_patch_by_one_manager_and_unknown_fields_are_refused(
    script: Script,
) -> None:
    script.say(200, MAP)
    assert client(script).apply(MAP, access.CONFIG_MAP) == MAP
    method, path, body = script.asked[0]
    assert (method, body) == ("PATCH", MAP)
    place, _, query = path.partition("?")
    assert place == "/api/v1/namespaces/shop/configmaps/a"
    assert set(query.split("&")) == {"fieldManager=heliotrope", "fieldValidation=Strict"}


def test_what_is_not_there_is_none_and_a_kind_that_is_not_there_is_an_error(
    script: Script,
) -> None:
    script.say(404, status(404, "NotFound", "x not found", name="x", kind="configmaps"))
    assert client(script).get(access.CONFIG_MAP, "x") is None
    assert client(script).delete(access.CONFIG_MAP, "x") is False
    script.answers[:] = []
    script.say(404, "404 page not found\n")
    with pytest.raises(
        NotFoundError, match=r"get inferenceservices\.serving\.kserve\.io x: .*kind"
    ):
        client(script).get(access.INFERENCE_SERVICE, "x")


@pytest.mark.parametrize("trouble", [0, 500, 503])
def test_what_is_safe_to_repeat_is_repeated(script: Script, trouble: int) -> None:
    script.say(trouble, "no").say(200, MAP)
    assert client(script).apply(MAP, access.CONFIG_MAP) == MAP
    assert len(script.asked) == 2


@pytest.mark.parametrize("trouble", [0, 500])
def test_what_may_have_been_done_is_not_repeated(script: Script, trouble: int) -> None:
    script.say(trouble, "no").say(200, {})
    with pytest.raises(UnavailableError, match="whether it was done is not known"):
        client(script, Account.CONTROLLER).create({"metadata": {"name": "l"}}, access.LEASE)
    assert len(script.asked) == 1


def test_a_busy_server_is_asked_again_when_it_says_even_for_what_is_not_repeatable(
    script: Script,
) -> None:
    script.say(429, "slow down", retry_after="0").say(201, {"ok": 1})
    made = client(script, Account.CONTROLLER).create({"metadata": {"name": "l"}}, access.LEASE)
    assert made == {"ok": 1}


def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for(script: Script) -> None:
    script.say(429, "slow down", retry_after="86400")
    with pytest.raises(UnavailableError, match="429: slow down"):
        client(script).get(access.CONFIG_MAP, "a")
    assert len(script.asked) == 1


def test_a_silent_server_is_given_up_in_the_end(script: Script) -> None:
    script.say(503, "starting")
    with pytest.raises(UnavailableError, match=r"must answer to get configmaps a.*503: starting"):
        client(script, patience=0.3).get(access.CONFIG_MAP, "a")
    dead = client_of("http://127.0.0.1:1", Account.DEPLOYER, "shop", patience=0.2)
    with pytest.raises(UnavailableError, match="refused"):
        dead.get(access.CONFIG_MAP, "a")


CASES: list[tuple[int, type[Exception], str]] = [
    (409, ConflictError, "must not meet another's change"),
    (422, RefusedError, r"must be valid.*spec\.x must be a number"),
    (400, RefusedError, "must be valid"),
    (403, UnavailableError, "account deployer must be allowed to get configmaps a"),
    (401, UnavailableError, "must be allowed"),
]


@pytest.mark.parametrize(("code", "error", "text"), CASES)
def test_a_refusal_says_what_and_why_and_no_secret(
    script: Script, code: int, error: type[Exception], text: str
) -> None:
    cause = [{"field": "spec.x", "message": "must be a number"}]
    script.say(code, status(code, "R", "so it is", name="a", causes=cause))
    with pytest.raises(error, match=text) as caught:
        client(script).get(access.CONFIG_MAP, "a")
    assert "so it is" in str(caught.value)
    assert "secret-token" not in str(caught.value)
    assert len(script.asked) == 1


def test_a_list_is_read_to_its_end_and_begun_again_where_it_grew_too_old(script: Script) -> None:
    def page(*names: str, more: str = "") -> dict[str, Any]:
        items = [{"metadata": {"name": name}} for name in names]
        return {"items": items, "metadata": {"continue": more} if more else {}}

    script.say(200, page("old", more="t1")).say(410, status(410, "Expired", "too old"))
    script.say(200, page("a", more="t2")).say(200, page("b"))
    found = client(script).list(access.POD, {"app": "x"})
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]
    assert "labelSelector=app%3Dx" in script.asked[0][1]
    assert "continue=t2" in script.asked[3][1]


def test_a_call_that_the_table_does_not_grant_never_leaves(script: Script) -> None:
    script.say(200, {})
    calls: list[Callable[[], object]] = [
        lambda: client(script, Account.CONTROLLER).delete(access.INFERENCE_SERVICE, "x"),
        lambda: client(script, Account.PIPELINE).get(access.LEASE, "x"),
        lambda: client(script, Account.PREDICTOR).get(access.CONFIG_MAP, "x"),
        lambda: client(script, Account.COLLECTOR).list(access.POD),
        lambda: client(script, Account.DEPLOYER).create(MAP | {}, access.POD),
    ]
    for call in calls:
        with pytest.raises(AssertionError, match="must be in access"):
            call()
    assert script.asked == []


def test_what_an_account_may_do_and_what_the_cluster_has_is_asked(script: Script) -> None:
    script.say(201, {"status": {"allowed": False, "reason": "no role"}})
    assert client(script).may("patch", "serving.kserve.io", "inferenceservices") == (
        False, "no role",
    )  # fmt: skip
    asked = script.asked[0][2]["spec"]["resourceAttributes"]
    assert asked == {
        "namespace": "shop", "verb": "patch", "group": "serving.kserve.io",
        "resource": "inferenceservices",
    }  # fmt: skip
    script.answers[:] = []
    groups = [{"name": "serving.kserve.io", "versions": [{"version": "v1beta1"}]}]
    script.say(200, {"groups": groups}).say(
        200, {"resources": [{"name": "a"}, {"name": "a/status"}]}
    )
    assert client(script).groups() == {"serving.kserve.io": ("v1beta1",)}
    assert client(script).resources("serving.kserve.io", "v1beta1") == ("a",)


def test_the_table_has_each_access_once_with_a_reason() -> None:
    lines = [(one.verb, one.kind, one.subresource) for one in access.ACCESSES]
    assert len(set(lines)) == len(lines)
    assert {one.kind for one in access.ACCESSES} == set(access.ALL)
    for one in access.ACCESSES:
        assert one.why, one
        assert one.accounts, one
    nothing = {
        a.kind for who in ("predictor", "collector") for a in access.accesses_of(Account(who))
    }
    assert nothing == {access.ACCESS_REVIEW}
