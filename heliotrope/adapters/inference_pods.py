"""What the pods of a version say of it: ready, restarted, and why not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heliotrope.vocabulary import LABEL_VERSION

CONTAINER = "kserve-container"
_LONGEST = 300


@dataclass(frozen=True)
class PodFacts:
    """A version's pods."""

    ready: tuple[tuple[str, str], ...] = ()
    """Of each that takes requests: an id that changes when it is made anew, and where to ask it."""
    total: int = 0
    restarts: int = 0
    message: str = ""
    """Why one is not ready."""


def facts_by_version(pods: Iterable[Mapping[str, Any]]) -> dict[str, PodFacts]:
    """Facts of each version that has pods; those that are being deleted have no say."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        metadata = pod.get("metadata") or {}
        version = (metadata.get("labels") or {}).get(LABEL_VERSION)
        if version is not None and not metadata.get("deletionTimestamp"):
            grouped.setdefault(str(version), []).append(pod)
    return {version: _facts(every) for version, every in grouped.items()}


def _facts(pods: list[Mapping[str, Any]]) -> PodFacts:
    statuses = [pod.get("status") or {} for pod in pods]
    return PodFacts(
        ready=tuple(
            (str(pod["metadata"].get("uid", "")), f"http://{status.get('podIP')}:{_port(pod)}")
            for pod, status in zip(pods, statuses, strict=True)
            if _is_ready(status)
        ),
        total=len(pods),
        restarts=sum(
            int(one.get("restartCount") or 0)
            for status in statuses
            for one in status.get("containerStatuses") or []
            if one.get("name") == CONTAINER
        ),
        message=next((why for status in statuses if (why := _why(status))), ""),
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in status.get("conditions") or []
    )


def _port(pod: Mapping[str, Any]) -> int:
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == CONTAINER:
            for port in container.get("ports") or []:
                return int(port["containerPort"])
    return 8080


def _why(status: Mapping[str, Any]) -> str:
    """The nearest cause: what a process said when it ended, before what Kubernetes says of it."""
    if _is_ready(status):
        return ""
    every = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in every:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            ended = state.get("terminated") or {}
            if ended.get("exitCode"):
                said = _last_line(ended.get("message")) or ended.get("reason") or ""
                return f"{container.get('name')} ended with {ended['exitCode']}: {said}"
    for container in every:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            return f"{container.get('name')} waits, {waiting.get('reason')}: {waiting['message']}"
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            return f"{condition.get('type')} is False: {condition['message']}"
    return ""


def _last_line(text: object) -> str:
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else ""
