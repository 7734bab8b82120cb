"""What a spec asks of the cluster's own schedules, as KFP takes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from heliotrope.domain.asking import schedule_cause
from heliotrope.domain.cron import with_seconds
from heliotrope.service.drift_duty import Door
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec

MONITORING = "monitoring.yaml"
RETRAINING = "retraining.yaml"
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Recurring:
    """One recurring run: what is run, and when. Exactly one of `cron` and `every_seconds` is set.

    Its name is unique among ours.
    """

    name: str
    pipeline: str
    """File name in the compiled folder."""
    parameters: Mapping[str, str]
    cron: str | None = None
    """Six fields, seconds first; UTC."""
    every_seconds: int | None = None
    max_concurrency: int = 1
    """1 to 10; one at a time, since two would write to one log."""
    description: str = ""


def recurring_runs(spec: ModelSpec, settle: timedelta) -> list[Recurring]:
    """Every recurring run that a model wants.

    The retraining schedule asks the one door, as the controller does, and names the same cause: so
    whichever comes first, one run is started. It helps where a controller was down at that time.

    Args:
        spec: of the model.
        settle: how long rows of a window may take to arrive; a window is looked at after that.
    """
    text = dump_spec(spec)
    window = spec.monitoring.window
    cron = monitoring_cron(window, min(settle, window / 10))
    wanted = [
        Recurring(
            name=f"{spec.name}-monitoring",
            pipeline=MONITORING,
            parameters={"spec": text},
            cron=cron,
            every_seconds=None if cron else max(1, int(window.total_seconds())),
            description=f"Looks at each window of {spec.name}.",
        )
    ]
    if spec.retraining.schedule is not None:
        wanted.append(
            Recurring(
                name=f"{spec.name}-retraining",
                pipeline=RETRAINING,
                parameters={"spec": text},
                cron=with_seconds(spec.retraining.schedule),
                description=f"Asks for a retraining of {spec.name} at {spec.retraining.schedule}.",
            )
        )
    return wanted


def names_of(model: str) -> list[str]:
    """Names of every recurring run a model may have, whatever its spec says now."""
    return [f"{model}-monitoring", f"{model}-retraining"]


def monitoring_cron(window: timedelta, settle: timedelta) -> str | None:
    """When windows have just ended, seconds first; None where no cron line says so.

    Windows begin at midnight UTC of 1970-01-01, so those that divide a day end at the same times
    every day.

    >>> monitoring_cron(timedelta(hours=6), timedelta(minutes=2))
    '0 2 0,6,12,18 * * *'
    >>> monitoring_cron(timedelta(minutes=20), timedelta(minutes=2))
    '0 2,22,42 * * * *'
    >>> monitoring_cron(timedelta(days=7), timedelta(minutes=2)) is None
    True
    """
    shift = -(-settle // _MINUTE)
    if window > _DAY or window < _MINUTE or _DAY % window or window % _MINUTE:
        return None
    if window < _HOUR:
        step = window // _MINUTE
        if 60 % step or shift >= step:
            return None
        minutes = ",".join(str(at + shift) for at in range(0, 60, step))
        return f"0 {minutes} * * * *"
    if window % _HOUR or shift >= 60:
        return None
    step = window // _HOUR
    hours = ",".join(str(at) for at in range(0, 24, step))
    return f"0 {shift} {hours if step > 1 else '*'} * * *"


def ask_by_schedule(spec: ModelSpec, door: Door, now: datetime) -> str:
    """Ask for the newest firing of a spec's schedule; answers what became of it.

    Args:
        spec: of the model.
        door: where it is asked.
        now: UTC.
    """
    before = datetime.min.replace(tzinfo=UTC)
    cause = schedule_cause(spec.name, spec.retraining.schedule, before, now)
    if cause is None:
        return f"{spec.name} has no schedule that has fired"
    trigger = door.ask(cause, now)
    return f"{cause.text}: {trigger.state.value} ({trigger.rule}): {trigger.reason}"
