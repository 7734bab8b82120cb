"""How fast a prediction is, beside servers that serve the same model.

    python -m bench.predictor [--model-dir DIR --skops FILE] [--rounds 3] [--seconds 3] [--json]

Each server is started in turn, every round anew, and driven by `wrk` (Debian's package) over
loopback. Ours has everything on: validation, ids, spool, metrics. Requests a second depend on what
else the machine does; CPU milliseconds a request (of the server's process tree, from /proc) do so
less. Each figure is the median of the rounds, with the least and the most.
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
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.processes import PredictorProcess, ServerProcess, free_port
from bench.standin import build_model, loan_rows
from heliotrope.domain.encoding import bounds, encode_rows
from heliotrope.domain.serving import ServingContract
from heliotrope.spec.features import FeatureType

CONNECTIONS = (1, 16, 64)
BATCH = 100
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Run:
    """One run of wrk."""

    server: str
    rows: int
    connections: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU of the server, a request."""
    errors: int


@dataclass(frozen=True)
class Peer:
    """A server to measure."""

    name: str
    start: Callable[[Path], AbstractContextManager[ServerProcess]]
    path: str
    body: Callable[[int], bytes]
    sizes: tuple[int, ...] = (1,)


def rows_of(contract: ServingContract, count: int) -> list[dict[str, Any]]:
    """Rows the model accepts: of the stand-in's generator, or from the bounds of another model."""
    if contract.model == "loans" and contract.features[0].name == "annual_income":
        return loan_rows(count, seed=11)
    return [
        {
            f.name: _value(f, (number * 0.37 + place * 0.11) % 1.0)
            for place, f in enumerate(contract.features)
        }
        for number in range(count)
    ]


def _value(feature: Any, share: float) -> Any:
    if feature.type is FeatureType.CATEGORY:
        return feature.categories[int(share * len(feature.categories))]
    if feature.type is FeatureType.BOOLEAN:
        return share >= 0.5
    low, high = bounds(feature)
    low, high = max(low, -1e6), min(high, 1e6)
    value = low + share * (high - low)
    return round(value) if feature.type is FeatureType.INTEGER else round(value, 2)


def peers(model: Path, skops: Path, contract: ServingContract, frames: bool) -> list[Peer]:
    """Ours, and what there is beside it; with `frames` all are sent the same raw rows.

    The stand-in's pipeline takes encoded numbers, a trained one a data frame of raw columns.
    """
    names = [feature.name for feature in contract.features]
    named = rows_of(contract, BATCH)
    plain = [[row[name] for name in names] for row in named]
    numbers = encode_rows(contract, named).tolist()
    codes = plain if frames else [[None if v != v else v for v in row] for row in numbers]

    def raw(key: str) -> Callable[[int], bytes]:
        return lambda count: json.dumps({key: codes[:count]}).encode()

    def ours(count: int) -> bytes:
        return json.dumps({"instances": plain[:count]}).encode()

    def invocation(count: int) -> bytes:
        split = {"columns": names, "data": codes[:count]}
        return json.dumps(
            {"dataframe_split": split} if frames else {"inputs": codes[:count]}
        ).encode()

    def kserve(kind: str) -> Callable[[Path], AbstractContextManager[ServerProcess]]:
        def start(work: Path) -> ServerProcess:
            port = free_port()
            command = [sys.executable, "-m", "bench.peers", kind, "--skops", str(skops)]
            command += ["--http_port", str(port), "--model_name", "loans"]
            command += ["--columns", ",".join(names)] if frames else []
            return ServerProcess(command, port, "/v2/health/ready", work / f"{kind}.log")

        return start

    def mlflow(work: Path) -> ServerProcess:
        folder = work / "mlflow-model"
        if not folder.exists():
            _save_for_mlflow(skops, folder)
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
        command += ["-p", str(port), "--env-manager", "local", "--workers", "1"]
        # It starts `uvicorn` by name.
        search = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        quiet = {"MLFLOW_TRACKING_URI": f"sqlite:///{work}/mlflow.db", "PATH": search}
        log = work / "mlflow.log"
        return ServerProcess(command, port, "/health", log, folder=work, environment=quiet)

    path = "/v1/models/loans:predict"
    return [
        Peer("heliotrope", lambda work: PredictorProcess(model, work), path, ours, (1, BATCH)),
        Peer("kserve + scikit-learn", kserve("sklearn"), path, raw("instances"), (1, BATCH)),
        Peer("kserve, empty model", kserve("empty"), path, raw("instances")),
        Peer("mlflow models serve", mlflow, "/invocations", invocation),
    ]


