"""The parts of a live view, each made of one thing that is known."""

import math

from heliotrope.domain import live_view as view
from heliotrope.domain.alarms import Alarm
from heliotrope.domain.decisions import Decision
from heliotrope.domain.drift.documents import DriftReport
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.serving_plan import ObservedServing
from heliotrope.domain.triggers import AcceptedLevel, Trigger
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.service.alias_book import KnownVersions
from heliotrope.service.rollout_keeping import Judgement
from heliotrope.spec import ModelSpec
from heliotrope.spec.metrics import METRICS
from heliotrope.vocabulary import Role


def contract(spec: ModelSpec, accepted: AcceptedLevel | None) -> view.Contract:
    """What the spec says, and at which level the model was first accepted."""
    primary = spec.metrics.primary
    return view.Contract(
        name=spec.name,
        description=spec.description,
        task=spec.task.value,
        primary=primary,
        greater_is_better=METRICS[primary].greater_is_better,
        floor=spec.monitoring.floor,
        accepted=accepted.value if accepted else None,
        fall=spec.monitoring.fall,
        window_seconds=spec.monitoring.window.total_seconds(),
        label_delay_seconds=spec.label.delay.total_seconds(),
        mature_coverage=spec.monitoring.mature_coverage,
        steps=spec.rollout.steps,
    )


def alias(known: KnownVersions, alias: str) -> str | None:
    """The version that an alias names."""
    return next((v.version for v in known.versions if alias in v.aliases), None)


def in_role(served: ObservedServing | None, role: Role) -> str | None:
    """The first version that runs in a role."""
    running = served.revisions if served else ()
    return next((one.version for one in running if one.role is role), None)


def versions(served: ObservedServing | None, known: KnownVersions) -> tuple[view.VersionView, ...]:
    """Those that run, then those that an alias names."""
    registered = {one.version: one for one in known.versions}
    running = {one.version: one for one in served.revisions} if served else {}
    named = [one.version for one in known.versions if one.aliases]
    shown = []
    for version in dict.fromkeys([*running, *named]):
        here, there = running.get(version), registered.get(version)
        shown.append(
            view.VersionView(
                version=version,
                role=here.role.value if here else "",
                share=served.weights.get(version, 0) if served and here else None,
                ready=here.ready if here else None,
                message=here.message if here else "",
                aliases=there.aliases if there else (),
                created_at=there.created_at if there else None,
            )
        )
    return tuple(shown)


def window(one: WindowTruth) -> view.WindowView:
    """One window of the primary metric."""
    metric = one.metrics[one.primary]
    return view.WindowView(
        version=one.version,
        role=one.role,
        window_from=one.window_from,
        window_to=one.window_to,
        predicted=one.predicted,
        labelled=one.labelled,
        coverage=one.coverage,
        value=_number(metric.value),
        low=_number(metric.low),
        high=_number(metric.high),
        maturity=one.maturity.value,
        mature=one.maturity.mature,
        estimate=one.estimate.get(one.primary),
    )


def rollout(one: Rollout, judged: Judgement | None) -> view.RolloutView:
    """The newest rollout, with what its last tick thought."""
    # What was thought in an earlier turn, or of another rollout, says nothing of this one.
    fits = judged is not None and (judged.number, judged.turn) == (one.number, one.turn)
    judged = judged if fits else None
    waits = judged.waits if judged and not one.over else None
    return view.RolloutView(
        number=one.number,
        candidate=one.candidate,
        champion=one.champion,
        cause=one.cause,
        state=one.state.value,
        over=one.over,
        share=one.share,
        opened_at=one.opened_at,
        entered_at=one.entered_at,
        reason=one.reason,
        checks=tuple(
            view.CheckView(
                name=check.check,
                verdict=check.verdict.value,
                text=check.text,
                demanded=check.demanded,
            )
            for check in (judged.checks if judged else ())
        ),
        waits_for=waits.text if waits else "",
        waits_until=waits.until if waits else None,
    )


def drift(report: DriftReport) -> view.DriftView:
    """A drift report, the columns that matter most first."""
    columns = sorted(report.columns, key=lambda one: -_finite(one.effect, 0.0) * one.weight)
    return view.DriftView(
        version=report.version,
        window_from=report.window_from,
        window_to=report.window_to,
        rows=report.rows,
        verdict=report.verdict.value,
        reason=report.reason,
        score=_number(report.score),
        limit=report.rule.effect,
        columns=tuple(
            view.FeatureDrift(
                column=one.column,
                verdict=one.verdict.value,
                effect=_number(one.effect),
                weight=one.weight,
                text=one.text,
            )
            for one in columns
        ),
        faults=tuple(fault.message for fault in report.faults),
    )


def alarm(one: Alarm) -> view.AlarmView:
    """One alarm."""
    return view.AlarmView(
        name=one.name,
        status=one.status,
        severity=one.severity,
        summary=one.summary,
        runbook=one.runbook if one.runbook.startswith(("https://", "http://")) else "",
        changed=one.changed,
        firings=one.firings,
    )


def trigger(one: Trigger) -> view.TriggerView:
    """One asking for a retraining."""
    return view.TriggerView(
        cause=one.cause.kind.value,
        text=one.cause.text,
        state=one.state.value,
        reason=one.reason,
        at=one.decided_at,
        run_key=one.run_key,
        outcome=one.outcome.value if one.outcome else None,
        version=one.version,
    )


def event(one: Decision) -> view.EventView:
    """One entry of the log."""
    return view.EventView(
        sequence=one.sequence,
        at=one.at,
        kind=one.kind.value,
        actor=one.actor,
        subject=one.subject,
        reason=one.reason,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise
