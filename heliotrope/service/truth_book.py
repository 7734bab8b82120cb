"""One model's truth held in memory, so that exporting it each second costs what changed."""

import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from heliotrope.domain.truth.cell import CellKey
from heliotrope.domain.truth.documents import Folded, Maturity, WindowTruth
from heliotrope.domain.truth.feed import TruthChanges, TruthMark
from heliotrope.domain.truth.plan import WHOLE, TruthPlan
from heliotrope.domain.truth.reading import maturity, windows
from heliotrope.service.truth import Truth

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Series = tuple[str, str, int, int]
"""Version, role, axis, code: one series of windows."""


class TruthBook:
    """What every window says as of the last `refresh`. Any thread may read; one refreshes.

    Args:
        truth: of the model; ticked by whoever owns it.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self._lock = threading.Lock()
        self._mark: TruthMark | None = None
        self._cells: dict[CellKey, Folded] = {}
        self._ordered: list[tuple[CellKey, Folded]] | None = []
        self.newest: datetime | None = None
        """When the newest prediction was made, as far as is known."""

    @property
    def plan(self) -> TruthPlan:
        """Of the model."""
        return self.truth.plan

    @property
    def mark(self) -> TruthMark | None:
        """Moves whenever anything does."""
        return self._mark

    def refresh(self) -> bool:
        """Read what the state says otherwise; answers whether anything does.

        Raises:
            sqlite3.Error: the state cannot be read.
        """
        found: TruthChanges = self.truth.state.changes(self.plan, self._mark)
        moved = found.mark != self._mark
        with self._lock:
            if found.whole:
                self._cells = {}
            self._cells.update(found.restated)
            for key in found.gone:
                self._cells.pop(key, None)
            if moved or found.restated or found.gone:
                self._ordered = None
            self._mark = found.mark
            newest = found.newest
            self.newest = None if newest is None else _EPOCH + timedelta(microseconds=newest)
        return moved

    def windows(
        self, now: datetime, since: datetime | None = None, *, slices: bool = True
    ) -> list[WindowTruth]:
        """Windows by time, version and role.

        Args:
            now: UTC; decides maturity.
            since: leaves out windows that ended at or before it.
            slices: whether slices are among them.
        """
        ordered = self._in_order()
        only = None if slices else {key for key, _ in ordered if key.axis == WHOLE}
        return windows(self.plan, ordered, now, since, only)

    def of_keys(self, now: datetime, keys: Iterable[CellKey]) -> dict[CellKey, WindowTruth]:
        """These windows."""
        wanted = set(keys)
        found = windows(self.plan, self._in_order(), now, None, wanted)
        return dict(zip(sorted(wanted), found, strict=True))

    def newest_first(self) -> Iterator[tuple[CellKey, Folded]]:
        """Every cell, the latest window's first."""
        return reversed(self._in_order())

    def maturity(self, key: CellKey, folded: Folded, now: datetime) -> Maturity:
        """Whether a cell may be judged on."""
        return maturity(self.plan, key.window, folded, now)

    def totals(self) -> dict[tuple[str, str], tuple[int, int, int | None]]:
        """Predicted, labelled and correct over all windows, by version and role."""
        totals: dict[tuple[str, str], tuple[int, int, int | None]] = {}
        for key, part in self._in_order():
            if key.axis != WHOLE:
                continue
            predicted, labelled, right = totals.get((key.version, key.role), (0, 0, 0))
            both = None if right is None or part.correct is None else right + part.correct
            totals[key.version, key.role] = (
                predicted + part.predicted, labelled + part.labelled, both,
            )  # fmt: skip
        return totals

    def _in_order(self) -> list[tuple[CellKey, Folded]]:
        with self._lock:
            if self._ordered is None:
                self._ordered = sorted(self._cells.items(), key=lambda item: item[0])
            return self._ordered
