"""The adapters of a cluster: KServe serves, KFP runs, a Lease is the lock.

All else (MLflow, SQL, Delta, what trains and judges) is chosen by settings as on one machine.
"""

import socket
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from heliotrope.bootstrap import CHECKOUT, Platform
from heliotrope.settings import Settings
from heliotrope.vocabulary import ENV_IMAGE, LEASE_CONTROLLER

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from heliotrope.adapters.cluster.kfp import Kfp
    from heliotrope.adapters.cluster.kube import KubeClient
    from heliotrope.adapters.cluster.watched_objects import WatchedObjects
    from heliotrope.adapters.inference_service import ServedAs
    from heliotrope.adapters.scrape_watch import ScrapeWatch
    from heliotrope.domain.cluster_findings import ClusterFacts
    from heliotrope.ports.deploying import DeployPart
    from heliotrope.ports.runs import Runs
    from heliotrope.ports.serving import Serving
    from heliotrope.service.controller import Lock
    from heliotrope.spec import ModelSpec


class ClusterPlatform(Platform):
    """The parts of one namespace of a cluster, each made when first asked for.

    Args:
        settings: where things are.
        environ: says more of KFP, and the image of pipeline steps.
        account: in whose name Kubernetes is asked.
        kube: Kubernetes' API; by the pod's token or KUBECONFIG when left out.
        serving: what serves; KServe as `settings` say when left out.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        account: str = "deployer",
        kube: "KubeClient | None" = None,
        serving: "Serving | None" = None,
    ) -> None:
        super().__init__(settings)
        self._environ, self._account, self._kube = dict(environ), account, kube
        if serving is not None:
            self.serving = serving

    @cached_property
    def kube(self) -> "KubeClient":
        """Kubernetes' API."""
        from heliotrope.adapters.cluster.access import Account
        from heliotrope.adapters.cluster.kube_login import connect

        if self._kube is not None:
            return self._kube
        named = self.settings.cluster.namespace
        return connect(Account(self._account), named, patience=self.settings.patience)

    @cached_property
    def watched(self) -> "WatchedObjects | None":
        """Copies of what the namespace holds, for the account that looks at all models for ever."""
        from heliotrope.adapters.cluster import access
        from heliotrope.adapters.cluster.kserve_looking import served_kinds
        from heliotrope.adapters.cluster.watched_objects import WatchedObjects

        if access.granted(access.Account(self._account), access.Verb.WATCH, access.POD) is None:
            return None
        return WatchedObjects(self.kube, served_kinds(self.settings.cluster.mode))

    @cached_property
    def kfp(self) -> "Kfp":
        """Kubeflow Pipelines."""
        from heliotrope.adapters.cluster.kfp import Kfp, KfpOptions

        options = KfpOptions.parse(self._environ, self.settings.patience)
        return Kfp(options, CHECKOUT / "pipelines" / "compiled", lambda: self.registry)

    @property
    def served_as(self) -> "ServedAs":
        """What all versions of this installation have in common."""
        from heliotrope.adapters.inference_service import ServedAs

        cluster = self.settings.cluster
        return ServedAs(cluster.mode, self.kube.namespace, replicas=cluster.replicas)

    @cached_property
    def serving(self) -> "Serving":
        """KServe."""
        from heliotrope.adapters.cluster.kserve import KServeServing

        return KServeServing(self.kube, self.served_as, self._artifact_uri, watched=self.watched)

    @cached_property
    def runs(self) -> "Runs":
        """KFP's runs."""
        from heliotrope.adapters.cluster.watched_runs import WatchedRuns

        return WatchedRuns(self.kfp.runs)

    @cached_property
    def traffic(self) -> "ScrapeWatch":
        """Requests by version, as every pod counts them.

        Not from Prometheus: a rollout then needs no other system, and no scrape interval passes
        before a breach is seen.
        """
        from heliotrope.adapters.cluster.pods import pods_of
        from heliotrope.adapters.scrape_watch import ScrapeWatch

        reader = self.watched or self.kube
        return ScrapeWatch(self.serving, instances=lambda model: pods_of(reader, model))

    @cached_property
    def lock(self) -> "Lock":
        """A Lease of the namespace."""
        from heliotrope.adapters.cluster.lease import LeaseLock

        # In a pod, the host's name is the pod's.
        return LeaseLock(self.kube, LEASE_CONTROLLER, socket.gethostname())

    @property
    def shown(self) -> str:
        """The namespace."""
        return f"namespace {self.kube.namespace} at {self.kube.host}"

    def deployed_specs(self) -> dict[str, str]:
        """The specs that `heliotrope deploy` put into the namespace."""
        from heliotrope.adapters.cluster.deploy_objects import deployed_specs

        return deployed_specs(self.kube)

    def deployment(
        self, spec: "ModelSpec", now: "Callable[[], datetime]", image: str | None = None
    ) -> "list[DeployPart]":
        """What makes a model run here, in order.

        Args:
            spec: of the model.
            now: the clock.
            image: of the pipelines' steps; HELIOTROPE_IMAGE, or as they were compiled, without.
        """
        from heliotrope.adapters.cluster.deploy_objects import FirstServing, SpecMap
        from heliotrope.adapters.cluster.deploy_pipelines import compiled_texts, pipeline_parts
        from heliotrope.service.drift_duty import SETTLE

        wanted = image or self._environ.get(ENV_IMAGE) or None
        texts = compiled_texts(CHECKOUT / "pipelines" / "compiled", wanted)
        return [
            SpecMap(self.kube, spec),
            *pipeline_parts(self.kfp, spec, texts, SETTLE),
            FirstServing(self.kube, spec.name, self.serving, lambda: self.registry, now),
        ]

    def removal(self, model: str) -> "list[DeployPart]":
        """What takes a model away again, in order: first that by which it would be put back."""
        from heliotrope.adapters.cluster.deploy_objects import object_removals
        from heliotrope.adapters.cluster.deploy_pipelines import (
            compiled_texts,
            pipeline_removals,
            schedule_removals,
        )

        def others() -> list[str]:
            return sorted(name for name in self.deployed_specs() if name != model)

        spec, *objects = object_removals(self.kube, model)
        texts = compiled_texts(CHECKOUT / "pipelines" / "compiled", None)
        return [
            spec,
            *schedule_removals(self.kfp, model),
            *pipeline_removals(self.kfp, texts, others),
            *objects,
        ]

    def inspect(self) -> "ClusterFacts":
        """What the cluster has and lacks.

        Raises:
            UnavailableError: Kubernetes does not answer.
        """
        from heliotrope.adapters.cluster.deploy_pipelines import compiled_texts
        from heliotrope.adapters.cluster.inspection import inspect
        from heliotrope.adapters.mlflow_link import mask

        texts = compiled_texts(
            CHECKOUT / "pipelines" / "compiled", self._environ.get(ENV_IMAGE) or None
        )
        shown = mask(self.settings.tracking_uri)
        return inspect(self.kube, self.kfp, lambda: self.registry, self.served_as, texts, shown)

    def close(self) -> None:
        """Let go of connections to Kubernetes and KFP, where there are any."""
        for name in ("watched", "kube", "kfp"):
            if self.__dict__.get(name) is not None:
                self.__dict__[name].close()

    def _artifact_uri(self, model: str, version: str) -> str:
        return self.registry.artifact_uri(self.registry.version(model, version))
