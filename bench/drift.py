"""Drift: false alarms a window, and rows until a real shift is called.

`python -m bench.drift` measures false alarms and power, ours beside Evidently's default rules
(Wasserstein over sd and Jensen-Shannon, each from .1; any column, and half of them), and writes
docs/tables/drift.md. The defaults are applied to distances that are Evidently's within .01 (a test
holds them together), since its own reports would take days. What scoring costs is in
`bench.drift_cost`, river's detectors are in `bench.drift_peers`.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np

from heliotrope.domain.drift import (
    DriftReport,
    DriftRule,
    DriftWindow,
    ReferenceSketch,
    Words,
    judge_window,
)
from heliotrope.domain.drift.sketch import reference_of_window
from heliotrope.domain.synthetic import LoanGenerator, LoanKnobs, generate_loans
from heliotrope.domain.synthetic.columns import Categorical
from heliotrope.spec import load_spec

SPEC = load_spec(Path("examples/credit_risk/generated.yaml"))
TABLE = Path("docs/tables/drift.md")
SIZES = {50: 4000, 100: 4000, 200: 4000, 1000: 2000, 5000: 400, 50_000: 40}
RULE = DriftRule(minimum_rows=30)
IMPORTANT = {"interest_rate": 0.4, "annual_income": 0.3, "homeownership": 0.3}


def columns_of(batch: object) -> dict[str, object]:
    """The features of generated loans."""
    found = {}
    for feature in SPEC.features:
        column = batch.columns[feature.name]  # type: ignore[attr-defined]
        if isinstance(column, Categorical):
            found[feature.name] = Words(column.codes.astype(np.int32), column.values)
        else:
            found[feature.name] = np.asarray(column).astype(np.float32)
    return found


def part(columns: dict[str, object], start: int, stop: int) -> DriftWindow:
    """Some of the rows."""
    here = slice(start, stop)
    return DriftWindow(
        stop - start,
        {
            n: Words(c.codes[here], c.values) if isinstance(c, Words) else c[here]  # type: ignore[index]
            for n, c in columns.items()
        },
    )


def evidently_says(report: DriftReport) -> tuple[bool, bool]:
    """Any column from .1, and half of the columns from .1."""
    over = [c.effect >= 0.1 for c in report.columns]
    return any(over), sum(over) >= len(over) / 2


def false_alarms(reference: ReferenceSketch, scale: float) -> list[str]:
    """Windows without drift, from fresh rows of the reference's own population."""
    lines = ["| rows | windows | called | data faults | held | Evidently any | half |"]
    lines.append("|---:|---:|---:|---:|---:|---:|---:|")
    for size, windows in SIZES.items():
        count = max(20, int(windows * scale))
        called = faults = held = any_ = half = 0
        for report in undrifted(reference, size, count):
            called += report.verdict.value == "FAIL"
            faults += bool(report.fatal)
            held += report.verdict.value == "HOLD"
            theirs = evidently_says(report)
            any_, half = any_ + theirs[0], half + theirs[1]
        row = [called, faults, held, any_, half]
        lines.append(
            f"| {size:,} | {count:,} | " + " | ".join(f"{n / count:.2%}" for n in row) + " |"
        )
        print(lines[-1], flush=True)
    return lines


def undrifted(reference: ReferenceSketch, size: int, count: int) -> Iterator[DriftReport]:
    """Reports on fresh windows, without holding them all."""
    chunk = max(1, 200_000 // size)
    generator = LoanGenerator(LoanKnobs(rows=size * count, seed=4242 + size))
    done = 0
    for batch in generator.batches(chunk_rows=chunk * size):
        columns = columns_of(batch)
        for n in range(len(batch) // size):
            done += 1
            yield judge_window(
                SPEC.features, part(columns, n * size, (n + 1) * size), reference, RULE
            )
        if done >= count:
            return


def power(reference: ReferenceSketch, tries: int) -> list[str]:
    """How often a real shift is called."""
    spread = {c.name: c.spread for c in reference.columns}
    income = spread["interest_rate"]
    shifts = {
        ".5 sd in an important number": lambda c: c | {
            "interest_rate": c["interest_rate"] + np.float32(0.5 * income)
        },
        ".25 sd in it": lambda c: c | {
            "interest_rate": c["interest_rate"] + np.float32(0.25 * income)
        },
        "a category's share doubled": doubled,
    }  # fmt: skip
    sizes = (50, 100, 200, 300, 500, 1000)
    lines = ["| shift | " + " | ".join(f"{s:,}" for s in sizes) + " | rows for 80% |"]
    lines.append("|---|" + "---:|" * (len(sizes) + 1))
    live = columns_of(generate_loans(LoanKnobs(rows=200_000, seed=77)))
    for name, change in shifts.items():
        moved, rates = change(live), []
        for size in sizes:
            hits = 0
            for n in range(tries):
                start = (n * size) % (200_000 - size)
                report = judge_window(
                    SPEC.features, part(moved, start, start + size), reference, RULE
                )
                hits += report.verdict.value == "FAIL"
            rates.append(hits / tries)
        enough = next((f"{s:,}" for s, r in zip(sizes, rates, strict=True) if r >= 0.8), "more")
        shown = " | ".join(f"{r:.0%}" for r in rates)
        lines.append(f"| {name} | {shown} | {enough} |")
        print(lines[-1], flush=True)
    return lines


def doubled(columns: dict[str, object]) -> dict[str, object]:
    """Home owners (MORTGAGE and RENT are the common ones) come twice as often."""
    old = columns["homeownership"]
    assert isinstance(old, Words)
    code, rng = old.values.index("OWN"), np.random.default_rng(3)
    share = float((old.codes == code).mean())
    chance = share / (1 - share)
    codes = np.where((old.codes != code) & (rng.random(len(old.codes)) < chance), code, old.codes)
    return columns | {"homeownership": Words(codes.astype(np.int32), old.values)}


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the windows simulated")
    parser.add_argument("--tries", type=int, default=200, help="windows a shift and size")
    parser.add_argument("--out", type=Path, default=TABLE)
    chosen = parser.parse_args()
    known = part(columns_of(generate_loans(LoanKnobs(rows=100_000, seed=1))), 0, 100_000)
    reference = reference_of_window(SPEC.features, known, IMPORTANT)
    text = [
        "# Drift: false alarms and power",
        "",
        f"`python -m bench.drift`; generated loans, {len(SPEC.features)} features, reference of "
        f"100,000 rows, budget {RULE.false_alarm:.0%} a window, effect from {RULE.effect:g}. "
        "Evidently's columns are its default rules on the same windows.",
        "",
        "## Share of windows called drifted, without any drift",
        "",
        *false_alarms(reference, chosen.scale),
        "",
        "## Share of windows called drifted, with a shift, by rows of the window",
        "",
        *power(reference, chosen.tries),
        "",
    ]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
