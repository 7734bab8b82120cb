"""What a case of an alert is: series, a moment, and whether it fires then; promtool runs them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.rules import HEADER, AlertRule


@dataclass(frozen=True)
class Fires:
    """What an alert must say."""

    labels: dict[str, str]
    """Those of its expression; the rule's own are added."""
    summary: str
    """As a person reads it."""


@dataclass(frozen=True)
class Case:
    """An alert in one situation."""

    alert: AlertRule
    name: str
    """The situation, in a few words."""
    series: tuple[tuple[str, str], ...]
    """Series and their values, one a minute, in promtool's notation (`0+5x10`, `_` is none)."""
    fires: Fires | None = None
    """None: it must not."""
    at: str = "20m"
    """When it is asked."""


def row(metric: Metric, values: str | float, suffix: str = "", /, **labels: str) -> tuple[str, str]:
    """A series of a case; a number stays for an hour.

    Raises:
        ValueError: the labels are not the metric's (scrape labels and `le` may be there).
    """
    ours = set(labels) - {"instance", "job", "le"}
    if ours != set(metric.labels):
        raise ValueError(f"{metric.name} must have the labels {metric.labels}. Got {labels}.")
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    shown = values if isinstance(values, str) else f"{values}x60"
    return f"{metric.name}{suffix}{{{text}}}", shown


def cases_yaml(cases: Iterable[Case], rule_files: Sequence[str]) -> str:
    """The text of a file for `promtool test rules`."""
    return HEADER + yaml.safe_dump(
        {
            "rule_files": list(rule_files),
            "evaluation_interval": "1m",
            "tests": [_test(case) for case in cases],
        },
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def _test(case: Case) -> dict[str, Any]:
    expected = []
    if case.fires is not None:
        annotations = {
            "summary": case.fires.summary,
            "description": case.alert.description,
            "runbook_url": case.alert.runbook_url,
        }
        labels = {**case.fires.labels, **case.alert.all_labels}
        expected = [{"exp_labels": labels, "exp_annotations": annotations}]
    return {
        "name": f"{case.alert.name}: {case.name}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert.name, "exp_alerts": expected}
        ],
    }
