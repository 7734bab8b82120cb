"""What a rollout is judged on, as it was gathered for one turn."""

from datetime import datetime

from pydantic import Field

from heliotrope.domain.document import Document
from heliotrope.domain.serving_plan import ObservedServing


class Health(Document):
    """A version's requests over a time."""

    version: str
    requests: int
    errors: int
    """Answered 5xx, without a finite score, or not at all."""
    p50_seconds: float
    p99_seconds: float
    """NaN without requests."""
    latency: tuple[tuple[float, int], ...] = ()
    """Requests that took longer than so many seconds, and no longer than the next entry's, rising
    from 0; empty where only the quantiles are known."""


class Replay(Document):
    """What became of the logged requests that were asked again in this rollout."""

    sent: int = 0
    errors: int = 0
    """Answered 5xx, not in time, or not at all."""
    refused: int = 0
    """Answered 4xx although the other version took them: another schema."""
    unusable: int = 0
    """Answered without a finite score."""
    backlog: int = 0
    """Labelled requests of the backfill still to be asked; judged when there are none."""
    note: str = ""
    """The last thing that went wrong, as it was told."""

    @property
    def failed(self) -> int:
        """Requests that the other version answered and this one did not."""
        return self.errors + self.refused + self.unusable


class Comparison(Document):
    """The candidate's losses beside the champion's, always-valid under continuous looking."""

    paired: bool
    """Whether both answered the same requests; else blocks of different ones are compared."""
    loss: str
    """Which loss, and what 1 of it means."""
    bound: float
    """The mean gain to be shown: minus the tolerance, or the margin; in the loss's unit."""
    pairs: int
    """Requests that both answered, labelled or not."""
    labelled: int
    """Of those, with a label: what all below is over."""
    gain: float
    """Mean of the champion's loss less the candidate's; positive is better, NaN without labels."""
    low: float
    high: float
    """Confidence sequence of the mean gain, one-sided each way; [-1, 1] without labels."""
    log_e_better: float
    """Logarithm of the e-value against a gain at the bound or below."""
    log_e_worse: float
    """Logarithm of the e-value against a gain at the bound or above."""
    growth: float
    """By how much a label raises `log_e_better`, on average, at the best bet; 0 where none does."""
    champion_loss: float
    candidate_loss: float
    agreement: float
    """Share of pairs with the same prediction; for regression 1 less the mean difference over the
    scale. NaN without pairs."""
    label_rate: float
    """Labels an hour of late; NaN where that is not known."""


class Evidence(Document):
    """All of it, for one turn of one rollout."""

    turn: int
    serving: ObservedServing | None = None
    """None where nothing was served yet, or it could not be read."""
    candidate: Health | None = None
    """Over this turn."""
    champion: Health | None = None
    """Over the rollout, and before as far as it was watched."""
    replay: Replay | None = None
    """None where nothing is replayed."""
    comparison: Comparison | None = None
    """None before anything could be compared."""
    newest: str | None = None
    """The version that the registry's candidate alias names."""
    broken: dict[str, str] = Field(default_factory=dict)
    """What could not be read (serving, traffic, replay, outcomes, registry), and why."""
    gathered_at: datetime | None = None
