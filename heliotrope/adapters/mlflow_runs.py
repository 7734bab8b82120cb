"""The runs half of the registry port: parameters, metrics, curves and files of a training."""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import islice
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from heliotrope.adapters.mlflow_link import MlflowLink, locked
from heliotrope.errors import HeliotropeError, NotFoundError, UsageError
from heliotrope.vocabulary import TAG_MODEL, TAG_RUN_KEY

_ILLEGAL = re.compile(r"[^\w\-. :/]")
_TAG_LIMIT = 8000
_PARAM_LIMIT = 6000
STATUSES = ("FINISHED", "FAILED", "KILLED")
Item = TypeVar("Item")


class MlflowRuns:
    """Runs of training, one MLflow experiment a model.

    Args:
        link: the server or database.
        artifact_root: where a *new* experiment keeps its files; the server's choice when None.
    """

    def __init__(self, link: MlflowLink, artifact_root: str | None) -> None:
        self._link = link
        self._root = artifact_root

    def start_run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        """Id of the run of this key, created if it is not there. Idempotent.

        Two processes that start the same key at the same moment agree on the older run.
        """
        experiment = self._experiment(model)
        with self._embedded_lock():
            found = self._oldest(run_key, [experiment])
            if found:
                return found
            marks = {**_clip(tags), TAG_RUN_KEY: run_key, TAG_MODEL: model}
            created: str = self._link.call(
                "start a run",
                lambda c: c.create_run(experiment, tags=marks, run_name=run_key).info.run_id,
            )
        oldest = self._oldest(run_key, [experiment]) or created
        if oldest != created:
            self._link.call("drop the younger run", lambda c: c.delete_run(created))
        return oldest

    def find_run(self, run_key: str) -> str | None:
        """Id of the run of this key."""
        experiments = self._link.call(
            "list experiments",
            lambda c: [e.experiment_id for e in pages(c.search_experiments)],
        )
        return self._oldest(run_key, experiments) if experiments else None

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run; non-finite metrics are left out, names get the characters MLflow takes.

        Raises:
            HeliotropeError: a parameter was logged before with another value.
        """
        from mlflow.entities import Param, RunTag

        entries = [Param(_name(k), str(v)[:_PARAM_LIMIT]) for k, v in (params or {}).items()]
        marks = [RunTag(k, v) for k, v in _clip(tags or {}).items()]
        for part in chunks(entries, 100):
            self._batch(run_id, params=part)
        for part in chunks(metric_entities(metrics or {}), 1000):
            self._batch(run_id, metrics=part)
        for part in chunks(marks, 100):
            self._batch(run_id, tags=part)

    def log_series(self, run_id: str, name: str, values: Sequence[float]) -> None:
        """A metric by step (a training curve)."""
        from mlflow.entities import Metric

        now = _millis()
        points = [
            Metric(_name(name), float(v), now, step) for step, v in enumerate(values) if isfinite(v)
        ]
        for part in chunks(points, 1000):
            self._batch(run_id, metrics=part)

    def log_files(self, run_id: str, folder: Path, to: str) -> None:
        """Upload a folder's files under an artifact path."""
        if not folder.is_dir():
            raise NotFoundError(f"The folder to upload must exist. Got {folder}.")
        self._link.call("store files", lambda c: c.log_artifacts(run_id, str(folder), to or None))

    def log_text(self, run_id: str, text: str, to: str) -> None:
        """Upload one text file."""
        self._link.call("store a file", lambda c: c.log_text(run_id, text, to))

    def finish_run(self, run_id: str, status: str) -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        if status not in STATUSES:
            raise HeliotropeError(f"A run's status must be one of {STATUSES}. Got {status!r}.")
        self._link.call("end a run", lambda c: c.set_terminated(run_id, status))

    def read_text(self, run_id: str, path: str) -> str:
        """One text artifact of a run; NotFoundError if it is not there, with what is beside it."""
        beside = self.list_files(run_id, str(PurePosixPath(path).parent))
        if path not in beside:
            what = ", ".join(beside) or "nothing"
            raise NotFoundError(f"Run {run_id} must have the file {path}. Beside it: {what}.")
        with tempfile.TemporaryDirectory() as scratch:
            where = self._link.call(
                "read a file",
                lambda c: self._artifacts(c, run_id).download_artifacts(path, scratch),
            )
            return Path(where).read_text(encoding="utf-8")

    def list_files(self, run_id: str, folder: str = "") -> list[str]:
        """Paths of a run's artifacts in one folder, folders among them."""
        at = None if folder in ("", ".") else folder
        return self._link.call(
            "list files",
            lambda c: sorted(f.path for f in self._artifacts(c, run_id).list_artifacts(at)),
        )

    def _artifacts(self, client: Any, run_id: str) -> Any:
        # The client's own listing mixes in the run's logged models, and looks those up in
        # whatever tracking URI the process has as its default.
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(uri, self._link.uri)

    def run_url(self, run_id: str) -> str:
        """Where a person sees the run; without a server, the page within `heliotrope ui`."""
        run = self._link.call("find a run", lambda c: c.get_run(run_id))
        page = f"/#/experiments/{run.info.experiment_id}/runs/{run_id}"
        return (
            self._link.shown.rstrip("/") + page
            if self._link.remote
            else f"{page[1:]} of `heliotrope ui`"
        )

    def _batch(self, run_id: str, **what: Any) -> None:
        self._link.call("log to a run", lambda c: c.log_batch(run_id, **what))

    def _experiment(self, model: str) -> str:
        def ask(client: Any) -> str:
            from mlflow.exceptions import MlflowException

            found = client.get_experiment_by_name(model)
            if found is None:
                where = f"{self._root.rstrip('/')}/{model}" if self._root else None
                try:
                    made: str = client.create_experiment(model, artifact_location=where)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = client.get_experiment_by_name(model)
                else:
                    return made
            if found.lifecycle_stage != "active":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)

        return self._link.call("find the experiment", ask)

    def _oldest(self, run_key: str, experiments: list[str]) -> str | None:
        if "'" in run_key:
            raise UsageError(f"A run key must hold no quote. Got {run_key!r}.")
        found = self._link.call(
            "find the run",
            lambda c: list(
                c.search_runs(experiments, f"tags.`{TAG_RUN_KEY}` = '{run_key}'", max_results=100)
            ),
        )
        runs = sorted((r.info.start_time, r.info.run_id) for r in found)
        return runs[0][1] if runs else None

    def _embedded_lock(self) -> AbstractContextManager[None]:
        database = self._link.database
        return (
            locked(database.with_name(database.name + ".runs.lock")) if database else nullcontext()
        )


def pages(search: Any, **query: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token, **query)
        yield from page
        token = page.token
        if not token:
            return


def chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    stream: Iterable[Item] = iter(items)
    while part := list(islice(stream, size)):
        yield part


def metric_entities(values: Mapping[str, float], model_id: str | None = None) -> list[Any]:
    from mlflow.entities import Metric

    now = _millis()
    return [
        Metric(_name(name), float(value), now, 0, model_id=model_id)
        for name, value in values.items()
        if isfinite(value)
    ]


def _name(name: str) -> str:
    return _ILLEGAL.sub("_", name)[:250]


def _clip(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value)[:_TAG_LIMIT] for key, value in tags.items()}


def _millis() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
