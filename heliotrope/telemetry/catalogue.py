"""The catalogue of metrics: what is exposed, by whom, and what it means.

Exporters are instrumented from it by loops, and queries, rules and dashboards are made from it, so
a name is spelled once, in the module of the process that exposes it, and nowhere else.
"""

from heliotrope.telemetry.collector_metrics import COLLECTOR_METRICS
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS
from heliotrope.telemetry.metric import Metric, Owner
from heliotrope.telemetry.predictor_metrics import PREDICTOR_METRICS

CATALOGUE: tuple[Metric, ...] = (*PREDICTOR_METRICS, *COLLECTOR_METRICS, *CONTROLLER_METRICS)

LABELS: dict[str, str] = {
    "model": "one a spec",
    "version": "those that are served, and the last ones that were",
    "role": "champion, canary, shadow",
    "task": "binary, multiclass, regression",
    "protocol": "v1, v2, grpc, replay",
    "code": "HTTP statuses that are answered, about ten",
    "outcome": "classes of the model, or a handful of ends",
    "reason": "a handful, each named in HELP",
    "route": "spools, labels, models",
    "kind": "predictions, labels",
    "slice": "those of the spec, with their values",
    "metric": "those of the spec",
    "quantile": "0.5, 0.9, 0.99",
    "duty": "those of the controller, some of them once for each model",
    "alert": "rules of Prometheus that are known here; any other is `other`",
    "status": "firing, resolved",
    "alarm": "tests of the controller's own",
    "feature": "those of the spec",
    "verdict": "PASS, HOLD, FAIL, ERROR",
    "cause": "causes of a retraining",
    "decision": "answers to one who asks for a retraining",
    "state": "states of a rollout",
}
"""Every label there is, and what keeps its values few. Nothing a caller chooses is ever one."""


def owned_by(owner: Owner) -> tuple[Metric, ...]:
    """The metrics one kind of process exposes."""
    return tuple(metric for metric in CATALOGUE if metric.owner is owner)
