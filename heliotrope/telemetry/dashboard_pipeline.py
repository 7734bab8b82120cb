"""The dashboard of the data's way: spool, collector, Delta, truth, controller."""

from heliotrope.telemetry import collector_metrics as collector
from heliotrope.telemetry import controller_metrics as controller
from heliotrope.telemetry import predictor_metrics as predictor
from heliotrope.telemetry.metric import Metric
from heliotrope.telemetry.panels import INTERVAL, MODEL, Dashboard, Kind, Panel, Query, Row
from heliotrope.telemetry.promql import quantile, rate, selector, series
from heliotrope.telemetry.recording import STORED_RATE


def _here(metric: Metric) -> str:
    """A predictor's own, one a process."""
    return f"max by (model, instance) ({selector(metric, MODEL)})"


def _by_process(metric: Metric) -> str:
    return f"max by (instance) ({metric.name})"


def _rising(metric: Metric, by: str, where: str = MODEL) -> str:
    return rate(metric, by, where, INTERVAL)


def _total(metric: Metric, by: str, where: str = MODEL) -> str:
    return f"sum by ({by}) ({selector(metric, where)})"


SPOOL = Row(
    "Spool",
    (
        Panel(
            "Rows waiting",
            (Query(_here(predictor.SPOOL_ROWS), "{{instance}}"),),
            "On the predictors' disks.",
            width=6,
        ),
        Panel(
            "Disk",
            (
                Query(_here(predictor.SPOOL_BYTES), "used {{instance}}"),
                Query(_here(predictor.SPOOL_LIMIT), "budget {{instance}}", dashed=True),
            ),
            "Beyond the budget the oldest rows are dropped, and counted.",
            unit="bytes",
            width=6,
        ),
        Panel(
            "Age of the oldest row",
            (Query(_here(predictor.SPOOL_AGE), "{{instance}}"),),
            "Seconds when all is well.",
            unit="s",
            width=6,
        ),
        Panel(
            "Takes rows",
            (Query(_here(predictor.SPOOL_WRITABLE), "{{instance}}"),),
            "There is a file to write to.",
            Kind.STATES,
            width=6,
        ),
        Panel(
            "Rows lost before the spool",
            (Query(_total(predictor.SPOOL_LOST, "reason"), "{{reason}}"),),
            "Since the predictors started. They never meet their labels.",
            Kind.NUMBER,
            height=5,
            alarming=1,
        ),
        Panel(
            "Bytes found unreadable",
            (Query(_total(predictor.SPOOL_DAMAGED, "reason"), "{{reason}}"),),
            "At start: torn by a kill, or corrupt.",
            Kind.NUMBER,
            "bytes",
            height=5,
        ),
    ),
)

COLLECTOR = Row(
    "Collector and Delta",
    (
        Panel(
            "Rows stored",
            (Query(f"{STORED_RATE.record}{{{MODEL}}}", "{{kind}}"),),
            "A second, over five minutes.",
            unit="rowsps",
            width=8,
        ),
        Panel(
            "Age when stored, p99",
            (Query(quantile(collector.AGE, 0.99, "model", MODEL, INTERVAL), "predictions"),),
            "Of the newest prediction of each batch.",
            unit="s",
            width=8,
        ),
        Panel(
            "Commit, p50 and p99",
            (
                Query(
                    quantile(collector.COMMIT_SECONDS, 0.5, "kind", "", INTERVAL), "p50 {{kind}}"
                ),
                Query(
                    quantile(collector.COMMIT_SECONDS, 0.99, "kind", "", INTERVAL), "p99 {{kind}}"
                ),
            ),
            "Time a commit to Delta takes, decoding included.",
            unit="s",
            width=8,
        ),
        Panel(
            "Requests, by route and status",
            (Query(_rising(collector.REQUESTS, "route, code", ""), "{{route}} {{code}}"),),
            "429 is back-pressure: senders wait.",
            unit="reqps",
            width=8,
        ),
        Panel(
            "Commits",
            (Query(_rising(collector.COMMITS, "kind, outcome"), "{{kind}} {{outcome}}"),),
            "Failed ones are tried again by their senders.",
            unit="ops",
            width=8,
        ),
        Panel(
            "Held until committed",
            (
                Query(_by_process(collector.WAITING), "held {{instance}}"),
                Query(_by_process(collector.WAITING_LIMIT), "limit {{instance}}", dashed=True),
            ),
            "At the limit requests are answered 429.",
            unit="bytes",
            width=8,
        ),
        Panel(
            "Came twice",
            (Query(_total(collector.DUPLICATES, "kind"), "{{kind}}"),),
            "Batches and uploads that the store had already; harmless.",
            Kind.NUMBER,
            width=4,
            height=5,
        ),
        Panel(
            "Labels refused",
            (Query(_total(collector.REFUSED_LABELS, "reason", ""), "{{reason}}"),),
            "Rows, by reason; all models.",
            Kind.NUMBER,
            width=6,
            height=5,
        ),
        Panel(
            "Batches refused",
            (Query(_total(collector.REFUSED_BATCHES, "reason", ""), "{{reason}}"),),
            "Damaged are lost; ahead are sent again. All models.",
            Kind.NUMBER,
            width=4,
            height=5,
        ),
        Panel(
            "Records lost",
            (Query(_total(collector.LOST, "reason"), "{{reason}}"),),
            "As the predictors' shippers said.",
            Kind.NUMBER,
            width=4,
            height=5,
            alarming=1,
        ),
        Panel(
            "Upkeep of tables",
            (Query(_total(collector.UPKEEP, "kind, outcome", ""), "{{kind}} {{outcome}}"),),
            "Rounds of compaction, retention and vacuum.",
            Kind.NUMBER,
            width=6,
            height=5,
        ),
    ),
)

