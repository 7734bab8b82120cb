"""What a controller costs that keeps many models of which nothing is new.

    python -m bench.controller_scale [--models 1 10 100] [--ticks 5] [--json]

Each number of models is measured in a process of its own: seconds to open, CPU a tick and a model
once everything is known, and resident memory. What a tick costs where events are new: bench.truth.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from heliotrope.bootstrap import Platform
from heliotrope.clock import clock_of
from heliotrope.controller_parts import lock_of, open_controller
from heliotrope.service.tokens import TokenRing
from heliotrope.settings import Settings
from heliotrope.spec import ModelSpec, parse_spec

SPEC = """
name: model-{number}
task: binary
label: {{name: y, positive: "yes", delay: 1h}}
event_time: at
source: {{path: nowhere.parquet}}
features: [{{name: a, type: float}}, {{name: b, type: float}}]
metrics: {{primary: accuracy, others: [log_loss]}}
"""


def specs(count: int) -> list[ModelSpec]:
    """Small ones, each a model."""
    return [parse_spec(SPEC.format(number=number)) for number in range(count)]


def measure(models: int, ticks: int) -> dict[str, float]:
    """One controller, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        here = Platform(Settings.parse({"HELIOTROPE_HOME": folder}, home))
        began = time.perf_counter()
        ring = TokenRing.parse(["a-token-of-the-bench"], "bench")
        clock, lock = clock_of({}), lock_of(here)
        with open_controller(here, specs(models), clock, lock, ring, 1.0) as app:
            opened = time.perf_counter() - began
            app.controller.tick()  # makes the databases
            costs = []
            for _ in range(ticks):
                before = time.process_time()
                app.controller.tick()
                costs.append(time.process_time() - before)
    return {
        "models": models,
        "open_s": opened,
        "cpu_ms_a_tick_and_model": 1000 * statistics.median(costs) / models,
        "spread_ms": 1000 * (max(costs) - min(costs)) / models,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.models[0], given.ticks)))
        return
    found = []
    for models in given.models:
        command = [sys.executable, "-m", "bench.controller_scale", "--here"]
        command += ["--models", str(models), "--ticks", str(given.ticks)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print("| models | open, s | CPU ms a tick and model (spread) | memory, MB |")
    print("|--:|--:|--:|--:|")
    for one in found:
        cost = f"{one['cpu_ms_a_tick_and_model']:.1f} ({one['spread_ms']:.1f})"
        print(f"| {one['models']:.0f} | {one['open_s']:.1f} | {cost} | {one['rss_mb']:.0f} |")


if __name__ == "__main__":
    main()
