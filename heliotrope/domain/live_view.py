"""All that the live page shows of one model, as one JSON document."""

from datetime import datetime

from heliotrope.domain.alarms import AlarmStatus
from heliotrope.domain.document import Document
from heliotrope.domain.truth.documents import DelayQuantiles, Estimate


class Contract(Document):
    """What the spec says of the model."""

    name: str
    description: str
    task: str
    primary: str
    """The metric that decides."""
    greater_is_better: bool
    floor: float | None
    """Value of the primary metric that people want to be told of."""
    accepted: float | None
    """Its level when the model was first accepted."""
    fall: float
    """How far it may fall below that."""
    window_seconds: float
    label_delay_seconds: float
    mature_coverage: float
    steps: tuple[int, ...]
    """Shares of a rollout, per cent."""


class VersionView(Document):
    """One version that runs, or that an alias names."""

    version: str
    role: str
    """Empty where it does not run."""
    share: int | None
    """Per cent of live traffic by the gateway; None where it does not run."""
    ready: bool | None
    """None where it does not run."""
    message: str = ""
    """Why it is not ready."""
    aliases: tuple[str, ...] = ()
    created_at: datetime | None = None


class WindowView(Document):
    """One window of the primary metric."""

    version: str
    role: str
    window_from: datetime
    window_to: datetime
    predicted: int
    labelled: int
    coverage: float
    value: float | None
    """None where it is undefined, as the numbers below are."""
    low: float | None
    high: float | None
    maturity: str
    mature: bool
    estimate: Estimate | None
    """What scores alone promise."""


class FeatureDrift(Document):
    """One column of the newest drift report."""

    column: str
    verdict: str
    effect: float | None
    weight: float
    """Share of the model's reliance on it."""
    text: str


class DriftView(Document):
    """The newest drift report."""

    version: str
    window_from: datetime | None
    window_to: datetime | None
    rows: int
    verdict: str
    reason: str
    score: float | None
    limit: float
    """Smallest change that matters."""
    columns: tuple[FeatureDrift, ...]
    """Those that matter most first."""
    faults: tuple[str, ...]
    """What is wrong with the data."""


class CheckView(Document):
    """One question that the rollout is judged by."""

    name: str
    verdict: str
    text: str
    demanded: bool


class RolloutView(Document):
    """The newest rollout."""

    number: int
    candidate: str
    champion: str | None
    cause: str
    state: str
    over: bool
    share: int
    opened_at: datetime
    entered_at: datetime
    reason: str
    checks: tuple[CheckView, ...]
    waits_for: str
    """Empty where it waits for nothing."""
    waits_until: datetime | None


class AlarmView(Document):
    """One alarm."""

    name: str
    status: AlarmStatus
    severity: str
    summary: str
    runbook: str
    changed: datetime
    firings: int


class TriggerView(Document):
    """One asking for a retraining."""

    cause: str
    text: str
    state: str
    reason: str
    at: datetime
    run_key: str | None
    outcome: str | None
    version: str | None


class EventView(Document):
    """One entry of the decision log."""

    sequence: int
    at: datetime
    kind: str
    actor: str
    subject: str
    reason: str


class LiveView(Document):
    """One model at a glance."""

    active: bool
    """Whether the controller acts; one that stands by shows what it reads."""
    matters: tuple[str, ...]
    """What the controller cannot do at present, in words."""
    contract: Contract
    champion: str | None
    candidate: str | None
    versions: tuple[VersionView, ...]
    settled: bool | None
    """Whether what is served is what was asked for; None where that is not known."""
    windows: tuple[WindowView, ...]
    """By time, version and role."""
    predicted: int
    """Over all windows."""
    labelled: int
    newest_prediction: datetime | None
    first_labels_due: datetime | None
    """When the oldest predictions without labels are past their label delay; None where labels
    came."""
    delay: DelayQuantiles | None
    """Of the newest mature window of the champion."""
    drift: DriftView | None
    rollout: RolloutView | None
    alarms: tuple[AlarmView, ...]
    """Those that are on first, then the latest."""
    triggers: tuple[TriggerView, ...]
    """The latest first."""
    events: tuple[EventView, ...]
    """The latest first."""
