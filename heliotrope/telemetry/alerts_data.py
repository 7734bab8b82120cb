"""Alerts about what serves and stores: predictors, spools, collector."""

from heliotrope.telemetry import collector_metrics as collector
from heliotrope.telemetry import predictor_metrics as predictor
from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.promql import rate, rise, selector, series
from heliotrope.telemetry.recording import ERROR_RATIO, LATENCY_P99, REQUEST_RATE
from heliotrope.telemetry.rules import AlertRule, Severity, counted

ERROR_SHARE = 0.01
"""Share of requests answered 5xx that wakes somebody."""
LATENCY_SECONDS = 0.25
"""p99 of a predictor's own time; it answers one row in about a millisecond."""
SPOOL_SHARE = 0.5
"""Share of the spool's disk budget that wakes somebody while there is still time."""
SPOOL_AGE_SECONDS = 300
FEW = 0.01
"""Rows of labels that cannot be used, beside those that came: so many are always among them."""

_VERSIONED = "{{ $labels.model }} version {{ $labels.version }} ({{ $labels.role }})"
_TOO_MANY, _FAILED, _DAMAGED = 'code="429"', 'outcome="failed"', 'reason="damaged"'
_LIVE = 'role!="shadow"'
_VERSION = "model, version, role"


def _where_it_runs(metric: Metric) -> str:
    """A predictor's own series, one a process: each has a disk of its own."""
    return f"max by (model, instance) ({selector(metric)})"


def more_than_few(metric: Metric, by: str, on: str = "") -> str:
    """By how much a counter of labels that cannot be used rose, where it is more than a few.

    Where none came beside them, a single one counts.

    Args:
        metric: the counter.
        by: labels of the result.
        on: labels by which they are compared with those that came; none compares all with all.
    """
    came = rise(collector.ROWS, on, 'kind="labels"')
    return f"{rise(metric, by)} > 0\nunless on ({on}) {rise(metric, on)} <= {FEW:g} * {came}"


