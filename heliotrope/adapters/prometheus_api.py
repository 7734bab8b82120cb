"""Asking a Prometheus: queries, its targets, its rules. By the library's own HTTP."""

import http.client
import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from heliotrope.errors import UnavailableError, UsageError


@dataclass(frozen=True)
class Sample:
    """One series' value at the time that was asked for."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Series:
    """One series over time."""

    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]
    """Seconds since 1970, value; no NaN."""


@dataclass(frozen=True)
class Target:
    """What is scraped."""

    job: str
    url: str
    up: bool
    error: str
    """Of the last scrape; empty when it went well."""


@dataclass(frozen=True)
class Rule:
    """A rule as Prometheus runs it."""

    name: str
    group: str
    alerting: bool
    """An alert; else it records."""
    health: str
    """ok, err, or unknown before its first evaluation."""
    error: str
    state: str
    """Of an alert: inactive, pending, firing."""


class PrometheusApi:
    """One Prometheus, by its HTTP API (prometheus.io/docs/prometheus/latest/querying/api).

    Every method but `ready` raises UnavailableError when there is no usable answer.

    Args:
        url: http://host:port or https://host, with a prefix where it has one.
        timeout: seconds without progress after which it counts as silent.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise UsageError(
                f"Prometheus's address must be http://HOST:PORT or https://HOST. Got {url}."
            )
        self.url = url
        self._parts, self._timeout = parts, timeout

    def query(self, expr: str, at: datetime | None = None) -> list[Sample]:
        """The value of each series, now or at a time; scalars have no labels.

        Raises:
            UsageError: Prometheus does not understand or cannot run the query.
        """
        asked = {"query": expr} | ({} if at is None else {"time": str(at.timestamp())})
        data = self._get("/api/v1/query", asked)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def query_range(
        self, expr: str, since: datetime, until: datetime, step_seconds: float
    ) -> list[Series]:
        """Each series between two times.

        Raises:
            UsageError: Prometheus does not understand or cannot run the query.
        """
        asked = {
            "query": expr,
            "start": str(since.timestamp()),
            "end": str(until.timestamp()),
            "step": str(step_seconds),
        }
        return [
            Series(
                one["metric"],
                tuple(
                    (float(at), float(value))
                    for at, value in one["values"]
                    if not math.isnan(float(value))
                ),
            )
            for one in self._get("/api/v1/query_range", asked)["result"]
        ]

    def targets(self) -> list[Target]:
        """What is scraped, and how the last scrape went."""
        return [
            Target(
                one["labels"].get("job", ""),
                one["scrapeUrl"],
                one["health"] == "up",
                one.get("lastError", ""),
            )
            for one in self._get("/api/v1/targets", {"state": "active"})["activeTargets"]
        ]

    def rules(self) -> list[Rule]:
        """Every rule that is loaded."""
        return [
            Rule(
                rule["name"],
                group["name"],
                rule["type"] == "alerting",
                rule["health"],
                rule.get("lastError", ""),
                rule.get("state", ""),
            )
            for group in self._get("/api/v1/rules", {})["groups"]
            for rule in group["rules"]
        ]

    def ready(self) -> bool:
        """Whether it answers queries; False, too, when nothing listens."""
        try:
            return self._ask("/-/ready")[0] == 200
        except UnavailableError:
            return False

    def _get(self, path: str, asked: dict[str, str]) -> Any:
        status, body = self._ask(f"{path}?{urlencode(asked)}")
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise UnavailableError(
                f"Prometheus at {self.url} must answer in JSON. Got HTTP {status}."
            ) from error
        if status in (400, 422):
            raise UsageError(
                f"Prometheus must be able to run {asked.get('query', path)}. It says: "
                f"{answer.get('error')}."
            )
        if status != 200 or answer.get("status") != "success":
            raise UnavailableError(
                f"Prometheus at {self.url} must answer. Got HTTP {status}: {answer.get('error')}."
            )
        return answer["data"]

    def _ask(self, path: str) -> tuple[int, bytes]:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        link = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            link.request("GET", self._parts.path.rstrip("/") + path)
            reply = link.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"Prometheus at {self.url} must answer. Got {type(error).__name__}: {error}."
            ) from error
        finally:
            link.close()
