"""Where Kubeflow Pipelines is, parsed once from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from heliotrope import vocabulary as names
from heliotrope.errors import UsageError

DEFAULT_URL = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
"""The API server's Service, as KFP installs it."""
DEFAULT_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where a projected token of the audience `pipelines.kubeflow.org` is mounted."""


@dataclass(frozen=True)
class KfpOptions:
    """One KFP, as this process sees it.

    >>> KfpOptions.parse({"HELIOTROPE_KFP_URL": "http://localhost:8888/"}).url
    'http://localhost:8888'
    """

    url: str = DEFAULT_URL
    """http(s)://host:port, with a prefix where a gateway has one."""
    namespace: str = ""
    """Of a multi-user installation's profile; empty where KFP serves one user."""
    token_file: Path | None = None
    """Read for each request, since the kubelet renews what is in it; None sends no token."""
    experiment: str = "heliotrope"
    """Holds all runs; made where it is not there."""
    service_account: str = ""
    """That runs use; KFP's own choice when empty."""
    timeout: float = 30.0
    """Seconds that one request may take."""
    patience: float = 20.0
    """Seconds that a silent KFP is asked again."""
    page_size: int = 100

    @classmethod
    def parse(cls, environ: Mapping[str, str], patience: float = 20.0) -> "KfpOptions":
        """Read `HELIOTROPE_KFP_URL`, `_KFP_NAMESPACE`, `_KFP_SERVICE_ACCOUNT` and
        `KF_PIPELINES_SA_TOKEN_PATH`; without the last, the usual place if a token is there.

        Raises:
            UsageError: the URL is none.
        """
        url = (environ.get(names.ENV_KFP_URL) or DEFAULT_URL).rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise UsageError(f"{names.ENV_KFP_URL} must be http(s)://HOST:PORT. Got {url}.")
        if parts.password:
            raise UsageError(f"{names.ENV_KFP_URL} must hold no password: use a token file.")
        told = environ.get(names.ENV_KFP_TOKEN_FILE)
        token = Path(told) if told else DEFAULT_TOKEN if DEFAULT_TOKEN.exists() else None
        return cls(
            url=url,
            namespace=environ.get(names.ENV_KFP_NAMESPACE, ""),
            token_file=token,
            service_account=environ.get(names.ENV_KFP_SERVICE_ACCOUNT, ""),
            patience=patience,
        )
