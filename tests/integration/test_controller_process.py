"""`heliotrope controller` as a process: one acts, it may be killed, it goes on from there."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from prometheus_client.parser import text_string_to_metric_families

from heliotrope.bootstrap import CHECKOUT
from heliotrope.errors import ConflictError
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS

SPEC = """
name: loans
task: binary
label: {name: y, positive: true, delay: 3d}
event_time: at
source: {path: nowhere.parquet}
features: [{name: grade, type: category, categories: [A, B]}]
metrics: {primary: accuracy, others: [roc_auc]}
monitoring: {window: 1d, floor: 0.6}
"""
TOKEN = "a-token-for-the-controller"
AUTH = {"authorization": f"Bearer {TOKEN}"}
STAMP = pa.timestamp("us", "UTC")
# Noon, since rows a second apart are to lie within one day.
TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
WAIT = 120
COMMAND = "from heliotrope.cli import main; main()"


class Home:
    """A home folder with a spec, events, and the controllers that were started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[str]] = []
        self.clients: list[httpx.Client] = []
        (folder / "model.yaml").write_text(SPEC)

    def start(self, *more: str, **env: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "controller", "--spec", "model.yaml", "--port", "0",
             "--tick-seconds", "0.05", *more],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "HELIOTROPE_HOME": str(self.folder),
                 "HELIOTROPE_CONTROLLER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1", **env},
        )  # fmt: skip
        self.children.append(child)
        return child

    def serve(self, *more: str, **env: str) -> tuple[subprocess.Popen[str], httpx.Client]:
        """A controller that listens, and a client of it."""
        child = self.start(*more, **env)
        assert child.stdout is not None
        line = child.stdout.readline()
        found = re.search(r"http://\S+?:\d+", line)
        assert found, f"{line!r} {child.communicate(timeout=WAIT)}"
        client = httpx.Client(base_url=found[0], timeout=WAIT, headers=AUTH)
        self.clients.append(client)
        return child, client

    def predict(self, day: int, count: int, right: int) -> None:
        """Predictions of one day, all labelled, so many of them right."""
        at = [TODAY - timedelta(days=day, seconds=n) for n in range(count)]
        names = [f"d{day}-{n}" for n in range(count)]
        predictions = pa.table({
            "prediction_id": names, "version": ["7"] * count, "role": ["champion"] * count,
            "predicted_at": pa.array(at, STAMP), "prediction": ["false"] * count,
            "score": [0.2 + n / count / 10 for n in range(count)], "f_grade": ["A"] * count,
            "day": pa.array([moment.date() for moment in at]),
        })  # fmt: skip
        labels = pa.table({
            "label_id": names, "prediction_id": names,
            "label": ["false" if n < right else "true" for n in range(count)],
            "received_at": pa.array([moment + timedelta(hours=1) for moment in at], STAMP),
            "day": pa.array([moment.date() for moment in at]),
        })  # fmt: skip
        for kind, rows in (("predictions", predictions), ("labels", labels)):
            path = self.folder / "store" / kind / "loans"
            write_deltalake(str(path), rows, mode="append", partition_by=["day"])


