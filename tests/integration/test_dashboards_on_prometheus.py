"""Panels and rules on a real Prometheus that has scraped every metric of the catalogue."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product

import pytest

from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.adapters.exposition import CONTENT_TYPE, exposition
from heliotrope.adapters.prometheus_api import PrometheusApi
from heliotrope.adapters.prometheus_config import Scraping, prometheus_yaml, targets_file
from heliotrope.adapters.prometheus_panels import broken_rules, unanswered
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.telemetry import controller_metrics as known
from heliotrope.telemetry.alerts import ALERTS
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.catalogue import owned_by
from heliotrope.telemetry.files import DASHBOARDS, RULE_FILES, telemetry_files
from heliotrope.telemetry.metric import Metric, MetricType, Owner
from heliotrope.telemetry.panels import PanelQuery, asked
from heliotrope.telemetry.recording import RECORDING_RULES

# One Prometheus for all of them.
pytestmark = pytest.mark.xdist_group("prometheus")
PATIENCE = 90.0
VALUES: dict[str, tuple[str, ...]] = {
    "model": ("loans",),
    "version": ("7",),
    "role": ("champion",),
    "slice": ("", "grade = C"),
    "metric": ("roc_auc",),
    "quantile": ("0.5", "0.9", "0.99"),
    "code": ("200", "503"),
    "verdict": ("PASS", "FAIL"),
}
"""Of labels that queries choose by; another label has its own name as its only value."""
SCALES = {known.METRIC_FLOOR.name: 5.0}
"""Every gauge is 1, and this floor is above it: one alert has to fire."""


class Exposed:
    """A process that exposes one owner's part; each scrape finds that something has happened."""

    def __init__(self, owner: Owner) -> None:
        self.metrics = owned_by(owner)
        self.board = Board(self.metrics)
        exposed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                for metric in exposed.metrics:
                    exposed._happen(metric)
                body = exposition(exposed.board)
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _happen(self, metric: Metric) -> None:
        for labels in product(*(VALUES.get(label, (label,)) for label in metric.labels)):
            if metric.type is MetricType.COUNTER:
                self.board.add(metric, *labels)
            elif metric.type is MetricType.GAUGE:
                self.board.set(metric, SCALES.get(metric.name, 1.0), *labels)
            else:
                self.board.observe(metric, metric.buckets[0], *labels)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def awaited(what: Callable[[], list[str]]) -> list[str]:
    """What is still missing when all is there or patience is over."""
    until = datetime.now(UTC) + timedelta(seconds=PATIENCE)
    pause = threading.Event()
    while (missing := what()) and datetime.now(UTC) < until:
        pause.wait(0.2)
    return missing


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusApi]:
    """A Prometheus that scrapes a predictor, a collector and a controller."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    folder = tmp_path_factory.mktemp("prometheus")
    processes = {owner: Exposed(owner) for owner in Owner}
    for name, text in telemetry_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "predictors.json").write_text(targets_file([processes[Owner.PREDICTOR].address]))
    scraping = Scraping(
        predictors_file=folder / "predictors.json",
        collectors=(processes[Owner.COLLECTOR].address,),
        controllers=(processes[Owner.CONTROLLER].address,),
        rule_files=tuple(folder / "prometheus" / name for name in RULE_FILES),
        interval_seconds=1,
    )
    (folder / "prometheus.yml").write_text(prometheus_yaml(scraping))
    port = free_port()
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    api = PrometheusApi(f"http://127.0.0.1:{port}")
    try:
        not_ready = awaited(lambda: [] if api.ready() else ["not ready"])
        assert not_ready == [], (folder / "log").read_text()[-2000:]
        yield api
    finally:
        child.terminate()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for process in processes.values():
            process.close()


def test_every_panel_shows_data(api: PrometheusApi) -> None:
    queries = asked(DASHBOARDS, "loans")
    assert len(queries) > 80
    assert awaited(lambda: unanswered(api, queries)) == []


def test_every_legend_names_labels_that_its_series_have(api: PrometheusApi) -> None:
    queries = asked(DASHBOARDS, "loans")
    assert awaited(lambda: unanswered(api, queries)) == []
    for query in queries:
        wanted = set(re.findall(r"{{(\w+)}}", query.legend))
        for sample in api.query(query.expr):
            # An empty value is no label to Prometheus.
            assert wanted - set(sample.labels) <= {"slice"}, query


def test_every_rule_is_loaded_and_runs(api: PrometheusApi) -> None:
    assert awaited(lambda: broken_rules(api)) == []
    assert {rule.name for rule in api.rules()} == {
        *(alert.name for alert in ALERTS),
        *(rule.record for rule in RECORDING_RULES),
    }


def test_an_alert_that_is_due_fires(api: PrometheusApi) -> None:
    def silent() -> list[str]:
        states = {rule.name: rule.state for rule in api.rules()}
        return [] if states.get("HeliotropeAccuracyBelowFloor") == "firing" else [str(states)]

    assert awaited(silent) == []
    (alert,) = api.query('ALERTS{alertname="HeliotropeAccuracyBelowFloor",alertstate="firing"}')
    assert alert.labels["cause"] == "accuracy"
    assert alert.labels["severity"] == "page"
    assert "instance" not in alert.labels


def test_a_panel_of_a_model_that_is_not_there_shows_nothing(api: PrometheusApi) -> None:
    nobody = PanelQuery("here", "nobody's", f'{known.MODEL_ACCURACY.name}{{model="nobody"}}')
    nan = PanelQuery("here", "not a number", "vector(0) / 0")
    wrong = PanelQuery("here", "wrong", "sum(")
    missing = unanswered(api, [nobody, nan, wrong])
    assert [text.split(":")[0] for text in missing] == [
        "here / nobody's",
        "here / not a number",
        "here / wrong",
    ]
    assert "parse error" in missing[2]


def test_the_api_tells_targets_series_and_errors(api: PrometheusApi) -> None:
    assert (
        awaited(lambda: [target.error or target.url for target in api.targets() if not target.up])
        == []
    )
    assert {target.job for target in api.targets()} == {
        "heliotrope-predictor",
        "heliotrope-collector",
        "heliotrope-controller",
    }
    now = datetime.now(UTC)
    series = api.query_range('up{job="heliotrope-controller"}', now - timedelta(seconds=60), now, 1)
    assert {value for one in series for _, value in one.points} == {1.0}
    assert [sample.value for sample in api.query("scalar(vector(3))")] == [3.0]
    assert api.query("vector(1)", now - timedelta(days=1))[0].value == 1
    with pytest.raises(UsageError, match="must be able to run nonsense"):
        api.query("nonsense(")


def test_a_prometheus_that_is_not_there_is_named() -> None:
    nobody = PrometheusApi(f"http://127.0.0.1:{free_port()}")
    assert nobody.ready() is False
    with pytest.raises(UnavailableError, match=nobody.url):
        nobody.query("up")
    with pytest.raises(UsageError, match="Got ftp://here"):
        PrometheusApi("ftp://here")
