"""Whom Kubernetes' API is asked as: a pod's own account, or whom KUBECONFIG names."""

import os
from pathlib import Path

from kubernetes import client, config

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_link import PATIENCE_SECONDS, KubeLink
from heliotrope.errors import UsageError

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(
    account: Account,
    namespace: str | None = None,
    *,
    context: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> KubeClient:
    """A client by the pod's own token where there is one, else by KUBECONFIG.

    Args:
        account: who calls.
        namespace: of everything; without it the pod's own, or the context's.
        context: of the kubeconfig; its current one without.
        patience: seconds that one call is repeated.

    Raises:
        UsageError: neither is there, or the kubeconfig is wrong.
    """
    settings = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=settings)
            own = _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "default"
        except config.ConfigException:
            # The library reads the variable once, when it is imported.
            file = os.environ.get("KUBECONFIG") or None
            config.load_kube_config(file, context=context, client_configuration=settings)
            own = _context_namespace(file, context)
    except (config.ConfigException, OSError, ValueError) as error:
        raise UsageError(
            "KUBECONFIG must name a usable kubeconfig, or this must run in a pod with a service "
            f"account's token. Got: {error}."
        ) from error
    settings.retries = 0
    link = KubeLink(client.ApiClient(settings), account, patience)
    return KubeClient(link, namespace or own)


def _context_namespace(file: str | None, context: str | None) -> str:
    every, current = config.list_kube_config_contexts(file)
    chosen = next((one for one in every if one["name"] == context), current)
    return str((chosen or {}).get("context", {}).get("namespace") or "default")


def client_of(
    host: str,
    account: Account,
    namespace: str,
    *,
    token: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> KubeClient:
    """A client of a plain address, as `kubectl proxy` gives one."""
    settings = client.Configuration()
    settings.host, settings.retries = host, 0
    if token is not None:
        settings.api_key["authorization"] = f"Bearer {token}"
    return KubeClient(KubeLink(client.ApiClient(settings), account, patience), namespace)
