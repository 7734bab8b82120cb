"""Cases of the alerts about serving, spools and the collector."""

from heliotrope.telemetry import alerts_data as alerts
from heliotrope.telemetry import collector_metrics as collector
from heliotrope.telemetry import predictor_metrics as predictor
from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.rule_cases import Case, Fires, row

_V = {"model": "loans", "version": "7", "role": "champion"}
_LOANS = {"model": "loans"}
_HERE = {"model": "loans", "instance": "one:8080"}


def _predictions(values: str, role: str = "champion") -> tuple[str, str]:
    return row(predictor.PREDICTIONS, values, model="loans", outcome="late", version="7", role=role)


def _requests(code: str, values: str) -> tuple[str, str]:
    return row(predictor.REQUESTS, values, **_V, protocol="v1", code=code)


def _latency(below: str) -> tuple[tuple[str, str], ...]:
    """Sixty requests a minute, of which so many take at most 0.25 s and the rest at most 0.5 s."""
    labels = {**_V, "protocol": "v1"}
    return tuple(
        row(predictor.LATENCY, values, "_bucket", **labels, le=bound)
        for bound, values in (("0.25", below), ("0.5", "0+60x60"), ("+Inf", "0+60x60"))
    )


SERVING_CASES = (
    Case(
        alerts.PREDICTIONS_STOPPED,
        "sixty a minute, then none",
        (_predictions("0+60x30 1800x30"),),
        Fires(
            _LOANS,
            "loans has predicted nothing for 10 minutes, and 1800 rows in the hour before.",
        ),
        at="45m",
    ),
    Case(
        alerts.PREDICTIONS_STOPPED,
        "the predictor is gone",
        (_predictions("0+60x30 _x30"),),
        Fires(
            _LOANS,
            "loans has predicted nothing for 10 minutes, and 1830 rows in the hour before.",
        ),
        at="45m",
    ),
    Case(alerts.PREDICTIONS_STOPPED, "they go on", (_predictions("0+60x60"),), at="45m"),
    Case(
        alerts.PREDICTIONS_STOPPED,
        "only a shadow has stopped",
        (_predictions("0+60x60"), _predictions("0+60x30 1800x30", "shadow")),
        at="45m",
    ),
    Case(
        alerts.PREDICTIONS_STOPPED,
        "nobody has asked for hours",
        (_predictions("0+60x30 1800x90"),),
        at="110m",
    ),
    Case(
        alerts.ERROR_RATE_HIGH,
        "a tenth is answered 500",
        (_requests("200", "0+90x60"), _requests("500", "0+10x60")),
        Fires(_V, "10% of the requests to loans version 7 (champion) are answered 5xx."),
    ),
    Case(
        alerts.ERROR_RATE_HIGH,
        "one of a thousand",
        (_requests("200", "0+999x60"), _requests("500", "0+1x60")),
    ),
    Case(
        alerts.ERROR_RATE_HIGH,
        "bad input is not the predictor's fault",
        (_requests("200", "0+50x60"), _requests("400", "0+50x60")),
    ),
    Case(
        alerts.LATENCY_HIGH,
        "a tenth takes half a second",
        _latency("0+54x60"),
        Fires(_V, "p99 of loans version 7 (champion) is 475ms, limit 0.25s."),
    ),
    Case(alerts.LATENCY_HIGH, "all are quick", _latency("0+60x60")),
    Case(
        alerts.PREDICTOR_NOT_READY,
        "the model is not loaded",
        (row(predictor.PREDICTOR_READY, 0, **_V),),
        Fires(_V, "loans version 7 (champion) runs and takes no requests."),
    ),
    Case(
        alerts.PREDICTOR_NOT_READY,
        "one of two replicas is ready",
        (
            row(predictor.PREDICTOR_READY, 0, **_V, instance="one:8080"),
            row(predictor.PREDICTOR_READY, 1, **_V, instance="two:8080"),
        ),
    ),
)


def _spool(rows_age: str, size: str, limit: float = 1000) -> tuple[tuple[str, str], ...]:
    return (
        row(predictor.SPOOL_AGE, rows_age, **_HERE),
        row(predictor.SPOOL_BYTES, size, **_HERE),
        row(predictor.SPOOL_LIMIT, limit, **_HERE),
    )


SPOOL_CASES = (
    Case(
        alerts.SPOOL_GROWING,
        "nothing is shipped for twenty minutes",
        _spool("0+60x60", "0+10x60"),
        Fires(
            _HERE,
            "The spool of loans on one:8080 grows; its oldest row waits 20m 0s.",
        ),
    ),
    Case(alerts.SPOOL_GROWING, "it is old and being sent", _spool("0+60x60", "900-10x60")),
    Case(alerts.SPOOL_GROWING, "it is shipped at once", _spool("1x60", "0+10x60")),
    Case(
        alerts.SPOOL_NEARLY_FULL,
        "three quarters are used",
        _spool("1x60", "750x60"),
        Fires(_HERE, "The spool of loans on one:8080 has used 75% of its disk budget."),
    ),
    Case(alerts.SPOOL_NEARLY_FULL, "a tenth is used", _spool("1x60", "100x60")),
    Case(
        alerts.SPOOL_UNWRITABLE,
        "the disk refuses",
        (row(predictor.SPOOL_WRITABLE, 0, **_HERE),),
        Fires(_HERE, "The spool of loans on one:8080 takes no rows."),
    ),
    Case(alerts.SPOOL_UNWRITABLE, "it takes rows", (row(predictor.SPOOL_WRITABLE, 1, **_HERE),)),
    Case(
        alerts.PREDICTIONS_LOST,
        "the budget was full",
        (row(predictor.SPOOL_LOST, "0x10 40x50", **_LOANS, reason="budget"),),
        Fires(
            {**_LOANS, "reason": "budget"},
            "40 predicted rows of loans were lost on the way to the spool in 10 minutes: budget.",
        ),
    ),
    Case(
        alerts.PREDICTIONS_LOST,
        "an old loss",
        (row(predictor.SPOOL_LOST, 40, **_LOANS, reason="budget"),),
        at="30m",
    ),
)


