"""What the training pipeline costs beyond its steps' own work.

    python -m bench.training_overhead [--rounds 3] [--rows 50000] [--json]

Trains generated loans through the compiled pipeline and kfp.local, in a new home each round. A
step's own work is what it reports itself; the rest of the wall clock is the start of its process
(imports included), kfp.local and the command line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from heliotrope.adapters.embedded.run_log import EVENTS
from heliotrope.domain.run_events import EventKind, RunEvent

SPEC = Path(__file__).resolve().parents[1] / "examples" / "credit_risk" / "generated.yaml"
UNLOGGED = 2
"""Steps that write no events: the gate, which is pure, and the exit handler."""


def train_once(rows: int, folder: Path) -> dict[str, float]:
    """One training; seconds in all, in steps' own work, and the number of steps."""
    loans = folder / "loans.parquet"
    heliotrope = [sys.executable, "-m", "heliotrope"]
    subprocess.run(
        [*heliotrope, "generate", str(loans), "--rows", str(rows)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    spec = yaml.safe_load(SPEC.read_text())
    spec["source"]["path"] = str(loans)
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    began = time.perf_counter()
    done = subprocess.run(
        [*heliotrope, "train", str(folder / "model.yaml"), "--json"],
        env={**os.environ, "HELIOTROPE_HOME": str(folder / "home")},
        check=True,
        capture_output=True,
    )
    wall = time.perf_counter() - began
    key = json.loads(done.stdout)["run_key"]
    lines = (folder / "home" / "runs" / key / EVENTS).read_text().splitlines()
    events = [RunEvent.from_json(line) for line in lines]
    own = [e.seconds or 0.0 for e in events if e.kind is EventKind.FINISHED]
    steps = len(own) + UNLOGGED
    return {"wall": wall, "own": sum(own), "steps": steps, "a step": (wall - sum(own)) / steps}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(train_once(arguments.rows, Path(folder)))
    if arguments.json:
        print(json.dumps(rounds, indent=2))
        return
    print(f"{arguments.rows:,} rows, {rounds[0]['steps']:.0f} steps; seconds, median [min, max]")
    print("| whole run | steps' own work | overhead a step |")
    print("|--:|--:|--:|")
    cells = []
    for name in ("wall", "own", "a step"):
        values = [r[name] for r in rounds]
        cells.append(f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]")
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
