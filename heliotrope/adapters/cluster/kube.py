"""Kubernetes' API, spoken in plain dicts: server-side apply under one field manager.

The generated client's methods drop nulls, raise strings and try again where that is not safe, so
only its configuration, credentials and TLS are used here. Every call is in `access.ACCESSES`, has a
time limit, and is repeated only where a repetition cannot do something twice.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import stamina
import urllib3
from kubernetes import client, config

from heliotrope.adapters.cluster.access import (
    ACCESS_REVIEW,
    PATHS,
    Account,
    Kind,
    Verb,
    granted,
)
from heliotrope.errors import (
    ConflictError,
    HeliotropeError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
)

FIELD_MANAGER: Final = "heliotrope"
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
PATIENCE_SECONDS = 20.0
PAGE = 500
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
logger = logging.getLogger("heliotrope.kube")

Object = dict[str, Any]
"""An object of Kubernetes as JSON has it."""


class _Again(Exception):
    """The server may answer if asked again."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class _Call:
    method: str
    path: str
    what: str
    """For messages."""
    query: Mapping[str, str]
    body: Object | None = None
    content: str = _JSON
    repeatable: bool = True


class FieldConflict(ConflictError):
    """Another manager owns a field that was applied."""


class KubeClient:
    """One account's calls on one namespace.

    Every method may raise UnavailableError (no answer, or the account is not allowed; the message
    says which) and RefusedError (the server understood and refused).

    Args:
        api: host, credentials and TLS; made by `connect`.
        account: whose lines of `access.ACCESSES` may be used.
        namespace: of everything that has one.
        patience: seconds that one call is repeated while the server does not answer.
    """

    def __init__(
        self,
        api: client.ApiClient,
        account: Account,
        namespace: str,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        logging.getLogger("stamina").addHandler(logging.NullHandler())
        self._api, self.account, self.namespace = api, account, namespace
        self._patience = patience

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self._api.configuration.host)

    def close(self) -> None:
        """Let go of the connections; the next call opens new ones."""
        self._api.rest_client.pool_manager.clear()

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """An object, or None where there is none.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        try:
            return self._send(self._call(Verb.GET, kind, name, namespace=namespace))
        except _Missing:
            return None

    def list(
        self, kind: Kind, labels: Mapping[str, str] | None = None, namespace: str | None = None
    ) -> list[Object]:
        """All objects with these labels, page by page.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
        found: list[Object] = []
        while True:
            try:
                page = self._send(self._call(Verb.LIST, kind, query=query, namespace=namespace))
            except _Expired:
                # The list began too long ago for its pages to be of one moment: once more.
                found, query = [], {k: v for k, v in query.items() if k != "continue"}
                continue
            found += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            query = {**query, "continue": token}

    def apply(
        self, wanted: Object, kind: Kind, *, force: bool = False, dry: bool = False
    ) -> Object:
        """Make an object's fields so: what we applied before and leave out now is removed.

        An object that carries `metadata.resourceVersion` is applied to that version only.

        Args:
            wanted: with apiVersion, kind and metadata.name.
            kind: its kind.
            force: take fields that another manager owns.
            dry: only ask what would come of it.

        Raises:
            FieldConflict: another manager owns a field; the message names both.
            ConflictError: the object is of another resourceVersion by now.
            NotFoundError: the cluster does not know the kind, or there is no such namespace.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry else {}
        name = str(wanted["metadata"]["name"])
        # Where there is no such object, an apply makes it; the server asks for both verbs.
        self._require(Verb.CREATE, kind)
        call = self._call(Verb.PATCH, kind, name, query=query, body=wanted, content=_APPLY)
        return self._send(call)

    def create(self, wanted: Object, kind: Kind) -> Object:
        """Make an object that must not be there yet. Not repeated where the answer was lost.

        Raises:
            ConflictError: it is there.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._send(self._call(Verb.CREATE, kind, query=query, body=wanted, repeatable=False))

    def replace(self, wanted: Object, kind: Kind) -> Object:
        """Replace an object of the resourceVersion that it carries. Not repeated.

        Raises:
            ConflictError: somebody replaced it before.
            NotFoundError: it is gone.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        name = str(wanted["metadata"]["name"])
        return self._send(
            self._call(Verb.UPDATE, kind, name, query=query, body=wanted, repeatable=False)
        )

    def delete(self, kind: Kind, name: str) -> bool:
        """Delete an object and what it owns, in the background; False where there was none.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        try:
            self._send(
                self._call(Verb.DELETE, kind, name, query={"propagationPolicy": "Background"})
            )
        except _Missing:
            return False
        return True

    def may(
        self,
        verb: str,
        group: str,
        plural: str,
        subresource: str = "",
        namespace: str | None = None,
    ) -> tuple[bool, str]:
        """Whether this account may do something, and what the authorizer says to it."""
        asked = {
            "namespace": self.namespace if namespace is None else namespace,
            "verb": verb, "group": group, "resource": plural, "subresource": subresource,
        }  # fmt: skip
        review = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.kind,
            "spec": {"resourceAttributes": {k: v for k, v in asked.items() if v}},
        }
        status = self._send(self._call(Verb.CREATE, ACCESS_REVIEW, body=review)).get("status") or {}
        return bool(status.get("allowed")), str(status.get("reason") or "")

    def groups(self) -> dict[str, tuple[str, ...]]:
        """The API groups that the cluster has, each with its versions."""
        found = self._read("/apis").get("groups") or []
        return {g["name"]: tuple(v["version"] for v in g.get("versions") or []) for g in found}

    def resources(self, group: str, version: str) -> tuple[str, ...]:
        """The plurals of one group's version; empty where the cluster has it not."""
        try:
            found = self._read(f"/apis/{group}/{version}").get("resources") or []
        except NotFoundError:
            return ()
        return tuple(one["name"] for one in found if "/" not in one["name"])

    def version(self) -> str:
        """Kubernetes' version, such as v1.33.1."""
        return str(self._read("/version").get("gitVersion", "unknown"))

    def _read(self, path: str) -> Object:
        if not any(path == known or path.startswith(f"{known}/") for known in PATHS):
            raise _ungranted(f"get {path}", self.account)
        return self._send(_Call("GET", path, f"get {path}", {}))

    def _require(self, verb: Verb, kind: Kind) -> None:
        if granted(self.account, verb, kind) is None:
            raise _ungranted(f"{verb} {kind.resource}", self.account)

    def _call(
        self,
        verb: Verb,
        kind: Kind,
        name: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = _JSON,
        repeatable: bool = True,
        namespace: str | None = None,
    ) -> _Call:
        self._require(verb, kind)
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        place = f"/namespaces/{quote(namespace or self.namespace, safe='')}"
        path = f"{root}{place if kind.namespaced else ''}/{kind.plural}"
        path += f"/{quote(name, safe='')}" if name is not None else ""
        what = f"{verb} {kind.resource}" + (f" {name}" if name else "")
        return _Call(_METHODS[verb], path, what, query or {}, body, content, repeatable)

    def _send(self, call: _Call) -> Object:
        def hook(error: Exception) -> bool | float | timedelta:
            if not isinstance(error, _Again) or (error.after or 0) > self._patience:
                return False
            return error.after if error.after is not None else True

        began = time.monotonic()
        try:
            for attempt in stamina.retry_context(
                on=hook, attempts=None, timeout=self._patience, wait_initial=0.1, wait_max=3.0
            ):
                with attempt:
                    return self._once(call)
        except _Again as error:
            raise UnavailableError(
                f"Kubernetes' API at {self._api.configuration.host} must answer to {call.what}. "
                f"It did not within {time.monotonic() - began:.3g} s: {error}."
            ) from error
        raise AssertionError("a retry context ends by an answer or an error")

    def _once(self, call: _Call) -> Object:
        headers = {"Accept": _JSON, "User-Agent": FIELD_MANAGER}
        # Asked anew for each call: tokens of service accounts are rotated.
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        query = f"?{urlencode(call.query)}" if call.query else ""
        body = None
        if call.body is not None:
            headers["Content-Type"] = call.content
            body = json.dumps(call.body).encode()
        try:
            answer = self._api.rest_client.pool_manager.request(
                call.method,
                f"{self._api.configuration.host}{call.path}{query}",
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.SSLError as error:
            raise UnavailableError(
                f"Kubernetes' API at {self._api.configuration.host} must show a certificate that "
                f"the configured authority signed. Got: {error}."
            ) from error
        except urllib3.exceptions.HTTPError as error:
            if call.repeatable or isinstance(error, urllib3.exceptions.NewConnectionError):
                raise _Again(_plain(error)) from error
            raise UnavailableError(
                f"Kubernetes' API must answer to {call.what}. {_plain(error)}; whether it was "
                "done is not known."
            ) from error
        return _answer(call, answer, self.account)


_METHODS = {
    Verb.GET: "GET", Verb.LIST: "GET", Verb.CREATE: "POST", Verb.UPDATE: "PUT",
    Verb.PATCH: "PATCH", Verb.DELETE: "DELETE",
}  # fmt: skip


class _Missing(NotFoundError):
    """This one object is not there."""


class _Expired(HeliotropeError):
    """A list's continue token is too old."""


def _answer(call: _Call, answer: Any, account: Account) -> Object:
    try:
        found = json.loads(answer.data)
    except ValueError:
        found = {}
    status: Object = found if isinstance(found, dict) else {}
    if 200 <= answer.status < 300:
        return status
    text = str(status.get("message") or answer.data[:300].decode(errors="replace")).strip()
    said = f"Got {answer.status}: {text}" + ("" if text.endswith(".") else ".")
    if answer.status == 429:
        # The server did nothing yet, so that any call may be repeated.
        raise _Again(said, _seconds(answer.headers.get("retry-after")))
    if answer.status >= 500:
        if call.repeatable:
            raise _Again(said, _seconds(answer.headers.get("retry-after")))
        raise UnavailableError(
            f"Kubernetes' API must answer to {call.what}; whether it was done is not known. {said}"
        )
    raise _error(call, answer.status, status, said, account)


def _error(call: _Call, code: int, status: Object, said: str, account: Account) -> HeliotropeError:
    details = status.get("details") or {}
    if code == 404:
        if details.get("name") and details.get("kind") != "namespaces":
            return _Missing(f"{call.what}: it must be there. {said}")
        return NotFoundError(f"{call.what}: the cluster must have its kind and namespace. {said}")
    if code == 409:
        owned = any(
            cause.get("reason") == "FieldManagerConflict" for cause in details.get("causes") or []
        )
        kind = FieldConflict if owned else ConflictError
        return kind(f"{call.what} must not meet another's change. {said}")
    if code == 410:
        return _Expired(said)
    if code in (401, 403):
        return UnavailableError(
            f"The account {account} must be allowed to {call.what}; its Role, token and namespace "
            f"decide. {said}"
        )
    causes = "; ".join(
        f"{cause.get('field', '')} {cause.get('message', '')}".strip()
        for cause in details.get("causes") or []
    )
    return RefusedError(f"{call.what} must be valid. {said}" + (f" {causes}." if causes else ""))


def _ungranted(what: str, account: Account) -> AssertionError:
    return AssertionError(f"{what} must be in access.ACCESSES for the account {account}.")


def _plain(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition("object at 0x")[2].partition(">: ")[2] or str(reason)


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; dates are not what Kubernetes sends."""
    return float(text) if text and text.isdigit() else None


def connect(
    account: Account,
    namespace: str | None = None,
    *,
    context: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> KubeClient:
    """A client by the pod's own token where there is one, else by KUBECONFIG.

    Args:
        account: who calls.
        namespace: of everything; without it the pod's own, or the context's.
        context: of the kubeconfig; its current one without.
        patience: seconds that one call is repeated.

    Raises:
        UsageError: neither is there, or the kubeconfig is wrong.
    """
    settings = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=settings)
            own = _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "default"
        except config.ConfigException:
            # The library reads the variable once, when it is imported.
            file = os.environ.get("KUBECONFIG") or None
            config.load_kube_config(file, context=context, client_configuration=settings)
            own = _context_namespace(file, context)
    except (config.ConfigException, OSError, ValueError) as error:
        raise UsageError(
            "KUBECONFIG must name a usable kubeconfig, or this must run in a pod with a service "
            f"account's token. Got: {error}."
        ) from error
    settings.retries = 0
    return KubeClient(client.ApiClient(settings), account, namespace or own, patience)


def _context_namespace(file: str | None, context: str | None) -> str:
    every, current = config.list_kube_config_contexts(file)
    chosen = next((one for one in every if one["name"] == context), current)
    return str((chosen or {}).get("context", {}).get("namespace") or "default")


def client_of(
    host: str,
    account: Account,
    namespace: str,
    *,
    token: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> KubeClient:
    """A client of a plain address, as `kubectl proxy` gives one."""
    settings = client.Configuration()
    settings.host, settings.retries = host, 0
    if token is not None:
        settings.api_key["authorization"] = f"Bearer {token}"
    return KubeClient(client.ApiClient(settings), account, namespace, patience)
