"""The registry port on MLflow 3: versions that are whole or not there.

How a version comes to be, each step safe to repeat:
1. an MLflow logged model, PENDING, and all files but serving.json;
2. a model version tagged `registering`, with a token and who is at it;
3. serving.json, which can only now carry the version's number, so that the folder alone tells a
   predictor what it serves; every file is thus written once, and the folder never changes;
4. the logged model READY, and last the tag `complete`, which is what makes it visible.

An exception on the way takes all of it back. A killed process leaves a `registering` version that
nobody is shown and that `discard_incomplete` deletes once its registrar is dead.
MLflow has no transactions over these calls and no locks. What it does guarantee: version numbers
are unique and rise in order of creation, a deleted number is never used again, and an alias points
at one version.
"""

import json
import tempfile
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import stamina

from heliotrope.adapters.mlflow_folder import compose, versioned_contract
from heliotrope.adapters.mlflow_link import MlflowLink
from heliotrope.adapters.mlflow_runs import chunks, metric_entities, pages
from heliotrope.adapters.mlflow_versions import TAG_METRICS, MlflowVersions
from heliotrope.adapters.registrar import Registrar, abandoned
from heliotrope.errors import HeliotropeError
from heliotrope.ports import RegisteredVersion
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import (
    ARTIFACT_MODEL,
    SERVING_FILE,
    STATE_COMPLETE,
    STATE_REGISTERING,
    TAG_MODEL,
    TAG_PREFIX,
    TAG_STATE,
)

TAG_TOKEN = TAG_PREFIX + "token"
TAG_REGISTRAR = TAG_PREFIX + "registrar"
TAG_LOGGED_MODEL = TAG_PREFIX + "logged_model"
_UNDO_PATIENCE = 3.0
_IN_FLIGHT: set[str] = set()
"""Tokens of the registrations that this process is at."""


