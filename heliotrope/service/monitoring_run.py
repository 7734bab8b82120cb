"""The steps of a monitoring run: one window, looked at from all sides, drawn and decided upon.

What passes between steps are files, so that a step can run in a pod of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from heliotrope.domain.drift import DriftReport
from heliotrope.domain.remedy import Diagnosis
from heliotrope.domain.run_events import RunOutcome
from heliotrope.errors import NotFoundError
from heliotrope.ports import RunLog
from heliotrope.service import monitoring_pages as pages
from heliotrope.service.diagnosis import diagnosis_entry, drift_cause, explain
from heliotrope.service.drift_duty import SETTLE, Door
from heliotrope.service.drift_reference import MonitoringTools, Reference, ReferenceBook
from heliotrope.service.monitoring import (
    Collected,
    closed_window,
    collect_window,
    judge_window,
    read_memory,
    record_report,
)
from heliotrope.service.performance import Performance, measure
from heliotrope.service.step import Now, Saying, run_step
from heliotrope.spec import ModelSpec

KEPT_DRIFT = "drift.json"
KEPT_PERFORMANCE = "performance.json"
KEPT_DIAGNOSIS = "diagnosis.json"
KEPT_DECISION = "decision.md"
FOLDER = "monitoring"


class MonitoringRunTools(MonitoringTools, Protocol):
    """What a run needs beyond what the controller's duty does."""

    def run_log(self, run_key: str) -> RunLog:
        """The log of a run."""
        ...

    def write_window(self, path: Path, collected: Collected) -> None:
        """Keep a window's rows for the steps that follow."""
        ...

    def read_window(self, path: Path, spec: ModelSpec) -> Collected:
        """Read them."""
        ...

    def draw_drift(
        self, spec: ModelSpec, reference: Reference, collected: Collected, report: DriftReport
    ) -> tuple[str, Mapping[str, float]]:
        """A page, and the drawing library's own distances."""
        ...


@dataclass(frozen=True)
class Asked:
    """Which window: ISO times, UTC; the newest that is over where empty."""

    since: str = ""
    until: str = ""


