"""Configuration of Prometheus and Alertmanager: what it says, and that the real ones take it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from heliotrope.adapters.prometheus_config import (
    Scraping,
    alertmanager_yaml,
    prometheus_yaml,
    targets_file,
)
from heliotrope.errors import UsageError
from heliotrope.telemetry.files import RULE_FILES

CHECKOUT = Path(__file__).resolve().parents[2]


def scraping(folder: Path, **more: object) -> Scraping:
    given = {
        "predictors_file": folder / "predictors of a é.json",
        "collectors": ("127.0.0.1:7001",),
        "controllers": ("127.0.0.1:7002",),
        **more,
    }
    return Scraping(**given)  # type: ignore[arg-type]


def checked(tool: str, *words: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([tool, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_process_is_a_job_and_predictors_come_from_a_file(tmp_path: Path) -> None:
    config = yaml.safe_load(prometheus_yaml(scraping(tmp_path, gateway="127.0.0.1:9901")))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) == {
        f"heliotrope-{n}" for n in ("predictor", "collector", "controller", "gateway")
    }
    assert jobs["heliotrope-predictor"]["file_sd_configs"][0]["files"] == [
        str(tmp_path / "predictors of a é.json")
    ]
    assert jobs["heliotrope-collector"]["static_configs"] == [{"targets": ["127.0.0.1:7001"]}]
    assert jobs["heliotrope-gateway"]["metrics_path"] == "/stats/prometheus"
    assert "alerting" not in config


def test_without_a_gateway_there_is_no_job_for_it(tmp_path: Path) -> None:
    config = yaml.safe_load(prometheus_yaml(scraping(tmp_path)))
    assert "heliotrope-gateway" not in [job["job_name"] for job in config["scrape_configs"]]


@pytest.mark.parametrize("seconds", [0, 16, -5])
def test_an_interval_that_rates_cannot_bear_is_refused(tmp_path: Path, seconds: int) -> None:
    with pytest.raises(UsageError, match=f"from 1 to 15 seconds. Got {seconds}"):
        prometheus_yaml(scraping(tmp_path, interval_seconds=seconds))


def test_alerts_go_to_the_controller_with_its_token(tmp_path: Path) -> None:
    config = yaml.safe_load(alertmanager_yaml("http://127.0.0.1:1/v1/alerts", tmp_path / "token"))
    (receiver,) = config["receivers"]
    (webhook,) = receiver["webhook_configs"]
    assert config["route"]["receiver"] == receiver["name"]
    assert webhook["url"] == "http://127.0.0.1:1/v1/alerts"
    assert webhook["send_resolved"] is True
    assert webhook["http_config"]["authorization"] == {
        "type": "Bearer",
        "credentials_file": str(tmp_path / "token"),
    }
    with pytest.raises(UsageError, match="1 second or more"):
        alertmanager_yaml("http://127.0.0.1:1/v1/alerts", tmp_path, wait_seconds=0)


def test_targets_are_listed_in_a_stable_order() -> None:
    assert json.loads(targets_file(["b:2", "a:1"])) == [{"targets": ["a:1", "b:2"]}]
    assert json.loads(targets_file([])) == [{"targets": []}]


@pytest.mark.parametrize("seconds", [1, 15])
def test_prometheus_takes_its_configuration(tmp_path: Path, seconds: int) -> None:
    file = tmp_path / "prometheus.yml"
    rules = [CHECKOUT / "dashboards" / "prometheus" / name for name in RULE_FILES]
    file.write_text(
        prometheus_yaml(
            scraping(
                tmp_path,
                gateway="127.0.0.1:9901",
                alertmanager="127.0.0.1:9093",
                interval_seconds=seconds,
                rule_files=tuple(rules),
                external_labels={"platform": "a é"},
            )
        )
    )
    (tmp_path / "predictors of a é.json").write_text(targets_file(["127.0.0.1:1"]))
    checked("promtool", "check", "config", str(file))


def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(alertmanager_yaml("http://127.0.0.1:7002/v1/alerts", tmp_path / "token"))
    checked("amtool", "check-config", str(file))


def test_a_cluster_s_alertmanager_is_told_what_the_embedded_one_is(tmp_path: Path) -> None:
    ours = yaml.safe_load(alertmanager_yaml("http://a/v1/alerts", tmp_path / "token"))
    components = CHECKOUT / "manifests" / "components"
    plain = yaml.safe_load((components / "prometheus-plain" / "alertmanager.yaml").read_text())
    assert (plain["route"], plain["inhibit_rules"]) == (ours["route"], ours["inhibit_rules"])
    operators = yaml.safe_load(
        (components / "prometheus-operator" / "alertmanager.yaml").read_text()
    )["spec"]
    keys = {
        "groupBy": "group_by",
        "groupWait": "group_wait",
        "groupInterval": "group_interval",
        "repeatInterval": "repeat_interval",
        "receiver": "receiver",
    }
    route = {keys[name]: value for name, value in operators["route"].items() if name in keys}
    assert route == ours["route"]
    rules = [
        {
            "source_matchers": [f'{one["name"]}="{one["value"]}"' for one in rule["sourceMatch"]],
            "target_matchers": [f'{one["name"]}="{one["value"]}"' for one in rule["targetMatch"]],
            "equal": rule["equal"],
        }
        for rule in operators["inhibitRules"]
    ]
    assert rules == ours["inhibit_rules"]
