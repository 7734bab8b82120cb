"""The dashboard of a model's health: is it right, and what do its scores promise."""

from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry import predictor_metrics as predictor
from heliotrope.telemetry.dashboard_inputs import INPUTS, LABELS
from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.panels import INTERVAL, MODEL, Dashboard, Kind, Panel, Query, Row
from heliotrope.telemetry.promql import series
from heliotrope.telemetry.recording import CHAMPION

_CHAMPION = f'{MODEL},role="champion"'
_WHOLE = f'{_CHAMPION},slice=""'
_SLICES = f'{_CHAMPION},slice!=""'
_NOW = f"and on (model, version) {CHAMPION.record}"
_PRIMARY = f"{_NOW} and on (model, metric) {series(known.METRIC_GREATER_IS_BETTER, MODEL)}"
_ONE = "{{version}} {{role}}"
_SMALL = 4


def _mine(metric: Metric) -> str:
    return series(metric, MODEL)


def _number(
    title: str,
    expr: str,
    description: str,
    unit: str = "short",
    alarming: float | None = None,
) -> Panel:
    return Panel(
        title,
        (Query(expr, "version {{version}}" if "version" in expr else ""),),
        description,
        Kind.NUMBER,
        unit,
        width=4,
        height=_SMALL,
        alarming=alarming,
    )


GLANCE = Row(
    "At a glance",
    (
        _number(
            "Accuracy",
            f"{series(known.MODEL_ACCURACY, _CHAMPION)} {_NOW}",
            "The champion's share of right answers in the newest mature window. Empty for "
            "regression.",
            "percentunit",
        ),
        _number(
            "Label coverage",
            f"{series(known.TRUTH_COVERAGE, _CHAMPION)} {_NOW}",
            "Labelled over predicted, of the newest window that is due.",
            "percentunit",
        ),
        _number(
            "Drift score",
            _mine(known.DATA_DRIFT_SCORE),
            "Importance-weighted distance of the newest window from the training data.",
        ),
        _number(
            "Data faults",
            _mine(known.DATA_FAULTS),
            "Faulty columns; a person must mend the source.",
            alarming=1,
        ),
        _number(
            "Alarms",
            f"sum by (model) ({series(known.ALARM_ACTIVE, MODEL)})",
            "Raised by the controller's own tests.",
            alarming=1,
        ),
        _number(
            "Live predictions",
            f"sum by (model) (rate({predictor.PREDICTIONS.name}"
            f'{{{MODEL},role!="shadow"}}[{INTERVAL}]))',
            "Rows a second that users asked for.",
            "rowsps",
        ),
    ),
)

RIGHT = Row(
    "Is it right (mature windows only)",
    (
        Panel(
            "Primary metric of the champion, with its 95% interval",
            (
                Query(
                    f"max by (metric) ({series(known.TRUTH_METRIC_HIGH, _WHOLE)} {_PRIMARY})",
                    "high",
                    band_to="low",
                ),
                Query(
                    f"min by (metric) ({series(known.TRUTH_METRIC_LOW, _WHOLE)} {_PRIMARY})",
                    "low",
                ),
                Query(
                    f"{series(known.TRUTH_METRIC, _WHOLE)} {_PRIMARY}",
                    "{{metric}} of version {{version}}",
                ),
                Query(_mine(known.METRIC_FLOOR), "limit", dashed=True),
                Query(_mine(known.METRIC_ACCEPTED), "accepted", dashed=True),
                Query(
                    f"{_mine(known.METRIC_ACCEPTED)} + on (model, metric) "
                    f"{_mine(known.METRIC_FALL)} * on (model, metric) "
                    f"(1 - 2 * {_mine(known.METRIC_GREATER_IS_BETTER)})",
                    "worst tolerated",
                    dashed=True,
                ),
            ),
            "An alert comes when the whole interval is past the limit or past what is tolerated.",
            width=16,
            height=10,
        ),
        Panel(
            "Whole windows, every metric",
            (
                Query(
                    series(known.TRUTH_METRIC, f'{MODEL},slice=""'),
                    "{{metric}} " + _ONE,
                ),
            ),
            "All metrics of the spec, of every version that answers.",
            width=8,
            height=10,
        ),
        Panel(
            "Accuracy by version",
            (Query(series(known.MODEL_ACCURACY, MODEL), _ONE),),
            "Of a rare class it says little: always `no` scores high.",
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Slices of the champion",
            (
                Query(
                    f"{series(known.TRUTH_METRIC, _SLICES)} {_PRIMARY}",
                    "{{slice}}",
                ),
            ),
            "The primary metric within the spec's slices.",
            width=8,
        ),
        Panel(
            "Labelled and right so far",
            (
                Query(series(known.LABELLED_PREDICTIONS, MODEL), f"labelled {_ONE}"),
                Query(series(known.CORRECT_PREDICTIONS, MODEL), f"right {_ONE}"),
            ),
            "Totals since the log begins.",
            width=8,
        ),
    ),
)

ESTIMATED = Row(
    "What the scores promise (labels unseen)",
    (
        Panel(
            "Estimate of the champion's metrics",
            (
                Query(
                    f"max by (metric) ({series(known.TRUTH_ESTIMATE_HIGH, _CHAMPION)} {_PRIMARY})",
                    "high",
                    band_to="low",
                ),
                Query(
                    f"min by (metric) ({series(known.TRUTH_ESTIMATE_LOW, _CHAMPION)} {_PRIMARY})",
                    "low",
                ),
                Query(series(known.TRUTH_ESTIMATE, _CHAMPION), "{{metric}} of {{version}}"),
            ),
            "From calibrated scores, of the newest window that is over; holds while calibration "
            "does. The band is the primary metric's.",
            width=16,
        ),
        Panel(
            "Contradicted by labels",
            (Query(series(known.TRUTH_ESTIMATE_UNRELIABLE, MODEL), "{{metric}} " + _ONE),),
            "Do not act on an estimate that labels contradict.",
            Kind.STATES,
            width=8,
        ),
    ),
)

MODEL_DASHBOARD = Dashboard(
    "heliotrope-model",
    "Heliotrope: model health",
    "Whether a model is right, by mature labels with intervals; and what is known before them.",
    (GLANCE, RIGHT, ESTIMATED, LABELS, INPUTS),
)
