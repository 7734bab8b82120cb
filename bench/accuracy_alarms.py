"""Accuracy alarms: labels until a fall is called, beside how often nothing is called a fall.

    python -m bench.accuracy_alarms [--streams 1000] [--peers 100] [--write]

Streams of labelled outcomes of a model that is right in 94 of 100; after 1,000 labels it is right
less often. Ours are followed over `--streams` streams at once; river's detectors, one stream at a
time, over `--peers`. A delay is counted from the change, on streams without a false alarm before
it. All seeded. `--write` writes docs/tables/accuracy_alarms.md.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliotrope.domain.sequential.charts import ErrorCharts
from heliotrope.domain.sequential.design import ErrorBase, ErrorDesign, design
from heliotrope.domain.sequential.e_detector import EDetector

SEED, BASE, BEFORE, RUN = 20261, 0.06, 1000, 8000
FALLS = {0.28: 400, 0.14: 1500, 0.10: 5000}
"""Error rate after the change, and for how many labels it is followed."""
WANTED = {0.28: (27, 53), 0.14: (113, 235), 0.10: (396, 896)}
TABLE = Path(__file__).resolve().parents[1] / "docs" / "tables" / "accuracy_alarms.md"

Firsts = Callable[[np.ndarray], np.ndarray]
"""[labels, streams] errors to [streams] labels at the first alarm, 0 without one."""


@dataclass(frozen=True)
class Contestant:
    """A detector, and on how many streams it can be followed."""

    name: str
    firsts: Firsts
    streams: int
    labels: int = RUN
    """Healthy labels a stream, for false alarms."""


def charted(made: ErrorDesign) -> Firsts:
    """Our charts."""

    def firsts(errors: np.ndarray) -> np.ndarray:
        charts = ErrorCharts(made.charts, errors.shape[1])
        return charts.update(charts.start(), errors.astype(np.int64)).first

    return firsts


def detected(bound: float) -> Firsts:
    """Our e-detector."""

    def firsts(errors: np.ndarray) -> np.ndarray:
        detector = EDetector(np.full(errors.shape[1], bound), RUN)
        return detector.update(detector.start(), errors.astype(float)).first

    return firsts


def river(make: Callable[[], Any]) -> Firsts:
    """A detector of river's, made anew for each stream."""

    def first(errors: list[int]) -> int:
        one = make()
        for label, error in enumerate(errors, start=1):
            one.update(error)
            if one.drift_detected:
                return label
        return 0

    def firsts(errors: np.ndarray) -> np.ndarray:
        return np.array([first(column) for column in errors.T.astype(int).tolist()])

    return firsts


def contestants(streams: int, peers: int) -> list[Contestant]:
    """All of them."""
    from river import drift

    known = design(ErrorBase(errors=BASE, rows=0), 0.05, RUN)
    measured = design(ErrorBase(errors=120, rows=2000), 0.05, RUN)
    made: dict[str, Callable[[], Any]] = {
        "river ADWIN": drift.ADWIN,
        "river Page-Hinkley": drift.PageHinkley,
        "river DDM": drift.binary.DDM,
        "river EDDM": drift.binary.EDDM,
        "river HDDM-A": drift.binary.HDDMA,
        "river HDDM-W": drift.binary.HDDMW,
    }
    return [
        Contestant("ours: charts, accepted level known", charted(known), streams),
        Contestant("ours: charts, level measured on 2,000 rows", charted(measured), streams),
        Contestant("ours: e-detector", detected(BASE), max(streams // 2, 1)),
        *(Contestant(name, river(make), peers, 15_000) for name, make in made.items()),
    ]


def measured(one: Contestant) -> list[str]:
    """A row of the table."""
    rng = np.random.default_rng(SEED)
    healthy = one.firsts(rng.random((one.labels, one.streams)) < BASE)
    alarms = int((healthy > 0).sum())
    watched = np.where(healthy > 0, healthy, one.labels).sum()
    apart = f"{watched / alarms:,.0f}" if alarms else f"none in {watched:,}"
    cells = [one.name, apart]
    for rate, labels in FALLS.items():
        before = rng.random((BEFORE, one.streams)) < BASE
        after = rng.random((labels, one.streams)) < rate
        first = one.firsts(np.concatenate([before, after]))
        kept = first[(first == 0) | (first > BEFORE)]
        delay = np.where(kept == 0, np.inf, kept - BEFORE)
        cells.append(_quantiles(delay, labels) if len(delay) else "-")
    return cells


def _quantiles(delay: np.ndarray, labels: int) -> str:
    half, most = (np.quantile(delay, q, method="higher") for q in (0.5, 0.95))
    return " / ".join(f"{d:,.0f}" if np.isfinite(d) else f"> {labels:,}" for d in (half, most))


def table(rows: list[list[str]], streams: int, peers: int) -> str:
    """Markdown."""
    head = ["detector", "labels between false alarms"]
    head += [f".94 to .{round(100 * (1 - rate))}, p50 / p95" for rate in FALLS]
    wanted = ["wanted", "8,000"] + [f"{a} / {b}" for a, b in WANTED.values()]
    lines = [head, ["---"] * len(head), wanted, *rows]
    return (
        "# Accuracy alarms: labels until a fall is called\n\n"
        f"Made by `python -m bench.accuracy_alarms --write`: {streams:,} streams for ours, "
        f"{peers:,} for river's detectors (0.26, defaults), seed {SEED}; the fall "
        f"comes after {BEFORE:,} labels, and streams with an alarm before it are left out. The "
        "charts are designed for a false alarm every 8,000 labels exactly; the e-detector "
        "guarantees it for any bounded loss.\n\n"
        + "\n".join("| " + " | ".join(line) + " |" for line in lines)
        + "\n"
    )


def main() -> None:
    """Measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows = []
    for one in contestants(given.streams, given.peers):
        rows.append(measured(one))
        print(*rows[-1], sep="  |  ", flush=True)
    if given.write:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(table(rows, given.streams, given.peers))


if __name__ == "__main__":
    main()
