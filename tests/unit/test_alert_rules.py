"""Alerts: each tells what a person needs, fires when it should, and is silent otherwise."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from heliotrope.cli import build_app
from heliotrope.domain.decisions import DecisionKind
from heliotrope.telemetry.alerts import ALERTS, known_alert
from heliotrope.telemetry.cases_control import CASES
from heliotrope.telemetry.files import RULE_FILES, telemetry_files
from heliotrope.telemetry.predictor_metrics import PREDICTOR_READY, SPOOL_ROWS
from heliotrope.telemetry.rule_cases import Case, Fires, cases_yaml, row
from heliotrope.telemetry.rules import AlertRule, RecordingRule, Severity, rules_yaml

CHECKOUT = Path(__file__).resolve().parents[2]
RUNBOOK = CHECKOUT / "dashboards" / "runbook.md"
EVERY = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
ALL_CASES = [case for cases in CASES.values() for case in cases]


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as they are made now."""
    folder = tmp_path_factory.mktemp("dashboards")
    for name, text in telemetry_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "prometheus"


@EVERY
def test_an_alert_has_cases_that_fire_and_that_do_not(alert: AlertRule) -> None:
    fires = [case.fires is not None for case in ALL_CASES if case.alert == alert]
    assert True in fires
    assert False in fires


def test_rules_are_as_prometheus_wants_them(written: Path) -> None:
    done = promtool("check", "rules", *(str(written / name) for name in RULE_FILES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_alerts_fire_with_their_numbers_and_only_when_they_should(written: Path, name: str) -> None:
    done = promtool("test", "rules", str(written / "tests" / f"{name}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", ["silent where it should fire", "fires where it should not",
                                  "other numbers"])  # fmt: skip
def test_a_case_that_is_wrong_is_found(tmp_path: Path, what: str) -> None:
    rule = AlertRule("A", f"{SPOOL_ROWS.name} > 5", Severity.PAGE, "{{ $value }} rows.", "Many.")
    (tmp_path / "rules.yaml").write_text(rules_yaml({"g": [rule]}))
    many = Case(
        rule, "many", (row(SPOOL_ROWS, 9, model="m"),), Fires({"model": "m"}, "9 rows."), "1m"
    )
    file = tmp_path / "cases.yaml"
    file.write_text(cases_yaml([many], ["rules.yaml"]))
    assert promtool("test", "rules", str(file)).returncode == 0
    wrong = {
        "silent where it should fire": replace(many, series=(row(SPOOL_ROWS, 1, model="m"),)),
        "fires where it should not": replace(many, fires=None),
        "other numbers": replace(many, fires=Fires({"model": "m"}, "8 rows.")),
    }[what]
    file.write_text(cases_yaml([wrong], ["rules.yaml"]))
    assert promtool("test", "rules", str(file)).returncode == 1


def test_a_case_names_the_metrics_own_labels() -> None:
    assert row(PREDICTOR_READY, 1, model="m", version="1", role="shadow", instance="a") == (
        'ml_predictor_ready{model="m",version="1",role="shadow",instance="a"}',
        "1x60",
    )
    with pytest.raises(ValueError, match="must have the labels"):
        row(PREDICTOR_READY, 1, model="m")


def test_an_alert_of_somebody_elses_is_counted_as_other() -> None:
    assert [known_alert(alert.name) for alert in ALERTS] == [alert.name for alert in ALERTS]
    assert known_alert("NodeDiskFull") == "other"


def test_names_are_given_once_and_say_whose_they_are() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"Heliotrope([A-Z][a-z]+)+", name) for name in names)


@EVERY
def test_an_alert_says_severity_numbers_and_where_to_read_on(alert: AlertRule) -> None:
    assert alert.severity in Severity
    assert alert.summary.endswith(".")
    assert alert.description.endswith(".")
    assert alert.lasts == "" or re.fullmatch(r"\d+m", alert.lasts)
    # Of nothing there is no number.
    wordy = {"HeliotropeControllerAbsent"}
    assert "{{" in alert.summary or alert.name in wordy
    assert alert.labels.get("cause", "accuracy") in ("accuracy", "drift")


def headings() -> dict[str, str]:
    """Sections of the runbook by heading."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@EVERY
def test_the_runbook_tells_of_an_alert_what_it_means_where_to_look_what_to_do(
    alert: AlertRule,
) -> None:
    told = headings()[alert.name]
    for word in ("**Means.**", "**Look.**", "**Do.**"):
        assert word in told
    file, _, anchor = alert.runbook_url.partition("#")
    assert CHECKOUT / file == RUNBOOK
    assert anchor == alert.name.lower()


def test_the_runbook_tells_of_nothing_else() -> None:
    assert set(headings()) == {alert.name for alert in ALERTS}


def test_the_runbooks_commands_are_there() -> None:
    text = RUNBOOK.read_text()
    app = build_app()
    known = {command.name or "" for command in app.registered_commands}
    known |= {group.name or "" for group in app.registered_groups}
    used = set(re.findall(r"`heliotrope\s+([a-z]+)", text))
    used |= set(re.findall(r"^heliotrope ([a-z]+)", text, re.MULTILINE))
    assert len(used) > 8
    assert used - known == set()
    kinds = set(re.findall(r"--kind\s+([a-z]+)", text))
    assert kinds <= {kind.value for kind in DecisionKind}


def test_a_rule_file_reads_back_as_the_rules() -> None:
    text = rules_yaml({"g": [RecordingRule("a:b:c", "1\n+ 1"), ALERTS[0]]})
    assert text.startswith("# Generated")
    (group,) = yaml.safe_load(text)["groups"]
    record, alert = group["rules"]
    assert record == {"record": "a:b:c", "expr": "1\n+ 1"}
    assert alert["expr"] == ALERTS[0].expr
    assert alert["annotations"]["summary"] == ALERTS[0].summary
    assert "for" not in alert
