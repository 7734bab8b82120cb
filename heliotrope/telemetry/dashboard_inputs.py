"""The rows of a model's dashboard on what it rests on: labels and inputs."""

from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.panels import INTERVAL, MODEL, Kind, Panel, Query, Row
from heliotrope.telemetry.promql import rate, series

_CHAMPION = f'{MODEL},role="champion"'
_ONE = "{{version}} {{role}}"


def _mine(metric: Metric) -> str:
    return series(metric, MODEL)


LABELS = Row(
    "Labels",
    (
        Panel(
            "Coverage",
            (
                Query(series(known.TRUTH_COVERAGE, MODEL), _ONE),
                Query(_mine(known.LABEL_COVERAGE_EXPECTED), "expected", dashed=True),
            ),
            "Labelled over predicted, of the newest window that is due.",
            unit="percentunit",
            width=8,
            low=0,
            high=1,
        ),
        Panel(
            "Predicted and labelled",
            (
                Query(series(known.TRUTH_WINDOW_PREDICTIONS, MODEL), f"predicted {_ONE}"),
                Query(series(known.TRUTH_WINDOW_LABELLED, MODEL), f"labelled {_ONE}"),
            ),
            "Rows of the newest window that is due.",
            width=8,
        ),
        Panel(
            "Label delay",
            (
                Query(
                    series(known.TRUTH_LABEL_DELAY, _CHAMPION),
                    "{{quantile}} of version {{version}}",
                ),
                Query(_mine(known.LABEL_DELAY_PROMISED), "promised", dashed=True),
            ),
            "From the prediction to its label, of those that came.",
            unit="s",
            width=8,
        ),
        Panel(
            "Labels that cannot be used",
            (
                Query(
                    rate(known.TRUTH_UNUSABLE_LABELS, "model", MODEL, INTERVAL),
                    "unusable a second",
                ),
            ),
            "Of an unknown class, not finite, or from before their prediction.",
        ),
        Panel(
            "End of the newest window that is due",
            (Query(f"{series(known.TRUTH_WINDOW_END, MODEL)} * 1000", _ONE),),
            "In the controller's clock.",
            Kind.NUMBER,
            "dateTimeAsIso",
        ),
    ),
)

INPUTS = Row(
    "Inputs",
    (
        Panel(
            "Drift",
            (
                Query(_mine(known.DATA_DRIFT_SCORE), "features, by importance"),
                Query(_mine(known.PREDICTION_DRIFT_SCORE), "scores"),
            ),
            "Distance of the newest window from the training data.",
            width=8,
            low=0,
        ),
        Panel(
            "Drift by feature",
            (Query(series(known.FEATURE_DRIFT_SCORE, MODEL), "{{feature}}"),),
            "Which column moved.",
            width=8,
            low=0,
        ),
        Panel(
            "Verdict on drift",
            (Query(series(known.DRIFT_VERDICT, MODEL), "{{verdict}}"),),
            "HOLD is too few rows; ERROR is a report that broke. Neither is a pass.",
            Kind.STATES,
            width=8,
        ),
        Panel(
            "Columns scored",
            (
                Query(_mine(known.DRIFT_COLUMNS_SCORED), "scored"),
                Query(_mine(known.DRIFT_COLUMNS_EXPECTED), "expected", dashed=True),
            ),
            "Fewer than expected is an unknown, not an absence of drift.",
            width=6,
        ),
        Panel(
            "Rows of the drift window",
            (Query(_mine(known.DRIFT_WINDOW_ROWS), "rows"),),
            "Too few, and drift is not judged.",
            width=6,
        ),
        Panel(
            "Faulty columns",
            (Query(_mine(known.DATA_FAULTS), "faulty"),),
            "Nulls, stuck, rescaled, out of bounds.",
            width=6,
        ),
        Panel(
            "Alarms of the controller's own",
            (Query(series(known.ALARM_ACTIVE, MODEL), "{{alarm}}"),),
            "Sequential tests, valid under continuous looking.",
            Kind.STATES,
            width=6,
        ),
    ),
)
