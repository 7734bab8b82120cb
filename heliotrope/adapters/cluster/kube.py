"""Kubernetes' API, spoken in plain dicts: server-side apply under one field manager.

Every call is in `access.ACCESSES`, has a time limit, and is repeated only where a repetition cannot
do something twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from heliotrope.adapters.cluster.access import (
    ACCESS_REVIEW,
    PATHS,
    Account,
    Kind,
    Verb,
    granted,
)
from heliotrope.adapters.cluster.kube_answers import JSON, Call, Expired, Missing, Object
from heliotrope.adapters.cluster.kube_link import KubeLink, Stream
from heliotrope.errors import NotFoundError

FIELD_MANAGER: Final = "heliotrope"
PAGE = 500
Labels = Mapping[str, str | None]
"""Wanted values by label; None is any value."""
_APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Listed:
    """Objects of one moment."""

    items: list[Object]
    version: str
    """The moment: a watch that begins at it tells of all that came after."""


class KubeClient:
    """One account's calls on one namespace.

    Every method may raise UnavailableError (no answer, or the account is not allowed; the message
    says which) and RefusedError (the server understood and refused).

    Args:
        link: the account's way to the API; made by `kube_login`.
        namespace: of everything that has one.
    """

    def __init__(self, link: KubeLink, namespace: str) -> None:
        self._link, self.namespace = link, namespace

    @property
    def account(self) -> Account:
        """Whose lines of `access.ACCESSES` may be used."""
        return self._link.account

    @property
    def host(self) -> str:
        """The API server's address."""
        return self._link.host

    def close(self) -> None:
        """Let go of the connections; the next call opens new ones."""
        self._link.close()

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """An object, or None where there is none.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        try:
            return self._link.send(self._call(Verb.GET, kind, name, namespace=namespace))
        except Missing:
            return None

    def listed(
        self, kind: Kind, labels: Labels | None = None, namespace: str | None = None
    ) -> Listed:
        """All objects with these labels, page by page, and the moment that they are of.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        query = {"limit": str(PAGE), **_selector(labels)}
        found: list[Object] = []
        while True:
            call = self._call(Verb.LIST, kind, query=query, namespace=namespace)
            try:
                page = self._link.send(call)
            except Expired:
                # The list began too long ago for its pages to be of one moment: once more.
                found, query = [], {k: v for k, v in query.items() if k != "continue"}
                continue
            found += page.get("items") or []
            metadata = page.get("metadata") or {}
            token = metadata.get("continue")
            if not token:
                return Listed(found, str(metadata.get("resourceVersion") or ""))
            query = {**query, "continue": token}

    def watch(self, kind: Kind, labels: Labels | None, version: str, seconds: int) -> Stream:
        """What becomes of the objects with these labels, as it happens; not repeated.

        Each line has `type` (ADDED, MODIFIED, DELETED, BOOKMARK, ERROR) and `object`.

        Args:
            kind: of the objects.
            labels: as of the list that it goes on from.
            version: the moment after which it begins.
            seconds: after which the server ends it.

        Raises:
            Expired: the server does not remember so old a version.
            Again: the server is unwell.
        """
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version,
            "timeoutSeconds": str(seconds), **_selector(labels),
        }  # fmt: skip
        return self._link.stream(self._call(Verb.WATCH, kind, query=query), seconds)

    def list(
        self, kind: Kind, labels: Labels | None = None, namespace: str | None = None
    ) -> list[Object]:
        """All objects with these labels, page by page.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        return self.listed(kind, labels, namespace).items

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
        return self._link.send(call)

    def create(self, wanted: Object, kind: Kind) -> Object:
        """Make an object that must not be there yet. Not repeated where the answer was lost.

        Raises:
            ConflictError: it is there.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._link.send(
            self._call(Verb.CREATE, kind, query=query, body=wanted, repeatable=False)
        )

    def replace(self, wanted: Object, kind: Kind) -> Object:
        """Replace an object of the resourceVersion that it carries. Not repeated.

        Raises:
            ConflictError: somebody replaced it before.
            NotFoundError: it is gone.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        name = str(wanted["metadata"]["name"])
        return self._link.send(
            self._call(Verb.UPDATE, kind, name, query=query, body=wanted, repeatable=False)
        )

    def delete(self, kind: Kind, name: str) -> bool:
        """Delete an object and what it owns, in the background; False where there was none.

        Raises:
            NotFoundError: the cluster does not know the kind.
        """
        try:
            self._link.send(
                self._call(Verb.DELETE, kind, name, query={"propagationPolicy": "Background"})
            )
        except Missing:
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
        found = self._link.send(self._call(Verb.CREATE, ACCESS_REVIEW, body=review))
        status = found.get("status") or {}
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
        return self._link.send(Call("GET", path, f"get {path}", {}))

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
        content: str = JSON,
        repeatable: bool = True,
        namespace: str | None = None,
    ) -> Call:
        self._require(verb, kind)
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        place = f"/namespaces/{quote(namespace or self.namespace, safe='')}"
        path = f"{root}{place if kind.namespaced else ''}/{kind.plural}"
        path += f"/{quote(name, safe='')}" if name is not None else ""
        what = f"{verb} {kind.resource}" + (f" {name}" if name else "")
        return Call(_METHODS[verb], path, what, query or {}, body, content, repeatable)


_METHODS = {
    Verb.GET: "GET", Verb.LIST: "GET", Verb.WATCH: "GET", Verb.CREATE: "POST", Verb.UPDATE: "PUT",
    Verb.PATCH: "PATCH", Verb.DELETE: "DELETE",
}  # fmt: skip


def _selector(labels: Labels | None) -> dict[str, str]:
    wanted = (k if v is None else f"{k}={v}" for k, v in sorted((labels or {}).items()))
    return {"labelSelector": ",".join(wanted)} if labels else {}


def _ungranted(what: str, account: Account) -> AssertionError:
    return AssertionError(f"{what} must be in access.ACCESSES for the account {account}.")
