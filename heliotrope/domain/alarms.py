"""Alarms: one document each, however often it is told, however often it comes back.

Alertmanager tells an alert again and again while it fires, and may tell it twice. What counts is
the label set (its fingerprint) and when this firing began; the rest is folded away here.

Source: Alertmanager's webhook, version 4 (prometheus.io/docs/alerting/latest/configuration,
"webhook_config").
"""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.document import Document
from heliotrope.errors import UsageError
from heliotrope.vocabulary import MODEL_PLATFORM

MOST_ALERTS = 2_000
"""In one webhook call; Alertmanager sends the rest of a larger group with the next."""
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
_MODEL = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?")
_Text = Annotated[
    str,
    Field(max_length=4_000),
    # PostgreSQL holds no NUL.
    AfterValidator(lambda text: text.replace("\0", "")),
]
_Labels = Annotated[dict[_Text, _Text], Field(max_length=64)]


class AlarmStatus(StrEnum):
    """Whether an alarm is on."""

    FIRING = "firing"
    """It is on."""
    RESOLVED = "resolved"
    """It is over."""


class AlarmSource(StrEnum):
    """Who raised an alarm."""

    PROMETHEUS = "prometheus"
    """A rule, told by Alertmanager."""
    CONTROLLER = "controller"
    """A sequential test of the controller's own."""


class Alarm(Document):
    """An alarm as it is kept; its key in the store is the fingerprint."""

    name: str
    """Such as `HeliotropeAccuracyBelowFloor`; also the runbook's heading."""
    model: str
    """`MODEL_PLATFORM` where it is about no single model."""
    fingerprint: str
    """Of the labels; the same alarm has the same one for ever."""
    source: AlarmSource = AlarmSource.PROMETHEUS
    status: AlarmStatus
    severity: str = ""
    """Such as `page`, `ticket`, `info`."""
    labels: dict[str, str]
    summary: str
    """One sentence with the numbers, as last told."""
    runbook: str = ""
    """Link to what to do; empty where none is known."""
    started: datetime
    """When this firing began, as its source says, UTC."""
    ended: datetime | None
    """When it ended, as its source says; None while it fires."""
    changed: datetime
    """When it was raised or ended, by the controller's clock."""
    firings: int = 1
    """How often it began; more than a few a day is flapping."""

    @property
    def firing(self) -> bool:
        """Whether it is on."""
        return self.status is AlarmStatus.FIRING

    @property
    def decision_key(self) -> str:
        """Names this change of this firing, so that telling it twice is one log entry."""
        return f"{self.fingerprint}+{self.started.isoformat()}+{self.status}"


def leading(alarms: Iterable[Alarm]) -> Alarm | None:
    """The one of the alarms that fire which stands for all: of the whole model before its slices,
    a fall before a floor, the oldest before later ones. One fall rings several."""
    firing = [alarm for alarm in alarms if alarm.firing]
    return min(firing, key=_rank, default=None)


def changed_at(alarms: Iterable[Alarm]) -> datetime | None:
    """When the world changed, as the controller's own tests of accuracy estimate it."""
    lead = leading(alarm for alarm in alarms if alarm.source is AlarmSource.CONTROLLER)
    return None if lead is None else lead.started


def _rank(alarm: Alarm) -> tuple[bool, bool, datetime, str]:
    return "slice" in alarm.labels, "fall" not in alarm.name, alarm.started, alarm.fingerprint


