"""The metrics a collector exposes, part of the one catalogue."""

from heliotrope.telemetry.metric import Metric, MetricType, Owner

COMMIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; a commit of a small group takes about 0.03."""
AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)
"""Seconds."""

REQUESTS = Metric(
    "ml_collector_requests_total",
    MetricType.COUNTER,
    "Requests answered, by route (spools, labels, models) and HTTP status.",
    Owner.COLLECTOR,
    ("route", "code"),
)
ROWS = Metric(
    "ml_collector_rows_total",
    MetricType.COUNTER,
    "Rows written to the store, by kind (predictions, labels).",
    Owner.COLLECTOR,
    ("model", "kind"),
)
DUPLICATES = Metric(
    "ml_collector_duplicates_total",
    MetricType.COUNTER,
    "Spool batches and label uploads that the store had already, by kind (predictions, labels).",
    Owner.COLLECTOR,
    ("model", "kind"),
)
REFUSED_LABELS = Metric(
    "ml_collector_refused_labels_total",
    MetricType.COUNTER,
    "Label rows refused, by reason: malformed, key, label_missing, label_unknown, "
    "label_out_of_bounds, happened_at, model_unknown.",
    Owner.COLLECTOR,
    ("reason",),
)
REFUSED_BATCHES = Metric(
    "ml_collector_refused_batches_total",
    MetricType.COUNTER,
    "Spool batches not taken: damaged (it cannot be read; its sender sets it aside), ahead (its "
    "sender believes more to be stored than is; it sends again from where the store is).",
    Owner.COLLECTOR,
    ("reason",),
)
LOST = Metric(
    "ml_collector_lost_records_total",
    MetricType.COUNTER,
    "Answered requests whose records will never arrive, by the reason their predictor's shipper "
    "gave: budget, damaged, quarantined, elsewhere. Each is a row's part of losses/<model>.",
    Owner.COLLECTOR,
    ("model", "reason"),
)
COMMITS = Metric(
    "ml_collector_commits_total",
    MetricType.COUNTER,
    "Commits tried, by kind (predictions, labels) and outcome (written, failed).",
    Owner.COLLECTOR,
    ("model", "kind", "outcome"),
)
COMMIT_SECONDS = Metric(
    "ml_collector_commit_seconds",
    MetricType.HISTOGRAM,
    "Time a commit takes, decoding included, by kind (predictions, labels).",
    Owner.COLLECTOR,
    ("kind",),
    "seconds",
    COMMIT_BUCKETS,
)
AGE = Metric(
    "ml_collector_prediction_age_seconds",
    MetricType.HISTOGRAM,
    "Age of the newest prediction of a batch when it was written.",
    Owner.COLLECTOR,
    ("model",),
    "seconds",
    AGE_BUCKETS,
)
WAITING = Metric(
    "ml_collector_waiting_bytes",
    MetricType.GAUGE,
    "Bytes of requests that are held until they are committed.",
    Owner.COLLECTOR,
    (),
    "bytes",
)
WAITING_LIMIT = Metric(
    "ml_collector_waiting_limit_bytes",
    MetricType.GAUGE,
    "Bytes that may be held; beyond it requests are answered 429.",
    Owner.COLLECTOR,
    (),
    "bytes",
)
UPKEEP = Metric(
    "ml_collector_upkeep_total",
    MetricType.COUNTER,
    "Rounds of upkeep of a table (compaction, retention, vacuum), by kind and outcome (done, "
    "failed, lost: another collector did it).",
    Owner.COLLECTOR,
    ("kind", "outcome"),
)

COLLECTOR_METRICS: tuple[Metric, ...] = (
    REQUESTS,
    ROWS,
    DUPLICATES,
    REFUSED_LABELS,
    REFUSED_BATCHES,
    LOST,
    COMMITS,
    COMMIT_SECONDS,
    AGE,
    WAITING,
    WAITING_LIMIT,
    UPKEEP,
)
