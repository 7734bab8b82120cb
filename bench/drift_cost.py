"""Drift: what scoring costs beyond reading, and how far it is from Evidently's on the same rows.

    python -m bench.drift_cost [--peer-rows 100000] [--delta-rows 10000000] [--write]

Windows of 30 numbers against a reference of 100,000 rows, each in a process of its own: in memory,
and from a Delta table of parts, a column in memory at a time, where the time of reading is taken
off. Evidently's preset beside it on `--peer-rows` (a million took 129 s and 4.1 GB). CPU seconds of
one thread. `--write` writes docs/tables/drift_cost.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np

from heliotrope.domain.drift import DriftRule, DriftWindow, ReferenceSketch, judge_window
from heliotrope.domain.drift.sketch import reference_of_window
from heliotrope.domain.drift.window import Column
from heliotrope.spec import Feature, FeatureType

TABLE = Path("docs/tables/drift_cost.md")
WIDTH, REFERENCE = 30, 100_000
PART = 500_000
FEATURES = tuple(Feature(name=f"x{n}", type=FeatureType.FLOAT) for n in range(WIDTH))


def rows(count: int, seed: int) -> np.ndarray:
    """Three families of columns, some of them moved a little in later rows."""
    rng = np.random.default_rng(seed)
    made = np.empty((count, WIDTH), np.float32)
    for n in range(WIDTH):
        made[:, n] = (
            rng.normal(size=count),
            rng.lognormal(0, 0.8, count),
            rng.integers(0, 40, count),
        )[n % 3]
        if seed and n % 5 == 0:
            made[:, n] *= 1.1
    return made


def window(matrix: np.ndarray) -> DriftWindow:
    """Columns, contiguous as a column store gives them."""
    return DriftWindow(
        len(matrix), {f.name: np.ascontiguousarray(matrix[:, n]) for n, f in enumerate(FEATURES)}
    )


def sketch() -> ReferenceSketch:
    """Of the reference."""
    return reference_of_window(FEATURES, window(rows(REFERENCE, 0)))


class Read(Mapping[str, Column]):
    """Columns that are read when they are asked for; the last one is kept."""

    def __init__(self, read: Any) -> None:
        self._read, self._last, self.seconds = read, ("", np.empty(0)), 0.0

    def __getitem__(self, name: str) -> Column:
        """Read, and count the CPU of it."""
        if self._last[0] != name:
            began = time.process_time()
            self._last = ("", np.empty(0))
            self._last = (name, self._read(next(f for f in FEATURES if f.name == name)))
            self.seconds += time.process_time() - began
        return self._last[1]

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(f.name for f in FEATURES)

    def __len__(self) -> int:
        """How many."""
        return WIDTH


def peak() -> float:
    """GiB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ours(count: int) -> list[float]:
    """CPU of scoring, peak, distance from Evidently (not asked here)."""
    known, now = sketch(), window(rows(count, 1))
    began = time.process_time()
    judge_window(FEATURES, now, known, DriftRule())
    return [time.process_time() - began, peak(), float("nan")]


def delta(count: int, folder: str) -> list[float]:
    """The same of a table that `written` wrote."""
    from deltalake import DeltaTable

    from heliotrope.adapters.delta_store import DeltaSnapshotStore
    from heliotrope.adapters.snapshot_columns import snapshot_columns
    from heliotrope.domain.snapshot import SnapshotRef

    uri, known = f"{folder}/snapshots/wide", sketch()
    ref = SnapshotRef(
        model="wide", table=uri, version=DeltaTable(uri).version(), content_hash="0" * 64,
        rows=count, taken_at=datetime(2026, 1, 1, tzinfo=UTC), source="bench",
        columns=tuple(f.name for f in FEATURES),
    )  # fmt: skip
    with snapshot_columns(DeltaSnapshotStore(folder), ref) as read:
        columns = Read(read)
        began = time.process_time()
        report = judge_window(FEATURES, DriftWindow(count, columns), known, DriftRule())
        spent = time.process_time() - began - columns.seconds
    if report.scored != WIDTH:
        raise SystemExit(f"All columns must be scored. Got {report.scored}.")
    return [spent, peak(), float("nan")]


def written(count: int, folder: str) -> None:
    """A Delta table of parts."""
    import pyarrow as pa
    from deltalake import write_deltalake

    for start in range(0, count, PART):
        part = rows(min(PART, count - start), 1 + start)
        names = {f.name: part[:, n] for n, f in enumerate(FEATURES)}
        write_deltalake(f"{folder}/snapshots/wide", pa.table(names), mode="append")


def evidently(count: int) -> list[float]:
    """The preset, and the largest distance of its scores from ours on the same rows."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    names = [f.name for f in FEATURES]
    before, now = rows(REFERENCE, 0), rows(count, 1)
    frames = [pd.DataFrame(m, columns=names) for m in (now, before)]
    began = time.process_time()
    found = Report([DataDriftPreset()]).run(current_data=frames[0], reference_data=frames[1])
    spent, most = time.process_time() - began, peak()
    report = judge_window(FEATURES, window(now), sketch(), DriftRule())
    apart = [
        abs(float(metric["value"]) - mine.effect)
        for metric in found.dict()["metrics"]
        if (mine := report.column(str((metric.get("config") or {}).get("column")))) is not None
    ]
    if len(apart) != WIDTH:
        raise SystemExit(f"Every column must be compared. Got {len(apart)}.")
    return [spent, most, max(apart)]


def alone(way: str, count: int, folder: str = "") -> list[float]:
    """One measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.drift_cost", "--way", way, "--rows", str(count),
         "--folder", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return [float(value) for value in json.loads(done.stdout.strip().splitlines()[-1])]


def line(way: str, count: int, found: list[float]) -> str:
    """A row of the table."""
    apart = "" if np.isnan(found[2]) else f"{found[2]:.4f}"
    text = f"| {way} | {count:,} | {found[0]:.2f} | {found[1]:.2f} | {apart} |"
    print(text, flush=True)
    return text


def main() -> None:
    """Measure, print, and where asked write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-rows", type=int, default=100_000)
    parser.add_argument("--delta-rows", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--way", choices=["ours", "delta", "evidently", "write"])
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    if given.way == "write":
        written(given.rows, given.folder)
        print("[0, 0, 0]")
        return
    if given.way:
        one = {"ours": ours, "evidently": evidently}.get(given.way)
        found = one(given.rows) if one else delta(given.rows, given.folder)
        print(json.dumps(found))
        return
    lines = [line("ours", n, alone("ours", n)) for n in (10_000, 100_000, 1_000_000)]
    for count in (1_000_000, given.delta_rows):
        with tempfile.TemporaryDirectory() as folder:
            alone("write", count, folder)
            lines.append(line("ours, from Delta", count, alone("delta", count, folder)))
    lines.append(line("Evidently's preset", given.peer_rows, alone("evidently", given.peer_rows)))
    text = "\n".join([
        "# Drift: the cost of scoring",
        "",
        "Made by `python -m bench.drift_cost --write`: 30 numbers against a reference of "
        f"{REFERENCE:,} rows. Beyond reading; the peak is of the whole process with its libraries "
        "and, in memory, its data. Wanted for a million rows: less than 1 s and 1 GiB, scores "
        "within .01 of Evidently's. A window of more than a million rows is sampled down to that "
        "when the platform judges it, and the report says what a sample may hide.",
        "",
        "| way | rows | CPU s | peak GiB | largest difference to Evidently's scores |",
        "|---|---:|---:|---:|---:|",
        *lines,
        "",
    ])  # fmt: skip
    if given.write:
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
