"""How many predictions have their label: counted by DuckDB over the files of one version."""

from dataclasses import asdict, dataclass
from typing import Any

from heliotrope.adapters.delta_tables import open_table, store_errors
from heliotrope.adapters.duckdb_engine import duckdb_engine
from heliotrope.adapters.event_store import DeltaEventStore

_SQL = """
WITH p AS (SELECT DISTINCT prediction_id FROM predictions),
     first AS (SELECT label_id, prediction_id, entity_key, label, received_at FROM labels
               QUALIFY row_number() OVER (PARTITION BY label_id ORDER BY received_at) = 1),
     direct AS (SELECT DISTINCT prediction_id FROM first WHERE prediction_id IS NOT NULL),
     told AS (SELECT label, lag(label) OVER (PARTITION BY prediction_id
                                             ORDER BY received_at, label_id) AS before
              FROM first WHERE prediction_id IS NOT NULL),
     unknown AS (SELECT prediction_id FROM direct ANTI JOIN p USING (prediction_id))
SELECT (SELECT count(*) FROM p),
       (SELECT count(*) FROM first),
       (SELECT count(*) FROM direct JOIN p USING (prediction_id)),
       (SELECT count(*) FROM unknown),
       (SELECT count(*) FROM unknown u JOIN p ON p.prediction_id = u.prediction_id || '/0'),
       (SELECT count(*) FROM told WHERE label <> before),
       (SELECT count(*) FROM first WHERE entity_key IS NOT NULL),
       (SELECT coalesce(sum(records), 0) FROM losses),
       (SELECT strftime(max(received_at) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') FROM first)
"""


@dataclass(frozen=True)
class LabelStatus:
    """Of one model, every row counted once."""

    model: str
    predictions: int
    labels: int
    labelled: int
    """Predictions that have a label by their own id."""
    unknown: int
    """Ids that have a label and no prediction (yet)."""
    request_ids: int
    """Of the unknown, those that name a request and not a row of it."""
    corrections: int
    """Labels that say something else than the one before; the same one sent again is none."""
    by_entity: int
    """Labels by entity key; which predictions they belong to is decided in the join."""
    lost_records: int
    last_received: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """A paragraph for a person."""
        last = (self.last_received or "none").replace("T", " ").replace("Z", " UTC")
        share = f" ({self.labelled / self.predictions:.1%})" if self.predictions else ""
        by_id = " by prediction id; `heliotrope truth` counts both" if self.by_entity else ""
        requests = (
            f"\n  of requests   {self.request_ids:>12,}  never joined: a prediction's id is its "
            "request's and the row, such as ID/0"
            if self.request_ids
            else ""
        )
        return (
            f"{self.model}\n"
            f"  predictions   {self.predictions:>12,}\n"
            f"  labelled      {self.labelled:>12,}{share}{by_id}\n"
            f"  labels        {self.labels:>12,}  {self.corrections:,} corrections, "
            f"{self.by_entity:,} by entity key\n"
            f"  unknown ids   {self.unknown:>12,}  kept, joined if the prediction turns up"
            f"{requests}\n"
            f"  lost requests {self.lost_records:>12,}\n"
            f"  last label    {last}"
        )


def label_status(store: DeltaEventStore, model: str) -> LabelStatus:
    """Count one model's events.

    Raises:
        UnavailableError: the store does not answer.
    """
    import pyarrow.dataset as ds

    from heliotrope.adapters.event_arrow import LABELS, LOSSES, PREDICTIONS

    schemas = {"predictions": PREDICTIONS, "labels": LABELS, "losses": LOSSES}
    with duckdb_engine() as engine:
        for kind, schema in schemas.items():
            uri = store.table_uri(kind, model)
            with store_errors(uri):
                table = open_table(uri)
                rows = schema.empty_table() if table is None else table.to_pyarrow_dataset()
                engine.raw.register(kind, ds.dataset(rows) if table is None else rows)
        found = engine.raw.execute(_SQL).fetchone()
    return LabelStatus(model, *found)
