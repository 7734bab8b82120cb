"""How soon an answer is part of the truth: from the answer at the client to the controller's sums.

    python -m bench.age [--rate 500] [--seconds 30] [--labels] [--json]

A predictor that ships, a collector and a controller, each a process as `heliotrope up` runs it,
at a steady rate of one-row requests. The controller exposes the time of the newest prediction it
has added up (`ml_truth_newest_prediction_timestamp_seconds`); it is read twenty times a second. An
answer counts as visible when that time has passed the moment it arrived at the client, so what is
told errs on the side of too old, by a reading and by the distance of two requests.
"""

import argparse
import asyncio
import http.client
import json
import re
import statistics
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.processes import ServerProcess, free_port
from bench.standin import build_model, loan_features, loan_rows
from heliotrope.adapters.collector_client import CollectorClient
from heliotrope.adapters.gateway_client import GatewayClient
from heliotrope.errors import UnavailableError
from heliotrope.spec import load_spec
from heliotrope.vocabulary import (
    ENV_COLLECTOR_TOKEN,
    ENV_COLLECTOR_URL,
    ENV_CONTROLLER_TOKEN,
    ENV_HOME,
    ENV_STORE,
)

TOKEN = "bench-token-0123456789"
TICKS = re.compile(rb"^ml_controller_tick_seconds_count\{[^}]*\} (\S+)$", re.MULTILINE)
NEWEST = b"ml_truth_newest_prediction_timestamp_seconds{"
_COMMAND = [sys.executable, "-c", "from heliotrope.cli import main; main()"]
_READ_SECONDS = 0.05
_WARM_SECONDS = 3.0


class Town:
    """The three processes, in a folder."""

    def __init__(self, folder: Path) -> None:
        build_model(folder / "model")
        features = "".join(
            f"  - {feature.model_dump_json(exclude_none=True)}\n" for feature in loan_features()
        )
        self.spec_file = folder / "loans.yaml"
        self.spec_file.write_text(
            "name: loans\ntask: binary\nentity_key: loan_id\nevent_time: issued\n"
            "label: {name: outcome, positive: default, delay: 1h}\n"
            "source: {path: nowhere.parquet}\nmetrics: {primary: accuracy, others: [roc_auc]}\n"
            f"monitoring: {{window: 1h}}\nfeatures:\n{features}"
        )
        environment = {
            ENV_HOME: str(folder / "home"),
            ENV_STORE: str(folder / "store"),
            ENV_COLLECTOR_TOKEN: TOKEN,
            ENV_CONTROLLER_TOKEN: TOKEN,
        }
        ports = [free_port() for _ in range(4)]
        spec = ["--spec", str(self.spec_file)]
        self.collector = ServerProcess(
            [*_COMMAND, "collector", *spec, "--port", str(ports[0])],
            ports[0], "/readyz", folder / "collector.log", environment=environment,
        )  # fmt: skip
        self.controller = ServerProcess(
            [*_COMMAND, "controller", *spec, "--port", str(ports[1])],
            ports[1], "/healthz", folder / "controller.log", environment=environment,
        )  # fmt: skip
        predict = [sys.executable, "-m", "predictors", "--model_name", "loans"]
        predict += ["--model_dir", str(folder / "model"), "--spool_dir", str(folder / "spool")]
        predict += ["--http_port", str(ports[2]), "--grpc_port", str(ports[3])]
        self.predictor = ServerProcess(
            predict, ports[2], "/v2/models/loans/ready", folder / "predictor.log",
            environment={**environment, ENV_COLLECTOR_URL: f"http://127.0.0.1:{ports[0]}"},
        )  # fmt: skip

    @property
    def processes(self) -> dict[str, ServerProcess]:
        """By name."""
        return {
            "predictor and shipper": self.predictor,
            "collector": self.collector,
            "controller": self.controller,
        }


@contextmanager
def town() -> Iterator[Town]:
    """All three, ready, on an empty store."""
    with tempfile.TemporaryDirectory(prefix="heliotrope-bench-") as name, ExitStack() as stack:
        made = Town(Path(name))
        for process in made.processes.values():
            stack.enter_context(process)
        yield made


