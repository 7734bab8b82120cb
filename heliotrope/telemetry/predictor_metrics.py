"""The metrics a predictor exposes, part of the one catalogue."""

from heliotrope.telemetry.metric import Metric, MetricType, Owner

LATENCY_BUCKETS = (
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01),
    *(0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds. From a quarter of a millisecond, since a one-row answer takes less than one."""
SCORE_BUCKETS = tuple(round(step * 0.05, 2) for step in range(1, 21))
"""Probabilities in steps of 0.05."""

_VERSION = ("model", "version", "role")

PREDICTOR_INFO = Metric(
    "ml_predictor_info",
    MetricType.GAUGE,
    "Always 1; says which model, version and role this predictor serves, and for which task.",
    Owner.PREDICTOR,
    (*_VERSION, "task"),
)
PREDICTOR_READY = Metric(
    "ml_predictor_ready",
    MetricType.GAUGE,
    "1 while the model is loaded and requests are taken, else 0.",
    Owner.PREDICTOR,
    _VERSION,
)
REQUESTS = Metric(
    "ml_prediction_requests_total",
    MetricType.COUNTER,
    "Prediction requests answered, by protocol (v1, v2, grpc, replay: repeated from the log) and "
    "HTTP status; for gRPC the status that REST would have had.",
    Owner.PREDICTOR,
    (*_VERSION, "protocol", "code"),
)
PREDICTIONS = Metric(
    "ml_predictions_total",
    MetricType.COUNTER,
    "Rows predicted, by outcome: the predicted class, or `value` for regression. Whether it was "
    "correct is known only when labels arrive; see ml_correct_predictions_total.",
    Owner.PREDICTOR,
    ("model", "outcome", "version", "role"),
)
LATENCY = Metric(
    "ml_prediction_latency_seconds",
    MetricType.HISTOGRAM,
    "Time from a whole request's arrival to its answer, of requests that were predicted.",
    Owner.PREDICTOR,
    (*_VERSION, "protocol"),
    "seconds",
    LATENCY_BUCKETS,
)
SCORE = Metric(
    "ml_prediction_score",
    MetricType.HISTOGRAM,
    "Scores of rows: the positive class's probability, or the predicted class's with three or more "
    "classes. Not observed for regression.",
    Owner.PREDICTOR,
    _VERSION,
    "ratio",
    SCORE_BUCKETS,
)
SPOOL_ROWS = Metric(
    "ml_spool_rows",
    MetricType.GAUGE,
    "Predicted rows on local disk, until their file is full and all of it was shipped.",
    Owner.PREDICTOR,
    ("model",),
)
SPOOL_BYTES = Metric(
    "ml_spool_bytes",
    MetricType.GAUGE,
    "Size of the spool on local disk.",
    Owner.PREDICTOR,
    ("model",),
    "bytes",
)
SPOOL_LIMIT = Metric(
    "ml_spool_limit_bytes",
    MetricType.GAUGE,
    "Disk budget of the spool; beyond it the oldest rows are dropped.",
    Owner.PREDICTOR,
    ("model",),
    "bytes",
)
SPOOL_AGE = Metric(
    "ml_spool_oldest_age_seconds",
    MetricType.GAUGE,
    "Age of the oldest row on local disk that no collector has acknowledged; 0 where none waits.",
    Owner.PREDICTOR,
    ("model",),
    "seconds",
)
SPOOL_WRITABLE = Metric(
    "ml_spool_writable",
    MetricType.GAUGE,
    "1 while the spool has a file to write to, else 0.",
    Owner.PREDICTOR,
    ("model",),
)
SPOOL_LOST = Metric(
    "ml_spool_lost_rows_total",
    MetricType.COUNTER,
    "Predicted rows that are not in the spool: budget (the oldest were dropped), write (the disk "
    "refused), deleted (files vanished).",
    Owner.PREDICTOR,
    ("model", "reason"),
)
SPOOL_DAMAGED = Metric(
    "ml_spool_damaged_bytes_total",
    MetricType.COUNTER,
    "Bytes found unreadable at start: torn (a killed process was writing them) or corrupt.",
    Owner.PREDICTOR,
    ("model", "reason"),
    "bytes",
)

PREDICTOR_METRICS: tuple[Metric, ...] = (
    PREDICTOR_INFO,
    PREDICTOR_READY,
    REQUESTS,
    PREDICTIONS,
    LATENCY,
    SCORE,
    SPOOL_ROWS,
    SPOOL_BYTES,
    SPOOL_LIMIT,
    SPOOL_AGE,
    SPOOL_WRITABLE,
    SPOOL_LOST,
    SPOOL_DAMAGED,
)
