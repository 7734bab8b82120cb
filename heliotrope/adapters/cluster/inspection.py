"""What `heliotrope doctor` asks of a cluster; `domain.cluster_findings` judges the answers."""

import json
from collections.abc import Callable, Mapping

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import accesses_of
from heliotrope.adapters.cluster.kfp import Kfp
from heliotrope.adapters.cluster.kfp_pipelines import pipeline_name
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.inference_service import (
    ServedAs,
    ServingMode,
    inference_service,
    predictor,
)
from heliotrope.domain.cluster_findings import ClusterFacts, Denied, Told
from heliotrope.errors import HeliotropeError, NotFoundError, RefusedError, UnavailableError
from heliotrope.ports.registry import Registry

KSERVE_NAMESPACE = "kserve"
KSERVE_CONFIG = "inferenceservice-config"
_PROBE = "heliotrope-doctor"


def inspect(
    kube: KubeClient,
    kfp: Kfp,
    registry: Callable[[], Registry],
    values: ServedAs,
    texts: Mapping[str, str],
    mlflow: str,
) -> ClusterFacts:
    """Ask all there is to ask; nothing is changed.

    Args:
        kube: Kubernetes' API, as the account that looks.
        kfp: KFP.
        registry: MLflow.
        values: how models would be served.
        texts: the pipelines that a deployment uploads.
        mlflow: MLflow's address, to be shown; without a password.

    Raises:
        UnavailableError: Kubernetes itself does not answer, or takes no token of ours.
    """
    version, groups = kube.version(), kube.groups()
    return ClusterFacts(
        server=kube.host,
        namespace=kube.namespace,
        kubernetes=version,
        account=str(kube.account),
        mode=values.mode,
        groups=groups,
        canary=_canary(kube, values),
        kserve_config=_asked(lambda: _kserve_config(kube)),
        runtime=_asked(lambda: _runtime(kube, values)),
        predictor=_asked(lambda: _account(kube, values)),
        kfp=_asked(lambda: _kfp(kfp, texts)),
        pipelines=tuple(sorted(pipeline_name(text) for text in texts.values())),
        mlflow=_asked(lambda: _mlflow(registry(), mlflow)),
        denied=_denied(kube, values.mode is ServingMode.KNATIVE),
    )


def _asked(ask: Callable[[], Mapping[str, str] | None]) -> Told:
    try:
        return Told(ask())
    except NotFoundError:
        # The cluster has not even its kind.
        return Told()
    except HeliotropeError as error:
        return Told(trouble=str(error))


def _canary(kube: KubeClient, values: ServedAs) -> Told:
    """By a dry run of an object that has one: CRDs themselves may not be read by everybody."""
    spec = {
        "predictor": predictor(_PROBE, "1", "s3://bucket/key", values, 1),
        "canary": [
            {
                "predictor": predictor(_PROBE, "2", "s3://bucket/other", values, 1),
                "trafficPercent": 0,
            }
        ],
    }
    wanted = inference_service(_PROBE, values, spec)
    try:
        kube.apply(wanted, access.INFERENCE_SERVICE, dry=True)
    except NotFoundError:
        return Told()
    except RefusedError as error:
        return Told() if "canary" in str(error) else Told(trouble=str(error))
    except HeliotropeError as error:
        return Told(trouble=str(error))
    return Told({"taken": "true"})


def _kserve_config(kube: KubeClient) -> Mapping[str, str] | None:
    found = kube.get(access.CONFIG_MAP, KSERVE_CONFIG, namespace=KSERVE_NAMESPACE)
    if found is None:
        return None
    data = found.get("data") or {}
    try:
        deploy, ingress = (json.loads(data.get(key) or "{}") for key in ("deploy", "ingress"))
    except ValueError as error:
        raise UnavailableError(
            f"the ConfigMap {KSERVE_CONFIG} must hold JSON. Got: {error}."
        ) from error
    return {
        "deploymentMode": str(deploy.get("defaultDeploymentMode", "")),
        "gatewayApi": str(ingress.get("enableGatewayApi", False)).lower(),
    }


def _runtime(kube: KubeClient, values: ServedAs) -> Mapping[str, str] | None:
    found = kube.get(access.SERVING_RUNTIME, values.runtime)
    if found is None:
        return None
    containers = (found.get("spec") or {}).get("containers") or [{}]
    return {"name": values.runtime, "image": str(containers[0].get("image", ""))}


def _account(kube: KubeClient, values: ServedAs) -> Mapping[str, str] | None:
    found = kube.get(access.SERVICE_ACCOUNT, values.account)
    if found is None:
        return None
    secrets = ", ".join(str(one.get("name")) for one in found.get("secrets") or [])
    return {**(found["metadata"].get("annotations") or {}), "secrets": secrets}


def _kfp(kfp: Kfp, texts: Mapping[str, str]) -> Mapping[str, str]:
    health = kfp.health()
    newest = [
        pipeline_name(text) for text in texts.values() if kfp.pipelines.current(text) is not None
    ]
    return {
        "url": kfp.options.url,
        "multi_user": str(health.multi_user).lower(),
        "pipelines": " ".join(newest),
    }


def _mlflow(registry: Registry, shown: str) -> Mapping[str, str]:
    return {"url": f"{shown}, {len(registry.models())} models"}


def _denied(kube: KubeClient, knative: bool) -> tuple[Denied, ...]:
    found = []
    for one in accesses_of(kube.account):
        if one.built_in or (one.knative and not knative):
            continue
        allowed, _ = kube.may(one.verb, one.kind.group, one.kind.plural, one.subresource)
        if not allowed:
            found.append(Denied(str(one.verb), one.kind.resource, one.why))
    return tuple(found)
