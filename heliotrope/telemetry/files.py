"""The files that Prometheus and Grafana read, made from the catalogue."""

from heliotrope.telemetry.alerts import ALERT_GROUPS
from heliotrope.telemetry.cases_control import CASES
from heliotrope.telemetry.catalogue import CATALOGUE, LABELS
from heliotrope.telemetry.dashboard_model import MODEL_DASHBOARD
from heliotrope.telemetry.dashboard_pipeline import PIPELINE_DASHBOARD
from heliotrope.telemetry.dashboard_rollout import ROLLOUT_DASHBOARD
from heliotrope.telemetry.dashboard_serving import SERVING_DASHBOARD
from heliotrope.telemetry.grafana import grafana_json
from heliotrope.telemetry.metrics_page import metrics_page
from heliotrope.telemetry.predictor_metrics import PREDICTOR_INFO
from heliotrope.telemetry.recording import RECORDING_RULES
from heliotrope.telemetry.rule_cases import cases_yaml
from heliotrope.telemetry.rules import rules_yaml

RULE_FILES = ("recording.yaml", "alerts.yaml")
"""In dashboards/prometheus."""

DASHBOARDS = (MODEL_DASHBOARD, SERVING_DASHBOARD, ROLLOUT_DASHBOARD, PIPELINE_DASHBOARD)
_MODELS = f"label_values({PREDICTOR_INFO.name}, model)"


def telemetry_files() -> dict[str, str]:
    """Text by path, below dashboards/."""
    above = [f"../{name}" for name in RULE_FILES]
    return {
        "metrics.md": metrics_page(CATALOGUE, LABELS),
        "prometheus/recording.yaml": rules_yaml({"heliotrope-recording": RECORDING_RULES}),
        "prometheus/alerts.yaml": rules_yaml(ALERT_GROUPS),
        **{f"prometheus/tests/{name}.yaml": cases_yaml(c, above) for name, c in CASES.items()},
        **{f"grafana/{d.uid}.json": grafana_json(d, _MODELS) for d in DASHBOARDS},
    }
