"""Queries that alerts and dashboards ask often, answered ahead by Prometheus."""

from heliotrope.telemetry import collector_metrics as collector
from heliotrope.telemetry import predictor_metrics as predictor
from heliotrope.telemetry.promql import quantile, rate, selector
from heliotrope.telemetry.rules import RecordingRule

_VERSION = "model, version, role"
_CHAMPION = 'role="champion"'
_REQUESTS = rate(predictor.REQUESTS, _VERSION)
_FAILED = rate(predictor.REQUESTS, _VERSION, 'code=~"5.."')

CHAMPION = RecordingRule(
    "model_version:ml_champion:max5m",
    f"max by (model, version) (max_over_time({selector(predictor.PREDICTOR_INFO, _CHAMPION)}[5m]))",
)
"""1 for the version that is champion now, as the predictors themselves say.

The truth still tells of the last champion, since its labels still come; nobody is to be woken for a
version that was replaced. Five minutes bridge a restart.
"""
PREDICTION_RATE = RecordingRule(
    "model_version_role:ml_predictions:rate5m", rate(predictor.PREDICTIONS, _VERSION)
)
"""Rows a second."""
LIVE_PREDICTION_RATE = RecordingRule(
    "model:ml_predictions:rate5m", rate(predictor.PREDICTIONS, "model", 'role!="shadow"')
)
"""Rows a second that users asked for."""
REQUEST_RATE = RecordingRule("model_version_role:ml_prediction_requests:rate5m", _REQUESTS)
"""Requests a second, of whatever status."""
ERROR_RATIO = RecordingRule(
    "model_version_role:ml_prediction_errors:ratio_rate5m",
    # Where nothing failed there is no series of a 5xx, and the ratio is 0, not unknown.
    f"({_FAILED} or 0 * {_REQUESTS}) / {_REQUESTS}",
)
"""Share of requests answered 5xx."""
LATENCY_P50 = RecordingRule(
    "model_version_role:ml_prediction_latency_seconds:p50_5m",
    quantile(predictor.LATENCY, 0.5, _VERSION),
)
LATENCY_P99 = RecordingRule(
    "model_version_role:ml_prediction_latency_seconds:p99_5m",
    quantile(predictor.LATENCY, 0.99, _VERSION),
)
STORED_RATE = RecordingRule(
    "model_kind:ml_collector_rows:rate5m", rate(collector.ROWS, "model, kind")
)
"""Rows a second that the collector wrote."""

RECORDING_RULES = (
    CHAMPION,
    PREDICTION_RATE,
    LIVE_PREDICTION_RATE,
    REQUEST_RATE,
    ERROR_RATIO,
    LATENCY_P50,
    LATENCY_P99,
    STORED_RATE,
)
