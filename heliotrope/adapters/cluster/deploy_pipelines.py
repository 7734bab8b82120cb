"""The parts of a deployment that KFP keeps: pipelines and recurring runs."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from heliotrope.adapters.cluster.kfp import Kfp, PipelineVersion, ScheduleAction
from heliotrope.adapters.cluster.kfp_pipelines import pipeline_name, version_name, with_image
from heliotrope.domain.deployment import Action, Change
from heliotrope.errors import HeliotropeError
from heliotrope.service.recurring import Recurring, names_of, recurring_runs
from heliotrope.spec import ModelSpec

_ACTIONS = {
    ScheduleAction.NONE: Action.NONE,
    ScheduleAction.CREATE: Action.CREATE,
    ScheduleAction.REPLACE: Action.CHANGE,
    ScheduleAction.ENABLE: Action.CHANGE,
    ScheduleAction.TIDY: Action.CHANGE,
}
_WHY = {
    ScheduleAction.ENABLE: "it was switched off",
    ScheduleAction.TIDY: "there are others of its name",
}


def compiled_texts(compiled: Path, image: str | None) -> dict[str, str]:
    """The compiled pipelines by file name, with the image that their steps run.

    Raises:
        HeliotropeError: there are none.
    """
    found = sorted(compiled.glob("*.yaml"))
    if not found:
        raise HeliotropeError(f"Compiled pipelines must be in {compiled}. Got none.")
    texts = {file.name: file.read_text() for file in found}
    return {k: with_image(v, image) if image else v for k, v in texts.items()}


class Uploaded:
    """One pipeline, with this content as its newest version."""

    kind = "Pipeline"

    def __init__(self, kfp: Kfp, text: str) -> None:
        self._kfp, self._text = kfp, text
        self.name, self._version = pipeline_name(text), version_name(text)

    def plan(self) -> Change:
        """Compare contents by their hash."""
        if self._kfp.pipelines.current(self._text) is not None:
            return Change(self.kind, self.name, Action.NONE, f"version {self._version}")
        action = Action.CREATE if self._kfp.pipelines.find(self.name) is None else Action.CHANGE
        return Change(self.kind, self.name, action, f"new version {self._version}")

    def apply(self) -> Change:
        """Upload it, where it is not the newest."""
        change = self.plan()
        self._kfp.pipelines.upload(self._text)
        return change


class Scheduled:
    """One recurring run."""

    kind = "RecurringRun"

    def __init__(self, kfp: Kfp, recurring: Recurring, text: str) -> None:
        self._kfp, self._recurring, self._text = kfp, recurring, text
        self.name = recurring.name

    def plan(self) -> Change:
        """Compare it, and whether it runs the newest version."""
        known = self._kfp.pipelines.current(self._text)
        plan = self._kfp.schedules.plan(self._recurring, known or _unborn(self._text))
        one = self._recurring
        when = f"cron {one.cron} UTC" if one.cron else f"every {one.every_seconds} s"
        why = _WHY.get(plan.action, when)
        details = tuple(f"~ {one}" for one in plan.differences)
        return Change(self.kind, self.name, _ACTIONS[plan.action], why, details)

    def apply(self) -> Change:
        """Make or replace it."""
        change = self.plan()
        version = self._kfp.pipelines.newest(pipeline_name(self._text))
        self._kfp.schedules.upsert(self._recurring, version)
        return change


class Unscheduled:
    """Recurring runs of one name, which go."""

    kind = "RecurringRun"

    def __init__(self, kfp: Kfp, name: str) -> None:
        self._kfp, self.name = kfp, name

    def plan(self) -> Change:
        """Look whether there is one."""
        there = self._kfp.schedules.named(self.name)
        if not there:
            return Change(self.kind, self.name, Action.NONE, "it is not there")
        return Change(self.kind, self.name, Action.REMOVE)

    def apply(self) -> Change:
        """Delete them."""
        change = self.plan()
        self._kfp.schedules.delete(self.name)
        return change


class Withdrawn:
    """One pipeline, which goes with the last model."""

    kind = "Pipeline"

    def __init__(self, kfp: Kfp, name: str, others: Callable[[], Sequence[str]]) -> None:
        self._kfp, self.name, self._others = kfp, name, others

    def plan(self) -> Change:
        """Look whether another model is deployed."""
        if self._kfp.pipelines.find(self.name) is None:
            return Change(self.kind, self.name, Action.NONE, "it is not there")
        others = self._others()
        if others:
            return Change(self.kind, self.name, Action.KEEP, f"{', '.join(others)} run it too")
        return Change(self.kind, self.name, Action.REMOVE, "no other model is deployed")

    def apply(self) -> Change:
        """Delete it and its versions; runs that were stay."""
        change = self.plan()
        if change.action.acts:
            self._kfp.pipelines.delete(self.name)
        return change


def pipeline_parts(
    kfp: Kfp, spec: ModelSpec, texts: dict[str, str], settle: timedelta
) -> list[Uploaded | Scheduled]:
    """Pipelines first, then the schedules that run them.

    Raises:
        HeliotropeError: a schedule's pipeline was not compiled.
    """
    uploads: list[Uploaded | Scheduled] = [Uploaded(kfp, text) for text in texts.values()]
    for recurring in recurring_runs(spec, settle):
        if recurring.pipeline not in texts:
            raise HeliotropeError(
                f"The pipeline of {recurring.name} must be compiled. Got no {recurring.pipeline}."
            )
        uploads.append(Scheduled(kfp, recurring, texts[recurring.pipeline]))
    return uploads


def schedule_removals(kfp: Kfp, model: str) -> list[Unscheduled]:
    """Every recurring run that a model may have."""
    return [Unscheduled(kfp, name) for name in names_of(model)]


def pipeline_removals(
    kfp: Kfp, texts: dict[str, str], others: Callable[[], Sequence[str]]
) -> list[Withdrawn]:
    """Every pipeline that a deployment uploads."""
    return [Withdrawn(kfp, pipeline_name(text), others) for text in texts.values()]


def _unborn(text: str) -> PipelineVersion:
    """A version that an upload would make."""
    name = version_name(text)
    return PipelineVersion(pipeline_name(text), "", name, f"(new) {name}")