class Told(BaseModel):
    """One alert of a webhook call; unknown fields are left out, since senders add some."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    status: AlarmStatus
    labels: _Labels
    annotations: _Labels = Field(default_factory=dict)
    started: datetime = Field(alias="startsAt")
    ended: datetime | None = Field(default=None, alias="endsAt")
    fingerprint: str = Field(default="", max_length=64, pattern="^[0-9a-zA-Z]*$")

    @field_validator("labels")
    @classmethod
    def _named(cls, labels: dict[str, str]) -> dict[str, str]:
        if not labels.get("alertname"):
            raise ValueError("must hold alertname")
        return labels

    @field_validator("started")
    @classmethod
    def _began(cls, at: datetime) -> datetime:
        if at.tzinfo is None or not _FIRST_YEAR <= at.year <= _LAST_YEAR:
            raise ValueError(f"must name its zone and be within {_FIRST_YEAR} to {_LAST_YEAR}")
        return at.astimezone(UTC)

    @field_validator("ended")
    @classmethod
    def _over(cls, at: datetime | None) -> datetime | None:
        # An alert that fires ends in the year 1, as Go writes no time at all.
        if at is None or at.tzinfo is None or not _FIRST_YEAR <= at.year <= _LAST_YEAR:
            return None
        return at.astimezone(UTC)

    @property
    def key(self) -> str:
        """The key of the alarm that it is about."""
        return self.fingerprint or fingerprint_of(self.labels)

    @property
    def model(self) -> str:
        """The model it names; the platform's place where it names none that could be one."""
        named = self.labels.get("model", "")
        return named if _MODEL.fullmatch(named) else MODEL_PLATFORM


class _Call(BaseModel):
    """What Alertmanager posts."""

    model_config = ConfigDict(extra="ignore")

    version: Literal["4"]
    alerts: Annotated[tuple[Told, ...], Field(max_length=MOST_ALERTS)]


def read_call(body: bytes) -> tuple[Told, ...]:
    """The alerts of a webhook call.

    Raises:
        UsageError: it is none; says the first fields that are wrong, never their values.

    >>> read_call(b'{"version": "3", "alerts": []}')
    Traceback (most recent call last):
    heliotrope.errors.UsageError: The body must be Alertmanager's webhook, version 4. Got version: \
Input should be '4'.
    """
    try:
        return _Call.model_validate_json(body).alerts
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)[:3]
        )
        raise UsageError(
            f"The body must be Alertmanager's webhook, version 4. Got {wrong}."
        ) from error


def fingerprint_of(labels: dict[str, str]) -> str:
    """A fingerprint for alarms whose source gives none.

    >>> fingerprint_of({"alertname": "A", "model": "m"})
    '929c09eeec57489a'
    """
    text = json.dumps(labels, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hear(known: Alarm | None, told: Told, now: datetime) -> Alarm:
    """The alarm after an alert was told; the same where it says nothing new.

    What was told last holds, other than an alert of a firing before the known one: that is a late
    copy. The same firing told as `firing` after `resolved` is on again (Prometheus was away for
    longer than Alertmanager's resolve timeout).

    Args:
        known: as it is kept.
        told: of the same key.
        now: the controller's clock, UTC.
    """
    if known is not None and told.started < known.started:
        return known
    moved = known is None or (known.status, known.started) != (told.status, told.started)
    began = known is not None and moved and told.status is AlarmStatus.FIRING
    ended = (told.ended or now) if told.status is AlarmStatus.RESOLVED else None
    if known is not None and not moved:
        ended = known.ended
    return Alarm(
        name=told.labels["alertname"],
        model=told.model,
        fingerprint=told.key,
        status=told.status,
        severity=told.labels.get("severity", ""),
        labels=told.labels,
        summary=told.annotations.get("summary") or told.annotations.get("description", ""),
        runbook=told.annotations.get("runbook_url", ""),
        started=told.started,
        ended=ended,
        changed=now if moved or known is None else known.changed,
        firings=(known.firings if known else 1) + (1 if began else 0),
    )


def turned(before: Alarm | None, after: Alarm) -> bool:
    """Whether an alarm was raised or ended between two looks."""
    if before is None:
        return True
    return (before.status, before.started) != (after.status, after.started)


def entry_of(alarm: Alarm, now: datetime) -> DecisionEntry:
    """The log's entry on an alarm that was raised or is over."""
    word = "is on" if alarm.firing else "is over"
    # A rule's last words are of when it still held.
    last = not alarm.firing and alarm.source is AlarmSource.PROMETHEUS
    summary = f"{'; it said' if last else ''}: {alarm.summary}" if alarm.summary else "."
    return DecisionEntry(
        model=alarm.model,
        at=now,
        kind=DecisionKind.ALARM,
        actor="controller",
        subject=f"alarm {alarm.name}",
        reason=f"{alarm.name} {word}{summary}",
        evidence=alarm.model_dump(mode="json"),
        key=alarm.decision_key,
    )