class MlflowRegistry(MlflowVersions):
    """Runs and model versions in one MLflow.

    Args:
        tracking_uri: sqlite:///path, or http(s)://host:port of a tracking server.
        artifact_root: where new experiments keep their files. Beside the database for SQLite;
            the server's own choice otherwise.
        patience: seconds one call is retried while MLflow does not answer.
        timeout: seconds one HTTP request may be silent.
        stale_after: how long a registration on another machine may take before
            `discard_incomplete` takes it for dead.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifact_root: str | None = None,
        *,
        patience: float = 20.0,
        timeout: int = 30,
        stale_after: timedelta = timedelta(hours=1),
    ) -> None:
        link = MlflowLink(tracking_uri, patience=patience, timeout=timeout)
        if artifact_root is None and link.database is not None:
            artifact_root = str(link.database.resolve().parent / "mlartifacts")
        super().__init__(link, artifact_root)
        self._stale_after = stale_after

    def register(
        self,
        spec: ModelSpec,
        run_id: str,
        folder: Path,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        example: Mapping[str, Any],
        description: str = "",
    ) -> RegisteredVersion:
        """Register a model folder as a new version, without an alias: whole, or not at all.

        Raises:
            UsageError: the folder or the example is not what it must be.
            UnavailableError: MLflow went away; what was begun is gone, or is never shown and is
                removed by the next `discard_incomplete`.
        """
        name, token = spec.name, uuid.uuid4().hex
        marks = {TAG_TOKEN: token, TAG_REGISTRAR: str(Registrar.current()), TAG_MODEL: name}
        _IN_FLIGHT.add(token)
        try:
            self._ensure_model(spec)
            model_id = self._begin(name, run_id, folder, marks, example)
            numbers = json.dumps(dict(metrics), sort_keys=True)
            version = self._create(
                name,
                model_id,
                run_id,
                {**tags, **marks, TAG_METRICS: numbers, TAG_LOGGED_MODEL: model_id},
                description,
            )
            self._finish(name, version, model_id, run_id, folder, metrics)
            return self.version(name, version)
        except BaseException as error:
            self._undo(name, token, error)
            raise
        finally:
            _IN_FLIGHT.discard(token)

    def _ensure_model(self, spec: ModelSpec) -> None:
        def ask(client: Any) -> None:
            from mlflow.exceptions import MlflowException

            try:
                client.create_registered_model(
                    spec.name, tags={TAG_MODEL: spec.name}, description=spec.description or None
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

        self._link.call("name the model", ask)

    def _begin(
        self,
        name: str,
        run_id: str,
        folder: Path,
        marks: dict[str, str],
        example: Mapping[str, Any],
    ) -> str:
        experiment = self._experiment(name)
        logged = self._link.call(
            "begin a model",
            lambda c: c.create_logged_model(
                experiment,
                name=ARTIFACT_MODEL,
                source_run_id=run_id,
                tags={**marks, TAG_STATE: STATE_REGISTERING},
                model_type="heliotrope",
            ),
        )
        model_id = str(logged.model_id)
        with tempfile.TemporaryDirectory() as scratch:
            ready = Path(scratch) / ARTIFACT_MODEL
            compose(folder, ready, example, run_id, model_id)
            self._link.call(
                "store the model", lambda c: c.log_model_artifacts(model_id, str(ready))
            )
        return model_id

    def _create(
        self, name: str, model_id: str, run_id: str, tags: dict[str, str], description: str
    ) -> str:
        def ask(client: Any) -> str:
            # The answer to an earlier attempt may have been lost after the version was made.
            for made in self._by_token(client, name, tags[TAG_TOKEN]):
                return str(made.version)
            made = client.create_model_version(
                name,
                client.get_logged_model(model_id).artifact_location,
                run_id,
                tags={**tags, TAG_STATE: STATE_REGISTERING},
                description=description or None,
                await_creation_for=0,
                model_id=model_id,
            )
            return str(made.version)

        return self._link.call("create a version", ask)

    def _finish(
        self,
        name: str,
        version: str,
        model_id: str,
        run_id: str,
        folder: Path,
        metrics: Mapping[str, float],
    ) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            contract = Path(scratch) / SERVING_FILE
            contract.write_text(versioned_contract(folder, version), encoding="utf-8")
            self._link.call(
                "store the serving contract",
                lambda c: c.log_model_artifact(model_id, str(contract)),
            )
        for part in chunks(metric_entities(metrics, model_id), 1000):
            self._batch(run_id, metrics=part)
        self._link.call("end the model", lambda c: c.finalize_logged_model(model_id, "READY"))
        state = {TAG_STATE: STATE_COMPLETE, TAG_PREFIX + "version": version}
        self._link.call("end the model", lambda c: c.set_logged_model_tags(model_id, state))
        self._tag(name, version, TAG_STATE, STATE_COMPLETE)

    def _undo(self, name: str, token: str, error: BaseException) -> None:
        try:
            self._link.call(
                "take back the version", lambda c: self._drop(c, name, token), _UNDO_PATIENCE
            )
        except HeliotropeError as problem:
            error.add_note(
                f"What was begun of {name} could not be taken back now ({problem}); it is never "
                "shown, and the next training removes it."
            )

    def _drop(self, client: Any, name: str, token: str) -> None:
        for made in self._by_token(client, name, token):
            client.delete_model_version(name, str(made.version))
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            for logged in _logged_models(client, experiment.experiment_id, TAG_TOKEN, token):
                client.delete_logged_model(logged.model_id)

    @staticmethod
    def _by_token(client: Any, name: str, token: str) -> list[Any]:
        query = f"name = '{name}' and tags.`{TAG_TOKEN}` = '{token}'"
        return list(pages(client.search_model_versions, filter_string=query))

    def discard_incomplete(self, model: str) -> list[str]:
        """Delete what killed registrations left behind; answers the version numbers.

        A registration that another living process is at is left alone.
        """
        dropped = []
        for version in self._all(model):
            if version.tags.get(TAG_STATE) == STATE_REGISTERING and self._abandoned(
                version.tags, version.created_at
            ):
                token = version.tags.get(TAG_TOKEN, "")
                self._link.call("drop a version", partial(self._drop, name=model, token=token))
                dropped.append(version.version)
        self._link.call("drop pending models", lambda c: self._drop_pending(c, model))
        return dropped

    def _drop_pending(self, client: Any, model: str) -> None:
        experiment = client.get_experiment_by_name(model)
        if experiment is None:
            return
        found = _logged_models(client, experiment.experiment_id, TAG_STATE, STATE_REGISTERING)
        for logged in found:
            began = datetime.fromtimestamp(logged.creation_timestamp / 1000, UTC)
            if self._abandoned(logged.tags, began):
                client.delete_logged_model(logged.model_id)

    def _abandoned(self, tags: Mapping[str, str], began: datetime) -> bool:
        registrar = Registrar.parse(tags.get(TAG_REGISTRAR, ""))
        in_flight = tags.get(TAG_TOKEN) in _IN_FLIGHT
        return abandoned(registrar, in_flight, began, datetime.now(UTC), self._stale_after)

    def settle(self, model: str, below: str, timeout: float = 60.0) -> bool:
        """Wait until no living process is at a version with a lower number.

        Answers False where one still was after `timeout` seconds.
        """

        class Pending(Exception):
            """Somebody is still at it."""

        try:
            for attempt in stamina.retry_context(
                on=Pending, attempts=None, timeout=timeout, wait_initial=0.2, wait_max=1.0
            ):
                with attempt:
                    if any(
                        v.tags.get(TAG_STATE) == STATE_REGISTERING
                        and int(v.version) < int(below)
                        and not self._abandoned(v.tags, v.created_at)
                        for v in self._all(model)
                    ):
                        raise Pending
        except Pending:
            return False
        return True

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias at a complete version."""
        self.version(model, version)
        self._link.call(
            "set an alias", lambda c: c.set_registered_model_alias(model, alias, version)
        )

    def tag_version(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add tags to a version; none of its other facts can change."""
        for key, value in tags.items():
            self._tag(model, version, key, value)

    def _tag(self, model: str, version: str, key: str, value: str) -> None:
        self._link.call(
            "tag a version", lambda c: c.set_model_version_tag(model, version, key, value)
        )


def _logged_models(client: Any, experiment: str, tag: str, value: str) -> list[Any]:
    query = f"tags.`{tag}` = '{value}'"
    return list(
        pages(client.search_logged_models, experiment_ids=[experiment], filter_string=query)
    )
