"""Alerts about a model: is it right, are its inputs what it knows, do its labels come.

What is judged over a mature window is a judgement already and fires at once; the intervals and the
label delay are what keeps it from flapping.
"""

from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry.alerts_data import more_than_few
from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.promql import series
from heliotrope.telemetry.recording import CHAMPION
from heliotrope.telemetry.rules import AlertRule, Severity, counted

_CHAMPION = 'role="champion"'
_WHOLE = f'{_CHAMPION},slice=""'
_CHAMPION_P90 = f'{_CHAMPION},quantile="0.9"'
_FAILED, _ERRED = 'verdict="FAIL"', 'verdict="ERROR"'
_OWN_ALARMS = 'alarm!~"Heliotrope.*"'
_NO_SLICE = 'slice=""'
_COUNT = 'printf "%.0f"'
_NOW = f"and on (model, version) {CHAMPION.record}"
_BY_METRIC = "on (model, metric) group_left ()"
_MORE = f"on (model, metric) {series(known.METRIC_GREATER_IS_BETTER)} == 1"
_LESS = f"on (model, metric) {series(known.METRIC_GREATER_IS_BETTER)} == 0"


def looked_up(metric: Metric, *labels: str, shown: str = 'printf "%.3f"', where: str = "") -> str:
    """A template that shows another metric's value for the alert's own labels.

    Nothing is shown where there is no such series: an alert must come without it too.
    """
    matchers = ",".join([*(f"{label}=%q" for label in labels), *([where] if where else [])])
    values = " ".join(f"$labels.{label}" for label in labels)
    query = f"printf `{metric.name}{{{matchers}}}` {values}"
    return f"{{{{ with {query} | query }}}}{{{{ . | first | value | {shown} }}}}{{{{ end }}}}"


_KEYS = ("model", "version", "role", "metric")
_MEASURED = (
    "{{ $labels.metric }} of {{ $labels.model }} version {{ $labels.version }} is "
    f"{looked_up(known.TRUTH_METRIC, *_KEYS, where=_NO_SLICE)} "
    f"[{looked_up(known.TRUTH_METRIC_LOW, *_KEYS, where=_NO_SLICE)}, "
    f"{looked_up(known.TRUTH_METRIC_HIGH, *_KEYS, where=_NO_SLICE)}] in the newest mature window"
)


def _worse_than(limit_above: str, limit_below: str) -> str:
    """The whole interval is on the wrong side of a limit, whichever side is wrong."""
    high = series(known.TRUTH_METRIC_HIGH, _WHOLE)
    low = series(known.TRUTH_METRIC_LOW, _WHOLE)
    return (
        f"((({high} < {_BY_METRIC} {limit_above}) and {_MORE})\n"
        f"or\n(({low} > {_BY_METRIC} {limit_below}) and {_LESS}))\n{_NOW}"
    )


_FLOOR = series(known.METRIC_FLOOR)
_ACCEPTED, _FALL = series(known.METRIC_ACCEPTED), series(known.METRIC_FALL)

ACCURACY_BELOW_FLOOR = AlertRule(
    "HeliotropeAccuracyBelowFloor",
    _worse_than(_FLOOR, _FLOOR),
    Severity.PAGE,
    f"{_MEASURED}; the limit is {looked_up(known.METRIC_FLOOR, 'model', 'metric')}.",
    "The whole 95% interval of the primary metric is past the spec's limit, on mature labels. The "
    "controller diagnoses it and retrains where that can help.",
    labels={"cause": "accuracy"},
)
ACCURACY_FELL = AlertRule(
    "HeliotropeAccuracyFell",
    _worse_than(f"({_ACCEPTED} - {_FALL})", f"({_ACCEPTED} + {_FALL})"),
    Severity.TICKET,
    f"{_MEASURED}; the model was accepted at "
    f"{looked_up(known.METRIC_ACCEPTED, 'model', 'metric')}.",
    "The whole 95% interval of the primary metric is worse than the accepted level by more than "
    "monitoring.fall, on mature labels. The controller diagnoses it and retrains where that helps.",
    labels={"cause": "accuracy"},
)
_LABEL_LOOK = ("model", "version", "role")

