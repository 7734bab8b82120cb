"""One MLflow server or database: quiet, patient for a bounded time, errors in our own words.

MLflow by itself retries a dead server for minutes, prints links with emoji, reports usage to its
makers and lets two processes migrate one SQLite file at once. Everything that talks to MLflow
goes through `MlflowLink.call`, where that is put right once.
"""

import fcntl
import logging
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import stamina

from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError, UsageError

Answer = TypeVar("Answer")

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
_CREDENTIALS = re.compile(r"(\w[\w+.\-]*://)[^/\s@'\"]+@")
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
_TRANSIENT_CODES = frozenset({"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"})


def mask(text: str) -> str:
    """Hide `user:password@` in every URI of a text.

    >>> mask("https://ada:secret@mlflow.example/api")
    'https://***@mlflow.example/api'
    """
    return _CREDENTIALS.sub(r"\1***@", text)


def quiet_environment() -> dict[str, str]:
    """Variables that silence MLflow in a process of its own: no usage reports, no chatter."""
    return dict(_QUIET)


_IMPORTING = threading.Lock()


def import_mlflow() -> Any:
    """MLflow, quiet, and whole whichever thread asks.

    Its modules import each other in circles, so that of two threads that import it for the first
    time at once one sees a half of it and fails.
    """
    with _IMPORTING:
        os.environ.update(_QUIET)
        import mlflow

        return mlflow


class _Transient(Exception):
    """The peer may answer if asked again; the text is masked since the retry loop logs it."""


class MlflowLink:
    """A client of one tracking URI.

    Args:
        uri: sqlite:///path, http(s)://host[:port] or another database MLflow knows.
        patience: seconds that one call is retried while the peer does not answer.
        timeout: seconds one HTTP request may be silent.

    Raises:
        UsageError: the URI is of a kind that cannot hold a registry.
    """

    def __init__(self, uri: str, *, patience: float = 20.0, timeout: int = 30) -> None:
        scheme = urlsplit(uri).scheme.split("+", 1)[0]
        if scheme not in _SCHEMES:
            raise UsageError(
                "MLFLOW_TRACKING_URI must be sqlite:///path or http(s)://host:port. "
                f"Got {mask(uri)!r}."
            )
        self.uri = uri
        self.shown = mask(uri)
        self.remote = scheme in ("http", "https")
        self._patience = patience
        self._timeout = timeout
        self._client: Any = None

    @property
    def database(self) -> Path | None:
        """The SQLite file, where there is one."""
        name = self.uri.removeprefix("sqlite:///")
        return Path(name) if name != self.uri else None

    @property
    def client(self) -> Any:
        """The `MlflowClient`, made on first use; a SQLite file is made under a lock."""
        if self._client is None:
            # Retrying is done in `call`, bounded and seen; MLflow's own takes minutes.
            os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(self._timeout)
            mlflow = import_mlflow()
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            logging.getLogger("stamina").addHandler(logging.NullHandler())
            with self._first_use():
                client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                if not self.remote:
                    client.search_experiments(max_results=1)
                    client.search_registered_models(max_results=1)
                self._client = client
        return self._client

    @contextmanager
    def _first_use(self) -> Iterator[None]:
        database = self.database
        if database is None:
            yield
            return
        with locked(database.with_name(database.name + ".lock")):
            yield

    def call(
        self, what: str, ask: Callable[[Any], Answer], patience: float | None = None
    ) -> Answer:
        """Ask the client, again while the peer does not answer, for `patience` seconds at most.

        `ask` must be safe to repeat: an answer may be lost after the deed was done.

        Raises:
            UnavailableError: no answer; the message holds the masked address.
            NotFoundError: MLflow says it does not exist.
            HeliotropeError: MLflow refused, in its own words, masked.
        """
        limit = self._patience if patience is None else min(patience, self._patience)
        try:
            for attempt in stamina.retry_context(
                on=_Transient, attempts=None, timeout=limit, wait_initial=0.1, wait_max=2.0
            ):
                with attempt:
                    return self._once(what, ask)
        except _Transient as error:
            raise UnavailableError(
                f"MLflow at {self.shown} must answer to {what}. Got no answer within "
                f"{limit:g} s: {error}"
            ) from None
        raise AssertionError("the retry loop either answers or raises")

    def _once(self, what: str, ask: Callable[[Any], Answer]) -> Answer:
        import_mlflow()
        from mlflow.exceptions import MlflowException
        from requests.exceptions import (  # type: ignore[import-untyped]
            HTTPError,
            RequestException,
        )

        try:
            return ask(self.client)
        except MlflowException as error:
            text = _brief(str(error))
            if self._transient(error):
                raise _Transient(text) from None
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise NotFoundError(f"MLflow at {self.shown} has no such thing: {text}") from None
            raise HeliotropeError(f"MLflow at {self.shown} refused to {what}: {text}") from None
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 503
            text = _brief(str(error))
            if status == 404:
                raise NotFoundError(f"MLflow at {self.shown} has no such file: {text}") from None
            if status >= 500 or status == 429:
                raise _Transient(text) from None
            raise HeliotropeError(f"MLflow at {self.shown} refused to {what}: {text}") from None
        except RequestException as error:
            raise _Transient(_brief(str(error))) from None

    def _transient(self, error: Any) -> bool:
        text = str(error)
        if self.remote:
            lost = "API request to" in text and "exception" in text
            server_broke = error.error_code in _TRANSIENT_CODES or re.search(
                r"error code 50[0234]|failed with error code 429", text
            )
            return lost or bool(server_broke)
        cause = error.__cause__ or error.__context__
        origin = getattr(cause, "orig", None)
        return isinstance(origin, sqlite3.OperationalError) and "locked" in str(origin)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel frees it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _brief(text: str, limit: int = 400) -> str:
    line = " ".join(mask(text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