class Watch:
    """Reads, again and again, how far the truth has come."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.ticks = 0.0
        """Runs of the duty that ran least often."""
        self.read_at: list[float] = []
        self.newest: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stopping.wait(_READ_SECONDS):
            link.request("GET", "/metrics")
            text = link.getresponse().read()
            self.ticks = min((float(count) for count in TICKS.findall(text)), default=0.0)
            at = text.find(b"\n" + NEWEST)
            if at >= 0:
                line = text[at + 1 :].split(b"\n", 1)[0]
                self.newest.append(float(line.rsplit(b" ", 1)[1]))
                self.read_at.append(time.time())

    def reached(self, moment: float) -> float | None:
        """When it was first seen that the truth holds what was predicted up to a moment."""
        place = bisect_left(self.newest, moment)
        return self.read_at[place] if place < len(self.newest) else None

    def wait_for(self, moment: float, seconds: float = 60.0) -> None:
        """Return when that moment is reached."""
        end = time.monotonic() + seconds
        while self.reached(moment) is None:
            if time.monotonic() > end:
                raise SystemExit(f"the truth must come to {moment}: {self.newest[-1:]}")
            time.sleep(_READ_SECONDS)

    def wait_until_warm(self, seconds: float = 90.0) -> None:
        """Return when every duty ran three times: the first run loads its libraries."""
        end = time.monotonic() + seconds
        while self.ticks < 3:
            if time.monotonic() > end:
                raise SystemExit(f"every duty must run. The least often ran {self.ticks:g} times.")
            time.sleep(_READ_SECONDS)

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join()


async def drive(made: Town, rate: float, seconds: float) -> list[tuple[float, str]]:
    """Ask at a steady rate; moment of each answer, and its prediction's id."""
    gateway = GatewayClient(f"http://127.0.0.1:{made.predictor.port}", load_spec(made.spec_file))
    rows = loan_rows(1000, seed=3)
    answers: list[tuple[float, str]] = []

    async def ask(number: int) -> None:
        asked = await gateway.ask(rows[number % len(rows)], f"age-{number}")
        if asked.status != 200:
            raise SystemExit(asked.error)
        answers.append((time.time(), asked.prediction_id))

    began, tasks = time.monotonic(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(ask(number)))
    await asyncio.gather(*tasks)
    await gateway.close()
    return answers


def send_labels(made: Town, stopping: threading.Event, rate: float) -> None:
    """As many labels a second as there are predictions, of those of a while ago."""
    client, number = CollectorClient(f"http://127.0.0.1:{made.collector.port}", TOKEN), 0
    while not stopping.wait(0.5):
        count = int(rate / 2)
        rows = [
            {"prediction_id": f"age-{n}/0", "label": "default" if n % 3 else "repaid"}
            for n in range(number, number + count)
        ]
        number += count
        try:
            client.send_labels(json.dumps(rows).encode(), "application/json", "loans", None)
        except UnavailableError as error:
            raise SystemExit(str(error)) from error
    client.close()


def measure(made: Town, rate: float, seconds: float, labels: bool) -> dict[str, Any]:
    """Ages in seconds, and what the processes cost."""
    watch, stopping = Watch(made.controller.port), threading.Event()
    asyncio.run(drive(made, rate, _WARM_SECONDS))
    watch.wait_until_warm()
    sender = threading.Thread(target=send_labels, args=(made, stopping, rate), daemon=True)
    if labels:
        sender.start()
    before = {name: one.cpu_seconds() for name, one in made.processes.items()}
    began = time.monotonic()
    answers = asyncio.run(drive(made, rate, seconds))
    took = time.monotonic() - began
    # The last answers become visible once something later was predicted.
    asyncio.run(drive(made, rate, 0.5))
    watch.wait_for(max(moment for moment, _ in answers))
    cores = {
        name: round((one.cpu_seconds() - before[name]) / took, 3)
        for name, one in made.processes.items()
    }
    stopping.set()
    watch.stop()
    ages = sorted(
        seen - moment for moment, _ in answers if (seen := watch.reached(moment)) is not None
    )
    cuts = statistics.quantiles(ages, n=100)
    return {
        "requests": len(answers),
        "requests_a_second": round(len(answers) / took, 1),
        "age_p50_s": round(cuts[49], 3),
        "age_p90_s": round(cuts[89], 3),
        "age_p99_s": round(cuts[98], 3),
        "age_max_s": round(ages[-1], 3),
        "cores": cores,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--labels", action="store_true", help="send as many labels beside it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with town() as made:
        found = measure(made, given.rate, given.seconds, given.labels)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['requests']:,} requests at {found['requests_a_second']:,.0f}/s; from the answer "
        f"to the truth p50 {found['age_p50_s']:.2f} s, p90 {found['age_p90_s']:.2f} s, p99 "
        f"{found['age_p99_s']:.2f} s, longest {found['age_max_s']:.2f} s (wanted: p99 < 5 s)"
    )
    print("cores: " + ", ".join(f"{name} {used:.2f}" for name, used in found["cores"].items()))


if __name__ == "__main__":
    main()
