"""Drift: false alarms a window, rows until a real shift is called, and what it costs.

`python -m bench.drift` measures false alarms and power, ours beside Evidently's default rules
(Wasserstein over sd and Jensen-Shannon, each from .1; any column, and half of them), and writes
docs/tables/drift.md. The defaults are applied to distances that are Evidently's within .01 (a test
holds them together), since its own reports would take days. `--cost` adds the cost of a million
rows of 30 columns, with Evidently's preset beside (two minutes and 4 GB), `--delta ROWS` that of
rows in a Delta table, a column at a time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
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
from heliotrope.spec import Feature, FeatureType, load_spec

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


COST = """
import json, os, resource, sys, time
import numpy as np
rows, way = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
before = rng.normal(size=(100_000, 30)).astype(np.float32)
now = rng.normal(size=(rows, 30)).astype(np.float32)
if way == "ours":
    from bench.drift import plain, columns_of_matrix
    from heliotrope.domain.drift import DriftRule, judge_window
    from heliotrope.domain.drift.sketch import reference_of_window
    known = reference_of_window(plain(30), columns_of_matrix(before))
    window = columns_of_matrix(now)
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    judge_window(plain(30), window, known, DriftRule())
else:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset
    frames = [pd.DataFrame(m, columns=[f"x{i}" for i in range(30)]) for m in (now, before)]
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    Report([DataDriftPreset()]).run(current_data=frames[0], reference_data=frames[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([time.process_time() - began, after / 2**20, (after - peak) / 2**20]))
"""


def plain(width: int) -> tuple[Feature, ...]:
    """Numbers without bounds."""
    return tuple(Feature(name=f"x{n}", type=FeatureType.FLOAT) for n in range(width))


def columns_of_matrix(matrix: np.ndarray) -> DriftWindow:
    """Columns, contiguous as a column store gives them."""
    return DriftWindow(
        len(matrix), {f"x{n}": np.ascontiguousarray(matrix[:, n]) for n in range(matrix.shape[1])}
    )


def cost(peer_rows: int) -> list[str]:
    """CPU and memory, each in a process of its own."""
    lines = ["| way | rows x 30 | CPU s | peak GiB, data included | added GiB |"]
    lines.append("|---|---:|---:|---:|---:|")
    for way, rows in (("ours", 10_000), ("ours", 100_000), ("ours", 1_000_000),
                      ("evidently preset", peer_rows)):  # fmt: skip
        if not rows:
            continue
        out = subprocess.run(
            [sys.executable, "-c", COST, str(rows), way],
            capture_output=True, text=True, check=True, timeout=900,
        )  # fmt: skip
        seconds, peak, added = json.loads(out.stdout.strip().splitlines()[-1])
        lines.append(f"| {way} | {rows:,} | {seconds:.2f} | {peak:.2f} | {added:.2f} |")
        print(lines[-1], flush=True)
    return lines


def from_delta(rows: int) -> list[str]:
    """A snapshot of many rows, sketched from its Delta table a column at a time."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    from heliotrope.adapters.delta_store import DeltaSnapshotStore
    from heliotrope.adapters.snapshot_columns import snapshot_columns
    from heliotrope.domain.drift.sketch import sketch_reference
    from heliotrope.domain.snapshot import SnapshotRef

    with tempfile.TemporaryDirectory() as folder:
        uri, rng = f"{folder}/snapshots/wide", np.random.default_rng(0)
        for _ in range(0, rows, 500_000):
            part_ = {f"x{n}": rng.normal(size=500_000).astype(np.float32) for n in range(30)}
            write_deltalake(uri, pa.table(part_), mode="append")
        from datetime import UTC, datetime

        ref = SnapshotRef(
            model="wide", table=uri, version=DeltaTable(uri).version(), content_hash="0" * 64,
            rows=rows, taken_at=datetime(2026, 1, 1, tzinfo=UTC), source="bench",
            columns=tuple(f"x{n}" for n in range(30)),
        )  # fmt: skip
        wall, cpu = time.perf_counter(), time.process_time()
        with snapshot_columns(DeltaSnapshotStore(folder), ref) as read:
            sketch_reference("wide", "1", "0", plain(30), read)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line = (
        f"{rows:,} rows x 30 from Delta, reading included: {wall:.1f} s, {cpu:.1f} s of CPU, "
        f"peak {peak:.2f} GiB of the whole process (which also wrote the table)."
    )
    print(line, flush=True)
    return [line]


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the windows simulated")
    parser.add_argument("--tries", type=int, default=200, help="windows a shift and size")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--peer-rows", type=int, default=100_000, help="for Evidently; 0 skips it")
    parser.add_argument("--delta", type=int, default=0, help="rows in a Delta table")
    parser.add_argument("--out", type=Path, default=TABLE)
    chosen = parser.parse_args()
    known = part(columns_of(generate_loans(LoanKnobs(rows=100_000, seed=1))), 0, 100_000)
    reference = reference_of_window(SPEC.features, known, IMPORTANT)
    text = [
        "# Drift: false alarms, power and cost",
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
    if chosen.cost:
        text += ["## Cost of scoring, beyond reading", "", *cost(chosen.peer_rows), ""]
    if chosen.delta:
        text += ["## Out of core", "", *from_delta(chosen.delta), ""]
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
