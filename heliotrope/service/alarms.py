"""The controller's duty on accuracy: mature outcomes are judged once, each.

A window is read when it is mature and everything before it was read. Detectors, the cursor, alarms
and the log change in one transaction, so that a controller killed anywhere feeds no row twice and
leaves none out. Labels that come after their window was read no longer count for alarms, though
they do for the truth.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import numpy as np

from heliotrope.domain.accuracy_alarms import Finding, findings, told
from heliotrope.domain.accuracy_state import AccuracyState, advanced, by_version
from heliotrope.domain.alarms import Alarm, fingerprint_of
from heliotrope.domain.decisions import DecisionEntry
from heliotrope.domain.document import Document
from heliotrope.domain.outcomes import Outcomes
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.domain.truth.documents import Maturity, WindowTruth
from heliotrope.ports import Registry
from heliotrope.ports.outcomes import OutcomeReader
from heliotrope.ports.state import Kept, Put, StateKind, StateStore
from heliotrope.service.accepted import write_accepted
from heliotrope.service.faulty_spans import faulty_spans
from heliotrope.spec import ModelSpec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board
from heliotrope.vocabulary import Role

KEY = "accuracy"
"""Of the detectors' document and of the cursor's."""
WINDOWS_A_RUN = 32
"""So that catching up leaves the other duties their turn."""
ROWS_A_WINDOW = 20_000
"""Labelled rows of a window that are judged, evenly chosen of more: a detector needs hundreds."""

Windows = Callable[[datetime], Sequence[WindowTruth]]
"""The truth as of a time, oldest first; slices may be among them."""


class AccuracyCursor(Document):
    """How far outcomes were judged."""

    until: datetime
    """End of the last window that was read, UTC."""


@dataclass(frozen=True)
class AlarmTools:
    """What the duty needs of the outside."""

    state: StateStore
    outcomes: OutcomeReader
    windows: Windows
    registry: Callable[[], Registry]


class AccuracyDuty:
    """One model's accuracy alarms: below the floor, and fallen from what was accepted.

    Args:
        spec: of the model.
        tools: of the outside.
        board: where alarms are shown.
    """

    def __init__(self, spec: ModelSpec, tools: AlarmTools, board: Board) -> None:
        self.name, self.model = f"accuracy {spec.name}", spec.name
        self._spec, self._tools, self._board = spec, tools, board
        self._accepted: AcceptedLevel | None = None
        self._shown = False

    def run(self, now: datetime) -> None:
        """Judge what became mature.

        Raises:
            ConflictError: another controller judged the same window just now.
            UnavailableError: the event store, MLflow or the database does not answer.
        """
        for _ in range(WINDOWS_A_RUN):
            if not self._next(now):
                break
        if not self._shown:
            kept = self._tools.state.get(StateKind.DETECTOR, self.model, KEY)
            self._show(AccuracyState() if kept is None else AccuracyState.from_json(kept.text))

    def _next(self, now: datetime) -> bool:
        """Judge one window; False when none is due."""
        cursor = self._tools.state.get(StateKind.CURSOR, self.model, KEY)
        after = None if cursor is None else AccuracyCursor.from_json(cursor.text).until
        window = due(self._tools.windows(now), after)
        if not window:
            return False
        kept = self._tools.state.get(StateKind.DETECTOR, self.model, KEY)
        before = AccuracyState() if kept is None else AccuracyState.from_json(kept.text)
        accepted = self._level(now)
        state = self._judged(before, window, accepted)
        alarms, entries = self._alarms(before, state, accepted, now)
        until = AccuracyCursor(until=window[0].window_to)
        self._tools.state.apply(
            now,
            [
                _put(StateKind.DETECTOR, self.model, KEY, state, kept),
                _put(StateKind.CURSOR, self.model, KEY, until, cursor),
                *alarms,
            ],
            entries,
        )
        self._show(state)
        return True

    def _level(self, now: datetime) -> AcceptedLevel | None:
        if self._accepted is None:
            registry = self._tools.registry()
            self._accepted = write_accepted(self._tools.state, registry, self._spec, now)
        return self._accepted

    def _judged(
        self, state: AccuracyState, window: Sequence[WindowTruth], accepted: AcceptedLevel | None
    ) -> AccuracyState:
        first = window[0]
        rows = self._tools.outcomes.outcomes(
            self._spec, first.window_from, first.window_to, role=Role.CHAMPION
        )
        # A broken column is told by whoever finds it; the model is not to be judged by it.
        rows = outside(rows, faulty_spans(self._tools.state, self.model))
        truths = {truth.version: truth for truth in window}
        for version, part in by_version(thinned(rows), state.version):
            if version in truths:
                state = advanced(self._spec, state, part, truths[version], accepted)
        return state

    def _alarms(
        self, before: AccuracyState, after: AccuracyState, accepted: AcceptedLevel | None,
        now: datetime,
    ) -> tuple[list[Put], list[DecisionEntry]]:  # fmt: skip
        puts: list[Put] = []
        entries: list[DecisionEntry] = []
        for finding in findings(self._spec, after, accepted):
            key = fingerprint_of(finding.labels(self.model))
            kept = self._tools.state.get(StateKind.ALARM, self.model, key)
            known = None if kept is None else Alarm.from_json(kept.text)
            why = _why_over(before, after)
            alarm, more = told(known, finding, self.model, after.version, now, why)
            if alarm is not None and alarm != known:
                puts.append(_put(StateKind.ALARM, self.model, key, alarm, kept))
            entries += more
        return puts, entries

    def _show(self, state: AccuracyState) -> None:
        shown: list[Finding] = list(findings(self._spec, state, self._accepted))
        for finding in shown:
            self._board.set(
                metrics.ALARM_ACTIVE, float(finding.since is not None), self.model, finding.shown
            )
        self._shown = True


def thinned(rows: Outcomes) -> Outcomes:
    """At most `ROWS_A_WINDOW`, evenly over time."""
    if len(rows) <= ROWS_A_WINDOW:
        return rows
    return rows.where(np.linspace(0, len(rows) - 1, ROWS_A_WINDOW).astype(np.int64))


def outside(rows: Outcomes, spans: Sequence[tuple[datetime, datetime]]) -> Outcomes:
    """The rows that were predicted at no time within these spans, [from, to)."""
    kept = np.ones(len(rows), dtype=bool)
    for start, end in spans:
        since, until = (np.datetime64(at.replace(tzinfo=None), "us") for at in (start, end))
        kept &= (rows.predicted_at < since) | (rows.predicted_at >= until)
    return rows.where(kept)


def due(windows: Sequence[WindowTruth], after: datetime | None) -> list[WindowTruth]:
    """The champions' truths of the oldest window that was not read yet, if it is mature.

    Args:
        windows: oldest first.
        after: end of the last window that was read.

    Returns:
        One a version that was champion in it; none where nothing is due.
    """
    champions = (
        window
        for window in windows
        if window.slice is None
        and window.role == Role.CHAMPION
        and (after is None or window.window_from >= after)
    )
    for _, group in groupby(champions, key=lambda window: window.window_from):
        found = list(group)
        grown = all(
            window.maturity.mature or window.maturity is Maturity.UNLABELLED for window in found
        )
        return found if grown else []
    return []


def _put(kind: StateKind, model: str, key: str, document: Document, kept: Kept | None) -> Put:
    return Put(kind, model, key, document.to_json(), 0 if kept is None else kept.revision)


def _why_over(before: AccuracyState, after: AccuracyState) -> str:
    if before.version != after.version:
        return (
            f"version {after.version} took over from {before.version}, and is judged by the same "
            "target on its own outcomes"
        )
    return "labelled outcomes since show that the fall is smaller than what matters"
