"""The controller's watch over drift: each window once, when it is over, in this process."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from heliotrope.domain.alarms import Alarm, AlarmSource, leading
from heliotrope.domain.drift import DriftReport
from heliotrope.domain.drift.documents import DriftState
from heliotrope.domain.triggers import Cause, Trigger
from heliotrope.errors import NotFoundError
from heliotrope.ports.state import StateKind
from heliotrope.service import diagnosis as why
from heliotrope.service.drift_reference import MonitoringTools, Reference, ReferenceBook
from heliotrope.service.monitoring import (
    closed_window,
    collect_window,
    export_report,
    judge_window,
    read_memory,
    record_report,
)
from heliotrope.spec import ModelSpec
from heliotrope.telemetry.board import Board

logger = logging.getLogger("heliotrope.controller")
SETTLE = timedelta(minutes=2)
"""How long rows of a window may take from the predictor to the store."""
ACTOR = "controller"


class Door(Protocol):
    """The one door to retraining."""

    def ask(self, cause: Cause, now: datetime) -> Trigger:
        """Decide on a cause."""
        ...


@dataclass
class DriftDuty:
    """Judges every closed window of one model against its champion's reference.

    When K of the last N windows drifted, the latest among them, labels are asked whether it does
    harm, and the door is asked. A single window never retrains; a data fault is told and never
    retrains.

    Args:
        spec: of the model.
        tools: of the outside.
        board: the controller's.
        door: where causes go; None records only.
    """

    spec: ModelSpec
    tools: MonitoringTools
    board: Board
    door: Door | None = None
    settle: Callable[[ModelSpec], timedelta] = field(
        default=lambda spec: min(SETTLE, spec.monitoring.window / 10)
    )
    _book: ReferenceBook = field(init=False)
    _done: datetime | None = None

    def __post_init__(self) -> None:
        """Start without a reference; it is made at the first window."""
        self._book = ReferenceBook(self.spec.name, self.tools)

    @property
    def name(self) -> str:
        """For logs."""
        return f"drift {self.spec.name}"

    @property
    def model(self) -> str:
        """Whose failures are counted."""
        return self.spec.name

    def run(self, now: datetime) -> None:
        """Judge the newest window that is over, if that was not done.

        Raises:
            UnavailableError: the store, MLflow or the database does not answer.
            ConflictError: another process recorded a window meanwhile; the next run goes on.
        """
        since, until = closed_window(self.spec, now, self.settle(self.spec))
        if self._done == until:
            return
        reference = self._book.champion()
        if reference is None:
            return
        memory, _ = read_memory(self.tools.state, self.spec, reference.version)
        same = memory.version == reference.version
        if same and any(w.window_to >= until for w in memory.windows):
            self._done = until
            return
        spec = self._seen_by(reference)
        collected = collect_window(self.tools.outcomes, spec, reference.version, since, until)
        if not collected.window.rows:
            # Nothing is new: there is nothing to say, and nothing to forget.
            self._done = until
            return
        report = judge_window(spec, collected, reference)
        memory = record_report(self.tools.state, self.spec, report, now, ACTOR)
        export_report(self.board, report)
        self._act(spec, reference, report, memory, now)
        self._done = until

    def _seen_by(self, reference: Reference) -> ModelSpec:
        # The champion reads its own features; limits are those of the spec as it is now.
        return self.spec.model_copy(update={"features": reference.spec.features})

    def _act(
        self,
        spec: ModelSpec,
        reference: Reference,
        report: DriftReport,
        memory: DriftState,
        now: datetime,
    ) -> None:
        if not report.fatal and not memory.called:
            return
        if report.window_from is None or report.window_to is None:
            return
        explained = why.diagnose_window(
            spec, self.tools, reference, report.window_from, report.window_to, now
        )
        found = explained.diagnosis
        about = f"drift, window to {report.window_to:%Y-%m-%d %H:%M}"
        self.tools.state.apply(now, (), [why.diagnosis_entry(found, now, ACTOR, about)])
        if memory.called and self.door is not None:
            self.door.ask(why.drift_cause(self.spec, report, found, now), now)


@dataclass
class DiagnosisDuty:
    """Names the cause of every accuracy alarm that fires, and asks the door with it.

    Args:
        spec: of the model.
        tools: of the outside.
        door: where causes go.
        concerns: which alarms are about accuracy.
    """

    spec: ModelSpec
    tools: MonitoringTools
    door: Door | None
    concerns: Callable[[Alarm], bool] = lambda alarm: alarm.source is AlarmSource.CONTROLLER
    _book: ReferenceBook = field(init=False)
    _named: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start without a reference."""
        self._book = ReferenceBook(self.spec.name, self.tools)

    @property
    def name(self) -> str:
        """For logs."""
        return f"diagnosis {self.spec.name}"

    @property
    def model(self) -> str:
        """Whose failures are counted."""
        return self.spec.name

    def run(self, now: datetime) -> None:
        """Diagnose what fires: when it is raised, and once a window while it lasts.

        A fall rings for the model, its slices and the floor at once; it has one diagnosis.
        """
        kept = self.tools.state.kept(StateKind.ALARM, self.spec.name)
        alarms = [Alarm.from_json(one.text) for one in kept]
        lead = leading(alarm for alarm in alarms if self.concerns(alarm))
        if lead is None:
            self._named.clear()
            return
        last = self._named.get(lead.fingerprint)
        if last is None or now - last >= self.spec.monitoring.window:
            self._named[lead.fingerprint] = now
            self.cause(lead, now)

    def cause(self, alarm: Alarm, now: datetime) -> Cause | None:
        """Diagnose one alarm, write it down and ask the door; None without a champion."""
        # The controller's own tests say when the world changed: their firings begin there.
        own = alarm.source is AlarmSource.CONTROLLER
        cause = diagnose_alarm(
            self.spec, self.tools, self._book, alarm.fingerprint, alarm.summary, now,
            started=alarm.started, since=alarm.started if own else None,
            version=alarm.labels.get("version") if own else None,
        )  # fmt: skip
        if cause is not None and self.door is not None:
            self.door.ask(cause, now)
        return cause


