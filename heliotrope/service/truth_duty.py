"""The controller's first duty: take in what is new, restate the truth, export it."""

from datetime import datetime, timedelta

from heliotrope.service.truth_book import TruthBook
from heliotrope.service.truth_export import export_promises, export_truth
from heliotrope.spec import ModelSpec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

AHEAD = timedelta(minutes=5)
"""A prediction further ahead of the clock than this was stamped by a clock that is wrong."""


class TruthDuty:
    """Keeps one model's truth.

    Args:
        spec: of the model.
        book: over its truth.
        board: the controller's.
    """

    def __init__(self, spec: ModelSpec, book: TruthBook, board: Board) -> None:
        self.name, self.model = f"truth {spec.name}", spec.name
        self._spec, self._book, self._board = spec, book, board
        self._exported: tuple[int, int] | None = None

    def run(self, now: datetime) -> None:
        """Tick, and export where anything changed or a window's maturity may have.

        Raises:
            ConflictError: another process ticks this truth.
            UnavailableError: the store does not answer.
        """
        export_promises(self._spec, self._board)
        try:
            report = self._book.truth.tick(now)
        finally:
            # What a tick before took in is still true while the store is away.
            self._export(now)
        counts = {
            "predictions": report.predictions,
            "labels": report.labels,
            "forgotten": report.forgotten,
            "too_late": report.late_predictions,
        }
        for kind, count in counts.items():
            self._board.add(metrics.TRUTH_EVENTS, self.model, kind, by=count)
        self._board.add(metrics.TRUTH_UNUSABLE_LABELS, self.model, by=report.unusable_labels)

    def _export(self, now: datetime) -> None:
        plan = self._book.plan
        delay = timedelta(microseconds=plan.delay_us)
        # Maturity changes only when an end of a window, or of its label delay, passes.
        passed = (plan.window_of(now), plan.window_of(now - delay))
        if self._book.refresh() or passed != self._exported:
            export_truth(self._book, self._board, now)
            self._exported = passed
        newest = self._book.newest
        if newest is not None and newest <= now + AHEAD:
            at = newest.timestamp()
            self._board.set(metrics.TRUTH_NEWEST_PREDICTION, at, self.model)
