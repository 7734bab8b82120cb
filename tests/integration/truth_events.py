"""Made-up events of one binary model, and how they are written to the event tables."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.spec import parse_spec

SPEC = """
name: loans
task: binary
label: {name: y, positive: late, delay: 3d}
event_time: at
source: {path: nowhere.parquet}
features:
  - {name: grade, type: category, categories: [A, B]}
  - {name: income, type: float, nullable: true}
metrics: {primary: accuracy, others: [roc_auc, log_loss, brier]}
slices:
  - {feature: grade}
  - {feature: income, bins: [10, 20]}
monitoring: {window: 1d, mature_coverage: 0.9}
"""
PLAN = TruthPlan.of(parse_spec(SPEC))
DAY0 = datetime(2026, 3, 2, tzinfo=UTC)
LATER = DAY0 + timedelta(days=60)
STAMP = pa.timestamp("us", "UTC")
PREDICTIONS = pa.schema([
    ("prediction_id", pa.string()), ("version", pa.string()), ("role", pa.string()),
    ("predicted_at", STAMP), ("received_at", STAMP), ("entity_key", pa.string()),
    ("prediction", pa.string()), ("score", pa.float64()), ("f_grade", pa.string()),
    ("f_income", pa.float32()), ("day", pa.date32()),
])  # fmt: skip
LABELS = pa.schema([
    ("label_id", pa.string()), ("prediction_id", pa.string()), ("entity_key", pa.string()),
    ("label", pa.string()), ("happened_at", STAMP), ("received_at", STAMP),
    ("batch_id", pa.string()), ("day", pa.date32()),
])  # fmt: skip
Event = dict[str, Any]


def prediction(name: str, hours: float = 0.0, score: float | None = 0.3, **more: Any) -> Event:
    at = DAY0 + timedelta(hours=hours)
    return {
        "prediction_id": name, "version": "1", "role": "champion", "predicted_at": at,
        "received_at": at + timedelta(seconds=2), "entity_key": None,
        "prediction": "late" if (score or 0) >= 0.5 else "not late", "score": score,
        "f_grade": "A", "f_income": 15.0, "day": at.date(), **more,
    }  # fmt: skip


def label(key: str, target: str, value: str, hours: float = 24.0, **more: Any) -> Event:
    received = DAY0 + timedelta(hours=hours)
    return {
        "label_id": key, "prediction_id": target, "entity_key": None, "label": value,
        "happened_at": None, "received_at": received, "batch_id": "b", "day": received.date(),
        **more,
    }  # fmt: skip


def entity_label(key: str, entity: str, value: str, hours: float = 24.0, **more: Any) -> Event:
    return label(key, None, value, hours, entity_key=entity, **more)


def write(store: Path, table: str, events: list[Event]) -> None:
    schema = PREDICTIONS if table == "predictions" else LABELS
    rows = pa.Table.from_pylist(events, schema=schema)
    write_deltalake(str(store / table / "loans"), rows, mode="append", partition_by=["day"])
