"""What shipping costs a predictor, and how soon a prediction is in the store.

    python -m bench.shipping [--rounds 3] [--seconds 4] [--json]

A real predictor under `wrk` at 16 connections, with and without a collector to ship to, in turn.
CPU is of the predictor's process alone and of its shipper alone (from /proc). On a machine where
collector, wrk and predictor share two cores, requests a second also show the collector's work;
CPU a request does not. Afterwards every request must be in the store.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.ingest import TOKEN, collector
from bench.processes import ServerProcess, free_port
from bench.standin import build_model, loan_rows
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.domain.serving import ServingContract


def process_cpu(pid: int) -> float:
    """Seconds of one process, children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child_of(pid: int) -> int | None:
    """The shipper of a predictor."""
    # Children are listed by the thread that started them.
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    found = [child for task in tasks for child in task.read_text().split()]
    every = [Path(f"/proc/{child}/cmdline").read_bytes() for child in found]
    shippers = [c for c, line in zip(found, every, strict=True) if b"predictors.shipper" in line]
    return int(shippers[0]) if shippers else None


def one_round(model: Path, work: Path, seconds: int, url: str | None, body: Path) -> dict[str, Any]:
    """Requests a second and CPU milliseconds a request."""
    port, spool = free_port(), Path(tempfile.mkdtemp(dir=work))
    command = [sys.executable, "-m", "predictors", "--model_name", "loans"]
    command += ["--model_dir", str(model), "--spool_dir", str(spool)]
    command += ["--http_port", str(port), "--grpc_port", str(free_port())]
    environment = {"HELIOTROPE_COLLECTOR_URL": url or "", "HELIOTROPE_COLLECTOR_TOKEN": TOKEN}
    server = ServerProcess(
        command, port, "/v2/models/loans/ready", work / "predictor.log", environment=environment
    ).wait_ready()
    try:
        target = f"http://127.0.0.1:{port}/v1/models/loans:predict"
        drive = ["wrk", "-t1", "-c16", f"-s{body}", target]
        subprocess.run([*drive, "-d1s"], capture_output=True, check=True)
        child = child_of(server.process.pid)
        before = process_cpu(server.process.pid), process_cpu(child) if child else 0.0
        said = subprocess.run(
            [*drive, f"-d{seconds}s"], capture_output=True, check=True, text=True
        ).stdout
        found = re.search(r"(\d+) requests in", said)
        requests = int(found[1]) if found else 0
        if not requests or "Non-2xx" in said:
            raise SystemExit(said)
        own = process_cpu(server.process.pid) - before[0]
        shipper = process_cpu(child) - before[1] if child else 0.0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        served = sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("ml_predictions_total{")
        )
        if child:
            _await_shipped(spool, int(served))
    finally:
        server.stop()
        shutil.rmtree(spool, ignore_errors=True)
    return {
        "rps": requests / seconds,
        "cpu_ms": own / requests * 1e3,
        "shipper_cpu_ms": shipper / requests * 1e3,
        "served": int(served),
    }


def _await_shipped(spool: Path, records: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = json.loads((spool / "shipped.json").read_text())
        except OSError:
            state = {"records": 0}
        if state["records"] >= records:
            return
        time.sleep(0.1)
    raise SystemExit(f"all must be shipped within a minute: {state['records']} of {records}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heliotrope-bench-") as name:
        work = Path(name)
        build_model(work / "model")
        contract = ServingContract.from_json((work / "model" / "serving.json").read_text())
        row = loan_rows(1, seed=3)[0]
        instances = [[row[feature.name] for feature in contract.features]]
        body = work / "post.lua"
        body.write_text(
            'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
            f"wrk.body = '{json.dumps({'instances': instances})}'\n"
        )
        rounds: dict[str, list[dict[str, Any]]] = {"off": [], "on": []}
        with collector(work, 250) as running:
            for _ in range(given.rounds):
                rounds["off"].append(one_round(work / "model", work, given.seconds, None, body))
                rounds["on"].append(
                    one_round(work / "model", work, given.seconds, running.url, body)
                )
            with urllib.request.urlopen(f"{running.url}/metrics") as answer:
                ages = re.findall(
                    r'ml_collector_prediction_age_seconds_bucket\{le="([^"]+)",[^}]*\} (\S+)',
                    answer.read().decode(),
                )
            uri = DeltaEventStore(str(work / "store")).table_uri("predictions", "loans")
            stored = _count(uri)
    served = sum(one["served"] for one in rounds["on"])
    medians = {
        kind: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for kind, found in rounds.items()
    }
    if given.json:
        said = {"off": rounds["off"], "on": rounds["on"], "served": served, "stored": stored}
        print(json.dumps({**said, "age_buckets": ages}, indent=2))
        return
    for kind, found in medians.items():
        print(
            f"shipping {kind:4} {found['rps']:8,.0f} requests/s  {found['cpu_ms']:.3f} CPU ms a "
            f"request, shipper {found['shipper_cpu_ms']:.3f}"
        )
    print(f"requests/s on / off: {medians['on']['rps'] / medians['off']['rps']:.2f}")
    print(f"served with shipping on {served:,}; in the store {stored:,}, each once")
    shown = [f"{edge} s {float(count):,.0f}" for edge, count in ages if float(count)]
    print("batches written before their newest prediction was so old: " + ", ".join(shown))


def _count(uri: str) -> int:
    from deltalake import DeltaTable

    ids = DeltaTable(uri).to_pyarrow_table(columns=["prediction_id"]).column(0)
    if len(ids.unique()) != len(ids):
        raise SystemExit("a prediction is in the store twice")
    return len(ids)


if __name__ == "__main__":
    main()
