"""The dashboard of serving: traffic by version and role, latency, errors, scores."""

from heliotrope.telemetry import controller_metrics as controller
from heliotrope.telemetry import predictor_metrics as known
from heliotrope.telemetry.panels import INTERVAL, MODEL, Dashboard, Kind, Panel, Query, Row
from heliotrope.telemetry.promql import quantile, rate, selector, series
from heliotrope.telemetry.recording import (
    ERROR_RATIO,
    LATENCY_P50,
    LATENCY_P99,
    LIVE_PREDICTION_RATE,
    PREDICTION_RATE,
    REQUEST_RATE,
)
from heliotrope.telemetry.rules import RecordingRule

_ONE = "{{version}} {{role}}"


def _recorded(rule: RecordingRule) -> str:
    return f"{rule.record}{{{MODEL}}}"


def _sum_rate(part: str) -> str:
    """The rise of a part of the scores' histogram."""
    of = f"{known.SCORE.name}{part}{{{MODEL}}}"
    return f"sum by (model, version, role) (rate({of}[{INTERVAL}]))"


TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Rows predicted, by version and role",
            (
                Query(_recorded(PREDICTION_RATE), _ONE),
                Query(_recorded(LIVE_PREDICTION_RATE), "all users", dashed=True),
            ),
            "A second, over five minutes. A shadow answers nobody.",
            unit="rowsps",
            width=8,
        ),
        Panel(
            "Requests, by version and role",
            (Query(_recorded(REQUEST_RATE), _ONE),),
            "A second, over five minutes, of whatever status.",
            unit="reqps",
            width=8,
        ),
        Panel(
            "Share of live traffic",
            (Query(series(controller.TRAFFIC_SHARE, MODEL), _ONE),),
            "As the gateway splits now.",
            unit="percentunit",
            width=8,
            low=0,
            high=1,
            stacked=True,
        ),
        Panel(
            "Predictions, by outcome",
            (Query(rate(known.PREDICTIONS, "outcome, version", MODEL, INTERVAL),
                   "{{outcome}} by {{version}}"),),
            "The predicted class, or `value` for regression.",
            unit="rowsps",
            stacked=True,
        ),
        Panel(
            "Requests, by status and protocol",
            (Query(rate(known.REQUESTS, "code, protocol", MODEL, INTERVAL),
                   "{{code}} {{protocol}}"),),
            "4xx is the caller's fault, 5xx ours.",
            unit="reqps",
            stacked=True,
        ),
    ),
)  # fmt: skip

QUALITY = Row(
    "Latency and errors",
    (
        Panel(
            "Latency",
            (
                Query(_recorded(LATENCY_P50), f"p50 {_ONE}"),
                Query(_recorded(LATENCY_P99), f"p99 {_ONE}"),
            ),
            "From a whole request's arrival to its answer, without network and gateway.",
            unit="s",
            width=8,
        ),
        Panel(
            "p99, by protocol",
            (
                Query(
                    quantile(known.LATENCY, 0.99, "protocol, version", MODEL, INTERVAL),
                    "{{protocol}} {{version}}",
                ),
            ),
            "v1, v2 and gRPC.",
            unit="s",
            width=8,
        ),
        Panel(
            "Errors",
            (Query(_recorded(ERROR_RATIO), _ONE),),
            "Share of requests answered 5xx.",
            unit="percentunit",
            width=8,
            low=0,
        ),
        Panel(
            "Latencies of all requests",
            (Query(f"sum by (le) (rate({known.LATENCY.name}_bucket{{{MODEL}}}[{INTERVAL}]))"),),
            "Where most answers are, and whether there is a second hump.",
            Kind.HEATMAP,
            "s",
        ),
        Panel(
            "Scores",
            (Query(f"sum by (le) (rate({known.SCORE.name}_bucket{{{MODEL}}}[{INTERVAL}]))"),),
            "A shift here is seen long before labels come.",
            Kind.HEATMAP,
            "percentunit",
        ),
        Panel(
            "Mean score",
            (
                Query(
                    f"{_sum_rate('_sum')} / {_sum_rate('_count')}",
                    _ONE,
                ),
            ),
            "By version: a candidate's should be near the champion's.",
            unit="percentunit",
        ),
    ),
)

PROCESSES = Row(
    "Predictors",
    (
        Panel(
            "What runs",
            (Query(f"max by (model, version, role, task, instance) "
                   f"({selector(known.PREDICTOR_INFO, MODEL)})"),),
            "Each predictor's model, version, role and task.",
            Kind.TABLE,
        ),
        Panel(
            "Ready",
            (Query(series(known.PREDICTOR_READY, MODEL), _ONE),),
            "Its model is loaded and requests are taken.",
            Kind.STATES,
        ),
    ),
)  # fmt: skip

SERVING_DASHBOARD = Dashboard(
    "heliotrope-serving",
    "Heliotrope: serving",
    "What is asked, what is answered, how quickly, by which version.",
    (TRAFFIC, QUALITY, PROCESSES),
)