DATA_DRIFTED = AlertRule(
    "HeliotropeDataDrifted",
    f"{series(known.DATA_DRIFT_SCORE)}\nand on (model) {series(known.DRIFT_VERDICT, _FAILED)} == 1",
    Severity.TICKET,
    "Features of {{ $labels.model }} have drifted: importance-weighted score "
    '{{ printf "%.3f" $value }} over '
    f"{looked_up(known.DRIFT_WINDOW_ROWS, 'model', shown=_COUNT)} rows.",
    "The newest window differs from the training data by more than chance and by an amount that "
    "matters. One window never retrains: the controller waits for K of the last N.",
    labels={"cause": "drift"},
)
DRIFT_UNKNOWN = AlertRule(
    "HeliotropeDriftUnknown",
    f"{series(known.DRIFT_VERDICT, _ERRED)} == 1\nor on (model) "
    f"{series(known.DRIFT_COLUMNS_SCORED)} < {series(known.DRIFT_COLUMNS_EXPECTED)}",
    Severity.TICKET,
    "The newest drift report of {{ $labels.model }} scored "
    f"{looked_up(known.DRIFT_COLUMNS_SCORED, 'model', shown=_COUNT)} of "
    f"{looked_up(known.DRIFT_COLUMNS_EXPECTED, 'model', shown=_COUNT)} columns.",
    "Drift could not be judged whole. Nothing is concluded from it, neither drift nor its absence.",
    lasts="5m",
)
DATA_FAULT = AlertRule(
    "HeliotropeDataFault",
    f"{series(known.DATA_FAULTS)} > 0",
    Severity.PAGE,
    counted("column of {{ $labels.model }} is", "columns of {{ $labels.model }} are")
    + " faulty in the newest window.",
    "Nulls, a stuck or a rescaled column: the source is broken, not the world changed. The "
    "controller refuses to train on it; a person must mend the source.",
)
ALARM_ACTIVE = AlertRule(
    "HeliotropeAlarmActive",
    # What Alertmanager told the controller never comes back as its own alarm.
    f"{series(known.ALARM_ACTIVE, _OWN_ALARMS)} == 1",
    Severity.TICKET,
    "The controller's alarm {{ $labels.alarm }} of {{ $labels.model }} is raised.",
    "One of the controller's sequential tests, valid under continuous looking, has enough evidence "
    "that something changed. The decision log has the numbers.",
)
ESTIMATE_CONTRADICTED = AlertRule(
    "HeliotropeEstimateContradicted",
    # Scores are contradicted as a whole: one alarm, of the metric that the model is judged by.
    f"{series(known.TRUTH_ESTIMATE_UNRELIABLE, _CHAMPION)} == 1\n"
    f"and on (model, metric) {series(known.METRIC_GREATER_IS_BETTER)}\n{_NOW}",
    Severity.TICKET,
    "The label-free estimate of {{ $labels.metric }} of {{ $labels.model }} version "
    "{{ $labels.version }} is "
    f"{looked_up(known.TRUTH_ESTIMATE, *_KEYS)}, and mature labels say "
    f"{looked_up(known.TRUTH_METRIC, *_KEYS, where=_NO_SLICE)}.",
    "The scores are no longer calibrated: the link from features to label has changed, or labels "
    "are wrong. Do not act on the estimate until a new version is calibrated.",
)
LABEL_COVERAGE_LOW = AlertRule(
    "HeliotropeLabelCoverageLow",
    f"{series(known.TRUTH_COVERAGE, _CHAMPION)} < on (model) group_left () "
    f"{series(known.LABEL_COVERAGE_EXPECTED)}\n{_NOW}",
    Severity.TICKET,
    "{{ $value | humanizePercentage }} of the predictions of {{ $labels.model }} version "
    "{{ $labels.version }} have labels in the newest window that is due ("
    f"{looked_up(known.TRUTH_WINDOW_LABELLED, *_LABEL_LOOK, shown=_COUNT)} of "
    f"{looked_up(known.TRUTH_WINDOW_PREDICTIONS, *_LABEL_LOOK, shown=_COUNT)}).",
    "The label delay has passed and fewer labels came than the spec expects "
    "(monitoring.mature_coverage). Labels that are missing for a reason bias every metric.",
)
LABEL_DELAY_GROWN = AlertRule(
    "HeliotropeLabelDelayGrown",
    f"{series(known.TRUTH_LABEL_DELAY, _CHAMPION_P90)}\n> on (model) group_left () "
    f"({series(known.LABEL_DELAY_PROMISED)} > 0)\n{_NOW}",
    Severity.TICKET,
    "A tenth of the labels of {{ $labels.model }} took {{ $value | humanizeDuration }} or more; "
    "the spec says that they are final after "
    f"{looked_up(known.LABEL_DELAY_PROMISED, 'model', shown='humanizeDuration')}.",
    "Windows are judged before their labels are in, so those that come early weigh too much.",
)
LABELS_UNUSABLE = AlertRule(
    "HeliotropeLabelsUnusable",
    more_than_few(known.TRUTH_UNUSABLE_LABELS, "model", "model"),
    Severity.TICKET,
    counted("label", "labels") + " of {{ $labels.model }} could not be used in 10 minutes.",
    "Labels of an unknown class, not finite, or from before their prediction: they count nowhere. "
    "A fault of the label source, most likely.",
)

MODEL_ALERTS = (
    ACCURACY_BELOW_FLOOR,
    ACCURACY_FELL,
    DATA_DRIFTED,
    DRIFT_UNKNOWN,
    DATA_FAULT,
    ALARM_ACTIVE,
    ESTIMATE_CONTRADICTED,
    LABEL_COVERAGE_LOW,
    LABEL_DELAY_GROWN,
    LABELS_UNUSABLE,
)
