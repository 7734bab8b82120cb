"""The dashboard of rollouts and retraining: what changes, on what evidence."""

from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry.panels import MODEL, Dashboard, Kind, Panel, Query, Row
from heliotrope.telemetry.promql import series

_ONE = "{{version}} {{role}}"

ROLLOUT = Row(
    "Rollout",
    (
        Panel(
            "State",
            (Query(series(known.ROLLOUT_STATE, MODEL), "{{state}}"),),
            "Of the newest rollout.",
            Kind.STATES,
            height=10,
        ),
        Panel(
            "Share of live traffic",
            (Query(series(known.TRAFFIC_SHARE, MODEL), _ONE),),
            "As the gateway splits now.",
            unit="percentunit",
            height=10,
            low=0,
            high=1,
            stacked=True,
        ),
        Panel(
            "Candidate against champion, on the same requests",
            (
                Query(series(known.ROLLOUT_DIFFERENCE_HIGH, MODEL), "high", band_to="low"),
                Query(series(known.ROLLOUT_DIFFERENCE_LOW, MODEL), "low"),
                Query(series(known.ROLLOUT_DIFFERENCE, MODEL), "gain in mean loss"),
            ),
            "Above 0 the candidate is better. The interval is always-valid: looking often does no "
            "harm.",
        ),
        Panel(
            "Paired labels",
            (Query(series(known.ROLLOUT_PAIRED_LABELS, MODEL), "pairs"),),
            "Labelled requests that both have answered.",
            width=6,
        ),
        Panel(
            "Time in its state",
            (
                Query(series(known.ROLLOUT_STATE_AGE, MODEL), "in this state"),
                Query(series(known.ROLLOUT_STATE_TIMEOUT, MODEL), "rolled back after", dashed=True),
            ),
            "In the controller's clock.",
            unit="s",
            width=6,
        ),
        Panel(
            "Versions ready",
            (Query(series(known.REVISION_READY, MODEL), _ONE),),
            "Of those that were asked for.",
            Kind.STATES,
            width=8,
        ),
        Panel(
            "Served as asked for",
            (Query(series(known.SERVING_SETTLED, MODEL), "settled"),),
            "The rollout waits until it is.",
            Kind.STATES,
            width=8,
        ),
        Panel(
            "Rollouts that ended",
            (Query(f"sum by (outcome) ({known.ROLLOUTS.name}{{{MODEL}}})", "{{outcome}}"),),
            "Since the controller started.",
            Kind.NUMBER,
            width=8,
        ),
    ),
)

RETRAINING = Row(
    "Retraining",
    (
        Panel(
            "Askings, and what was decided",
            (
                Query(
                    f"sum by (cause, decision) ({known.RETRAINING_TRIGGERS.name}{{{MODEL}}})",
                    "{{cause}}: {{decision}}",
                ),
            ),
            "Since the controller started.",
            width=8,
        ),
        Panel(
            "Runs that ended",
            (Query(f"sum by (outcome) ({known.RETRAINING_RUNS.name}{{{MODEL}}})", "{{outcome}}"),),
            "Since the controller started.",
            width=8,
        ),
        Panel(
            "Under way",
            (Query(series(known.RETRAINING_RUNNING, MODEL), "training"),),
            "One run at a time.",
            Kind.STATES,
            width=4,
        ),
        Panel(
            "Failures in a row",
            (
                Query(series(known.RETRAINING_FAILURES, MODEL), "failed"),
                Query(series(known.RETRAINING_FAILURE_LIMIT, MODEL), "limit", dashed=True),
            ),
            "At the limit evidence starts no further run.",
            width=4,
        ),
    ),
)

ROLLOUT_DASHBOARD = Dashboard(
    "heliotrope-rollout",
    "Heliotrope: rollout and retraining",
    "What is being changed, how far it is, and on what evidence.",
    (ROLLOUT, RETRAINING),
)
