"""The event tables."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from heliotrope.domain.labels import LabelContract, LabelUpload
from heliotrope.domain.spool_batch import Loss, SpoolBatch
from heliotrope.domain.spool_format import SegmentHeader


class EventStore(Protocol):
    """The event tables that collectors append to (`domain.events`), exactly once for readers.

    Every method may raise UnavailableError: the store does not answer, and whether it took what it
    was given is not known. A table is for one thread at a time.
    """

    def models(self) -> list[str]:
        """Models that have events."""
        ...

    def contract(self, model: str) -> LabelContract | None:
        """What a model's predictors said of its labels."""
        ...

    def spool_positions(
        self, model: str, spools: Sequence[SegmentHeader], fresh: bool
    ) -> dict[str, int]:
        """The highest sequence number held of each spool, 0 for none; `fresh` is up to date."""
        ...

    def append_predictions(
        self,
        model: str,
        batches: Sequence[SpoolBatch],
        positions: Mapping[str, int],
        received_at_us: int,
    ) -> bool:
        """Append in one commit; False, with nothing written, when a spool moved in between."""
        ...

    def append_losses(self, model: str, losses: Sequence[Loss], noted_at_us: int) -> bool:
        """Note gaps that were not noted before; False when somebody else just noted some."""
        ...

    def upload_known(self, model: str, transaction: str) -> bool:
        """Whether an upload of labels was written before, as far as has been read."""
        ...

    def append_labels(
        self, model: str, uploads: Sequence[LabelUpload], received_at_us: Sequence[int]
    ) -> bool:
        """Append in one commit; False, with nothing written, when another wrote one of them."""
        ...

    def refresh_labels(self, model: str) -> None:
        """Read what others wrote to a model's labels."""
        ...
