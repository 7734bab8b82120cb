"""Pipeline runs in KFP, one for each run key: KFP itself would start as many as it is asked to."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from heliotrope.adapters.cluster.kfp_experiment import KfpExperiment
from heliotrope.adapters.cluster.kfp_link import KfpLink, equals
from heliotrope.adapters.cluster.kfp_pipelines import KfpPipelines, pipeline_name
from heliotrope.adapters.cluster.run_log import RegistryRunLog
from heliotrope.errors import HeliotropeError, NotFoundError
from heliotrope.ports.registry import Registry
from heliotrope.ports.runs import RunState

logger = logging.getLogger(__name__)


class KfpState(StrEnum):
    """What KFP says of a run (`v2beta1RuntimeState`)."""

    UNSPECIFIED = "RUNTIME_STATE_UNSPECIFIED"
    """Just made: the workflow was not looked at yet."""
    PENDING = "PENDING"
    """It waits for its first pod."""
    RUNNING = "RUNNING"
    """A pod runs."""
    SUCCEEDED = "SUCCEEDED"
    """Every task ended well."""
    SKIPPED = "SKIPPED"
    """Nothing was to be done."""
    FAILED = "FAILED"
    """A task failed."""
    CANCELING = "CANCELING"
    """Somebody stopped it; pods may still run."""
    CANCELED = "CANCELED"
    """Somebody stopped it."""
    PAUSED = "PAUSED"
    """Somebody holds it; it can go on."""

    @property
    def over(self) -> bool:
        """Whether no pod of it will ever run again."""
        return self in (KfpState.SUCCEEDED, KfpState.SKIPPED, KfpState.FAILED, KfpState.CANCELED)


@dataclass(frozen=True)
class KfpRun:
    """One run, as KFP lists it."""

    run_id: str
    run_key: str
    state: KfpState
    created_at: str
    """RFC 3339, whole seconds."""

    @property
    def order(self) -> tuple[str, str]:
        """Which of several runs of one key is the one: the least."""
        return self.created_at, self.run_id


class KfpRuns:
    """`ports.runs.RunLauncher` on KFP. Any number of processes may hold one at once.

    Args:
        link: to KFP.
        compiled: folder of the compiled pipelines; only their names are read.
        registry: MLflow, where steps write what the run's log would hold.
    """

    def __init__(self, link: KfpLink, compiled: Path, registry: Callable[[], Registry]) -> None:
        self._link, self._compiled, self._registry = link, compiled, registry
        self._pipelines, self._experiment = KfpPipelines(link), KfpExperiment(link)
        self._logs: dict[str, RegistryRunLog] = {}

    def start(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
    ) -> None:
        """Start a run from the pipeline's newest version, unless this key names one already.

        KFP has no unique names, so it is looked for before, and after: of two who started at the
        same moment, the elder run stays. `state` looks again, should both have missed the other.

        Args:
            pipeline: file name in the compiled folder.
            arguments: of the pipeline; what it does not take is left to its defaults.
            run_key: the run's display name.
            python_path: means nothing here: a model's own trainer module is in the image.

        Raises:
            NotFoundError: the pipeline was not deployed.
            UnavailableError: KFP does not answer; trying again is safe.
            UsageError: KFP refuses the arguments.
        """
        _ = python_path
        experiment = self._experiment.ensure()
        if self.find(run_key):
            return
        version = self._pipelines.newest(self._name(pipeline))
        account = self._link.options.service_account
        self._link.post(
            "/runs",
            {
                "display_name": run_key,
                "experiment_id": experiment,
                "pipeline_version_reference": version.reference,
                "runtime_config": {"parameters": dict(arguments)},
                **({"service_account": account} if account else {}),
            },
            params={"experiment_id": experiment},
        )
        self._settle(self.find(run_key))

    def state(self, run_key: str) -> RunState:
        """How far it has come. ENDED is only what its exit handler told MLflow of.

        Raises:
            UnavailableError: KFP, or for a run that is over MLflow, does not answer.
        """
        run = self._settle(self.find(run_key))
        if run is None:
            return RunState.ABSENT
        if not run.state.over:
            return RunState.RUNNING
        return RunState.ENDED if self.log(run_key).reported() else RunState.DIED

    def log(self, run_key: str) -> RegistryRunLog:
        """What its steps told MLflow."""
        if run_key not in self._logs:
            self._logs[run_key] = RegistryRunLog(run_key, self._registry)
        return self._logs[run_key]

    def find(self, run_key: str) -> list[KfpRun]:
        """Every run of this key, the one that counts first."""
        experiment = self._experiment.find()
        if experiment is None:
            return []
        params = {"experiment_id": experiment, "filter": equals("display_name", run_key)}
        found = (_run(one) for one in self._link.pages("/runs", "runs", params))
        return sorted((one for one in found if one.run_key == run_key), key=lambda one: one.order)

    def everything(self) -> list[KfpRun]:
        """Every run of the experiment, the newest first."""
        experiment = self._experiment.find()
        if experiment is None:
            return []
        params = {"experiment_id": experiment, "sort_by": "created_at desc"}
        return [_run(one) for one in self._link.pages("/runs", "runs", params)]

    def terminate(self, run_key: str) -> bool:
        """Stop a run; False where there is none that still runs."""
        running = [one for one in self.find(run_key) if not one.state.over]
        for one in running:
            self._link.post(f"/runs/{one.run_id}:terminate", repeatable=True)
        return bool(running)

    def _settle(self, found: list[KfpRun]) -> KfpRun | None:
        for surplus in found[1:]:
            logger.warning(
                "%s was started twice at once; run %s goes.", surplus.run_key, surplus.run_id
            )
            self._link.delete(f"/runs/{surplus.run_id}")
        return found[0] if found else None

    def _name(self, pipeline: str) -> str:
        source = self._compiled / pipeline
        try:
            return pipeline_name(source.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise NotFoundError(
                f"The compiled pipeline must be readable at {source}: {error}."
            ) from error


def _run(found: Mapping[str, Any]) -> KfpRun:
    try:
        return KfpRun(
            run_id=str(found["run_id"]),
            run_key=str(found.get("display_name", "")),
            state=KfpState(found.get("state", KfpState.UNSPECIFIED)),
            created_at=str(found.get("created_at", "")),
        )
    except (KeyError, ValueError) as error:
        raise HeliotropeError(
            f"A run in KFP must have an id and a known state. Got {dict(found)!r:.300}."
        ) from error
