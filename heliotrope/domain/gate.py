"""May this candidate be registered? A pure verdict with its reasons in numbers."""

from heliotrope.domain.document import Document
from heliotrope.vocabulary import Verdict


class Reason(Document):
    """One check of the gate."""

    check: str
    """`minimum`, `rows`, `champion`, `baseline`, `slice`, ..."""
    verdict: Verdict
    text: str
    """In numbers: `roc_auc 0.713 [0.690, 0.740] over 1,240 rows >= floor 0.600`."""


class GateReport(Document):
    """The gate's verdict."""

    verdict: Verdict
    reasons: tuple[Reason, ...]

    @property
    def blocking(self) -> tuple[Reason, ...]:
        """The reasons that kept it from a pass."""
        return tuple(r for r in self.reasons if r.verdict is not Verdict.PASS)
