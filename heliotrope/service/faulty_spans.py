"""Times whose features were found broken: nothing is judged by them, nothing learnt from them."""

from datetime import datetime

from heliotrope.domain.drift.documents import DriftReport
from heliotrope.ports.state import StateKind, StateStore


def faulty_spans(state: StateStore, model: str) -> list[tuple[datetime, datetime]]:
    """The windows with a fatal data fault, [from, to) of prediction time, oldest first.

    As far back as reports on windows are kept (the newest 50).

    Raises:
        UnavailableError: the database does not answer.
    """
    found = []
    for kept in state.kept(StateKind.DRIFT, model):
        report = DriftReport.from_json(kept.text)
        if report.fatal and report.window_from is not None and report.window_to is not None:
            found.append((report.window_from, report.window_to))
    return sorted(found)
