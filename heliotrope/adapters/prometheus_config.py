"""The configuration of Prometheus and Alertmanager, as text: pure, so that it can be tested.

Predictors are found through a file (`file_sd`), which Prometheus watches: a version that comes or
goes changes only that file, and nothing is reloaded.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from heliotrope.errors import UsageError

JOB_PREDICTOR = "heliotrope-predictor"
JOB_COLLECTOR = "heliotrope-collector"
JOB_CONTROLLER = "heliotrope-controller"
JOB_GATEWAY = "heliotrope-gateway"
GATEWAY_METRICS_PATH = "/stats/prometheus"
"""Envoy's, on its admin address."""
RECEIVER = "heliotrope-controller"


@dataclass(frozen=True)
class Scraping:
    """What Prometheus is to look at. Addresses are `host:port`."""

    predictors_file: Path
    """Written with `targets_file`; may be missing until the first predictor runs."""
    collectors: tuple[str, ...]
    controllers: tuple[str, ...]
    gateway: str | None = None
    """Envoy's admin address."""
    rule_files: tuple[Path, ...] = ()
    alertmanager: str | None = None
    interval_seconds: int = 5
    """Between two scrapes, and between two evaluations of the rules; 1 to 15."""
    external_labels: dict[str, str] = field(default_factory=dict)
    """Put on every alert, such as the name of the platform."""


def prometheus_yaml(scraping: Scraping) -> str:
    """The text of prometheus.yml.

    Raises:
        UsageError: the interval is out of bounds.
    """
    every = scraping.interval_seconds
    if not 1 <= every <= 15:
        # Rates over five minutes, which rules and dashboards use, would be too coarse beyond.
        raise UsageError(f"The scrape interval must be from 1 to 15 seconds. Got {every}.")
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": f"{every}s",
            "scrape_timeout": f"{min(every, 10)}s",
            "evaluation_interval": f"{every}s",
            "external_labels": dict(scraping.external_labels),
        },
        "rule_files": [str(path) for path in scraping.rule_files],
        "scrape_configs": list(_jobs(scraping)),
    }
    if scraping.alertmanager is not None:
        config["alerting"] = {"alertmanagers": [_static(scraping.alertmanager)]}
    return _text(config)


def targets_file(addresses: Iterable[str]) -> str:
    """The text of the file that lists predictors (`host:port`), to be replaced atomically.

    >>> targets_file(["127.0.0.1:8080"])
    '[{"targets": ["127.0.0.1:8080"]}]'
    """
    return json.dumps([{"targets": sorted(addresses)}])


def alertmanager_yaml(webhook_url: str, token_file: Path, *, wait_seconds: int = 5) -> str:
    """The text of alertmanager.yml: every alert goes to the controller, which tells people.

    Args:
        webhook_url: the controller's `http://host:port/v1/alerts`.
        token_file: holds the bearer token; read at each call, so that it can be changed.
        wait_seconds: how long alerts of one name and model are collected before they are sent;
            changes of a group are sent this often at most.

    Raises:
        UsageError: the wait is not positive.
    """
    if wait_seconds < 1:
        raise UsageError(f"The wait must be 1 second or more. Got {wait_seconds}.")
    webhook = {
        "url": webhook_url,
        "send_resolved": True,
        "http_config": {
            "authorization": {"type": "Bearer", "credentials_file": str(token_file)},
        },
    }
    return _text(
        {
            "route": {
                "receiver": RECEIVER,
                "group_by": ["alertname", "model"],
                "group_wait": f"{wait_seconds}s",
                "group_interval": f"{wait_seconds}s",
                "repeat_interval": "4h",
            },
            "receivers": [{"name": RECEIVER, "webhook_configs": [webhook]}],
            "inhibit_rules": [
                {
                    # What is below its floor has fallen: one message is enough.
                    "source_matchers": ['alertname="HeliotropeAccuracyBelowFloor"'],
                    "target_matchers": ['alertname="HeliotropeAccuracyFell"'],
                    "equal": ["model", "version"],
                },
                {
                    # A broken column drifts; what is left of the drift is told after it.
                    "source_matchers": ['alertname="HeliotropeDataFault"'],
                    "target_matchers": ['alertname="HeliotropeDataDrifted"'],
                    "equal": ["model"],
                },
            ],
        }
    )


def _jobs(scraping: Scraping) -> Iterable[dict[str, Any]]:
    yield {
        "job_name": JOB_PREDICTOR,
        "file_sd_configs": [
            {"files": [str(scraping.predictors_file)], "refresh_interval": "5s"},
        ],
    }
    yield _job(JOB_COLLECTOR, scraping.collectors)
    yield _job(JOB_CONTROLLER, scraping.controllers)
    if scraping.gateway is not None:
        yield {**_job(JOB_GATEWAY, [scraping.gateway]), "metrics_path": GATEWAY_METRICS_PATH}


def _job(name: str, addresses: Sequence[str]) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": list(addresses)}]}


def _static(address: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [address]}]}


def _text(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)
