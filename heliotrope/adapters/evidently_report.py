"""Evidently's pictures of a drift report, for people; the verdict is not its business.

The only importer of evidently. Measured on 0.7.23: a preset computes each column three times and
draws what nobody saves; a broken column kills the whole report, or is dropped in silence under an
automatic definition; and what a value means changes at 1,000 reference rows. So every column is
checked before, given its type, method and threshold, and drawn by itself; at most 10,000 rows are
looked at; and how many columns were drawn is said.
"""

import base64
import gzip
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliotrope.domain.drift.documents import SCORE, DriftReport
from heliotrope.domain.drift.window import DriftWindow, Unreadable, Words
from heliotrope.spec import Feature, FeatureType
from heliotrope.vocabulary import Verdict

if TYPE_CHECKING:
    import pandas as pd

ROWS = 10_000
"""Rows of either side that are drawn; the verdict is of all of them."""
_LARGE = 500_000


@dataclass(frozen=True)
class Drawn:
    """What Evidently drew."""

    html: str
    """One self-contained page."""
    scores: dict[str, float]
    """Evidently's own distance of each column that it could score, on the sample."""
    left_out: dict[str, str]
    """Columns that were not drawn, and why."""


def draw_drift(
    features: Sequence[Feature],
    reference: DriftWindow,
    window: DriftWindow,
    report: DriftReport,
    *,
    most_columns: int = 12,
    seed: int = 0,
) -> Drawn:
    """Draw the columns that matter: those that moved or may have, then the largest effects.

    Args:
        features: of the spec.
        reference: rows of the champion's snapshot.
        window: the rows that were judged.
        report: on them.
        most_columns: drawn at most.
        seed: of the samples.
    """
    before, now = _frame(features, reference, seed), _frame(features, window, seed + 1)
    order = [SCORE, *(feature.name for feature in features)]
    usable, left_out = [], {}
    for name in order:
        why = _unfit(name, before, now)
        if why is None:
            usable.append(name)
        elif name != SCORE:
            left_out[name] = why
    chosen = _chosen(usable, report, most_columns)
    left_out |= {name: "not among those drawn" for name in usable if name not in chosen}
    pages, scores = [], {}
    kinds = {feature.name: _method(feature, before) for feature in features}
    for name in chosen:
        kinds.setdefault(name, "wasserstein")
    snapshot, failed = _run(chosen, kinds, before, now, report.rule.effect)
    left_out |= failed
    if snapshot is not None:
        scores = _values(snapshot)
        pages.append(trim(snapshot.get_html_str(as_iframe=False)))
    return Drawn(_page(report, pages, len(scores), left_out), scores, left_out)


def score_column(
    method: str, before: Any, now: Any, *, words: bool = False, threshold: float = 0.1
) -> float:
    """Evidently's distance of one column: the peer that ours is held against."""
    import pandas as pd

    frames = pd.DataFrame({"x": before}), pd.DataFrame({"x": now})
    snapshot, failed = _run(["x"], {"x": method}, *frames, threshold, words={"x"} if words else ())
    if snapshot is None:
        raise ValueError(failed["x"])
    return _values(snapshot)["x"]


def _frame(features: Sequence[Feature], window: DriftWindow, seed: int) -> "pd.DataFrame":
    import pandas as pd

    rows = np.arange(window.rows)
    if window.rows > ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(window.rows, ROWS, replace=False))
    columns: dict[str, Any] = {}
    for feature in features:
        column = window.columns.get(feature.name)
        if isinstance(column, Words):
            words = np.array([*column.values, None], dtype=object)
            columns[feature.name] = words[column.codes[rows]]
        elif column is not None and not isinstance(column, Unreadable):
            columns[feature.name] = np.asarray(column, dtype=np.float64)[rows]
    if window.score is not None:
        columns[SCORE] = np.asarray(window.score, dtype=np.float64)[rows]
    return pd.DataFrame(columns)


def _unfit(name: str, before: "pd.DataFrame", now: "pd.DataFrame") -> str | None:
    for frame, where in ((before, "reference"), (now, "window")):
        if name not in frame.columns:
            return f"not in the {where}, or not of its type"
        held = frame[name].replace([np.inf, -np.inf], np.nan).dropna()
        if len(held) < 2:
            return f"fewer than two values in the {where}"
    return None


def _method(feature: Feature, before: "pd.DataFrame") -> str:
    few = feature.name in before.columns and before[feature.name].nunique() <= 5
    words = feature.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN)
    return "jensenshannon" if words or few else "wasserstein"


