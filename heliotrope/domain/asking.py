"""Causes that the controller makes of what it reads: alarms, the schedule, a missed target."""

from datetime import datetime

from heliotrope.domain.alarms import Alarm, AlarmSource
from heliotrope.domain.cron import latest_firing
from heliotrope.domain.retraining_history import RetrainingHistory
from heliotrope.domain.triggers import Cause, CauseKind

ALERT_HARM: dict[str, bool | None] = {
    "HeliotropeAccuracyBelowFloor": True,
    "HeliotropeAccuracyFell": True,
    "HeliotropeDataDrifted": None,
    "ModelAccuracyDegraded": True,
    "DataDriftDetected": None,
}
"""Alerts that ask for a retraining, ours and those of rules people write themselves, and whether
they rest on labelled outcomes. All others alert people only."""


def alert_cause(
    alarm: Alarm, champion: str | None, now: datetime, since: datetime | None = None
) -> Cause | None:
    """What an alarm asks for; None where it is over or asks for nothing.

    Flapping does not make it another cause: it is the same one until another version is champion.

    Args:
        alarm: of the model.
        champion: the version that it is about.
        now: UTC.
        since: when the world changed, as the controller's own tests say. An alert's start is no
            such time: it is when a rule was first true, by Prometheus' clock.
    """
    asks = alarm.firing and alarm.source is AlarmSource.PROMETHEUS and alarm.name in ALERT_HARM
    if not asks:
        return None
    return Cause(
        kind=CauseKind.ALERT,
        key=f"{alarm.fingerprint} of version {champion or 'none'}",
        model=alarm.model,
        text=f"{alarm.name}: {alarm.summary}" if alarm.summary else alarm.name,
        asked_at=now,
        harm=ALERT_HARM[alarm.name],
        since=since,
        champion=champion,
        evidence={"alarm": alarm.name, "labels": dict(alarm.labels), "firings": alarm.firings},
    )


def schedule_cause(
    model: str, schedule: str | None, after: datetime, now: datetime
) -> Cause | None:
    """The newest firing since `after`, and none of those missed before it.

    Args:
        model: the spec's name.
        schedule: five-field cron, UTC.
        after: the firing that was asked for last, or when the schedule was first seen.
        now: UTC.
    """
    fired = None if schedule is None else latest_firing(schedule, now)
    if fired is None or fired <= after:
        return None
    return Cause(
        kind=CauseKind.SCHEDULE,
        key=fired.isoformat(),
        model=model,
        text=f"the schedule {schedule} fired at {fired:%Y-%m-%d %H:%M} UTC",
        asked_at=now,
    )


def persistence_cause(
    model: str, history: RetrainingHistory, now: datetime, since: datetime | None = None
) -> Cause | None:
    """Ask again while the target is missed, the last retraining and its rollout being over.

    The target is what was accepted first. A loop that takes what a retraining gave for its new
    target accepts its own failure and stays there. One cause for each run that ended.

    Args:
        model: the spec's name.
        history: as of now.
        now: UTC.
        since: when the world changed, as the controller's own tests say: without it the run would
            hold out, and choose its memory by, rows of the world that is over.
    """
    level = history.level
    busy = history.under_way is not None or history.rollout is not None
    if busy or not history.runs or level is None or not level.missed:
        return None
    last = max(history.runs, key=lambda run: run.requested_at)
    return Cause(
        kind=CauseKind.PERSISTENCE,
        key=f"after {last.run_key}, version {history.champion}",
        model=model,
        text=f"{level} still misses the accepted {level.accepted:.3f} after {last.run_key}",
        asked_at=now,
        champion=history.champion,
        harm=True,
        since=since,
        evidence={"value": level.value, "accepted": level.accepted, "labels": level.labels},
    )
