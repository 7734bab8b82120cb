"""Where things run, parsed once at the edge from the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from heliotrope import vocabulary as names
from heliotrope.errors import UsageError

DEFAULT_PATIENCE = 20.0
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True)
class ClusterSettings:
    """Where things are on a cluster; KFP's own are in `KfpOptions`."""

    namespace: str | None = None
    """Of the models; None is the pod's own, or the kubeconfig's."""
    mode: names.ServingMode = names.ServingMode.STANDARD
    """How KServe deploys."""
    replicas: int = 1
    """Pods of the version that has the traffic, at least."""


@dataclass(frozen=True)
class Settings:
    """Places, not policies: policies are in the spec.

    >>> Settings.parse({"HELIOTROPE_HOME": "/data"}, Path("/tmp")).tracking_uri
    'sqlite:////data/mlflow.db'
    """

    home: Path
    """State of this machine: run logs, the embedded MLflow, downloaded models."""
    store: str
    """Root of the Delta tables: a folder or s3://bucket/prefix."""
    tracking_uri: str
    """MLflow's."""
    patience: float = DEFAULT_PATIENCE
    """Seconds that MLflow, and the state's database, are asked again while they do not answer."""
    notify: tuple[str, ...] = field(default=(), repr=False)
    """Apprise URLs that people are told at; most hold a secret."""
    place: names.Place = names.Place.EMBEDDED
    """Which adapters are chosen."""
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    """Of no meaning elsewhere."""
    mlflow_backend: str | None = field(default=None, repr=False)
    """URL of the MLflow server's database, where this process may migrate it."""
    state: str | None = field(default=None, repr=False)
    """URL of the controller's database, which may hold a password; None is a file at home."""

    @property
    def state_url(self) -> str:
        """Where the controller's state is, as SQLAlchemy writes it."""
        return self.state or f"sqlite:///{self.home / 'state.db'}"

    @classmethod
    def parse(cls, environ: Mapping[str, str], cwd: Path) -> "Settings":
        """Read `HELIOTROPE_HOME` (./.heliotrope), `HELIOTROPE_STORE`, `HELIOTROPE_STATE`,
        `HELIOTROPE_PATIENCE`, `MLFLOW_TRACKING_URI` and, for a cluster, `HELIOTROPE_PLACE`,
        `HELIOTROPE_NAMESPACE`, `HELIOTROPE_KSERVE_MODE` and `HELIOTROPE_REPLICAS`.

        Raises:
            UsageError: one of them is not what it must be.
        """
        home = Path(environ.get(names.ENV_HOME) or ".heliotrope")
        home = home if home.is_absolute() else cwd / home
        return cls(
            home=home,
            store=environ.get(names.ENV_STORE) or str(home / "store"),
            tracking_uri=environ.get(names.ENV_TRACKING) or f"sqlite:///{home / 'mlflow.db'}",
            patience=_seconds(environ.get(names.ENV_PATIENCE) or str(DEFAULT_PATIENCE)),
            notify=_urls(environ.get(names.ENV_NOTIFY, "")),
            place=_word(names.Place, environ, names.ENV_PLACE, names.Place.EMBEDDED),
            cluster=ClusterSettings(
                namespace=environ.get(names.ENV_NAMESPACE) or None,
                mode=_word(
                    names.ServingMode, environ, names.ENV_KSERVE_MODE, names.ServingMode.STANDARD
                ),
                replicas=_count(environ.get(names.ENV_REPLICAS) or "1"),
            ),
            mlflow_backend=environ.get(names.ENV_MLFLOW_BACKEND) or None,
            state=environ.get(names.ENV_STATE) or None,
        )

    def environment(self) -> dict[str, str]:
        """The variables that hand these settings to a child process."""
        return {
            names.ENV_HOME: str(self.home),
            names.ENV_STORE: self.store,
            names.ENV_TRACKING: self.tracking_uri,
            names.ENV_PATIENCE: f"{self.patience:g}",
            names.ENV_PLACE: str(self.place),
            **({names.ENV_STATE: self.state} if self.state else {}),
            **({names.ENV_NOTIFY: "\n".join(self.notify)} if self.notify else {}),
        }


def _word(kind: type[Word], environ: Mapping[str, str], name: str, default: Word) -> Word:
    said = environ.get(name)
    if not said:
        return default
    known = {str(one).lower(): one for one in kind}
    if said.lower() not in known:
        raise UsageError(f"{name} must be {' or '.join(map(str, kind))}. Got {said!r}.")
    return known[said.lower()]


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise UsageError(f"{names.ENV_REPLICAS} must be from 1 to 1000. Got {text!r}.")
    return int(text)


def _urls(text: str) -> tuple[str, ...]:
    # A comma may be within a URL (mailto://?to=a,b); what follows one is a URL only if it names a
    # scheme.
    parts = re.split(r"[\r\n]+|,(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)", text)
    return tuple(part.strip() for part in parts if part.strip())


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"{names.ENV_PATIENCE} must be seconds, from 0 to 3600. Got {text!r}.")
    return seconds
