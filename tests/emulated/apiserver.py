"""An API server of Kubernetes over real HTTP, a fake with behaviour.

It takes server-side apply (field managers, conflicts, dry run), merge patches, creates,
replacements and deletions; tells watchers what becomes of objects; validates against CRDs with
unknown fields refused; authorizes by RBAC rules of a token; and fails as it is told to. `admit` is
where a controller's webhooks are.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.emulated.api_http import Fault, Refuse, handler
from tests.emulated.api_watch import Selector, Watch
from tests.emulated.field_managers import Conflict, Owners, merged
from tests.emulated.object_store import Key, Object, ObjectStore, Stored
from tests.emulated.schemas import problems

Rule = Mapping[str, Sequence[str]]
KINDS = {
    ("", "configmaps"): "v1", ("", "pods"): "v1", ("", "serviceaccounts"): "v1",
    ("coordination.k8s.io", "leases"): "v1",
    ("serving.kserve.io", "inferenceservices"): "v1beta1",
    ("serving.kserve.io", "servingruntimes"): "v1alpha1",
    ("serving.knative.dev", "revisions"): "v1",
}  # fmt: skip
_MANAGED = {"fieldManager", "fieldValidation"}
_QUERIES: dict[str, set[str]] = {
    "get": set(),
    "list": {"labelSelector", "limit", "continue"},
    "watch": {
        "watch", "labelSelector", "resourceVersion", "timeoutSeconds", "allowWatchBookmarks",
    },
    "create": _MANAGED, "update": _MANAGED, "patch": _MANAGED | {"force", "dryRun"},
    "delete": {"propagationPolicy"},
}  # fmt: skip
"""What may be asked beside the path; more than a real server, this one refuses all else."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiServer(ObjectStore):
    """One cluster's; `url` once it is started.

    Args:
        kinds: the kinds that there are, as group and plural; all known ones without.
        rules: RBAC rules by bearer token; everybody may do everything without.
    """

    def __init__(
        self,
        kinds: Sequence[tuple[str, str]] | None = None,
        rules: Mapping[str, Sequence[Rule]] | None = None,
    ) -> None:
        super().__init__()
        self.kinds = KINDS if kinds is None else {kind: KINDS[kind] for kind in kinds}
        self.rules = rules
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []
        self.admit: Callable[[Object | None, Object], str | None] = _admit_all
        self.watches: list[Watch] = []
        """Those that are open."""
        self._server: ThreadingHTTPServer | None = None
        self._thread: Thread | None = None

    def start(self) -> "ApiServer":
        """Listen."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening; nothing happens the second time."""
        if self._server is None or self._thread is None:
            return
        self.cut()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    def cut(self) -> None:
        """Break off every watch."""
        with self.lock:
            for watch in self.watches:
                watch.cut = True
            self.changed.notify_all()

    @property
    def url(self) -> str:
        """Base URL."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, target: str, token: str, kind: str, body: bytes) -> Any:
        """One request; raises Refuse."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self.lock:
            self.asked.append((method, target))
            return self._route(method, parts.path, query, token, kind, body)

    def _route(
        self, method: str, path: str, query: dict[str, str], token: str, kind: str, body: bytes
    ) -> Any:
        found = json.loads(body) if body else None
        words = [unquote(word) for word in path.strip("/").split("/")]
        if path in ("/apis", "/version") or (words[0] == "apis" and len(words) == 3):
            return self._discover(words)
        if words[-1] == "selfsubjectaccessreviews" and found is not None:
            asked = found["spec"]["resourceAttributes"]
            verb, group, plural = asked["verb"], asked.get("group", ""), asked["resource"]
            allowed = self._may(token, verb, group, plural)
            return {**found, "status": {"allowed": allowed, "reason": "" if allowed else "no rule"}}
        group = words[1] if words[0] == "apis" else ""
        rest = words[words.index("namespaces") + 1 :] if "namespaces" in words else []
        if len(rest) < 2 or (group, rest[1]) not in self.kinds:
            raise Refuse(404, "NotFound", "the server could not find the requested resource")
        key = (group, rest[1], rest[0], rest[2] if len(rest) > 2 else "")
        verb = _VERBS.get(method) or ("get" if key[3] else "watch" if "watch" in query else "list")
        self._authorize(token, verb, key)
        if unknown := sorted(query.keys() - _QUERIES[verb]):
            raise Refuse(400, "BadRequest", f"{unknown[0]} must not be asked of a {verb}")
        if verb == "get":
            return self._stored(key).value
        if verb == "list":
            return self._list(key, query)
        if verb == "watch":
            return self._watch(key, query)
        if verb == "delete":
            self._stored(key)
            return self.drop(key)
        if verb == "create":
            key = (*key[:3], found["metadata"]["name"])
            if key in self.objects:
                raise Refuse(409, "AlreadyExists", f'{key[1]} "{key[3]}" already exists')
            return self._write(key, {}, found, query)
        if verb == "update":
            stored = self._stored(key)
            return self._write(key, stored.value, found, query)
        return self._patch(key, found, query, kind, token)

    def _patch(
        self, key: Key, found: Object, query: dict[str, str], kind: str, token: str
    ) -> Object:
        if kind == "application/merge-patch+json":
            stored = self._stored(key)
            return self._write(key, stored.value, merged(stored.value, found), query)
        if kind != "application/apply-patch+yaml":
            raise Refuse(415, "UnsupportedMediaType", f"the body of the request was in {kind}")
        if key not in self.objects:
            self._authorize(token, "create", key)
        stored = self.objects.get(key) or Stored({})
        self._require_version(stored.value, found, key)
        owners, live = copy.deepcopy(stored.owners), stored.value
        try:
            after = owners.apply(
                live, found, query["fieldManager"], force=query.get("force") == "true"
            )
        except Conflict as error:
            causes = [
                {
                    "reason": "FieldManagerConflict", "field": f".{path}",
                    "message": f'conflict with "{who}"',
                }
                for path, who in error.fields
            ]  # fmt: skip
            text = f"{error}: " + ", ".join(
                f'conflict with "{who}": .{path}' for path, who in error.fields
            )
            raise Refuse(409, "Conflict", text, name=key[3], causes=causes) from error
        after |= {"apiVersion": found["apiVersion"], "kind": found["kind"]}
        after["metadata"] = {**(after.get("metadata") or {}), "name": key[3]}
        return self._keep(key, stored, after, owners, query)

    def _write(self, key: Key, before: Object, after: Object, query: dict[str, str]) -> Object:
        self._require_version(before, after, key)
        stored = self.objects.get(key) or Stored({})
        owners = copy.deepcopy(stored.owners)
        owners.update(before, after, query.get("fieldManager", "unknown"))
        return self._keep(key, stored, after, owners, query)

    def _keep(
        self, key: Key, stored: Stored, after: Object, owners: Owners, query: dict[str, str]
    ) -> Object:
        wrong = problems(key[0], self.kinds[key[0], key[1]], key[1], after)
        if wrong:
            causes = [{"field": path, "message": text} for path, text in wrong]
            unknown = any("Additional properties" in text for _, text in wrong)
            code, reason = (400, "BadRequest") if unknown else (422, "Invalid")
            text = f'{key[1]} "{key[3]}" is invalid: {wrong[0][0]}: {wrong[0][1]}'
            raise Refuse(code, reason, text, name=key[3], causes=causes)
        refusal = self.admit(stored.value or None, after)
        if refusal:
            raise Refuse(400, "BadRequest", f"admission webhook denied the request: {refusal}")
        if query.get("dryRun") == "All":
            return after
        stored.owners = owners
        self.store(stored, stored.value, after, key)
        self.objects[key] = stored
        return stored.value

    def _require_version(self, before: Object, after: Object, key: Key) -> None:
        asked = (after.get("metadata") or {}).get("resourceVersion")
        has = (before.get("metadata") or {}).get("resourceVersion")
        if asked is not None and asked != has:
            text = f'Operation cannot be fulfilled on {key[1]} "{key[3]}": it has been modified'
            raise Refuse(409, "Conflict", text, name=key[3])

    def _stored(self, key: Key) -> Stored:
        if key not in self.objects:
            text = f'{key[1]} "{key[3]}" not found'
            raise Refuse(404, "NotFound", text, name=key[3], kind=key[1])
        return self.objects[key]

    def _list(self, key: Key, query: dict[str, str]) -> Object:
        selector = Selector.parse(query.get("labelSelector", ""))
        items = [
            stored.value
            for (group, plural, namespace, _), stored in sorted(self.objects.items())
            if (group, plural, namespace) == key[:3] and selector.takes(stored.value)
        ]
        first = int(query.get("continue", "0"))
        last = first + int(query.get("limit", "500"))
        more = {"continue": str(last)} if last < len(items) else {}
        metadata = {"resourceVersion": str(self.version), **more}
        return {"kind": "List", "metadata": metadata, "items": items[first:last]}

    def _watch(self, key: Key, query: dict[str, str]) -> Watch:
        version, seconds = query.get("resourceVersion", ""), query.get("timeoutSeconds", "")
        if not version.isdigit() or not seconds.isdigit():
            # A real server takes less, and then begins with all there is, or never ends.
            raise Refuse(400, "BadRequest", "resourceVersion and timeoutSeconds must be numbers")
        if int(version) < self.forgotten:
            raise Refuse(410, "Expired", f"too old resource version: {version}")
        bookmarks = query.get("allowWatchBookmarks") == "true"
        selector = Selector.parse(query.get("labelSelector", ""))
        return Watch(self, key, selector, int(version), int(seconds), bookmarks)

    def _discover(self, words: list[str]) -> Object:
        if words == ["version"]:
            return {"gitVersion": "v1.33.0"}
        if words == ["apis"]:
            found: dict[str, set[str]] = {}
            for (group, _), version in self.kinds.items():
                found.setdefault(group, set()).add(version)
            return {
                "groups": [
                    {"name": group, "versions": [{"version": v} for v in sorted(versions)]}
                    for group, versions in found.items()
                    if group
                ]
            }
        names = [p for (g, p), v in self.kinds.items() if [g, v] == words[1:]]
        if not names:
            raise Refuse(404, "NotFound", "the server could not find the requested resource")
        return {"resources": [{"name": name} for name in names]}

    def _authorize(self, token: str, verb: str, key: Key) -> None:
        if not self._may(token, verb, key[0], key[1]):
            text = f'{key[1]} is forbidden: cannot {verb} resource "{key[1]}" in group "{key[0]}"'
            raise Refuse(403, "Forbidden", text, name=key[3])

    def _may(self, token: str, verb: str, group: str, plural: str) -> bool:
        if self.rules is None:
            return True
        return any(
            verb in rule["verbs"] and group in rule["apiGroups"] and plural in rule["resources"]
            for rule in self.rules.get(token, [])
        )


def _admit_all(_before: Object | None, _after: Object) -> str | None:
    return None
