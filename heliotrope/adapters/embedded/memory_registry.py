"""Runs and versions in memory and a folder, for simulations: a registry with one writer."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from heliotrope.domain.serving import ServingContract
from heliotrope.errors import ConflictError, NotFoundError, UsageError
from heliotrope.ports import RegisteredVersion
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ARTIFACT_MODEL, ONNX_FILE, SERVING_FILE


@dataclass
class _Run:
    model: str
    tags: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    status: str = "RUNNING"


@dataclass
class MemoryRegistry:
    """A `ports.Registry`. Nothing of it outlives its folder.

    Args:
        folder: where versions' files are.
        now: the clock that versions are dated by.
    """

    folder: Path
    now: Callable[[], datetime]
    _runs: dict[str, _Run] = field(default_factory=dict)
    _versions: dict[str, list[RegisteredVersion]] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], str] = field(default_factory=dict)

    def start_run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        """As the port says; the key is the id."""
        self._runs.setdefault(run_key, _Run(model)).tags.update(tags)
        return run_key

    def find_run(self, run_key: str) -> str | None:
        """As the port says."""
        return run_key if run_key in self._runs else None

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,  # noqa: ARG002 - nobody reads them here
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """As the port says."""
        self._runs[run_id].metrics.update(metrics or {})
        self._runs[run_id].tags.update(tags or {})

    def log_series(self, run_id: str, name: str, values: Sequence[float]) -> None:
        """As the port says; the last value stays."""
        if values:
            self._runs[run_id].metrics[name] = values[-1]

    def log_files(self, run_id: str, folder: Path, to: str) -> None:
        """As the port says; text files only."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.log_text(run_id, path.read_text(), f"{to}/{path.relative_to(folder)}")

    def log_text(self, run_id: str, text: str, to: str) -> None:
        """As the port says."""
        self._runs[run_id].texts[to] = text

    def finish_run(self, run_id: str, status: str) -> None:
        """As the port says."""
        self._runs[run_id].status = status

    def register(
        self,
        spec: ModelSpec,
        run_id: str,
        folder: Path,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        example: Mapping[str, Any],  # noqa: ARG002 - a signature is for other readers
        description: str = "",  # noqa: ARG002 - and so is this
    ) -> RegisteredVersion:
        """As the port says.

        Raises:
            UsageError: the folder lacks a file that is served.
        """
        missing = [name for name in (ONNX_FILE, SERVING_FILE) if not (folder / name).is_file()]
        if missing:
            raise UsageError(f"{folder} must hold {', '.join(missing)}.")
        known = self._versions.setdefault(spec.name, [])
        number = str(len(known) + 1)
        place = self.folder / spec.name / number
        shutil.copytree(folder, place)
        contract = ServingContract.from_json((place / SERVING_FILE).read_bytes())
        named = contract.model_copy(update={"version": number})
        (place / SERVING_FILE).write_text(named.to_json())
        made = RegisteredVersion(
            spec.name, number, run_id, self.now(), (), dict(tags), dict(metrics), True
        )
        known.append(made)
        return made

    def discard_incomplete(self, model: str) -> list[str]:  # noqa: ARG002 - none ever is
        """As the port says."""
        return []

    def settle(self, model: str, below: str, timeout: float = 60.0) -> bool:  # noqa: ARG002
        """As the port says; there is one writer."""
        return True

    def tag_version(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """As the port says."""
        place = self._place(model, version)
        known = self._versions[model][place]
        self._versions[model][place] = replace(known, tags={**known.tags, **tags})

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """As the port says."""
        self._place(model, version)
        self._aliases[model, alias] = version

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """As the port says."""
        named = self._aliases.get((model, alias))
        return None if named is None else self.version(model, named)

    def version(self, model: str, version: str) -> RegisteredVersion:
        """As the port says."""
        known = self._versions[model][self._place(model, version)] if model in self._versions else (
            self._none(model)
        )  # fmt: skip
        names = (a for (m, a), v in self._aliases.items() if (m, v) == (model, known.version))
        return replace(known, aliases=tuple(sorted(names)))

    def versions(self, model: str) -> list[RegisteredVersion]:
        """As the port says."""
        return [self.version(model, v.version) for v in reversed(self._versions.get(model, []))]

    def models(self) -> list[str]:
        """As the port says."""
        return sorted(self._versions)

    def download(self, version: RegisteredVersion, to: Path) -> Path:
        """As the port says."""
        if to.exists() and any(to.iterdir()):
            raise ConflictError(f"{to} must be empty. It is not.")
        shutil.copytree(self.folder / version.model / version.version, to, dirs_exist_ok=True)
        return to

    def list_files(self, run_id: str, folder: str = "") -> list[str]:
        """As the port says."""
        head = f"{folder}/" if folder else ""
        names = [name for name in self._runs[run_id].texts if name.startswith(head)]
        return sorted({head + name.removeprefix(head).split("/")[0] for name in names})

    def read_text(self, run_id: str, path: str) -> str:
        """As the port says."""
        texts = self._runs[run_id].texts
        if path not in texts:
            there = ", ".join(sorted(texts)) or "nothing"
            raise NotFoundError(f"run {run_id} must hold {path}. It holds: {there}.")
        return texts[path]

    def artifact_uri(self, version: RegisteredVersion) -> str:
        """As the port says."""
        return (self.folder / version.model / version.version).resolve().as_uri()

    def run_url(self, run_id: str) -> str:
        """As the port says; there is no page."""
        return f"memory://runs/{run_id}/{ARTIFACT_MODEL}"

    def _place(self, model: str, version: str) -> int:
        known = self._versions.get(model)
        if known is None:
            raise self._unknown(model)
        for place, one in enumerate(known):
            if one.version == version:
                return place
        there = ", ".join(one.version for one in known)
        raise NotFoundError(f"{model} must have a version {version}. It has: {there}.")

    def _none(self, model: str) -> RegisteredVersion:
        raise self._unknown(model)

    def _unknown(self, model: str) -> NotFoundError:
        there = ", ".join(sorted(self._versions)) or "none"
        return NotFoundError(f"{model!r} must be a registered model. There are: {there}.")
