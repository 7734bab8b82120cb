"""Compiled pipelines in KFP: found by name and namespace, a version for each content."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import yaml

from heliotrope.adapters.cluster.kfp_link import KfpLink
from heliotrope.errors import ConflictError, HeliotropeError, NotFoundError

_HASH_LENGTH = 12
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: a compiled pipeline takes the other half a second."""


@dataclass(frozen=True)
class PipelineVersion:
    """One version of a pipeline, as KFP knows it."""

    pipeline: str
    """Its name."""
    pipeline_id: str
    version: str
    """Its name."""
    version_id: str

    @property
    def reference(self) -> dict[str, str]:
        """As runs refer to it."""
        return {"pipeline_id": self.pipeline_id, "pipeline_version_id": self.version_id}


def pipeline_name(text: str) -> str:
    """The name within a compiled pipeline."""
    document = next(yaml.load_all(text, _LOADER), None)
    name = (document or {}).get("pipelineInfo", {}).get("name")
    if not name:
        raise HeliotropeError("A compiled pipeline must have pipelineInfo.name. Got none.")
    return str(name)


def version_name(text: str) -> str:
    """What a compiled pipeline's version is called: the same for the same content.

    Comments and the order of keys do not count. Legal as the name of a Kubernetes object too.
    """
    documents = list(yaml.load_all(text, _LOADER))
    whole = json.dumps(documents, sort_keys=True)
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{pipeline_name(text)}-{digest}"


def with_image(text: str, image: str) -> str:
    """A compiled pipeline whose steps run another image; name it by digest.

    >>> with_image("image: heliotrope/component:0.1.0\\n", "r/c@sha256:1")
    'image: r/c@sha256:1\\n'
    """
    lines = text.splitlines(keepends=True)
    return "".join(
        f"{line[: line.index('image:')]}image: {image}\n"
        if line.lstrip().startswith("image: ")
        else line
        for line in lines
    )


class KfpPipelines:
    """The pipelines of one KFP.

    Args:
        link: to it.
    """

    def __init__(self, link: KfpLink) -> None:
        self._link = link

    def find(self, name: str) -> str | None:
        """Id of the pipeline of this name in our namespace; None without one."""
        params = {"namespace": self._link.options.namespace} if self._link.options.namespace else {}
        try:
            found = self._link.get(f"/pipelines/names/{name}", params)
        except NotFoundError:
            return None
        return str(found["pipeline_id"])

    def newest(self, name: str) -> PipelineVersion:
        """The version that runs start from: the newest.

        Raises:
            NotFoundError: there is no such pipeline, or it has no version.
        """
        pipeline_id = self.find(name)
        if pipeline_id is not None:
            found = self._versions(name, pipeline_id, "created_at desc")
            if found:
                return found[0]
        raise NotFoundError(
            f"The pipeline {name} must be in KFP at {self._link.options.url}. It is not: "
            "run `heliotrope deploy`."
        )

    def current(self, text: str) -> PipelineVersion | None:
        """The newest version if it has this content, else None: `upload` would make one."""
        try:
            newest = self.newest(pipeline_name(text))
        except NotFoundError:
            return None
        return newest if _holds(newest.version, version_name(text)) else None

    def upload(self, text: str) -> tuple[PipelineVersion, bool]:
        """Have this content be the newest version; answers it, and whether it was made now.

        Content that is there but no longer the newest (somebody goes back) is uploaded again under
        a number, since runs start from the newest. Two who upload at once agree on one version.

        Raises:
            UsageError: KFP refuses the pipeline.
            UnavailableError: KFP does not answer; trying again is safe.
        """
        name, wanted = pipeline_name(text), version_name(text)
        pipeline_id = self.find(name) or self._make(name)
        for _ in range(2):
            known = self._versions(name, pipeline_id, "created_at desc")
            if known and _holds(known[0].version, wanted):
                return known[0], False
            again = sum(_holds(one.version, wanted) for one in known)
            called = f"{wanted}-{again + 1}" if again else wanted
            params = {"name": called, "display_name": called, "pipelineid": pipeline_id}
            try:
                made = self._link.upload("/pipelines/upload_version", params, text)
            except ConflictError:
                # Another did the same just now: what it made is what we want.
                continue
            return _version(name, made), True
        raise ConflictError(f"The versions of {name} must rest for a moment.")

    def delete(self, name: str) -> bool:
        """Remove a pipeline and its versions; False where it is gone already."""
        pipeline_id = self.find(name)
        if pipeline_id is None:
            return False
        return self._link.delete(f"/pipelines/{pipeline_id}", {"cascade": "true"})

    def _make(self, name: str) -> str:
        # Made without a version: an upload would make one that is named after the pipeline.
        namespace = self._link.options.namespace
        body = {"name": name, "display_name": name} | (
            {"namespace": namespace} if namespace else {}
        )
        try:
            return str(self._link.post("/pipelines", body, repeatable=True)["pipeline_id"])
        except ConflictError:
            found = self.find(name)
            if found is None:
                raise
            return found

    def _versions(self, name: str, pipeline_id: str, order: str) -> list[PipelineVersion]:
        found = self._link.pages(
            f"/pipelines/{pipeline_id}/versions", "pipeline_versions", {"sort_by": order}
        )
        return [_version(name, one) for one in found if "error" not in one]


def _holds(called: str, wanted: str) -> bool:
    head, _, number = called.rpartition("-")
    return called == wanted or (head == wanted and number.isdigit())


def _version(pipeline: str, found: dict[str, Any]) -> PipelineVersion:
    return PipelineVersion(
        pipeline=pipeline,
        pipeline_id=str(found["pipeline_id"]),
        version=str(found.get("name") or found.get("display_name")),
        version_id=str(found["pipeline_version_id"]),
    )
