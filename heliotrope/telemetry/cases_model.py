"""Cases of the alerts about a model: each fires here and does not there."""

from heliotrope.telemetry import alerts_model as alerts
from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry import predictor_metrics as predictor
from heliotrope.telemetry.collector_metrics import ROWS
from heliotrope.telemetry.rule_cases import Case, Fires, row

_V = {"model": "loans", "version": "7", "role": "champion"}
_AUC = {"model": "loans", "metric": "roc_auc"}
_LOSS = {"model": "loans", "metric": "log_loss"}
Series = tuple[tuple[str, str], ...]
_IS_CHAMPION = row(predictor.PREDICTOR_INFO, 1, **_V, task="binary")


def _measured(metric: str, value: float, low: float, high: float, role: str = "champion") -> Series:
    labels = {**_V, "role": role, "slice": "", "metric": metric}
    return (
        row(known.TRUTH_METRIC, value, **labels),
        row(known.TRUTH_METRIC_LOW, low, **labels),
        row(known.TRUTH_METRIC_HIGH, high, **labels),
    )


_AUC_LIMITS = (
    _IS_CHAMPION,
    row(known.METRIC_FLOOR, 0.7, **_AUC),
    row(known.METRIC_ACCEPTED, 0.8, **_AUC),
    row(known.METRIC_FALL, 0.05, **_AUC),
    row(known.METRIC_GREATER_IS_BETTER, 1, **_AUC),
)
_AUC_WITHOUT_FLOOR = tuple(
    one for one in _AUC_LIMITS if not one[0].startswith(known.METRIC_FLOOR.name)
)
_LOSS_LIMITS = (
    _IS_CHAMPION,
    row(known.METRIC_FLOOR, 0.5, **_LOSS),
    row(known.METRIC_ACCEPTED, 0.4, **_LOSS),
    row(known.METRIC_FALL, 0.05, **_LOSS),
    row(known.METRIC_GREATER_IS_BETTER, 0, **_LOSS),
)
_SLICE_ONLY = tuple(
    row(metric, 0.3, **_V, slice="grade = C", metric="roc_auc")
    for metric in (known.TRUTH_METRIC, known.TRUTH_METRIC_LOW, known.TRUTH_METRIC_HIGH)
)

ACCURACY_CASES = (
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "the whole interval is below the floor",
        (*_measured("roc_auc", 0.65, 0.62, 0.68), *_AUC_LIMITS),
        Fires(
            {**_V, "metric": "roc_auc"},
            "roc_auc of loans version 7 is 0.650 [0.620, 0.680] in the newest mature window; the "
            "limit is 0.700.",
        ),
    ),
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "a loss whose whole interval is above its ceiling",
        (*_measured("log_loss", 0.6, 0.55, 0.65), *_LOSS_LIMITS),
        Fires(
            {**_V, "metric": "log_loss"},
            "log_loss of loans version 7 is 0.600 [0.550, 0.650] in the newest mature window; the "
            "limit is 0.500.",
        ),
    ),
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "below, but the interval reaches the floor",
        (*_measured("roc_auc", 0.69, 0.66, 0.72), *_AUC_LIMITS),
    ),
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "a small loss is good",
        (*_measured("log_loss", 0.3, 0.25, 0.35), *_LOSS_LIMITS),
    ),
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "a candidate's, which the rollout judges",
        (*_measured("roc_auc", 0.6, 0.55, 0.65, role="canary"), *_AUC_LIMITS),
    ),
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "a champion that was replaced, whose labels still come",
        (
            *_measured("roc_auc", 0.65, 0.62, 0.68),
            *_AUC_LIMITS[1:],
            row(predictor.PREDICTOR_INFO, "1x5 _x55", **_V, task="binary"),
            row(predictor.PREDICTOR_INFO, 1, **{**_V, "version": "8"}, task="binary"),
        ),
    ),
    Case(alerts.ACCURACY_BELOW_FLOOR, "a slice alone", (*_SLICE_ONLY, *_AUC_LIMITS)),
    Case(
        alerts.ACCURACY_BELOW_FLOOR,
        "no floor is set",
        (*_measured("roc_auc", 0.5, 0.45, 0.55), *_AUC_WITHOUT_FLOOR),
    ),
    Case(
        alerts.ACCURACY_FELL,
        "worse than accepted by more than the fall",
        (*_measured("roc_auc", 0.72, 0.71, 0.74), *_AUC_LIMITS),
        Fires(
            {**_V, "metric": "roc_auc"},
            "roc_auc of loans version 7 is 0.720 [0.710, 0.740] in the newest mature window; the "
            "model was accepted at 0.800.",
        ),
    ),
    Case(
        alerts.ACCURACY_FELL,
        "a loss that rose by more than the fall",
        (*_measured("log_loss", 0.48, 0.46, 0.5), *_LOSS_LIMITS),
        Fires(
            {**_V, "metric": "log_loss"},
            "log_loss of loans version 7 is 0.480 [0.460, 0.500] in the newest mature window; the "
            "model was accepted at 0.400.",
        ),
    ),
    Case(
        alerts.ACCURACY_FELL,
        "the interval reaches what is tolerated",
        (*_measured("roc_auc", 0.74, 0.72, 0.76), *_AUC_LIMITS),
    ),
)

