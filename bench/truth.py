"""Join and window truth at volume: seconds, memory, and what the next tick costs.

    python bench/truth.py --predictions 10000000 --labels 5000000 [--json]

Writes made-up events of one binary model (30 daily windows, two slice features, one version, labels
one to twenty days late, a tenth of them by entity key) as Delta tables, catches up from nothing,
then adds 10,000 predictions and 5,000 labels, which fall into most of the windows, and ticks again.
The same tables are also computed from scratch by one query, and both must agree to the bit.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.duckdb_engine import EngineSettings
from heliotrope.adapters.truth_engine import duckdb_truth
from heliotrope.adapters.truth_state import TruthState
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.service.truth import Truth
from heliotrope.spec import parse_spec

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 30
NOW = START + timedelta(days=60)
GRADES = ("A", "B", "C", "D")
SPEC = """
name: bench
task: binary
label: {name: y, positive: true, delay: 20d}
event_time: at
source: {path: nowhere.parquet}
features:
  - {name: grade, type: category, categories: [A, B, C, D]}
  - {name: income, type: float}
metrics: {primary: roc_auc, others: [average_precision, log_loss, accuracy]}
slices:
  - {feature: grade}
  - {feature: income, bins: [20000, 40000, 80000]}
"""
COMMIT_ROWS = 500_000


def micros(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def stamps(values: np.ndarray) -> pa.Array:
    """A timestamp column."""
    return pa.array(values, pa.timestamp("us", "UTC"))


def text(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Ids as random as UUIDs, and as long."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    rows, tail = len(mixed), b"-0000-4000-8000"
    letters = np.empty((rows, len(prefix) + 16 + len(tail)), np.uint8)
    letters[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    nibbles = (mixed[:, None] >> np.arange(60, -4, -4, dtype=np.uint64)) & np.uint64(15)
    letters[:, len(prefix) : len(prefix) + 16] = np.frombuffer(b"0123456789abcdef", np.uint8)[
        nibbles
    ]
    letters[:, len(prefix) + 16 :] = np.frombuffer(tail, np.uint8)
    offsets = np.arange(0, letters.size + 1, letters.shape[1], dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(letters))


def masked(values: pa.Array, hidden: np.ndarray) -> pa.Array:
    """Null where hidden."""
    return pc.if_else(pa.array(~hidden), values, pa.scalar(None, pa.string()))


def predictions(first: int, rows: int, at: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Predictions numbered from `first`."""
    number = np.arange(first, first + rows)
    score = np.clip(rng.beta(1.2, 20, rows), 1e-6, 1 - 1e-6)
    ids = text("p", number)
    return pa.table({
        "prediction_id": ids,
        "request_id": ids,
        "row": pa.array(np.zeros(rows), pa.int32()),
        "version": pa.array(["3"] * rows),
        "role": pa.array(["champion"] * rows),
        "predicted_at": stamps(at),
        "received_at": stamps(at + 1_000_000),
        "entity_key": text("e", number),
        "prediction": pa.array(np.where(score >= 0.5, "true", "false")),
        "score": pa.array(score),
        "scores": pa.nulls(rows, pa.list_(pa.float64())),
        "latency_us": pa.array(rng.integers(300, 3000, rows)),
        "spool_id": pa.array(["a"] * rows),
        "spool_sequence": pa.array(number),
        "f_grade": pa.array(np.array(GRADES)[rng.integers(0, 4, rows)]),
        "f_income": pa.array(rng.lognormal(10.5, 0.6, rows).astype(np.float32)),
        "day": pa.array((at // 86_400_000_000).astype(np.int32), pa.date32()),
    })  # fmt: skip


def labels(number: np.ndarray, batch: str, rng: np.random.Generator) -> pa.Table:
    """A label for each of these predictions."""
    rows = len(number)
    received = (
        micros(START)
        + (number % DAYS + 1) * 86_400_000_000
        + rng.integers(86_400_000_000, 20 * 86_400_000_000, rows)
    )
    by_entity = rng.random(rows) < 0.1
    return pa.table({
        "label_id": text(f"l{batch}", number),
        "prediction_id": masked(text("p", number), by_entity),
        "entity_key": masked(text("e", number), ~by_entity),
        "label": pa.array(np.where(rng.random(rows) < 0.06, "true", "false")),
        "happened_at": stamps(received),
        "received_at": stamps(received),
        "batch_id": pa.array([batch] * rows),
        "day": pa.array((received // 86_400_000_000).astype(np.int32), pa.date32()),
    })  # fmt: skip


def append(store: Path, table: str, rows: pa.Table) -> None:
    """One commit."""
    write_deltalake(str(store / table / "bench"), rows, mode="append", partition_by=["day"])


def write_history(store: Path, wanted: int, labelled: int, rng: np.random.Generator) -> None:
    """Predictions in order of time; labels of random ones of them."""
    for first in range(0, wanted, COMMIT_ROWS):
        rows = min(COMMIT_ROWS, wanted - first)
        number = np.arange(first, first + rows)
        at = micros(START) + (number * (DAYS * 86_400_000_000 / wanted)).astype(np.int64)
        append(store, "predictions", predictions(first, rows, at, rng))
    chosen = rng.permutation(wanted)[:labelled]
    for first in range(0, labelled, COMMIT_ROWS):
        append(store, "labels", labels(chosen[first : first + COMMIT_ROWS], "a", rng))


def peak_mib() -> float:
    """Largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Figures(dict[str, float]):
    """Figures by name, said on stderr as they come, since a long run may be cut short."""

    def add(self, name: str, value: float) -> None:
        """Keep one."""
        self[name] = value
        print(f"{name} {value:,.2f}", file=sys.stderr, flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Wall and CPU seconds of a block; CPU seconds are the truer ones on a busy machine."""
        wall, work = time.perf_counter(), time.process_time()
        yield
        self.add(f"{name}_s", time.perf_counter() - wall)
        self.add(f"{name}_cpu_s", time.process_time() - work)


def measure(arguments: argparse.Namespace) -> Figures:
    """Every figure."""
    rng, found = np.random.default_rng(7), Figures()
    with tempfile.TemporaryDirectory(prefix="truth-bench-") as folder:
        store = Path(folder) / "store"
        with found.timed("writing_events"):
            write_history(store, arguments.predictions, arguments.labels, rng)
        found.add("peak_mib_before", peak_mib())
        with duckdb_truth(EngineSettings(memory_limit="1GB")) as engine:
            plan = TruthPlan.of(parse_spec(SPEC))
            state = TruthState(Path(folder) / "truth.db")
            truth = Truth(plan, DeltaFeed(str(store), "bench"), engine, state)
            with found.timed("catching_up"):
                report = truth.tick(NOW)
            found.add("peak_mib_catching_up", peak_mib())
            size = sum(path.stat().st_size for path in Path(folder).glob("truth.db*"))
            found.add("state_mib", size / 2**20)
            if report.predictions != arguments.predictions or report.labels != arguments.labels:
                raise SystemExit(f"rows were lost: {report}")
            measure_ticks(arguments, truth, store, rng, found)
            with found.timed("from_scratch"):
                scratch = truth.recomputed_cells()
            found.add("same_as_from_scratch", float(scratch == state.cells(plan)))
    return found


def measure_ticks(
    arguments: argparse.Namespace, truth: Truth, store: Path, rng: np.random.Generator,
    found: Figures,
) -> None:  # fmt: skip
    """The next tick, an idle one, and reading what they made."""
    at = np.full(arguments.new_predictions, micros(START + timedelta(days=DAYS)))
    new = predictions(arguments.predictions, arguments.new_predictions, at, rng)
    append(store, "predictions", new)
    late = rng.permutation(arguments.predictions)[: arguments.new_labels]
    append(store, "labels", labels(late, "b", rng))
    with found.timed("next_tick"):
        report = truth.tick(NOW)
    found.add("next_tick_cells", report.cells)
    with found.timed("idle_tick"):
        truth.tick(NOW)
    with found.timed("reading_windows"):
        shown = truth.windows(NOW)
    found.add("windows", len(shown))
    found.add("peak_mib", peak_mib())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=500_000)
    parser.add_argument("--new-predictions", type=int, default=10_000)
    parser.add_argument("--new-labels", type=int, default=5_000)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    arguments = parser.parse_args()
    found = measure(arguments)
    if arguments.json:
        print(json.dumps({**vars(arguments), **found}, indent=2))
        return
    print(f"{arguments.predictions:,} predictions, {arguments.labels:,} labels")
    for name, value in found.items():
        words = name.replace("_cpu_s", ", CPU s").replace("_mib", ", MiB").removesuffix("_s")
        words += ", s" if name.endswith("_s") and "cpu" not in name else ""
        print(f"{words.replace('_', ' '):28} {value:12,.2f}")


if __name__ == "__main__":
    main()