TRUTH = Row(
    "Truth",
    (
        Panel(
            "Events read",
            (Query(_rising(controller.TRUTH_EVENTS, "kind"), "{{kind}}"),),
            "A second.",
            unit="rowsps",
        ),
        Panel(
            "Age of the newest prediction in the truth",
            (
                Query(
                    f"max({controller.CLOCK.name}) - on () group_right () "
                    f"{series(controller.TRUTH_NEWEST_PREDICTION, MODEL)}",
                    "age",
                ),
            ),
            "In the controller's clock; rises when nothing is predicted, or nothing is read.",
            unit="s",
        ),
    ),
)

CONTROLLER = Row(
    "Controller",
    (
        Panel(
            "Duties, p99",
            (Query(quantile(controller.TICK_SECONDS, 0.99, "duty", "", INTERVAL), "{{duty}}"),),
            "Time a run of each duty takes.",
            unit="s",
            width=8,
        ),
        Panel(
            "Since the last run",
            (Query(f"time() - {series(controller.LAST_TICK)}", "{{duty}}"),),
            "In the machine's clock.",
            unit="s",
            width=8,
        ),
        Panel(
            "Failed runs",
            (Query(_rising(controller.DUTY_FAILURES, "duty", ""), "{{duty}}"),),
            "A second. A failing duty does not stop the others.",
            unit="ops",
            width=8,
        ),
        Panel(
            "Acts",
            (Query(_by_process(controller.CONTROLLER_ACTIVE), "{{instance}}"),),
            "Exactly one holds the lock.",
            Kind.STATES,
            width=6,
            height=5,
        ),
        Panel(
            "Clock",
            (Query(f"max({controller.CLOCK.name}) * 1000"),),
            "The controller's; it may be a simulated one.",
            Kind.NUMBER,
            "dateTimeAsIso",
            width=6,
            height=5,
        ),
        Panel(
            "Alerts received",
            (Query(_total(controller.ALERTS_RECEIVED, "alert, status", ""),
                   "{{alert}} {{status}}"),),
            "From Alertmanager.",
            Kind.NUMBER,
            width=6,
            height=5,
        ),
        Panel(
            "Messages to people",
            (Query(_total(controller.NOTIFICATIONS, "outcome", ""), "{{outcome}}"),),
            "Sent and failed.",
            Kind.NUMBER,
            width=6,
            height=5,
        ),
        Panel(
            "Processes that answer scrapes",
            (Query('up{job=~"heliotrope-.*"}', "{{job}} {{instance}}"),),
            "Predictors, collectors, controllers, gateway.",
            Kind.STATES,
            width=24,
        ),
    ),
)  # fmt: skip

PIPELINE_DASHBOARD = Dashboard(
    "heliotrope-data",
    "Heliotrope: the data's way",
    "From the answer to the truth: spool, collector, Delta, controller. Nothing may be lost.",
    (SPOOL, COLLECTOR, TRUTH, CONTROLLER),
)