_LOANS = {"model": "loans"}


def _verdict(metric_value: float, verdict: str) -> tuple[str, str]:
    return row(known.DRIFT_VERDICT, metric_value, **_LOANS, verdict=verdict)


_DRIFTED = (
    row(known.DATA_DRIFT_SCORE, 0.4, **_LOANS),
    row(known.DRIFT_WINDOW_ROWS, 1240, **_LOANS),
)


def _columns(scored: int, expected: int) -> Series:
    return (
        row(known.DRIFT_COLUMNS_SCORED, scored, **_LOANS),
        row(known.DRIFT_COLUMNS_EXPECTED, expected, **_LOANS),
    )


DRIFT_CASES = (
    Case(
        alerts.DATA_DRIFTED,
        "the verdict is FAIL",
        (*_DRIFTED, _verdict(1, "FAIL")),
        Fires(
            _LOANS,
            "Features of loans have drifted: importance-weighted score 0.400 over 1240 rows.",
        ),
    ),
    Case(
        alerts.DATA_DRIFTED,
        "the score is high and the verdict is HOLD",
        (*_DRIFTED, _verdict(0, "FAIL"), _verdict(1, "HOLD")),
    ),
    Case(
        alerts.DRIFT_UNKNOWN,
        "columns could not be scored",
        (*_columns(8, 10), _verdict(0, "ERROR")),
        Fires(_LOANS, "The newest drift report of loans scored 8 of 10 columns."),
    ),
    Case(
        alerts.DRIFT_UNKNOWN,
        "the report broke",
        (*_columns(0, 10), _verdict(1, "ERROR")),
        Fires(
            {**_LOANS, "verdict": "ERROR"},
            "The newest drift report of loans scored 0 of 10 columns.",
        ),
    ),
    Case(alerts.DRIFT_UNKNOWN, "all were scored", (*_columns(10, 10), _verdict(0, "ERROR"))),
    Case(
        alerts.DATA_FAULT,
        "two columns are faulty",
        (row(known.DATA_FAULTS, 2, **_LOANS),),
        Fires(_LOANS, "2 columns of loans are faulty in the newest window."),
    ),
    Case(alerts.DATA_FAULT, "none is", (row(known.DATA_FAULTS, 0, **_LOANS),)),
    Case(
        alerts.ALARM_ACTIVE,
        "a test of the controller's own",
        (row(known.ALARM_ACTIVE, 1, **_LOANS, alarm="loss_rose"),),
        Fires(
            {**_LOANS, "alarm": "loss_rose"},
            "The controller's alarm loss_rose of loans is raised.",
        ),
    ),
    Case(
        alerts.ALARM_ACTIVE,
        "it is over, and what Alertmanager told is not told back",
        (
            row(known.ALARM_ACTIVE, 0, **_LOANS, alarm="loss_rose"),
            row(known.ALARM_ACTIVE, 1, **_LOANS, alarm="HeliotropeAccuracyFell"),
        ),
    ),
)

_AUC_OF_7 = {**_V, "metric": "roc_auc"}


