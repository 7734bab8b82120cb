"""How long `import heliotrope` and `heliotrope --help` take, beside an empty Python.

    python -m bench.startup [--rounds 15] [--json]

Whole processes, one of each in turn, so that what disturbs one disturbs all. Wanted: under 0.5 s.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python, empty": ["-c", "pass"],
    "import heliotrope": ["-c", "import heliotrope"],
    "heliotrope --help": ["-m", "heliotrope", "--help"],
    "import mlflow": ["-c", "import mlflow"],
}


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds of each command, by round."""
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            wall = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found[name]["wall"].append(wall)
            found[name]["cpu"].append(cpu)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print("| command | wall s, median [min, max] | CPU s, median |")
    print("|---|--:|--:|")
    for name, values in found.items():
        wall = values["wall"]
        span = f"{statistics.median(wall):.2f} [{min(wall):.2f}, {max(wall):.2f}]"
        print(f"| {name} | {span} | {statistics.median(values['cpu']):.2f} |")


if __name__ == "__main__":
    main()
