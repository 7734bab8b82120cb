"""Alerts about what decides: the controller, rollouts, retraining, and scraping itself."""

from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry.alerts_model import looked_up
from heliotrope.telemetry.promql import rise, series
from heliotrope.telemetry.rules import AlertRule, Severity, counted

TICK_AGE_SECONDS = 300
"""Since a duty's last end, by the machine's clock."""
STUCK_SHARE = 0.8
"""Of a state's longest stay, while a person can still do something."""
_FAILED = 'outcome="failed"'

CANDIDATE_STUCK = AlertRule(
    "HeliotropeCandidateStuck",
    f"{series(known.ROLLOUT_STATE_AGE)} > on (model) "
    f"{STUCK_SHARE} * {series(known.ROLLOUT_STATE_TIMEOUT)}",
    Severity.TICKET,
    "The candidate of {{ $labels.model }} has been in its state for "
    "{{ $value | humanizeDuration }}, with "
    f"{looked_up(known.ROLLOUT_PAIRED_LABELS, 'model', shown='printf `%.0f`')} paired labels; it "
    "is rolled back after "
    f"{looked_up(known.ROLLOUT_STATE_TIMEOUT, 'model', shown='humanizeDuration')}.",
    "The evidence decides neither way, or does not come: too little traffic, labels too late.",
)
SERVING_UNSETTLED = AlertRule(
    "HeliotropeServingUnsettled",
    f"{series(known.SERVING_SETTLED)} == 0",
    Severity.TICKET,
    "What is served of {{ $labels.model }} has not been what was asked for, for 15 minutes.",
    "A version does not become ready, or the gateway does not take the weights. The rollout waits.",
    lasts="15m",
)
RETRAINING_FAILING = AlertRule(
    "HeliotropeRetrainingFailing",
    f"{series(known.RETRAINING_FAILURES)} >= on (model) {series(known.RETRAINING_FAILURE_LIMIT)}",
    Severity.PAGE,
    '{{ printf "%.0f" $value }} candidates in a row of {{ $labels.model }} came to nothing; the '
    f"limit is {looked_up(known.RETRAINING_FAILURE_LIMIT, 'model', shown='printf `%.0f`')}.",
    "Evidence starts no further run until a person looked: retraining does not mend this.",
)
DUTY_FAILING = AlertRule(
    "HeliotropeDutyFailing",
    f"{rise(known.DUTY_FAILURES, 'duty, model')} > 2",
    Severity.TICKET,
    'The duty {{ $labels.duty }} failed {{ printf "%.0f" $value }} times in 10 minutes'
    "{{ with $labels.model }} for {{ . }}{{ end }}.",
    "The controller goes on with its other duties and tries again each tick.",
)
CONTROLLER_SILENT = AlertRule(
    "HeliotropeControllerSilent",
    f"time() - {series(known.LAST_TICK)} > {TICK_AGE_SECONDS}",
    Severity.PAGE,
    "The duty {{ $labels.duty }} last ran to its end {{ $value | humanizeDuration }} ago.",
    "What it watches is not watched. Traffic stays as it is.",
)
CONTROLLER_ABSENT = AlertRule(
    "HeliotropeControllerAbsent",
    f"absent({known.CONTROLLER_ACTIVE.name} == 1)",
    Severity.PAGE,
    "No controller is active.",
    "Nothing is judged, rolled out or retrained. Predictions and labels are kept all the same.",
    lasts="5m",
)
NOTIFICATIONS_FAILING = AlertRule(
    "HeliotropeNotificationsFailing",
    f"{rise(known.NOTIFICATIONS, 'outcome', _FAILED)} > 0",
    Severity.TICKET,
    counted("message", "messages") + " to people failed in 10 minutes.",
    "Alarms are in the store and on the live page, and nobody was told of them.",
)
TARGET_DOWN = AlertRule(
    "HeliotropeTargetDown",
    'up{job=~"heliotrope-.*"} == 0',
    Severity.PAGE,
    "{{ $labels.job }} at {{ $labels.instance }} does not answer scrapes.",
    "The process is down or cannot be reached; a supervisor restarts it with back-off.",
    lasts="2m",
)

CONTROL_ALERTS = (
    CANDIDATE_STUCK,
    SERVING_UNSETTLED,
    RETRAINING_FAILING,
    DUTY_FAILING,
    CONTROLLER_SILENT,
    CONTROLLER_ABSENT,
    NOTIFICATIONS_FAILING,
    TARGET_DOWN,
)