def _save_for_mlflow(file: Path, folder: Path) -> None:
    import mlflow.sklearn
    import skops.io

    pipeline = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    mlflow.sklearn.save_model(
        pipeline, folder, serialization_format="cloudpickle", pyfunc_predict_fn="predict_proba"
    )


def drive(
    peer: Peer, server: ServerProcess, rows: int, connections: int, seconds: int, work: Path
) -> Run:
    """One run of wrk against a server that is ready."""
    body, script = work / "body.json", work / "load.lua"
    body.write_bytes(peer.body(rows))
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f'local file = io.open("{body}", "r")\nwrk.body = file:read("*a")\n'
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    command += ["--latency", "-s", str(script), f"http://127.0.0.1:{server.port}{peer.path}"]
    before = server.cpu_seconds()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu = server.cpu_seconds() - before
    count = int(_find(r"(\d+) requests in", out))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return Run(
        peer.name,
        rows,
        connections,
        float(_find(r"Requests/sec:\s+([\d.]+)", out)),
        _millis(_find(r"50%\s+([\d.]+\w+)", out)),
        _millis(_find(r"99%\s+([\d.]+\w+)", out)),
        cpu * 1000 / max(count, 1),
        int(bad[1]) if bad else 0,
    )


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk must print {pattern}. Got:\n{text}")
    return match[1]


def _millis(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def measure(chosen: list[Peer], rounds: int, seconds: int, work: Path) -> list[Run]:
    """Every server, each round anew, so that what disturbs one disturbs them all."""
    runs = []
    for number in range(rounds):
        for peer in chosen:
            print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr)
            with peer.start(work) as server:
                drive(peer, server, 1, 4, 1, work)
                plan = [(1, connections) for connections in CONNECTIONS]
                plan += [(BATCH, 4)] if BATCH in peer.sizes else []
                runs += [drive(peer, server, rows, links, seconds, work) for rows, links in plan]
    return runs


def table(runs: list[Run]) -> str:
    """Median [least, most] of the rounds, a line a server, size and number of connections."""
    lines = ["| server | rows | connections | requests/s | rows/s | p50 ms | p99 ms | CPU ms |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    keys = dict.fromkeys((r.server, r.rows, r.connections) for r in runs)
    for server, rows, connections in keys:
        same = [r for r in runs if (r.server, r.rows, r.connections) == (server, rows, connections)]
        rate = statistics.median(r.requests_per_second for r in same)
        note = " (errors!)" if any(r.errors for r in same) else ""
        cells = [
            _span([r.requests_per_second for r in same], 0),
            f"{rate * rows:,.0f}",
            _span([r.p50_ms for r in same], 2),
            _span([r.p99_ms for r in same], 2),
            _span([r.cpu_ms for r in same], 3),
        ]
        lines.append(f"| {server}{note} | {rows} | {connections} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(values: list[float], digits: int) -> str:
    middle = statistics.median(values)
    return f"{middle:,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def ratios(runs: list[Run]) -> str:
    """Ours against each other, by CPU a one-row request and by requests a second."""

    def middle(server: str, name: str) -> float:
        found = [
            getattr(r, name)
            for r in runs
            if (r.server, r.rows) == (server, 1) and r.connections == 16
        ]
        return float(statistics.median(found))

    lines = []
    for server in dict.fromkeys(r.server for r in runs if r.server != "heliotrope"):
        cpu = middle(server, "cpu_ms") / middle("heliotrope", "cpu_ms")
        rate = middle("heliotrope", "requests_per_second") / middle(server, "requests_per_second")
        lines.append(f"against {server}: {rate:.1f}x requests/s, 1/{cpu:.1f} of the CPU a request")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model-dir", type=Path, help="a trained model folder")
    parser.add_argument("--skops", type=Path, help="its pipeline; model.skops there when left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", action="append", help="servers whose name begins so")
    parser.add_argument("--json", action="store_true", help="every run as JSON")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk must be installed (apt-get install wrk). It is not on the PATH.")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = arguments.model_dir or work / "model"
        if arguments.model_dir is None:
            build_model(folder, boosting=True)
        contract = ServingContract.from_json((folder / "serving.json").read_bytes())
        skops = arguments.skops or folder / "model.skops"
        chosen = [
            peer
            for peer in peers(
                folder.resolve(), skops.resolve(), contract, arguments.model_dir is not None
            )
            if not arguments.only or peer.name.startswith(tuple(arguments.only))
        ]
        runs = measure(chosen, arguments.rounds, arguments.seconds, work)
    if arguments.json:
        print(json.dumps([asdict(run) for run in runs], indent=2))
        return
    print(table(runs))
    if any(run.server == "heliotrope" for run in runs):
        print(ratios(runs))


if __name__ == "__main__":
    main()
