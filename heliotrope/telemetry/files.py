"""The files that Prometheus and Grafana read, made from the catalogue."""

from heliotrope.telemetry.alerts import ALERT_GROUPS
from heliotrope.telemetry.cases_control import CASES
from heliotrope.telemetry.recording import RECORDING_RULES
from heliotrope.telemetry.rule_cases import tests_yaml
from heliotrope.telemetry.rules import rules_yaml

RULE_FILES = ("recording.yaml", "alerts.yaml")
"""In dashboards/prometheus."""


def telemetry_files() -> dict[str, str]:
    """Text by path, below dashboards/."""
    above = [f"../{name}" for name in RULE_FILES]
    return {
        "prometheus/recording.yaml": rules_yaml({"heliotrope-recording": RECORDING_RULES}),
        "prometheus/alerts.yaml": rules_yaml(ALERT_GROUPS),
        **{f"prometheus/tests/{name}.yaml": tests_yaml(c, above) for name, c in CASES.items()},
    }
