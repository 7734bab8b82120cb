"""Training on millions of generated loans: seconds and peak memory, each stage in its own process.

    python bench/training_memory.py --rows 1000000
    python bench/training_memory.py --rows 10000000 --json

Stages: `generate` writes Parquet in chunks, `snapshot` reads it into a Delta table version, `train`
fits the default trainer on that version and writes the model folder. The figure wanted: 10 million
rows trained in under 4 GiB of resident memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "examples" / "credit_risk" / "generated.yaml"
LIMIT = 4 * 2**30
ROUNDS = 100


def load(folder: Path, rounds: int) -> Any:
    """The example's spec, reading from the folder, with a fixed number of rounds."""
    from heliotrope.spec import load_spec

    spec = load_spec(SPEC)
    source = spec.source.model_copy(update={"path": str(folder / "loans.parquet")})
    parameters = {**spec.trainer.parameters, "max_iter": rounds}
    trainer = spec.trainer.model_copy(update={"parameters": parameters})
    return spec.model_copy(update={"source": source, "trainer": trainer})


def generate(folder: Path, rows: int) -> dict[str, Any]:
    """Write the loans."""
    from heliotrope.adapters.loan_file import write_loans
    from heliotrope.domain.synthetic import LoanGenerator, LoanKnobs

    return {"rows": write_loans(LoanGenerator(LoanKnobs(rows=rows)), folder / "loans.parquet")}


def snapshot(folder: Path, rounds: int) -> dict[str, Any]:
    """Read them into a Delta table version."""
    from heliotrope.adapters.delta_store import DeltaSnapshotStore
    from heliotrope.adapters.source_reader import DuckDBSourceReader
    from heliotrope.service.snapshot import take_snapshot

    spec = load(folder, rounds)
    store = DeltaSnapshotStore(str(folder / "store"))
    ref = take_snapshot(spec, DuckDBSourceReader(), store, datetime.now(UTC))
    (folder / "snapshot.json").write_text(ref.to_json())
    return {"rows": ref.rows}


def fit(folder: Path, rounds: int) -> dict[str, Any]:
    """Train on it, as the pipeline step does."""
    from heliotrope.adapters.delta_store import DeltaSnapshotStore
    from heliotrope.adapters.onnx_model import OnnxScorer, benchmark_onnx
    from heliotrope.adapters.sklearn_model import SavedPipeline, SklearnTrainer
    from heliotrope.adapters.training_data import SnapshotTrainingData
    from heliotrope.domain.parity import compare_scores
    from heliotrope.domain.snapshot import SnapshotRef
    from heliotrope.service.training import train
    from heliotrope.vocabulary import ONNX_FILE

    spec = load(folder, rounds)
    ref = SnapshotRef.from_json((folder / "snapshot.json").read_bytes())
    data = SnapshotTrainingData(DeltaSnapshotStore(str(folder / "store")), ref, spec)
    out = folder / "model"
    record = train(spec, data, SklearnTrainer(), out, time.monotonic)
    start = record.holdout.row_from
    probe = data.load(range(start, min(start + 100_000, record.holdout.row_to)))
    report = compare_scores(
        SavedPipeline(out, spec).score(probe.features),
        OnnxScorer(out / ONNX_FILE).score(probe.features),
        spec.task,
        spec.threshold,
    )
    return {
        "rows": record.train.rows,
        "train_seconds": round(record.seconds, 1),
        "train_peak_mib": record.peak_rss_bytes >> 20,
        "rounds": len(record.curve["validation"]) - 1,
        "parity": str(report.require()),
        **benchmark_onnx(out / ONNX_FILE, probe.features[:1000]),
    }


def child(stage: str, folder: Path, rows: int, rounds: int) -> None:
    """Run one stage here and print its figures as one line of JSON."""
    start = time.monotonic()
    found = generate(folder, rows) if stage == "generate" else STAGES[stage](folder, rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = peak if sys.platform == "darwin" else peak * 1024
    seconds = round(time.monotonic() - start, 1)
    print(json.dumps({"stage": stage, "seconds": seconds, "peak_rss_mib": peak >> 20, **found}))


STAGES = {"generate": generate, "snapshot": snapshot, "train": fit}


def main() -> int:
    """Run all stages; 1 if training took more memory than it may."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="boosting rounds at most")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--folder", type=Path, help="keep files here; stages done are not redone")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        child(given.stage, given.folder, given.rows, given.rounds)
        return 0
    with tempfile.TemporaryDirectory(prefix="heliotrope-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = [run_stage(stage, folder, given) for stage in STAGES if not done(stage, folder)]
    held = figures[-1]["peak_rss_mib"] << 20 <= LIMIT
    result = {"rows": given.rows, "limit_mib": LIMIT >> 20, "within": held, "stages": figures}
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        for entry in figures:
            print("  ".join(f"{name} {value}" for name, value in entry.items()))
        print(f"training within {LIMIT >> 20} MiB: {'yes' if held else 'NO'}")
    return 0 if held else 1


def done(stage: str, folder: Path) -> bool:
    """Whether an earlier run in a kept folder left what this stage makes."""
    left = {"generate": "loans.parquet", "snapshot": "snapshot.json"}.get(stage)
    return left is not None and (folder / left).exists()


def run_stage(stage: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One stage in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
    command += ["--rows", str(given.rows), "--rounds", str(given.rounds)]
    done_process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done_process.returncode:
        raise SystemExit(f"stage {stage} ended with {done_process.returncode}")
    figures: dict[str, Any] = json.loads(done_process.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    sys.exit(main())
