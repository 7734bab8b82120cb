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
_NAMES = frozenset(rule.name for rule in ALERTS)


def known_alert(name: str) -> str:
    """The name as a label's value: `other` for what is no rule here, so that values stay few.

    >>> known_alert("HeliotropeTargetDown"), known_alert("NodeDiskFull")
    ('HeliotropeTargetDown', 'other')
    """
    return name if name in _NAMES else "other"
