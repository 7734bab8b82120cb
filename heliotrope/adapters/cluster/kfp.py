"""Kubeflow Pipelines, all of it that Heliotrope uses, behind one door.

kfp = Kfp(KfpOptions.parse(os.environ), compiled, lambda: registry)
kfp.health()                                   # HeliotropeError when it does not answer
version, made = kfp.pipelines.upload(text)     # the content is the newest version now
kfp.schedules.upsert(recurring, version)       # twice does nothing
kfp.runs.start("training.yaml", {...}, key)    # `ports.runs.RunLauncher`
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heliotrope.adapters.cluster.kfp_link import KfpLink
from heliotrope.adapters.cluster.kfp_options import KfpOptions
from heliotrope.adapters.cluster.kfp_pipelines import KfpPipelines, PipelineVersion
from heliotrope.adapters.cluster.kfp_runs import KfpRuns
from heliotrope.adapters.cluster.kfp_schedules import KfpSchedules, ScheduleAction, SchedulePlan
from heliotrope.ports.registry import Registry
from heliotrope.service.recurring import names_of

__all__ = [
    "Kfp",
    "KfpHealth",
    "KfpOptions",
    "PipelineVersion",
    "ScheduleAction",
    "SchedulePlan",
]


@dataclass(frozen=True)
class KfpHealth:
    """What KFP says of itself."""

    multi_user: bool
    """Whether it wants a namespace and a token."""
    pipeline_store: str
    """`database`, or `kubernetes` where pipelines are objects of the cluster."""


class Kfp:
    """One KFP.

    Args:
        options: where it is.
        compiled: folder of the compiled pipelines.
        registry: MLflow, where the steps of runs write; called when a run's log is asked for.
    """

    def __init__(
        self, options: KfpOptions, compiled: Path, registry: Callable[[], Registry]
    ) -> None:
        self.options = options
        self._link = KfpLink(options)
        self.pipelines = KfpPipelines(self._link)
        """Uploaded, found, deleted."""
        self.schedules = KfpSchedules(self._link)
        """Recurring runs: `plan`, `apply`, `upsert`, `disable`, `delete`."""
        self.runs = KfpRuns(self._link, compiled, registry)
        """Started once a key, listed, terminated."""

    def health(self) -> KfpHealth:
        """Ask whether it is there.

        Raises:
            UnavailableError: it does not answer.
        """
        found = self._link.get("/healthz")
        return KfpHealth(bool(found.get("multi_user")), str(found.get("pipeline_store", "")))

    def remove_model(self, model: str, *, keep: bool = False) -> int:
        """What `destroy` does of a model: its recurring runs go, or with `keep` are switched off.

        Pipelines stay, since other models run them; `pipelines.delete` removes one. Runs stay too:
        they are the record of what was done.
        """
        act = self.schedules.disable if keep else self.schedules.delete
        return sum(act(name) for name in names_of(model))

    def close(self) -> None:
        """Close the connections."""
        self._link.close()