def _estimate(unreliable: int) -> Series:
    return (
        _IS_CHAMPION,
        row(known.TRUTH_ESTIMATE, 0.81, **_AUC_OF_7),
        row(known.TRUTH_ESTIMATE_UNRELIABLE, unreliable, **_AUC_OF_7),
        row(known.TRUTH_ESTIMATE_UNRELIABLE, unreliable, **_V, metric="log_loss"),
        row(known.METRIC_GREATER_IS_BETTER, 1, **_AUC),
        *_measured("roc_auc", 0.7, 0.68, 0.72),
    )


def _coverage(labelled: int, predicted: int) -> Series:
    return (
        _IS_CHAMPION,
        row(known.TRUTH_COVERAGE, labelled / predicted, **_V),
        row(known.TRUTH_WINDOW_LABELLED, labelled, **_V),
        row(known.TRUTH_WINDOW_PREDICTIONS, predicted, **_V),
        row(known.LABEL_COVERAGE_EXPECTED, 0.9, **_LOANS),
    )


def _delay(seconds: float, promised: float) -> Series:
    return (
        _IS_CHAMPION,
        row(known.TRUTH_LABEL_DELAY, seconds, **_V, quantile="0.9"),
        row(known.LABEL_DELAY_PROMISED, promised, **_LOANS),
    )


LABEL_CASES = (
    Case(
        alerts.ESTIMATE_CONTRADICTED,
        "labels contradict the scores",
        _estimate(1),
        Fires(
            _AUC_OF_7,
            "The label-free estimate of roc_auc of loans version 7 is 0.810, and mature labels say "
            "0.700.",
        ),
    ),
    Case(alerts.ESTIMATE_CONTRADICTED, "they agree", _estimate(0)),
    Case(
        alerts.LABEL_COVERAGE_LOW,
        "half of the labels did not come",
        _coverage(500, 1000),
        Fires(
            _V,
            "50% of the predictions of loans version 7 have labels in the newest window that is "
            "due (500 of 1000).",
        ),
    ),
    Case(alerts.LABEL_COVERAGE_LOW, "as many as expected", _coverage(900, 1000)),
    Case(
        alerts.LABEL_DELAY_GROWN,
        "a tenth came after they were to be final",
        _delay(10 * 86400, 7 * 86400),
        Fires(
            {**_V, "quantile": "0.9"},
            "A tenth of the labels of loans took 10d 0h 0m 0s or more; the spec says that they are "
            "final after 7d 0h 0m 0s.",
        ),
    ),
    Case(alerts.LABEL_DELAY_GROWN, "they came in time", _delay(6 * 86400, 7 * 86400)),
    Case(alerts.LABEL_DELAY_GROWN, "the spec promises nothing", _delay(6 * 86400, 0)),
    Case(
        alerts.LABELS_UNUSABLE,
        "some could not be used",
        (row(known.TRUTH_UNUSABLE_LABELS, "_x15 3x45", **_LOANS),),
        Fires(_LOANS, "3 labels of loans could not be used in 10 minutes."),
    ),
    Case(
        alerts.LABELS_UNUSABLE,
        "some of hundreds, and another model takes many",
        (
            row(known.TRUTH_UNUSABLE_LABELS, "_x15 3x45", **_LOANS),
            row(ROWS, "0+20x60", kind="labels", **_LOANS),
            row(ROWS, "0+9000x60", kind="labels", model="other"),
        ),
        Fires(_LOANS, "3 labels of loans could not be used in 10 minutes."),
    ),
    Case(
        alerts.LABELS_UNUSABLE,
        "one of hundreds",
        (
            row(known.TRUTH_UNUSABLE_LABELS, "_x15 1x45", **_LOANS),
            row(ROWS, "0+20x60", kind="labels", **_LOANS),
        ),
    ),
    Case(
        alerts.LABELS_UNUSABLE,
        "that was long ago",
        (row(known.TRUTH_UNUSABLE_LABELS, 3, **_LOANS),),
        at="40m",
    ),
)

MODEL_CASES = (*ACCURACY_CASES, *DRIFT_CASES, *LABEL_CASES)
