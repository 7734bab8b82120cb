"""A collected window as one Parquet file, so that every step of a run sees the same rows."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from heliotrope.domain.drift.window import window_of_table
from heliotrope.domain.outcomes import FeatureWindow
from heliotrope.service.monitoring import Collected
from heliotrope.spec import ModelSpec

_OWN = ("prediction_id", "version", "role", "predicted_at", "prediction", "score", "label")
_RECEIVED = "label_received_at"
_ABOUT = b"heliotrope.window"


def write_window(path: Path, collected: Collected) -> None:
    """Write it; features are kept under their own names, the rest behind a dot no feature has."""
    rows = collected.rows
    columns = {f".{name}": pa.array(getattr(rows, name)) for name in (*_OWN, _RECEIVED)}
    for name in rows.features.column_names:
        columns[name] = rows.features.column(name)
    about = {
        "since": collected.since.isoformat(),
        "until": collected.until.isoformat(),
        "total_rows": rows.total_rows,
    }
    table = pa.table(columns).replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def read_window(path: Path, spec: ModelSpec) -> Collected:
    """Read what `write_window` wrote."""
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[_ABOUT])
    own = {
        name: table.column(f".{name}").to_numpy() for name in (*_OWN, _RECEIVED)
    }  # fmt: skip
    for name in ("prediction_id", "version", "role"):
        own[name] = own[name].astype(object)
    for name in ("predicted_at", _RECEIVED):
        own[name] = own[name].astype("datetime64[us]")
    features = table.select([n for n in table.column_names if not n.startswith(".")])
    rows = FeatureWindow(
        **own, features=features.replace_schema_metadata(None), total_rows=about["total_rows"]
    )
    since, until = (datetime.fromisoformat(about[key]) for key in ("since", "until"))
    window = window_of_table(spec.features, features, np.asarray(rows.score), since, until)
    return Collected(window, rows, since, until)