class MonitoringRun:
    """One monitoring run of one model, as one of its steps sees it."""

    def __init__(
        self,
        spec: ModelSpec,
        run_key: str,
        tools: MonitoringRunTools,
        now: Now,
        door: Callable[[ModelSpec], Door],
    ) -> None:
        self.run_key = run_key
        self._tools, self._now, self._door = tools, now, door
        self._saying = Saying()
        self._asked_spec, self._known = spec, None

    _known: Reference | None

    @contextmanager
    def step(self, name: str) -> Iterator["MonitoringRun"]:
        """The run, within a step that reports itself."""
        log = self._tools.run_log(self.run_key)

        def record(outcome: RunOutcome) -> None:
            log.set_outcome(outcome)
            run_id = self._tools.registry.find_run(self.run_key)
            if run_id is not None:
                self._tools.registry.finish_run(run_id, "FAILED")

        with run_step(
            self._asked_spec.name, self.run_key, name, log, self._now, record
        ) as self._saying:
            yield self

    def collect_window(self, asked: Asked, out: Path) -> Mapping[str, Any]:
        """First step: the rows, read once."""
        spec, reference = self._spec(), self._reference()
        since, until = self._times(asked)
        collected = collect_window(self._tools.outcomes, spec, reference.version, since, until)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._tools.write_window(out, collected)
        self._mlflow()
        rows, total = len(collected.rows), collected.rows.total_rows
        sampled = f" (of {total:,})" if rows < total else ""
        self._saying.say(
            f"{rows:,} rows{sampled} of version {reference.version}, "
            f"{collected.since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}"
        )
        return {"rows": rows, "total_rows": total, "version": reference.version}

    def check_window(self, rows: Path, summary: Path) -> None:
        """Second step: what is wrong with the rows, before anything is said of drift."""
        report = self._judged(rows)
        _write(summary, pages.faults_markdown(report))
        worst = f": {report.faults[0].message}" if report.faults else ""
        self._saying.say(f"{len(report.fatal)} fatal of {len(report.faults)} finding(s){worst}")

    def score_drift(self, rows: Path, out: Path, page: Path, summary: Path) -> dict[str, float]:
        """Third step: the verdict with its distances, drawn."""
        spec, reference = self._spec(), self._reference()
        collected = self._tools.read_window(rows, spec)
        report = judge_window(spec, collected, reference)
        html, drawn = self._tools.draw_drift(spec, reference, collected, report)
        markdown = pages.drift_markdown(report)
        _write(out, report.to_json())
        _write(page, html)
        _write(summary, markdown)
        self._tools.run_log(self.run_key).keep(KEPT_DRIFT, report.to_json())
        metrics = pages.drift_metrics(report)
        registry, run_id = self._tools.registry, self._mlflow()
        registry.log(run_id, metrics=metrics, tags={"heliotrope.drift": report.verdict.value})
        for name, text in (("drift.json", report.to_json()), ("drift.html", html)):
            registry.log_text(run_id, text, f"{FOLDER}/{name}")
        self._saying.say(f"{report.verdict}: {report.reason} ({len(drawn)} columns drawn)")
        return metrics

    def measure_performance(self, rows: Path, out: Path, summary: Path) -> dict[str, float]:
        """Fourth step: how right it was as far as labels came, and what scores promise."""
        spec = self._spec()
        found = measure(spec, self._tools.read_window(rows, spec).rows)
        _write(out, found.to_json())
        _write(summary, pages.performance_markdown(found))
        self._tools.run_log(self.run_key).keep(KEPT_PERFORMANCE, found.to_json())
        self._tools.registry.log(self._mlflow(), metrics=found.flat())
        self._saying.say(found.text)
        return found.flat()

    def diagnose_change(self, rows: Path, out: Path, summary: Path) -> str:
        """Fifth step: what changed, and the remedy, as a word."""
        spec, reference = self._spec(), self._reference()
        collected = self._tools.read_window(rows, spec)
        found = explain(spec, self._tools, reference, collected, self._now()).diagnosis
        _write(out, found.to_json())
        _write(summary, pages.diagnosis_markdown(found))
        self._tools.run_log(self.run_key).keep(KEPT_DIAGNOSIS, found.to_json())
        registry, run_id = self._tools.registry, self._mlflow()
        registry.log(run_id, tags={"heliotrope.diagnosis": found.kind.value})
        registry.log_text(run_id, found.to_json(), f"{FOLDER}/diagnosis.json")
        self._saying.say(f"{found.kind.replace('_', ' ')}: {found.reason}")
        return found.remedy.value

    def decide_retraining(self, drift: Path, diagnosis: Path, summary: Path) -> None:
        """Last step: record the verdict, and ask the one door where drift persists.

        A window that was recorded before stays one window, whoever looks at it again.
        """
        report = DriftReport.from_json(drift.read_bytes())
        found = Diagnosis.from_json(diagnosis.read_bytes())
        now, state, actor = self._now(), self._tools.state, f"run:{self.run_key}"
        if report.rows:
            memory = record_report(state, self._asked_spec, report, now, actor)
            entry = diagnosis_entry(found, now, actor, f"run {self.run_key}")
            state.apply(now, (), [entry])
        else:
            memory, _ = read_memory(state, self._asked_spec, report.version)
        spec, said = self._asked_spec, "nothing is asked"
        if memory.called and report.rows:
            trigger = self._door(spec).ask(drift_cause(spec, report, found, now), now)
            said = f"the door says {trigger.state.value} ({trigger.rule}): {trigger.reason}"
        drifted = sum(w.verdict == "FAIL" for w in memory.windows[-spec.monitoring.n :])
        text = (
            f"{drifted} of the last {spec.monitoring.n} windows drifted, {spec.monitoring.k} and "
            f"the latest are demanded: {said}."
        )
        _write(summary, f"# Retraining\n\n{text}\n\nRemedy: {found.remedy}.\n")
        self._tools.run_log(self.run_key).keep(KEPT_DECISION, text)
        self._tools.registry.finish_run(self._mlflow(), "FINISHED")
        self._saying.say(text)

    def _judged(self, rows: Path) -> DriftReport:
        spec = self._spec()
        return judge_window(spec, self._tools.read_window(rows, spec), self._reference())

    def _reference(self) -> Reference:
        if self._known is None:
            self._known = ReferenceBook(self._asked_spec.name, self._tools).champion()
        if self._known is None:
            name = self._asked_spec.name
            raise NotFoundError(f"Monitoring needs a champion of {name}. There is none yet.")
        return self._known

    def _spec(self) -> ModelSpec:
        return self._asked_spec.model_copy(update={"features": self._reference().spec.features})

    def _times(self, asked: Asked) -> tuple[datetime, datetime]:
        settle = min(SETTLE, self._asked_spec.monitoring.window / 10)
        since, until = closed_window(self._asked_spec, self._now(), settle)
        if asked.until:
            until = datetime.fromisoformat(asked.until)
            since = until - self._asked_spec.monitoring.window
        if asked.since:
            since = datetime.fromisoformat(asked.since)
        return since, until

    def _mlflow(self) -> str:
        tags = {"heliotrope.kind": FOLDER}
        return self._tools.registry.start_run(self._asked_spec.name, self.run_key, tags)


__all__ = ["Asked", "MonitoringRun", "MonitoringRunTools", "Performance"]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
