"""What a diagnosis says."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from heliotrope.domain.document import Document


class ChangeKind(StrEnum):
    """What changed."""

    DATA_FAULT = "data_fault"
    """Rows are wrong and the world is as it was."""
    LABEL_FAULT = "label_fault"
    """Labels are wrong, late or gone."""
    COVARIATE_SHIFT = "covariate_shift"
    """Other rows come; what follows from them is as it was."""
    CONCEPT_SHIFT = "concept_shift"
    """The same rows come to other ends."""
    NO_CHANGE = "no_change"
    """Nothing that can be told from chance."""


class Remedy(StrEnum):
    """What is to be done."""

    FIX_DATA = "fix_data"
    """A person mends the source; training on such rows would learn the fault."""
    CHECK_LABELS = "check_labels"
    """A person looks at where labels come from."""
    RETRAIN = "retrain"
    """Learn from the rows as they are now."""
    WAIT = "wait"
    """Nothing yet."""

    @property
    def retrains(self) -> bool:
        """Whether a retraining can help; data and label faults never retrain."""
        return self is Remedy.RETRAIN


class FeaturePart(Document):
    """What one feature has to do with the fall."""

    feature: str
    expected: float
    """Fall of the expected loss when its values are mapped back to the reference's: it is harder
    for the model where these rows lie."""
    regained: float
    """Fall of the true loss by the same mapping: its values are wrong."""
    share: float
    """The larger of both, of the whole fall."""


class Diagnosis(Document):
    """What changed, with evidence, and what is to be done."""

    model: str
    version: str
    kind: ChangeKind
    remedy: Remedy
    subject: str
    """The feature, the segment (`homeownership = RENT`) or `labels`; empty for no change."""
    share: float | None
    """Of the fall that the subject accounts for, 0 to 1; None where it was not measured."""
    reason: str
    """One sentence, with the numbers."""
    fall: float
    """Rise of the mean loss of calibrated scores (nats a row; squared error for regression) over
    the reference; NaN without labels."""
    covariate_part: float
    """Of the fall: what the reference's own relation of score and label promises on these rows."""
    concept_part: float
    """Of the fall: the rest."""
    rows: int
    labelled: int
    reference_rows: int
    window_from: datetime | None = None
    window_to: datetime | None = None
    evidence: tuple[str, ...] = ()
    """Everything that was looked at, in words with numbers, what decided first."""
    numbers: dict[str, float] = Field(default_factory=dict)
    features: tuple[FeaturePart, ...] = ()
    """Features that moved, the largest share first."""