@pytest.fixture
def home(tmp_path: Path, mlflow_template: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    yield made
    for client in made.clients:
        client.close()
    for child in made.children:
        child.kill()
        child.communicate(timeout=WAIT)


def until(client: httpx.Client, path: str, wanted: str, *, absent: str = "\0") -> str:
    """Ask until the answer holds something; the bound is only for a test that would fail."""
    pause = Event()
    for _ in range(WAIT * 20):
        answer = client.get(path)
        if answer.status_code == 200 and wanted in answer.text and absent not in answer.text:
            return answer.text
        pause.wait(0.05)
    raise AssertionError(f"{path} never said {wanted!r}: {answer.status_code} {answer.text[:2000]}")


def alert(name: str = "AccuracyLow", status: str = "firing", minute: int = 0) -> dict[str, Any]:
    began = TODAY - timedelta(days=1) + timedelta(minutes=minute)
    return {
        "status": status, "startsAt": began.isoformat(), "endsAt": "0001-01-01T00:00:00Z",
        "labels": {"alertname": name, "model": "loans", "severity": "page"},
        "annotations": {"summary": "accuracy 0.58 < 0.60"}, "fingerprint": name.lower(),
    }  # fmt: skip


def post(client: httpx.Client, *alerts: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/alerts", json={"version": "4", "alerts": list(alerts)})


def test_it_exports_the_truth_is_killed_and_goes_on(home: Home) -> None:
    home.predict(9, 100, right=75)
    child, client = home.serve()
    text = until(client, "/metrics", 'ml_model_accuracy{model="loans"')
    assert 'ml_model_accuracy{model="loans",role="champion",version="7"} 0.75' in text
    until(client, "/readyz", '"ready"')
    families = {one.name: one for one in text_string_to_metric_families(text)}
    assert set(families) == {metric.name.removesuffix("_total") for metric in CONTROLLER_METRICS}
    for metric in CONTROLLER_METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.documentation == metric.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample

    refused = home.start()
    _, said = refused.communicate(timeout=WAIT)
    assert refused.returncode == ConflictError.exit_code
    assert f"process {child.pid} does" in said

    assert post(client, alert()).json() == {"alerts": 1, "turned": 1}
    child.send_signal(signal.SIGKILL)
    child.wait(WAIT)
    home.predict(8, 100, right=50)
    again, client = home.serve()
    text = until(client, "/metrics", '"7"} 0.5\n')
    assert 'ml_correct_predictions_total{model="loans",role="champion",version="7"} 125.0' in text
    assert post(client, alert()).json() == {"alerts": 1, "turned": 0}
    view = client.get("/api/v1/models/loans").json()
    assert [(one["name"], one["status"]) for one in view["alarms"]] == [("AccuracyLow", "firing")]
    assert [one["value"] for one in view["windows"]] == [0.75, 0.5]

    again.send_signal(signal.SIGTERM)
    out, said = again.communicate(timeout=WAIT)
    assert (again.returncode, said) == (0, ""), out


def test_one_stands_by_and_takes_over_while_stores_come_and_go(home: Home) -> None:
    first, acting = home.serve()
    _, waiting = home.serve("--standby")
    until(acting, "/readyz", "ready")
    assert waiting.get("/readyz").json() == {"status": "standby"}
    assert waiting.get("/healthz").status_code == 200
    assert "ml_controller_active 0.0" in waiting.get("/metrics").text
    refused = post(waiting, alert())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    first.send_signal(signal.SIGKILL)
    first.wait(WAIT)
    until(waiting, "/readyz", "ready")
    assert post(waiting, alert()).status_code == 200
    # A log that cannot be read: counted, told, and over when it can.
    home.predict(9, 10, right=5)
    log = home.folder / "store" / "predictions" / "loans" / "_delta_log"
    entry = sorted(log.glob("*.json"))[0]
    kept = entry.read_bytes()
    until(waiting, "/metrics", "ml_model_accuracy{")
    newer = entry.with_name(f"{1:020d}.json")
    newer.write_bytes(b"{ not json")
    until(waiting, "/metrics", 'ml_controller_duty_failures_total{duty="truth loans"')
    view = json.loads(until(waiting, "/api/v1/models/loans", "truth loans: "))
    assert any(one.startswith("truth loans: ") for one in view["matters"])
    assert entry.read_bytes() == kept
    newer.unlink()
    home.predict(8, 10, right=2)
    until(waiting, "/metrics", 'ml_model_accuracy{model="loans",role="champion",version="7"} 0.2')
    until(waiting, "/api/v1/models/loans", "contract", absent="truth loans: ")


def test_what_is_wrong_at_the_start_is_said(home: Home) -> None:
    twice = home.start("--spec", "model.yaml")
    _, said = twice.communicate(timeout=WAIT)
    assert (twice.returncode, "loans twice" in said) == (2, True)
    wrong = home.start(HELIOTROPE_NOTIFY="nosuch://hunter2")
    _, said = wrong.communicate(timeout=WAIT)
    assert (wrong.returncode, "Number 1 is none" in said) == (2, True)
    assert "hunter2" not in said