def diagnose_alarm(
    spec: ModelSpec,
    tools: MonitoringTools,
    book: ReferenceBook,
    alarm: str,
    summary: str,
    now: datetime,
    *,
    started: datetime | None = None,
    since: datetime | None = None,
    version: str | None = None,
) -> Cause | None:
    """The cause of an accuracy alarm, as the door to retraining takes it.

    Args:
        spec: of the model.
        tools: of the outside.
        book: of references; keep one a model, since a reference is made once a version.
        alarm: which one it is, the same however often it is told.
        summary: of the alarm, one sentence with the numbers.
        now: UTC.
        started: when this firing began.
        since: when the world changed, as far as a detector can tell.
        version: whose outcomes raised it, where that is known.

    Returns:
        None where there is no champion, its reference is gone, or the alarm is about another
        version: the champion's own outcomes have not spoken yet.
    """
    try:
        reference = book.champion()
    except NotFoundError as error:
        logger.warning("The fall of %s has no diagnosis: %s", spec.name, error)
        return None
    if reference is None or version not in (None, reference.version):
        return None
    seen = spec.model_copy(update={"features": reference.spec.features})
    start, end = why.recent(seen, now)
    if since is not None:
        start = max(since, now - max(spec.monitoring.window * 30, spec.label.delay * 2))
    elif spec.label.delay:
        start -= spec.label.delay
    explained = why.diagnose_window(seen, tools, reference, start, end, now)
    begun = started.isoformat() if started else ""
    about = f"alarm {alarm} {begun}".strip()
    day = f"{about}, as of {now:%Y-%m-%d %H:%M}"
    entry = why.diagnosis_entry(explained.diagnosis, now, ACTOR, day)
    tools.state.apply(now, (), [entry])
    return why.accuracy_cause(spec, explained.diagnosis, about, summary, now, since or started)
