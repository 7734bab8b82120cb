"""Accuracy alarms as documents and sentences."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from heliotrope.domain.accuracy import AlarmKind, Watch
from heliotrope.domain.accuracy_state import WHOLE, AccuracyState
from heliotrope.domain.alarms import Alarm, AlarmSource, AlarmStatus, entry_of, fingerprint_of
from heliotrope.domain.decisions import DecisionEntry
from heliotrope.domain.row_loss import LossKind
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.spec import ModelSpec

_NAMES = {LossKind.BRIER: "Brier score", LossKind.SCALED: "scaled error"}


@dataclass(frozen=True)
class Finding:
    """One alarm that may be on: its labels, and what it says while it is."""

    kind: AlarmKind
    slice: str
    since: datetime | None
    """None while it is off."""
    text: str
    evidence: dict[str, Any]

    def labels(self, model: str) -> dict[str, str]:
        """What makes it the same alarm."""
        labels = {"alertname": str(self.kind), "model": model}
        return {**labels, "slice": self.slice} if self.slice else labels

    @property
    def shown(self) -> str:
        """As the metric's label has it."""
        return f"{self.kind} {self.slice}" if self.slice else str(self.kind)


def findings(
    spec: ModelSpec, state: AccuracyState, accepted: AcceptedLevel | None
) -> Iterator[Finding]:
    """Every alarm that is watched for, on or off; the gravest first, which stands for the rest
    where one window raises several."""
    if state.floor is not None:
        yield _of_watch(spec, state, WHOLE, state.floor, accepted)
    elif state.missed.recent:
        yield _of_windows(spec, state)
    for name, watch in state.falls.items():
        yield _of_watch(spec, state, name, watch, accepted)


def _of_watch(
    spec: ModelSpec, state: AccuracyState, name: str, watch: Watch, accepted: AcceptedLevel | None
) -> Finding:
    raised = watch.raised
    if raised is None:
        return Finding(watch.kind, name, None, "", {})
    base = state.bases.get(name)
    target = watch.bound if base is None or watch.kind is AlarmKind.FLOOR else base.mean
    what = _interval(watch.loss, raised.value, raised.low, raised.high, state.scale)
    over = f"over {raised.rows:,} labels of version {state.version}"
    limit = _number(watch.loss, target, state.scale)
    if watch.kind is AlarmKind.FLOOR:
        text = f"{what} {over} {_sign(watch.loss)} floor {spec.monitoring.floor:g}"
    else:
        text = f"{what} {over} {_sign(watch.loss)} {limit} as accepted"
    where = f" in {name}" if name else ""
    text += f"{where}, since {raised.since:%Y-%m-%d %H:%M} UTC ({raised.noticed:,} labels before)"
    evidence = {
        "loss": str(watch.loss), "mean": raised.value, "low": raised.low, "high": raised.high,
        "rows": raised.rows, "accepted_loss": target, "changed_at": raised.since.isoformat(),
        "labels_to_alarm": raised.noticed, "window": raised.window.isoformat(),
        "base": base.model_dump(mode="json") if base else None, "promises": watch.promises(),
        "accepted": accepted.model_dump(mode="json") if accepted else None,
    }  # fmt: skip
    return Finding(watch.kind, name, raised.since, text, evidence)


def _of_windows(spec: ModelSpec, state: AccuracyState) -> Finding:
    missed, policy = state.missed, spec.monitoring
    sign = "<" if missed.high < (policy.floor or 0.0) else ">"
    text = (
        f"{spec.metrics.primary} {missed.value:.3f} [{missed.low:.3f}, {missed.high:.3f}] over "
        f"{missed.rows:,} labels of version {state.version} {sign} floor {policy.floor:g}, in "
        f"{sum(missed.recent)} of the last {len(missed.recent)} windows"
    )
    evidence = missed.model_dump(mode="json")
    return Finding(AlarmKind.FLOOR, WHOLE, missed.since, text, evidence)


def _interval(kind: LossKind, value: float, low: float, high: float, scale: float | None) -> str:
    if kind is LossKind.ERROR:
        return f"accuracy {1 - value:.3f} [{1 - high:.3f}, {1 - low:.3f}]"
    unit = scale or 1.0
    name = "mean absolute error" if kind is LossKind.SCALED else _NAMES[kind]
    return f"{name} {value * unit:.3f} [{low * unit:.3f}, {high * unit:.3f}]"


def _number(kind: LossKind, loss: float, scale: float | None) -> str:
    return f"{1 - loss:.3f}" if kind is LossKind.ERROR else f"{loss * (scale or 1.0):.3f}"


def _sign(kind: LossKind) -> str:
    return "<" if kind is LossKind.ERROR else ">"


def told(
    known: Alarm | None, finding: Finding, model: str, version: str | None, now: datetime, why: str
) -> tuple[Alarm | None, list[DecisionEntry]]:
    """The alarm after a finding, and the log's entries where it was raised or is over.

    Args:
        known: as it is kept; None where it never was.
        finding: what is found now.
        model: its name.
        version: the champion it is about.
        now: UTC.
        why: why it is over, if it is.

    Returns:
        None and nothing where nothing is to be written.
    """
    entries: list[DecisionEntry] = []
    if known is not None and known.firing:
        replaced = known.labels.get("version") != version
        if finding.since is None or replaced:
            # One of another version is another firing, though both are seen in one window.
            known = known.model_copy(
                update={
                    "status": AlarmStatus.RESOLVED, "ended": now, "changed": now, "summary": why,
                }
            )  # fmt: skip
            entries.append(entry_of(known, now))
    if finding.since is None:
        return (known, entries) if entries else (None, [])
    on = known is not None and known.firing
    labels = finding.labels(model)
    alarm = Alarm(
        name=str(finding.kind),
        model=model,
        fingerprint=fingerprint_of(labels),
        source=AlarmSource.CONTROLLER,
        status=AlarmStatus.FIRING,
        severity="ticket" if finding.slice else "page",
        labels=labels | ({"version": version} if version else {}),
        summary=finding.text,
        # A firing is named by its beginning, so no two may share one.
        started=known.started if known and on else _later(known, finding.since),
        ended=None,
        changed=known.changed if known and on else now,
        firings=(known.firings if known else 0) + (0 if on else 1),
    )
    if not on:
        entry = entry_of(alarm, now)
        evidence = {**entry.evidence, **finding.evidence}
        entries.append(entry.model_copy(update={"evidence": evidence}))
    return alarm, entries


def _later(known: Alarm | None, since: datetime) -> datetime:
    return since if known is None or since > known.started else _after(known.started)


def _after(at: datetime) -> datetime:
    return at + timedelta(microseconds=1)
