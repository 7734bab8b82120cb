"""Windows of what was predicted, and how it turned out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heliotrope.domain.outcomes import FeatureWindow, Outcomes, PairedOutcomes
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role


class OutcomeReader(Protocol):
    """Reads the event tables as they are now, each call one version of them.

    Predictions are counted once by id, version and role; of a prediction's labels the last received
    counts, a label by prediction id before any by entity key, as in `domain.truth.matching`. Costs
    time and memory in proportion to the days asked for (and the labels received since), never to
    history. Windows are half-open: `since <= predicted_at < until`, both UTC.

    Every method may raise UnavailableError: the store does not answer. Where a model has no events
    yet the answer has no rows.
    """

    def outcomes(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        role: Role | None = None,
        limit: int | None = None,
        unlabelled: bool = False,
        known_by: datetime | None = None,
    ) -> Outcomes:
        """Labelled predictions of a window, in order of time.

        Args:
            spec: of the model; says what its labels and slices mean.
            since: of `predicted_at`.
            until: of `predicted_at`.
            version: only this one's.
            role: only in this capacity.
            limit: only the first so many.
            unlabelled: also those without a label.
            known_by: only labels received up to then, as one would have read it at that time.
        """
        ...

    def window(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        role: Role | None = None,
        features: Sequence[str] | None = None,
        sample_rows: int | None = None,
        seed: int = 0,
        known_by: datetime | None = None,
    ) -> FeatureWindow:
        """Predictions of a window with their features, labelled or not, in order of time.

        Args:
            spec: of the model.
            since: of `predicted_at`.
            until: of `predicted_at`.
            version: only this one's.
            role: only in this capacity.
            features: the spec's features to read; all when left out.
            sample_rows: at most so many rows, chosen by a hash of the prediction's id: the same
                ones whenever it is read.
            seed: chooses another sample.
            known_by: only labels received up to then.
        """
        ...

    def pairs(
        self,
        spec: ModelSpec,
        champion: str,
        candidate: str,
        since: datetime,
        until: datetime,
        *,
        labelled: bool = True,
        limit: int | None = None,
        known_by: datetime | None = None,
    ) -> PairedOutcomes:
        """Requests of a window (by the champion's answer) that both versions answered.

        The candidate may have answered long after, as a shadow that was fed from the log.

        Args:
            spec: of the model.
            champion: a version.
            candidate: another version.
            since: of the champion's `predicted_at`.
            until: of the champion's `predicted_at`.
            labelled: only those with a label.
            limit: only the first so many.
            known_by: only labels received up to then.
        """
        ...
