"""Proof that dashboards and rules work on a real Prometheus: asks each panel what it would show."""

import math
from collections.abc import Iterable

from heliotrope.adapters.prometheus_api import PrometheusApi
from heliotrope.errors import UsageError
from heliotrope.telemetry.panels import PanelQuery


def unanswered(api: PrometheusApi, queries: Iterable[PanelQuery]) -> list[str]:
    """Panels' queries that Prometheus refuses or has no data for, each with why; empty is good.

    Args:
        api: has scraped what the panels are about for a few intervals.
        queries: of `heliotrope.telemetry.panels.asked`.

    Raises:
        UnavailableError: Prometheus does not answer.
    """
    missing = []
    for query in queries:
        try:
            # What is not a number is drawn as nothing.
            if all(math.isnan(sample.value) for sample in api.query(query.expr)):
                missing.append(f"{query}: no data")
        except UsageError as error:
            missing.append(f"{query}: {error}")
    return missing


def broken_rules(api: PrometheusApi) -> list[str]:
    """Rules whose last evaluation failed, each with why; those not yet evaluated count too."""
    return [
        f"{rule.group} / {rule.name}: {rule.health} {rule.error}".rstrip()
        for rule in api.rules()
        if rule.health != "ok"
    ]
