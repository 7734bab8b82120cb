"""The truth of a model, kept up: each tick reads what is new and restates what that touches."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from heliotrope.domain.document import Document
from heliotrope.domain.truth.cell import Cell, CellKey, split_rows
from heliotrope.domain.truth.documents import Folded, WindowTruth
from heliotrope.domain.truth.feed import LABELS, PREDICTIONS, FeedStep, TruthChanges, TruthMark
from heliotrope.domain.truth.folding import fold
from heliotrope.domain.truth.plan import WHOLE, TruthPlan, micros_of
from heliotrope.domain.truth.reading import windows


class Touched(Protocol):
    """Rows as they were and as they are, of those that a batch changed."""

    predictions: Any
    labels: Any
    fresh: int
    repeated: int
    late: int

    @property
    def entities(self) -> bool: ...


class Rows(Protocol):
    """Every prediction and label once, found by key."""

    def absorb_predictions(self, batch: Any) -> Any: ...

    def absorb_labels(self, batch: Any) -> Any: ...


class Transaction(Protocol):
    """One tick's reading and writing; kept whole or not at all."""

    rows: Any

    def cursor(self, table: str) -> int | None: ...

    def move_cursor(self, table: str, version: int) -> None: ...

    def add(
        self, gained: Mapping[CellKey, Cell], fold: Callable[[CellKey, Cell], Folded]
    ) -> int: ...

    def forget(self, now: int, fresh: int) -> int: ...


class State(Protocol):
    """What is kept between ticks."""

    def transaction(self, plan: TruthPlan) -> AbstractContextManager[Any]: ...

    def folded(self, plan: TruthPlan) -> list[tuple[CellKey, Folded]]: ...

    def changes(self, plan: TruthPlan, since: TruthMark | None) -> TruthChanges: ...


class Feed(Protocol):
    """The commits of the event tables."""

    def steps(self, table: str, after: int | None) -> Iterator[FeedStep]: ...

    def files(self, table: str) -> tuple[str, ...]: ...


class Engine(Protocol):
    """Runs the expressions."""

    def prediction_rows(self, files: Any, plan: TruthPlan, batch_rows: int) -> Iterator[Any]: ...

    def label_rows(self, files: Any, plan: TruthPlan, batch_rows: int) -> Iterator[Any]: ...

    def unusable_labels(self, files: Any, plan: TruthPlan) -> int: ...

    def cells(
        self, predictions: Any, labels: Any, plan: TruthPlan, entities: bool
    ) -> dict[str, Any]: ...

    def recompute(self, predictions: Any, labels: Any, plan: TruthPlan) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TickLimits:
    """What one tick may take on; catching up is many transactions, but for the very first."""

    chunk_rows: int = 2_500_000
    """New rows read in one transaction, in whole commits. Rows are kept in the key's order, so a
    larger chunk writes fewer pages a row."""
    batch_rows: int = 250_000
    """Rows in memory at a time."""
    transactions: int = 16
    """Of one tick: whoever ticks has other things to do, however much there is to catch up on."""


class TickReport(Document):
    """What a tick did."""

    predictions: int = 0
    """New ones."""
    repeated_predictions: int = 0
    late_predictions: int = 0
    """Rows that came after the horizon of their label, which is too late to restate anything."""
    labels: int = 0
    repeated_labels: int = 0
    unusable_labels: int = 0
    """Rows that name no class, no number, no target or no time."""
    forgotten: int = 0
    """Rows, of predictions and labels, that were let go since they are beyond the horizon."""
    cells: int = 0
    """Windows, by version, role and slice, that were restated."""
    transactions: int = 0
    behind: bool = False
    """Whether there was more to read than a tick takes on: the next one goes on."""


@dataclass
class _Tally:
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, **more: int) -> None:
        for name, count in more.items():
            self.counts[name] = self.counts.get(name, 0) + count


