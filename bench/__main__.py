"""`make bench`: every figure, one script after the other; options are in each `--help`."""

import subprocess
import sys

SCRIPTS: dict[str, list[str]] = {
    "startup": [],
    "training_overhead": [],
    "predictor": [],
    "training_memory": [],
    "ingest": [],
    "shipping": [],
    "age": [],
    "controller_scale": [],
    "rollout": [],
    "accuracy_alarms": [],
    "backtest": [],
    "estimate": [],
    "rollback": [],
    "alerts": [],
    "drift": ["--scale", "0.25"],
    "drift_cost": [],
    "drift_peers": [],
    "diagnosis": [],
    "truth": ["--predictions", "1000000", "--labels", "500000"],
}


def main() -> int:
    """Run the scripts named on the command line, or all; the first failure ends it."""
    chosen = sys.argv[1:] or list(SCRIPTS)
    unknown = [name for name in chosen if name not in SCRIPTS]
    if unknown:
        sys.stderr.write(f"{unknown[0]} must be one of {', '.join(SCRIPTS)}.\n")
        return 2
    for name in chosen:
        print(f"\n# {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"bench.{name}", *SCRIPTS[name]], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
