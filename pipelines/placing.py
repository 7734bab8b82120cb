"""What every step of a pipeline is given on a cluster; kfp.local takes no notice of it.

A step gets room, an end, a user that is not root, and what it must know as variables: places from a
ConfigMap, secrets from Secrets, never from parameters, which everybody sees in the UI.
"""

from dataclasses import dataclass

from kfp import dsl, kubernetes

from heliotrope import vocabulary as names

USER = 10001
"""Of our images."""
_MINUTE = 60
_DAY = 24 * 60 * _MINUTE


@dataclass(frozen=True)
class Size:
    """What one kind of step needs."""

    cpu: str
    cpu_limit: str
    memory: str
    memory_limit: str
    seconds: int
    """After which its pod is stopped."""


SMALL = Size("250m", "1", "512Mi", "1Gi", 10 * _MINUTE)
"""Reads and writes documents."""
DATA = Size("500m", "2", "1Gi", "4Gi", 60 * _MINUTE)
"""Goes over the rows, out of core."""
TRAIN = Size("1", "4", "2Gi", "8Gi", 6 * 60 * _MINUTE)
"""Fits: holds the matrix, and is measured against its limit before it starts."""
WATCH = Size("100m", "500m", "512Mi", "1Gi", 30 * _DAY)
"""Waits for a rollout, as long as its steps may take."""

PLACES = (names.ENV_PLACE, names.ENV_STORE, names.ENV_TRACKING)
"""Without these a pod does not start: it would write to a disk that goes with it."""
MORE_PLACES = (
    names.ENV_HOME,
    names.ENV_PATIENCE,
    names.ENV_NAMESPACE,
    names.ENV_KSERVE_MODE,
    names.ENV_REPLICAS,
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "MLFLOW_S3_ENDPOINT_URL",
)
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
LOGIN_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def place(
    task: dsl.PipelineTask, size: Size, *, repeat: bool = True, state: bool = False
) -> dsl.PipelineTask:
    """A step as a cluster runs it, never cached: it writes, or reads what others change.

    Args:
        task: of the pipeline.
        size: what it needs.
        repeat: whether a pod that failed may be run again: a second run of the step must do no
            harm, and help where a node or a peer went away.
        state: whether it reads or writes what the controller remembers.
    """
    task = _bounded(task, size, repeat)
    kubernetes.use_config_map_as_env(task, names.CONFIG_MAP_PLACES, {one: one for one in PLACES})
    kubernetes.use_config_map_as_env(
        task, names.CONFIG_MAP_PLACES, {one: one for one in MORE_PLACES}, optional=True
    )
    for secret, keys in (
        (names.SECRET_STORE, {one: one for one in STORE_KEYS}),
        (names.SECRET_MLFLOW_LOGIN, {one: one for one in LOGIN_KEYS}),
    ):
        kubernetes.use_secret_as_env(task, secret, keys, optional=True)
    if state:
        # Not optional: a step without it would ask an empty database on its own disk.
        kubernetes.use_secret_as_env(
            task, names.SECRET_STATE, {names.SECRET_STATE_KEY: names.ENV_STATE}
        )
    return task.set_caching_options(False)


def place_pure(task: dsl.PipelineTask, size: Size) -> dsl.PipelineTask:
    """A step that only computes: it may be cached, and is told no place and no secret."""
    return _bounded(task, size, True)


def _bounded(task: dsl.PipelineTask, size: Size, repeat: bool) -> dsl.PipelineTask:
    task.set_cpu_request(size.cpu).set_cpu_limit(size.cpu_limit)
    task.set_memory_request(size.memory).set_memory_limit(size.memory_limit)
    kubernetes.set_timeout(task, size.seconds)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "heliotrope")
    if repeat:
        task.set_retry(
            num_retries=3, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s"
        )
    return task
