"""The catalogue of metrics: what is exposed, by whom, and what it means.

Exporters are instrumented from it by loops, and queries, rules and dashboards are made from it, so
a name is spelled once, in the module of the process that exposes it, and nowhere else.
"""

from heliotrope.telemetry.collector_metrics import COLLECTOR_METRICS
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS
from heliotrope.telemetry.metric import Metric, Owner
from heliotrope.telemetry.predictor_metrics import PREDICTOR_METRICS

CATALOGUE: tuple[Metric, ...] = (*PREDICTOR_METRICS, *COLLECTOR_METRICS, *CONTROLLER_METRICS)


def owned_by(owner: Owner) -> tuple[Metric, ...]:
    """The metrics one kind of process exposes."""
    return tuple(metric for metric in CATALOGUE if metric.owner is owner)
