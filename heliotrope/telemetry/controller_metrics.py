"""The metrics the controller exposes, part of the one catalogue.

Times of predictions, labels and windows are in the controller's clock, which may be a simulated
one; `ml_clock_timestamp_seconds` tells it. Where a number is undefined (no labels yet, one class
only) its series is left out, never NaN.
"""

from heliotrope.telemetry.metric import Metric, MetricType, Owner

TICK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds."""

_MODEL = ("model",)
_VERSION = ("model", "version", "role")
_METRIC = (*_VERSION, "metric")
_SLICED = (*_VERSION, "slice", "metric")


def _gauge(name: str, text: str, labels: tuple[str, ...] = _MODEL, unit: str = "") -> Metric:
    return Metric(name, MetricType.GAUGE, text, Owner.CONTROLLER, labels, unit)


def _counter(name: str, text: str, labels: tuple[str, ...] = _MODEL) -> Metric:
    return Metric(name, MetricType.COUNTER, text, Owner.CONTROLLER, labels)


# The truth
MODEL_ACCURACY = _gauge(
    "ml_model_accuracy",
    "Share of right answers in the newest mature window, of those that have a label; "
    "classification only. Of rare classes it says little: see ml_truth_metric.",
    _VERSION,
    "ratio",
)
CORRECT_PREDICTIONS = _counter(
    "ml_correct_predictions_total",
    "Predictions whose label has come and says that they were right; classification only.",
    _VERSION,
)
LABELLED_PREDICTIONS = _counter(
    "ml_labelled_predictions_total", "Predictions whose label has come.", _VERSION
)
TRUTH_METRIC = _gauge(
    "ml_truth_metric",
    "A metric of the spec over the labelled predictions of the newest mature window; slice is "
    "empty for the whole window.",
    _SLICED,
)
TRUTH_METRIC_LOW = _gauge(
    "ml_truth_metric_low", "Lower end of the 95% interval of ml_truth_metric.", _SLICED
)
TRUTH_METRIC_HIGH = _gauge(
    "ml_truth_metric_high", "Upper end of the 95% interval of ml_truth_metric.", _SLICED
)
TRUTH_COVERAGE = _gauge(
    "ml_truth_coverage",
    "Labelled over predicted, of the newest window that is mature or whose label delay has "
    "passed; 0 where no label came.",
    _VERSION,
    "ratio",
)
TRUTH_WINDOW_PREDICTIONS = _gauge(
    "ml_truth_window_predictions",
    "Predictions in the window that ml_truth_coverage is of.",
    _VERSION,
)
TRUTH_WINDOW_LABELLED = _gauge(
    "ml_truth_window_labelled",
    "Predictions with a label in the window that ml_truth_coverage is of.",
    _VERSION,
)
TRUTH_WINDOW_END = _gauge(
    "ml_truth_window_end_timestamp_seconds",
    "End of the window that ml_truth_coverage is of, in the controller's clock.",
    _VERSION,
    "seconds",
)
TRUTH_LABEL_DELAY = _gauge(
    "ml_truth_label_delay_seconds",
    "How long labels took from the prediction on, of those that came in the newest mature window, "
    "by quantile (0.5, 0.9, 0.99).",
    (*_VERSION, "quantile"),
    "seconds",
)
TRUTH_ESTIMATE = _gauge(
    "ml_truth_estimate",
    "A metric as calibrated scores alone promise it, for the newest window that is over.",
    _METRIC,
)
TRUTH_ESTIMATE_LOW = _gauge(
    "ml_truth_estimate_low",
    "ml_truth_estimate less its sampling error (95%) and calibration error.",
    _METRIC,
)
TRUTH_ESTIMATE_HIGH = _gauge(
    "ml_truth_estimate_high",
    "ml_truth_estimate plus its sampling error (95%) and calibration error.",
    _METRIC,
)
TRUTH_ESTIMATE_UNRELIABLE = _gauge(
    "ml_truth_estimate_unreliable",
    "1 when mature labels contradict what the scores promise, else 0.",
    _METRIC,
)
TRUTH_EVENTS = _counter(
    "ml_truth_events_total",
    "Events read into the truth, by kind: predictions, labels; forgotten (rows let go, being "
    "beyond label.horizon); too_late (predictions that came after it, or were read again).",
    ("model", "kind"),
)
TRUTH_UNUSABLE_LABELS = _counter(
    "ml_truth_unusable_labels_total",
    "Labels that the truth could not use: of an unknown class, not finite, before their "
    "prediction.",
)
TRUTH_NEWEST_PREDICTION = _gauge(
    "ml_truth_newest_prediction_timestamp_seconds",
    "When the newest prediction in the truth was made, in the controller's clock.",
    unit="seconds",
)

# What the spec promises and demands
METRIC_FLOOR = _gauge(
    "ml_metric_floor",
    "The limit of the primary metric that the spec sets (monitoring.floor): a floor where more is "
    "better, else a ceiling.",
    ("model", "metric"),
)
METRIC_ACCEPTED = _gauge(
    "ml_metric_accepted",
    "Level of the primary metric at which the model was first accepted.",
    ("model", "metric"),
)
METRIC_FALL = _gauge(
    "ml_metric_fall",
    "How far the primary metric may get worse than the accepted level (monitoring.fall).",
    ("model", "metric"),
)
METRIC_GREATER_IS_BETTER = _gauge(
    "ml_metric_greater_is_better",
    "1 where more of the primary metric is better, 0 where less is.",
    ("model", "metric"),
)
LABEL_DELAY_PROMISED = _gauge(
    "ml_label_delay_promised_seconds",
    "After how long the spec says that labels are final (label.delay).",
    unit="seconds",
)
LABEL_COVERAGE_EXPECTED = _gauge(
    "ml_label_coverage_expected",
    "Share of predictions that the spec expects to be labelled (monitoring.mature_coverage).",
    unit="ratio",
)
CLOCK = _gauge(
    "ml_clock_timestamp_seconds",
    "The controller's clock, which may be a simulated one.",
    (),
    "seconds",
)

# The controller itself
TICK_SECONDS = Metric(
    "ml_controller_tick_seconds",
    MetricType.HISTOGRAM,
    "Time a run of a duty takes, in the machine's clock.",
    Owner.CONTROLLER,
    ("duty",),
    "seconds",
    TICK_BUCKETS,
)
DUTY_FAILURES = _counter(
    "ml_controller_duty_failures_total",
    "Runs of a duty that failed; model is empty where it failed for all.",
    ("duty", "model"),
)
LAST_TICK = _gauge(
    "ml_controller_last_tick_timestamp_seconds",
    "When a duty last ran to its end, in the machine's clock.",
    ("duty",),
    "seconds",
)
CONTROLLER_ACTIVE = _gauge(
    "ml_controller_active", "1 while this controller holds the lock and acts, else 0.", ()
)
ALERTS_RECEIVED = _counter(
    "ml_alerts_received_total",
    "Alerts that Alertmanager sent to the controller, by name (`other` for one that is no rule of "
    "ours) and status (firing, resolved).",
    ("alert", "status"),
)
NOTIFICATIONS = _counter(
    "ml_notifications_total",
    "Messages to people, by outcome (sent, failed).",
    ("outcome",),
)

# Alarms and drift
ALARM_ACTIVE = _gauge(
    "ml_alarm_active",
    "1 while an alarm of the controller's own tests is raised, else 0.",
    ("model", "alarm"),
)
DATA_DRIFT_SCORE = _gauge(
    "ml_data_drift_score",
    "Distance of the newest window's features from the training data's, weighted by importance; "
    "0 is none.",
)
FEATURE_DRIFT_SCORE = _gauge(
    "ml_feature_drift_score",
    "Distance of a feature in the newest window from the training data.",
    ("model", "feature"),
)
PREDICTION_DRIFT_SCORE = _gauge(
    "ml_prediction_drift_score",
    "Distance of the scores in the newest window from those of the training data.",
)
DRIFT_COLUMNS_SCORED = _gauge(
    "ml_drift_columns_scored", "Columns that the newest drift report could score."
)
DRIFT_COLUMNS_EXPECTED = _gauge(
    "ml_drift_columns_expected", "Columns that a drift report has to score."
)
DRIFT_WINDOW_ROWS = _gauge("ml_drift_window_rows", "Rows of the window of the newest drift report.")
DRIFT_VERDICT = _gauge(
    "ml_drift_verdict",
    "1 for the verdict of the newest drift report (PASS, HOLD, FAIL, ERROR), 0 for the others.",
    ("model", "verdict"),
)
DATA_FAULTS = _gauge(
    "ml_data_faults",
    "Columns of the newest window that are faulty, not drifted: nulls, stuck, rescaled, out of "
    "bounds.",
)

# Retraining
RETRAINING_TRIGGERS = _counter(
    "ml_retraining_triggers_total",
    "Askings for a retraining, by cause (schedule, drift, accuracy, alert, person, persistence) "
    "and decision (start, wait, refuse).",
    ("model", "cause", "decision"),
)
RETRAINING_RUNNING = _gauge("ml_retraining_running", "1 while a training run is under way, else 0.")
RETRAINING_RUNS = _counter(
    "ml_retraining_runs_total",
    "Training runs that ended, by outcome (registered, not_accepted, data_fault, failed, "
    "interrupted).",
    ("model", "outcome"),
)
RETRAINING_FAILURES = _gauge(
    "ml_retraining_failures_in_a_row", "Candidates in a row that came to nothing."
)
RETRAINING_FAILURE_LIMIT = _gauge(
    "ml_retraining_failure_limit",
    "Failed candidates in a row after which evidence starts no run (retraining.max_failures).",
)

# Rollout
ROLLOUT_STATE = _gauge(
    "ml_rollout_state",
    "1 for the state of the newest rollout, 0 for the others.",
    ("model", "state"),
)
TRAFFIC_SHARE = _gauge(
    "ml_traffic_share",
    "Share of live traffic that the gateway sends to a version now.",
    _VERSION,
    "ratio",
)
ROLLOUT_STATE_AGE = _gauge(
    "ml_rollout_state_age_seconds",
    "How long the rollout that is under way has been in its state, in the controller's clock; "
    "left out when none is.",
    unit="seconds",
)
ROLLOUT_STATE_TIMEOUT = _gauge(
    "ml_rollout_state_timeout_seconds",
    "Longest stay in a state before the candidate is rolled back (rollout.step_timeout).",
    unit="seconds",
)
ROLLOUT_PAIRED_LABELS = _gauge(
    "ml_rollout_paired_labels",
    "Labelled requests that both champion and candidate of the rollout have answered.",
)
ROLLOUT_DIFFERENCE = _gauge(
    "ml_rollout_difference",
    "By how much the candidate's mean loss is better than the champion's on the same requests; "
    "negative is worse.",
)
ROLLOUT_DIFFERENCE_LOW = _gauge(
    "ml_rollout_difference_low",
    "Lower end of the always-valid interval of ml_rollout_difference.",
)
ROLLOUT_DIFFERENCE_HIGH = _gauge(
    "ml_rollout_difference_high",
    "Upper end of the always-valid interval of ml_rollout_difference.",
)
ROLLOUTS = _counter(
    "ml_rollouts_total",
    "Rollouts that ended, by outcome (promoted, rolled_back, aborted).",
    ("model", "outcome"),
)
SERVING_SETTLED = _gauge(
    "ml_serving_settled", "1 when what is served is what was asked for, else 0."
)
REVISION_READY = _gauge(
    "ml_revision_ready", "1 when a version that was asked for is ready in its role, else 0.",
    _VERSION,
)  # fmt: skip

CONTROLLER_METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
"""All of the above, in their order."""
