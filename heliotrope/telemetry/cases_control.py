"""Cases of the alerts about the controller, rollouts, retraining and scraping."""

from heliotrope.telemetry import alerts_control as alerts
from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry.cases_data import DATA_CASES
from heliotrope.telemetry.cases_model import MODEL_CASES
from heliotrope.telemetry.rule_cases import Case, Fires, row

_LOANS = {"model": "loans"}
_HOUR = 3600


def _rollout(age: float) -> tuple[tuple[str, str], ...]:
    return (
        row(known.ROLLOUT_STATE_AGE, age, **_LOANS),
        row(known.ROLLOUT_STATE_TIMEOUT, 10 * _HOUR, **_LOANS),
        row(known.ROLLOUT_PAIRED_LABELS, 31, **_LOANS),
    )


def _failures(count: int) -> tuple[tuple[str, str], ...]:
    return (
        row(known.RETRAINING_FAILURES, count, **_LOANS),
        row(known.RETRAINING_FAILURE_LIMIT, 3, **_LOANS),
    )


def _up(value: int, job: str = "heliotrope-collector") -> tuple[tuple[str, str], ...]:
    return ((f'up{{job="{job}",instance="one:7001"}}', f"{value}x60"),)


CONTROL_CASES = (
    Case(
        alerts.CANDIDATE_STUCK,
        "nine of ten hours are over",
        _rollout(9 * _HOUR),
        Fires(
            _LOANS,
            "The candidate of loans has been in its state for 9h 0m 0s, with 31 paired labels; it "
            "is rolled back after 10h 0m 0s.",
        ),
    ),
    Case(alerts.CANDIDATE_STUCK, "one of ten hours", _rollout(_HOUR)),
    Case(alerts.CANDIDATE_STUCK, "no rollout is under way", _rollout(9 * _HOUR)[1:]),
    Case(
        alerts.SERVING_UNSETTLED,
        "for twenty minutes",
        (row(known.SERVING_SETTLED, 0, **_LOANS),),
        Fires(
            _LOANS,
            "What is served of loans has not been what was asked for, for 15 minutes.",
        ),
    ),
    Case(
        alerts.SERVING_UNSETTLED,
        "it took five minutes",
        (row(known.SERVING_SETTLED, "0x5 1x55", **_LOANS),),
    ),
    Case(
        alerts.RETRAINING_FAILING,
        "the limit is reached",
        _failures(3),
        Fires(_LOANS, "3 candidates in a row of loans came to nothing; the limit is 3."),
    ),
    Case(alerts.RETRAINING_FAILING, "one failed", _failures(1)),
    Case(
        alerts.DUTY_FAILING,
        "each minute, for one model",
        (row(known.DUTY_FAILURES, "0+1x60", duty="truth", **_LOANS),),
        Fires(
            {"duty": "truth", **_LOANS},
            "The duty truth failed 10 times in 10 minutes for loans.",
        ),
    ),
    Case(
        alerts.DUTY_FAILING,
        "each minute, for all models",
        (row(known.DUTY_FAILURES, "0+1x60", duty="upkeep", model=""),),
        Fires({"duty": "upkeep"}, "The duty upkeep failed 10 times in 10 minutes."),
    ),
    Case(
        alerts.DUTY_FAILING,
        "once",
        (row(known.DUTY_FAILURES, "0x15 1x45", duty="truth", **_LOANS),),
    ),
    Case(
        alerts.CONTROLLER_SILENT,
        "no tick for ten minutes",
        (row(known.LAST_TICK, "0+60x10 600x50", duty="rollout"),),
        Fires(
            {"duty": "rollout"},
            "The duty rollout last ran to its end 10m 0s ago.",
        ),
    ),
    Case(
        alerts.CONTROLLER_SILENT,
        "a second controller took over",
        (
            row(known.LAST_TICK, "0+60x10 600x50", duty="rollout", instance="one:7002"),
            row(known.LAST_TICK, "0+60x60", duty="rollout", instance="two:7002"),
        ),
    ),
    Case(
        alerts.CONTROLLER_ABSENT,
        "it is gone",
        (row(known.CONTROLLER_ACTIVE, "1x5 _x55"),),
        Fires({}, "No controller is active."),
    ),
    Case(
        alerts.CONTROLLER_ABSENT,
        "all stand by",
        (row(known.CONTROLLER_ACTIVE, 0, instance="one:7002"),),
        Fires({}, "No controller is active."),
    ),
    Case(
        alerts.CONTROLLER_ABSENT,
        "one of two acts",
        (
            row(known.CONTROLLER_ACTIVE, 0, instance="one:7002"),
            row(known.CONTROLLER_ACTIVE, 1, instance="two:7002"),
        ),
    ),
    Case(
        alerts.NOTIFICATIONS_FAILING,
        "two were not sent",
        (row(known.NOTIFICATIONS, "_x15 2x45", outcome="failed"),),
        Fires({"outcome": "failed"}, "2 messages to people failed in 10 minutes."),
    ),
    Case(
        alerts.NOTIFICATIONS_FAILING,
        "all were sent",
        (row(known.NOTIFICATIONS, "0+1x60", outcome="sent"),),
    ),
    Case(
        alerts.TARGET_DOWN,
        "for twenty minutes",
        _up(0),
        Fires(
            {"job": "heliotrope-collector", "instance": "one:7001"},
            "heliotrope-collector at one:7001 does not answer scrapes.",
        ),
    ),
    Case(alerts.TARGET_DOWN, "it answers", _up(1)),
    Case(alerts.TARGET_DOWN, "somebody else's", _up(0, "node")),
)

CASES: dict[str, tuple[Case, ...]] = {
    "model": MODEL_CASES,
    "data": DATA_CASES,
    "control": CONTROL_CASES,
}
"""Cases of every alert, by file."""
