"""What became of a replay's rows and labels."""

import re
from array import array
from collections import Counter
from dataclasses import dataclass, field

from heliotrope.domain.document import Document

_PLACES = re.compile(r"^(?:instances\[\d+\]\.?|Row \d+:? ?)")
_REASONS_KEPT = 100


class LatencyQuantiles(Document):
    """From a request's first byte to its answer's last, retries not counted; milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class ReplaySummary(Document):
    """How a replay went, as `--json` prints it."""

    model: str
    gateway: str
    rows_from: str | None
    """Event time of the first row, ISO 8601."""
    rows_until: str | None
    sent: int
    """Rows handed out; each is answered, refused or failed."""
    answered: dict[str, int]
    """By the version that answered."""
    refused: dict[str, int]
    """Rows that the predictor does not take (4xx), by what is wrong with them."""
    failed: dict[str, int]
    """Rows that got no answer after retries, by the last trouble."""
    retries: int
    labels_sent: int
    """Acknowledged by the collector."""
    labels_refused: dict[str, int]
    labels_left: int
    """Not sent; kept in a file."""
    latency: LatencyQuantiles | None
    """None without an answer."""
    seconds: float
    """By the machine's clock."""
    rows_a_second: float
    latest_behind: float
    """Most seconds of the machine's time that a row left after its moment."""


@dataclass
class ReplayCounts:
    """Counts while it goes on; one event loop adds."""

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    labels_sent: int = 0
    labels_refused: Counter[str] = field(default_factory=Counter)
    behind: float = 0.0
    seconds: "array[float]" = field(default_factory=lambda: array("d"))

    def refuse(self, message: str) -> None:
        """Count a row that was refused, under its reason."""
        reason = reason_of(message)
        # Reasons of a strange gateway may differ with every row, and must not fill the memory.
        known = reason in self.refused or len(self.refused) < _REASONS_KEPT
        self.refused[reason if known else "other"] += 1

    def latency(self) -> LatencyQuantiles | None:
        """Quantiles so far."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3, 3)

        return LatencyQuantiles(p50=at(0.5), p90=at(0.9), p99=at(0.99), max=at(1.0))


def reason_of(message: str) -> str:
    """A refusal without the row's number and value, so that like ones are counted together.

    >>> reason_of("instances[0].grade must be one of A, B. Got 'Z'.")
    'grade must be one of A, B.'
    """
    text = _PLACES.sub("", message.strip())
    return (text.partition(" Got ")[0] or text)[:160]