PREDICTIONS_STOPPED = AlertRule(
    "HeliotropePredictionsStopped",
    # `unless`, not `== 0`: where the predictors are gone there is no series to be 0.
    f"sum by (model) (increase({selector(predictor.PREDICTIONS, _LIVE)}[1h] offset 10m)) > 0\n"
    f"unless sum by (model) (increase({selector(predictor.PREDICTIONS, _LIVE)}[10m])) > 0",
    Severity.PAGE,
    "{{ $labels.model }} has predicted nothing for 10 minutes, and "
    '{{ printf "%.0f" $value }} rows in the hour before.',
    "Callers, gateway or predictors have stopped. Without predictions nothing can be judged.",
)
ERROR_RATE_HIGH = AlertRule(
    "HeliotropeErrorRateHigh",
    f"{ERROR_RATIO.record} > {ERROR_SHARE} and {REQUEST_RATE.record} > 0",
    Severity.PAGE,
    f"{{{{ $value | humanizePercentage }}}} of the requests to {_VERSIONED} are answered 5xx.",
    "Bad input is answered 4xx, so these are faults of the predictor. A candidate that does it is "
    "rolled back by the controller; a champion needs a person.",
    lasts="5m",
)
LATENCY_HIGH = AlertRule(
    "HeliotropeLatencyHigh",
    f"{LATENCY_P99.record} > {LATENCY_SECONDS}",
    Severity.TICKET,
    f"p99 of {_VERSIONED} is {{{{ $value | humanizeDuration }}}}, limit {LATENCY_SECONDS:g}s.",
    "From a whole request's arrival to its answer, without the network and the gateway.",
    lasts="10m",
)
PREDICTOR_NOT_READY = AlertRule(
    "HeliotropePredictorNotReady",
    f"{series(predictor.PREDICTOR_READY)} == 0",
    Severity.PAGE,
    f"{_VERSIONED} runs and takes no requests.",
    "The process answers scrapes and its model is not loaded, in none of its replicas.",
    lasts="5m",
)
SPOOL_GROWING = AlertRule(
    "HeliotropeSpoolGrowing",
    f"{_where_it_runs(predictor.SPOOL_AGE)} > {SPOOL_AGE_SECONDS}\n"
    f"and on (model, instance) max by (model, instance) "
    f"(deriv({predictor.SPOOL_BYTES.name}[10m])) > 0",
    Severity.TICKET,
    "The spool of {{ $labels.model }} on {{ $labels.instance }} grows; its oldest row waits "
    "{{ $value | humanizeDuration }}.",
    "The shipper does not reach the collector, or the collector does not keep up. Nothing is lost "
    "until the disk budget is full.",
    lasts="5m",
)
SPOOL_NEARLY_FULL = AlertRule(
    "HeliotropeSpoolNearlyFull",
    f"{_where_it_runs(predictor.SPOOL_BYTES)} / {_where_it_runs(predictor.SPOOL_LIMIT)} "
    f"> {SPOOL_SHARE}",
    Severity.PAGE,
    "The spool of {{ $labels.model }} on {{ $labels.instance }} has used "
    "{{ $value | humanizePercentage }} of its disk budget.",
    "When it is full the oldest rows are dropped and counted, and serving goes on.",
    lasts="1m",
)
SPOOL_UNWRITABLE = AlertRule(
    "HeliotropeSpoolUnwritable",
    f"{_where_it_runs(predictor.SPOOL_WRITABLE)} == 0",
    Severity.PAGE,
    "The spool of {{ $labels.model }} on {{ $labels.instance }} takes no rows.",
    "The disk refuses writes. Requests are answered and their records are lost, and counted.",
)
PREDICTIONS_LOST = AlertRule(
    "HeliotropePredictionsLost",
    f"{rise(predictor.SPOOL_LOST, 'model, reason')} > 0",
    Severity.PAGE,
    counted(
        "predicted row of {{ $labels.model }} was", "predicted rows of {{ $labels.model }} were"
    )
    + " lost on the way to the spool in 10 minutes: {{ $labels.reason }}.",
    "They will never meet their labels. budget: the disk budget was full; write: the disk refused; "
    "deleted: somebody removed files.",
)
RECORDS_LOST = AlertRule(
    "HeliotropeRecordsLost",
    f"{rise(collector.LOST, 'model, reason')} > 0",
    Severity.TICKET,
    f"The collector learned in 10 minutes that {counted('record', 'records')} of "
    "{{ $labels.model }} will never come: {{ $labels.reason }}.",
    "The predictor's shipper said so; the table of losses has each range.",
)
COLLECTOR_REFUSING = AlertRule(
    "HeliotropeCollectorRefusing",
    f"{rate(collector.REQUESTS, 'route', _TOO_MANY)} > 0",
    Severity.TICKET,
    'The collector answers {{ printf "%.2f" $value }} requests a second on {{ $labels.route }} '
    "with 429.",
    "It holds as many bytes as it may. Senders wait and send again, so nothing is lost while the "
    "spools have room.",
    lasts="5m",
)
COLLECTOR_FAILING = AlertRule(
    "HeliotropeCollectorFailing",
    f"{rise(collector.COMMITS, 'model, kind', _FAILED)} > 2",
    Severity.PAGE,
    '{{ printf "%.0f" $value }} commits of {{ $labels.kind }} of {{ $labels.model }} failed in 10 '
    "minutes.",
    "The store does not take writes. Spools fill up and labels are answered 503.",
)
UPKEEP_FAILING = AlertRule(
    "HeliotropeUpkeepFailing",
    f"{rise(collector.UPKEEP, 'kind', _FAILED, '1h')} > 2",
    Severity.TICKET,
    'Upkeep of the {{ $labels.kind }} failed {{ printf "%.0f" $value }} times in an hour.',
    "Tables are not compacted or cleaned: queries slow down and the store grows.",
)
LABELS_REFUSED = AlertRule(
    "HeliotropeLabelsRefused",
    more_than_few(collector.REFUSED_LABELS, "reason"),
    Severity.TICKET,
    counted("label row was", "label rows were") + " refused in 10 minutes: {{ $labels.reason }}.",
    "The sender got the reason of each row. Others of the same upload were taken.",
)
BATCHES_DAMAGED = AlertRule(
    "HeliotropeBatchesDamaged",
    f"{rise(collector.REFUSED_BATCHES, 'reason', _DAMAGED)} > 0",
    Severity.TICKET,
    counted("spool batch", "spool batches") + " could not be read in 10 minutes.",
    "Their predictors have set them aside in quarantine and count them as lost.",
)

SERVING_ALERTS = (
    PREDICTIONS_STOPPED,
    ERROR_RATE_HIGH,
    LATENCY_HIGH,
    PREDICTOR_NOT_READY,
)
DATA_ALERTS = (
    SPOOL_GROWING,
    SPOOL_NEARLY_FULL,
    SPOOL_UNWRITABLE,
    PREDICTIONS_LOST,
    RECORDS_LOST,
    COLLECTOR_REFUSING,
    COLLECTOR_FAILING,
    UPKEEP_FAILING,
    LABELS_REFUSED,
    BATCHES_DAMAGED,
)