@dataclass(frozen=True)
class Truth:
    """One model's truth on given adapters."""

    plan: TruthPlan
    feed: Feed
    engine: Engine
    state: State
    limits: TickLimits = TickLimits()

    def tick(self, now: datetime | None = None) -> TickReport:
        """Take in what is new; costs in proportion to it.

        Can be killed anywhere: the next tick goes on from the last finished transaction. It ends
        with the first transaction that was not full: what came meanwhile is the next tick's, or
        events that never cease would keep this one from its end.

        Args:
            now: UTC. What is beyond `label.horizon` by then is forgotten bit by bit; None keeps it.

        Raises:
            ConflictError: another process is ticking.
            UnavailableError: the store does not answer.
        """
        tally, more = _Tally(), True
        for _ in range(self.limits.transactions):
            more = self._chunk(tally, now)
            if not more:
                break
        return TickReport(**tally.counts, behind=more)

    def windows(self, now: datetime, since: datetime | None = None) -> list[WindowTruth]:
        """Every window as of the last tick, oldest first.

        Args:
            now: UTC; decides maturity.
            since: leaves out windows that ended before.
        """
        return windows(self.plan, self.state.folded(self.plan), now, since)

    def recomputed(self, now: datetime, since: datetime | None = None) -> list[WindowTruth]:
        """The same from scratch, out of the tables alone, leaving the state as it is."""
        return windows(self.plan, self._recomputed_folded(), now, since)

    def recomputed_cells(self) -> dict[CellKey, Cell]:
        """Statistics of the whole tables."""
        predictions, labels = self.feed.files(PREDICTIONS), self.feed.files(LABELS)
        return dict(split_rows(self.engine.recompute(predictions, labels, self.plan)))

    def _recomputed_folded(self) -> list[tuple[CellKey, Folded]]:
        found = sorted(self.recomputed_cells().items(), key=lambda item: item[0])
        return [(key, self._fold(key, cell)) for key, cell in found]

    def _fold(self, key: CellKey, cell: Cell) -> Folded:
        return fold(cell, self.plan, whole=key.axis == WHOLE)

    def _chunk(self, tally: _Tally, now: datetime | None) -> bool:
        """One transaction; whether it was full, so that there may be more."""
        with self.state.transaction(self.plan) as step:
            if step.cursor(PREDICTIONS) is None and step.cursor(LABELS) is None:
                return self._first(step, tally, now)
            room = self.limits.chunk_rows
            predictions = _take(self.feed.steps(PREDICTIONS, step.cursor(PREDICTIONS)), room)
            room -= sum(part.rows for part in predictions)
            labels = _take(self.feed.steps(LABELS, step.cursor(LABELS)), room) if room > 0 else []
            if not predictions and not labels:
                return False
            gained: dict[CellKey, Cell] = {}
            self._take_predictions(step, _files(predictions), gained, tally)
            self._take_labels(step, _files(labels), gained, tally)
            moved = {key: cell for key, cell in gained.items() if not cell.blank}
            changed = step.add(moved, self._fold)
            for table, parts in ((PREDICTIONS, predictions), (LABELS, labels)):
                if parts:
                    step.move_cursor(table, parts[-1].version)
            rows = sum(part.rows for part in (*predictions, *labels))
            self._forget(step, now, rows, tally)
        tally.add(cells=changed, transactions=1)
        return rows >= self.limits.chunk_rows

    def _forget(self, step: Any, now: datetime | None, fresh: int, tally: _Tally) -> None:
        if now is not None:
            tally.add(forgotten=step.forget(micros_of(now), fresh))

    def _first(self, step: Any, tally: _Tally, now: datetime | None) -> bool:
        """All of history: one query adds it up, since nothing is known that it could restate."""
        steps = {table: list(self.feed.steps(table, None)) for table in (PREDICTIONS, LABELS)}
        if not any(steps.values()):
            return False
        files = {table: _files(parts) for table, parts in steps.items()}
        rows = self.limits.batch_rows
        for batch in self.engine.prediction_rows(files[PREDICTIONS], self.plan, rows):
            tally.add(predictions=step.rows.load_predictions(batch))
        for batch in self.engine.label_rows(files[LABELS], self.plan, rows):
            tally.add(labels=step.rows.load_labels(batch))
        tally.add(unusable_labels=self.engine.unusable_labels(files[LABELS], self.plan))
        found = self.engine.recompute(files[PREDICTIONS], files[LABELS], self.plan)
        changed = step.add(dict(split_rows(found)), self._fold)
        for table, parts in steps.items():
            if parts:
                step.move_cursor(table, parts[-1].version)
        fresh = sum(part.rows for parts in steps.values() for part in parts)
        self._forget(step, now, fresh, tally)
        tally.add(cells=changed, transactions=1)
        return True

    def _take_predictions(
        self, step: Any, files: list[str], gained: dict[CellKey, Cell], tally: _Tally
    ) -> None:
        for batch in self.engine.prediction_rows(files, self.plan, self.limits.batch_rows):
            touched = step.rows.absorb_predictions(batch)
            tally.add(
                predictions=touched.fresh,
                repeated_predictions=touched.repeated,
                late_predictions=touched.late,
            )
            self._gain(touched, gained)

    def _take_labels(
        self, step: Any, files: list[str], gained: dict[CellKey, Cell], tally: _Tally
    ) -> None:
        tally.add(unusable_labels=self.engine.unusable_labels(files, self.plan))
        for batch in self.engine.label_rows(files, self.plan, self.limits.batch_rows):
            touched = step.rows.absorb_labels(batch)
            tally.add(labels=touched.fresh, repeated_labels=touched.repeated)
            self._gain(touched, gained)

    def _gain(self, touched: Touched, gained: dict[CellKey, Cell]) -> None:
        if touched.predictions.num_rows == 0:
            return
        rows = self.engine.cells(touched.predictions, touched.labels, self.plan, touched.entities)
        for key, cell in split_rows(rows):
            known = gained.get(key)
            gained[key] = cell if known is None else known + cell


def _take(steps: Iterator[FeedStep], room: int) -> list[FeedStep]:
    taken: list[FeedStep] = []
    rows = 0
    for step in steps:
        taken.append(step)
        rows += step.rows
        if rows >= room:
            break
    return taken


def _files(steps: list[FeedStep]) -> list[str]:
    return [path for step in steps for path in step.files]
