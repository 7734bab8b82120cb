"""Every alert, by group."""

from heliotrope.telemetry.alerts_control import CONTROL_ALERTS
from heliotrope.telemetry.alerts_data import DATA_ALERTS, SERVING_ALERTS
from heliotrope.telemetry.alerts_model import MODEL_ALERTS
from heliotrope.telemetry.rules import AlertRule

ALERT_GROUPS: dict[str, tuple[AlertRule, ...]] = {
    "heliotrope-model": MODEL_ALERTS,
    "heliotrope-serving": SERVING_ALERTS,
    "heliotrope-data": DATA_ALERTS,
    "heliotrope-control": CONTROL_ALERTS,
}
ALERTS: tuple[AlertRule, ...] = tuple(rule for group in ALERT_GROUPS.values() for rule in group)
