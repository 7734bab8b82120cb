"""The steps of a training run. Each gathers from ports, asks the domain, and applies the answer.

What passes between steps are files: a `SnapshotRef`, a `QualityReport`, a model folder, an
`Evaluation`, a `GateReport`. So a step can run in a pod of its own.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import GateReport, judge
from heliotrope.domain.quality import QualityReport
from heliotrope.domain.run_events import RunOutcome
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import DataFault, UsageError
from heliotrope.ports import Registry
from heliotrope.service import rollout_pipeline, run_outcome
from heliotrope.service.champion import champion_lineage, load_champion
from heliotrope.service.comparison import Holdout, Rows
from heliotrope.service.evaluation import evaluate
from heliotrope.service.evaluation_reporting import Shown, publish, show
from heliotrope.service.proof import prove_parity
from heliotrope.service.registration import Candidate, register_candidate
from heliotrope.service.snapshot import take_snapshot
from heliotrope.service.step import Now, Saying, run_step
from heliotrope.service.training import train
from heliotrope.service.training_tools import TrainingTools, flat
from heliotrope.service.validation import validate_data
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    ARTIFACT_DATA,
    ARTIFACT_GATE,
    ARTIFACT_PARITY,
    ARTIFACT_QUALITY_FILE,
    ARTIFACT_SPEC,
    ARTIFACT_TRAINING_FILE,
    DATA_FAULTY,
    DATA_USABLE,
    KEPT_EVALUATION,
    KEPT_EVALUATION_PAGE,
    KEPT_QUALITY_PAGE,
    ONNX_FILE,
    TAG_CAUSE,
    TAG_VERDICT,
    TRAINING_FILE,
    Outcome,
    Verdict,
)


class TrainingRun:
    """One training run of one model, as one of its steps sees it."""

    def __init__(self, spec: ModelSpec, run_key: str, tools: TrainingTools, now: Now) -> None:
        self.spec, self.run_key = spec, run_key
        self._tools, self._now = tools, now
        self._saying = Saying()

    @contextmanager
    def step(self, name: str) -> Iterator["TrainingRun"]:
        """The run, within a step that reports itself."""
        log = self._tools.run_log(self.run_key)

        def record(outcome: RunOutcome) -> None:
            run_outcome.record(outcome, log, lambda: self._tools.registry)

        with run_step(self.spec.name, self.run_key, name, log, self._now, record) as self._saying:
            yield self

    def take_snapshot(self, cause: str, out: Path) -> SnapshotRef:
        """First step: snapshot the source, open the MLflow run."""
        self._start(cause)
        ref = take_snapshot(
            self.spec, self._tools.source_reader(self.spec), self._tools.snapshots, self._now()
        )
        _write(out, ref.to_json())
        registry, run_id = self._mlflow()
        registry.log(
            run_id,
            params={"snapshot.version": ref.version, "snapshot.sha256": ref.content_hash},
            metrics={"snapshot_rows": ref.rows, "snapshot_immature_rows": ref.immature_rows},
        )
        left_out = "".join(
            f", {count:,} {why} left out"
            for count, why in ((ref.immature_rows, "immature"), (ref.unlabelled_rows, "unlabelled"))
            if count
        )
        self._saying.say(
            f"{ref.rows:,} rows as version {ref.version}, sha256 {ref.content_hash[:12]}{left_out}"
        )
        return ref

    def validate_data(self, snapshot: Path, quality: Path, page: Path, summary: Path) -> str:
        """Second step: `usable` or `faulty`, with a report of what was found."""
        ref = SnapshotRef.from_json(snapshot.read_bytes())
        registry, run_id = self._mlflow()
        lineage = champion_lineage(registry, self.spec.name)
        store = self._tools.snapshots
        report = validate_data(
            self.spec,
            ref,
            store,
            store.previous(ref),
            lineage.snapshot if lineage else None,
        )
        store.judge(ref, report.usable)
        html = self._tools.reports.quality_html(report)
        markdown = self._tools.reports.quality_markdown(report)
        _write(quality, report.to_json())
        _write(page, html)
        _write(summary, markdown)
        for name, text in (
            (ARTIFACT_QUALITY_FILE, report.to_json()),
            (f"{ARTIFACT_DATA}/quality.html", html),
            (f"{ARTIFACT_DATA}/quality.md", markdown),
        ):
            registry.log_text(run_id, text, name)
        self._tools.run_log(self.run_key).keep(KEPT_QUALITY_PAGE, html)
        self._saying.say(
            f"{report.usable_rows:,} of {report.rows:,} rows usable, "
            f"{len(report.fatal)} fatal and {len(report.warnings)} warning finding(s)"
        )
        return DATA_USABLE if report.usable else DATA_FAULTY

    def refuse_data(self, quality: Path) -> None:
        """After a fatal finding: end the run with all of them.

        Raises:
            DataFault: always.
        """
        report = QualityReport.from_json(quality.read_bytes())
        reason = "\n".join(finding.message for finding in report.fatal)
        self._saying.outcome = self._outcome(Outcome.DATA_FAULT, reason, "validate_data")
        raise DataFault(reason)

    def train_model(self, snapshot: Path, out: Path, since: str = "") -> Mapping[str, float]:
        """Third step: fit and export; answers the numbers worth a table.

        Raises:
            UsageError: `since`, when the world changed, is no ISO 8601 time.
        """
        ref = SnapshotRef.from_json(snapshot.read_bytes())
        data = self._tools.training_data(ref, self.spec)
        changed = _moment(since)
        record = train(self.spec, data, self._tools.trainer, out, time.monotonic, changed)
        registry, run_id = self._mlflow()
        registry.log(
            run_id,
            params={
                "estimator": record.estimator,
                "seed": record.seed,
                "calibration": record.calibration_method,
                **flat(record.parameters, "trainer"),
            },
            metrics={
                "train_rows": record.train.rows,
                "calibration_rows": record.calibration.rows,
                "holdout_rows": record.holdout.rows,
                "train_seconds": record.seconds,
                "train_peak_rss_bytes": record.peak_rss_bytes,
            },
        )
        for name, losses in record.curve.items():
            registry.log_series(run_id, f"{name}_loss", losses)
        registry.log(run_id, metrics=flat(record.importances, "importance"))
        registry.log_text(run_id, record.to_json(), ARTIFACT_TRAINING_FILE)
        registry.log_text(run_id, self._tools.code_identity().to_json(), "environment.json")
        top = ", ".join(list(record.importances)[:3])
        self._saying.say(
            f"{record.estimator.rpartition('.')[2]} on {record.train.rows:,} rows, "
            f"{record.holdout.rows:,} held out; most important: {top or 'none'}"
            + (f"; memory: {record.memory}" if record.memory else "")
        )
        return {"rows": record.train.rows, "seconds": record.seconds}

    def evaluate_model(
        self, snapshot: Path, model: Path, out: Path, page: Path, summary: Path
    ) -> Shown:
        """Fourth step: score the holdout beside champion and baselines."""
        ref = SnapshotRef.from_json(snapshot.read_bytes())
        record = TrainingRecord.from_json((model / TRAINING_FILE).read_bytes())
        data = self._tools.evaluation_data(ref, self.spec)
        rows = data.holdout(range(record.holdout.row_from, record.holdout.row_to))
        before = data.history(range(record.holdout.row_from))
        champion = load_champion(
            self._tools.registry,
            self.spec.name,
            ref,
            data,
            rows,
            self._tools.model_cache,
            self._tools.load_scorer,
        )
        if rows.features is None:
            raise AssertionError("a holdout is loaded with its features")
        evaluation = evaluate(
            self.spec,
            self._tools.load_scorer(model / ONNX_FILE),
            Holdout(rows.labels, rows.times, rows.features),
            Rows(before.labels, before.times),
            seed=self.spec.trainer.seed,
            champion=champion,
        )
        registry, run_id = self._mlflow()
        written = publish(self._tools.reports, registry, run_id, self.spec, evaluation, record)
        _write(page, written.html)
        _write(summary, written.markdown)
        _write(out, evaluation.to_json())
        self._tools.run_log(self.run_key).keep(KEPT_EVALUATION, evaluation.to_json())
        self._tools.run_log(self.run_key).keep(KEPT_EVALUATION_PAGE, written.html)
        primary = evaluation.metrics[evaluation.primary]
        self._saying.say(f"{evaluation.primary} {primary} over {evaluation.rows:,} rows")
        return show(evaluation)

    def register_model(
        self, cause: str, snapshot: Path, quality: Path, model: Path, evaluation: Path, gate: Path
    ) -> str:
        """Last step after a PASS: prove parity, register; answers the version."""
        registry, run_id = self._mlflow()
        ref = SnapshotRef.from_json(snapshot.read_bytes())
        record = TrainingRecord.from_json((model / TRAINING_FILE).read_bytes())
        verdict = GateReport.from_json(gate.read_bytes())
        self._log_gate(verdict)
        proven = prove_parity(self._tools, self.spec, ref, record, model)
        registry.log_text(run_id, proven.report.to_json(), ARTIFACT_PARITY)
        proven.report.require()
        registered = register_candidate(
            registry,
            Candidate(
                spec=self.spec,
                folder=model,
                run_key=self.run_key,
                run_id=run_id,
                cause=cause,
                snapshot=ref,
                quality=QualityReport.from_json(quality.read_bytes()),
                record=record,
                evaluation=Evaluation.from_json(evaluation.read_bytes()),
                gate=verdict,
                code=self._tools.code_identity(),
                example=proven.example,
                extra_metrics=proven.benchmark,
            ),
            self._now(),
        )
        alias = registered.aliases[0] if registered.aliases else None
        self._saying.outcome = self._outcome(
            Outcome.REGISTERED,
            f"gate {verdict.verdict}, {len(verdict.reasons)} checks; served scores within "
            f"{proven.report.max_difference:.1e} of scikit-learn's",
            "register_model",
            version=registered.version,
            alias=alias,
            verdict=verdict.verdict,
        )
        first = " (the first version)" if alias == ALIAS_CHAMPION else ""
        self._saying.say(f"version {registered.version}, {alias}{first}")
        return registered.version

    def deploy_candidate(self, version: str, cause: str) -> str:
        """After registration: a candidate's rollout is recorded and its first plan asked for."""
        tools = self._tools
        told = rollout_pipeline.deploy_candidate(
            self.spec,
            version,
            f"registered by run {self.run_key} ({cause})",
            tools.registry,
            lambda: tools.rollouts,
            lambda: tools.serving,
            self._now(),
        )
        self._saying.say(told)
        return told

    def await_rollout(self, version: str, deployed: str, summary: Path) -> None:
        """Where the spec says so, wait for the rollout's end; else tell what was done so far."""
        tools = self._tools
        line, markdown = rollout_pipeline.await_rollout(
            self.spec, version, deployed, lambda: tools.rollouts, lambda: tools.serving, self._now
        )
        _write(summary, markdown)
        self._saying.say(line)

    def refuse_candidate(self, gate: Path) -> None:
        """Last step after any other verdict: say why, register nothing."""
        report = GateReport.from_json(gate.read_bytes())
        self._log_gate(report)
        worst = [r for r in report.reasons if r.verdict is report.verdict]
        reason = f"gate {report.verdict}: " + "; ".join(r.text for r in worst)
        self._saying.outcome = self._outcome(
            Outcome.NOT_ACCEPTED, reason, "gate_model", verdict=report.verdict
        )
        self._saying.say(f"{report.verdict}: {worst[0].text}" if worst else report.verdict)

    def _log_gate(self, report: GateReport) -> None:
        self._tools.run_log(self.run_key).keep(ARTIFACT_GATE, report.to_json())
        registry, run_id = self._mlflow()
        registry.log(run_id, tags={TAG_VERDICT: report.verdict})
        registry.log_text(run_id, report.to_json(), ARTIFACT_GATE)
        registry.log_text(
            run_id, self._tools.reports.gate_markdown(report, self.spec.name), "gate.md"
        )

    def _start(self, cause: str) -> None:
        registry = self._tools.registry
        registry.discard_incomplete(self.spec.name)
        run_id = registry.start_run(self.spec.name, self.run_key, {TAG_CAUSE: cause})
        registry.log_text(run_id, dump_spec(self.spec), ARTIFACT_SPEC)

    def _mlflow(self) -> tuple[Registry, str]:
        # Idempotent by run key: a step in a pod of its own finds the run the first one opened.
        registry = self._tools.registry
        return registry, registry.start_run(self.spec.name, self.run_key, {})

    def _outcome(
        self,
        outcome: Outcome,
        reason: str,
        step: str,
        *,
        version: str | None = None,
        alias: str | None = None,
        verdict: Verdict | None = None,
    ) -> RunOutcome:
        return RunOutcome(
            model=self.spec.name,
            run_key=self.run_key,
            outcome=outcome,
            reason=reason,
            step=step,
            version=version,
            alias=alias,
            verdict=verdict,
        )


def gate_candidate(spec: ModelSpec, evaluation: Path, out: Path) -> GateReport:
    """Fifth step: the verdict. Pure but for the files, so it may be cached."""
    report = judge(spec, Evaluation.from_json(evaluation.read_bytes()))
    _write(out, report.to_json())
    return report


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"since must be a time such as 2026-03-01T06:00:00Z. Got {text!r}."
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