def _of(metric: Metric, values: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return (row(metric, values, **labels),)


_FAILED = {"outcome": "failed"}
_LABELS = {"model": "loans", "kind": "labels"}

COLLECTOR_CASES = (
    Case(
        alerts.RECORDS_LOST,
        "the first loss, with the series it begins",
        _of(collector.LOST, "_x15 12x45", **_LOANS, reason="budget"),
        Fires(
            {**_LOANS, "reason": "budget"},
            "The collector learned in 10 minutes that 12 records of loans will never come: budget.",
        ),
    ),
    Case(
        alerts.RECORDS_LOST,
        "an old loss",
        _of(collector.LOST, "12x60", **_LOANS, reason="budget"),
        at="30m",
    ),
    Case(
        alerts.COLLECTOR_REFUSING,
        "thirty a minute",
        _of(collector.REQUESTS, "0+30x60", route="spools", code="429"),
        Fires(
            {"route": "spools"},
            "The collector answers 0.50 requests a second on spools with 429.",
        ),
    ),
    Case(
        alerts.COLLECTOR_REFUSING,
        "all are taken",
        _of(collector.REQUESTS, "0+30x60", route="spools", code="200"),
    ),
    Case(
        alerts.COLLECTOR_FAILING,
        "one a minute",
        _of(collector.COMMITS, "0+1x60", **_LABELS, **_FAILED),
        Fires(_LABELS, "10 commits of labels of loans failed in 10 minutes."),
    ),
    Case(
        alerts.COLLECTOR_FAILING,
        "one failed, the rest were written",
        (
            *_of(collector.COMMITS, "0x15 1x45", **_LABELS, **_FAILED),
            *_of(collector.COMMITS, "0+1x60", **_LABELS, outcome="written"),
        ),
    ),
    Case(
        alerts.UPKEEP_FAILING,
        "six an hour",
        _of(collector.UPKEEP, "0+0.1x90", kind="labels", **_FAILED),
        Fires({"kind": "labels"}, "Upkeep of the labels failed 6 times in an hour."),
        at="80m",
    ),
    Case(
        alerts.UPKEEP_FAILING,
        "another collector did it",
        _of(collector.UPKEEP, "0+0.1x90", kind="labels", outcome="lost"),
        at="80m",
    ),
    Case(
        alerts.LABELS_REFUSED,
        "an unknown class",
        _of(collector.REFUSED_LABELS, "_x15 5x45", reason="label_unknown"),
        Fires(
            {"reason": "label_unknown"},
            "5 label rows were refused in 10 minutes: label_unknown.",
        ),
    ),
    Case(
        alerts.LABELS_REFUSED,
        "a single one",
        _of(collector.REFUSED_LABELS, "_x15 1x45", reason="key"),
        Fires({"reason": "key"}, "1 label row was refused in 10 minutes: key."),
    ),
    Case(
        alerts.LABELS_REFUSED,
        "three of two hundred",
        (
            *_of(collector.REFUSED_LABELS, "_x15 3x45", reason="key"),
            *_of(collector.ROWS, "0+20x60", **_LABELS),
        ),
        Fires({"reason": "key"}, "3 label rows were refused in 10 minutes: key."),
    ),
    Case(
        alerts.LABELS_REFUSED,
        "one of hundreds",
        (
            *_of(collector.REFUSED_LABELS, "_x15 1x45", reason="key"),
            *_of(collector.ROWS, "0+20x60", **_LABELS),
        ),
    ),
    Case(
        alerts.LABELS_REFUSED,
        "an old refusal",
        _of(collector.REFUSED_LABELS, "5x60", reason="label_unknown"),
        at="30m",
    ),
    Case(
        alerts.BATCHES_DAMAGED,
        "one cannot be read",
        _of(collector.REFUSED_BATCHES, "_x15 1x45", reason="damaged"),
        Fires(
            {"reason": "damaged"},
            "1 spool batch could not be read in 10 minutes.",
        ),
    ),
    Case(
        alerts.BATCHES_DAMAGED,
        "its sender was ahead, and sends again",
        _of(collector.REFUSED_BATCHES, "_x15 1x45", reason="ahead"),
    ),
)

DATA_CASES = (*SERVING_CASES, *SPOOL_CASES, *COLLECTOR_CASES)
