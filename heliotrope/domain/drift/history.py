"""From verdicts of windows to a cause: one window never retrains."""

from heliotrope.domain.drift.documents import DriftReport, DriftState, PastVerdict
from heliotrope.vocabulary import Verdict

KEPT = 50
"""Windows remembered."""


def remember(state: DriftState, report: DriftReport, k: int, n: int) -> DriftState:
    """The state after one more window; a window that was seen before is replaced.

    Drift is called when K of the last N judged windows have drifted and the latest has: single
    windows stray, and what was over before anybody looked is no cause. A window with a data fault
    does not count, whichever way it points. Without a window's times nothing is remembered.

    Args:
        state: before; one of another version starts anew, since its reference is another.
        report: of the window.
        k: windows of the last `n` that must have drifted.
        n: windows looked back on.
    """
    if report.window_from is None or report.window_to is None:
        return state
    past = state.windows if state.version == report.version else ()
    entry = PastVerdict(
        window_from=report.window_from,
        window_to=report.window_to,
        verdict=report.verdict,
        faulty=bool(report.fatal),
        score=report.score,
        rows=report.rows,
        judged=report.verdict is not Verdict.ERROR and report.rows >= report.rule.minimum_rows,
    )
    kept = {w.window_from: w for w in past} | {entry.window_from: entry}
    windows = tuple(kept[start] for start in sorted(kept))[-KEPT:]
    return DriftState(
        model=report.model,
        version=report.version,
        windows=windows,
        called=persistent(windows, k, n),
    )


def persistent(windows: tuple[PastVerdict, ...], k: int, n: int) -> bool:
    """Whether K of the last N judged windows drifted, the latest among them."""
    judged = [w for w in windows if w.judged and not w.faulty]
    last = judged[-n:]
    drifted = [w.verdict is Verdict.FAIL for w in last]
    return bool(drifted) and drifted[-1] and sum(drifted) >= k