def _chosen(usable: list[str], report: DriftReport, most: int) -> list[str]:
    rank = {Verdict.FAIL: 0, Verdict.HOLD: 1}
    known = {column.column: column for column in report.columns}

    def key(name: str) -> tuple[int, float]:
        found = known.get(name)
        if found is None:
            return 3, 0.0
        return rank.get(found.verdict, 2), -found.effect if np.isfinite(found.effect) else 0.0

    return sorted(usable, key=key)[:most]


def _run(
    chosen: Sequence[str],
    kinds: dict[str, str],
    before: "pd.DataFrame",
    now: "pd.DataFrame",
    threshold: float,
    words: Any = (),
) -> tuple[Any, dict[str, str]]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    spoken = [n for n in chosen if n in words or before[n].dtype == object]
    definition = DataDefinition(
        numerical_columns=[name for name in chosen if name not in spoken],
        categorical_columns=spoken,
    )
    clean = [
        Dataset.from_pandas(
            frame[list(chosen)].replace([np.inf, -np.inf], np.nan), data_definition=definition
        )
        for frame in (before, now)
    ]

    def run(names: Sequence[str]) -> Any:
        metrics = [ValueDrift(column=n, method=kinds[n], threshold=threshold) for n in names]
        return Report(metrics).run(current_data=clean[1], reference_data=clean[0])

    failed: dict[str, str] = {}
    left = list(chosen)
    while left:
        try:
            return run(left), failed
        except (ValueError, TypeError, AttributeError, KeyError, ZeroDivisionError) as error:
            # It does not say which column it was, so each is tried alone.
            broken = _broken(run, left)
            failed |= broken or {left[0]: f"{type(error).__name__}: {error}"}
            left = [name for name in left if name not in failed]
    return None, failed


def _broken(run: Any, names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            run([name])
        except (ValueError, TypeError, AttributeError, KeyError, ZeroDivisionError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def _values(snapshot: Any) -> dict[str, float]:
    scores = {}
    for metric in snapshot.dict()["metrics"]:
        config = metric.get("config") or {}
        name = config.get("column")
        if name is None:
            found = re.search(r"column=([^,]+),", metric.get("metric_name", ""))
            name = found[1] if found else None
        if name is not None:
            scores[str(name)] = float(metric["value"])
    return scores


def trim(page: str) -> str:
    """The same page with its script packed: a third of the bytes; a browser unpacks it itself."""
    scripts = list(re.finditer(r"<script>(.*?)</script>", page, re.S))
    large = next((m for m in scripts if len(m[1]) > _LARGE), None)
    if large is None:
        return page
    later = [m for m in scripts if m.start() > large.start()]
    packed = base64.b64encode(gzip.compress(large[1].encode(), 9, mtime=0)).decode()
    after = "\n".join(m[1] for m in later)
    loader = (
        "<script>(async()=>{const b=Uint8Array.from(atob('" + packed + "'),c=>c.charCodeAt(0));"
        "const s=await new Response(new Blob([b]).stream().pipeThrough("
        "new DecompressionStream('gzip'))).text();(0,eval)(s);" + after + "})()</script>"
    )
    kept, end = [page[: large.start()], loader], large.end()
    for match in later:
        kept.append(page[end : match.start()])
        end = match.end()
    return "".join([*kept, page[end:]])


def _page(report: DriftReport, pages: list[str], drawn: int, left_out: dict[str, str]) -> str:
    faults = "".join(f"<li>{html.escape(f.message)}</li>" for f in report.faults)
    missing = ", ".join(f"{html.escape(n)} ({html.escape(w)})" for n, w in left_out.items())
    head = (
        f"<section style='font-family:sans-serif;margin:1em'><h2>Drift: {report.verdict}</h2>"
        f"<p>{html.escape(report.reason)}</p>"
        f"<p>{report.scored} of {report.expected} columns scored over {report.rows:,} rows. "
        f"Evidently draws {drawn} of them below on up to {ROWS:,} rows of either side, the "
        f"reference's from the champion's holdout; its distances are of these rows.</p>"
        + (f"<h3>Data faults</h3><ul>{faults}</ul>" if faults else "")
        + (f"<details><summary>{len(left_out)} not drawn</summary>{missing}</details>"
           if left_out else "")
        + "</section>"
    )  # fmt: skip
    if not pages:
        return f"<!doctype html><html><head><meta charset='utf-8'></head><body>{head}</body></html>"
    found = re.search(r"<body[^>]*>", pages[0])
    at = found.end() if found else 0
    return pages[0][:at] + head + pages[0][at:]
