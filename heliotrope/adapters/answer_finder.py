"""Finds logged answers by their id (`ports.AnswerFinder`): DuckDB over one version of the table."""

from typing import Any

from heliotrope.adapters import object_store
from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.duckdb_engine import EngineSettings, duckdb_engine
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.adapters.truth_engine import DuckDBTruthEngine
from heliotrope.domain.events import FEATURE_PREFIX, PREDICTION_COLUMNS, TYPED_FEATURE_SEPARATOR
from heliotrope.domain.trace import LoggedAnswer, Value, counted_once
from heliotrope.domain.truth.feed import PREDICTIONS
from heliotrope.domain.truth.rows import with_columns

_COPIES = 4
"""Copies of an answer that are allowed for; a spool that was sent again makes some."""


class DeltaAnswerFinder:
    """The event tables under a store's root; for any number of threads."""

    def __init__(self, store: str, engine: EngineSettings | None = None) -> None:
        self._store, self._engine = object_store.require_root(store).rstrip("/"), engine

    def models(self) -> list[str]:
        """Models that have events."""
        return DeltaEventStore(self._store).models()

    def find(self, model: str, wanted: str, limit: int) -> list[LoggedAnswer]:
        """Answers of a prediction or of a request. See the port."""
        files = DeltaFeed(self._store, model).files(PREDICTIONS)
        if not files:
            return []
        with object_store.object_errors(self._store), duckdb_engine(self._engine) as engine:
            raw = DuckDBTruthEngine(engine).events(files, PREDICTION_COLUMNS)
            raw = with_columns(raw, PREDICTION_COLUMNS)
            asked = (raw.prediction_id == wanted) | (raw.request_id == wanted)
            rows = raw.filter(asked & raw.prediction_id.notnull() & raw.predicted_at.notnull())
            ordered = rows.order_by("predicted_at", "version", "role", "row")
            found = ordered.limit(limit * _COPIES).to_pyarrow().to_pylist()
        return counted_once(_answer(model, row) for row in found)[:limit]


def _answer(model: str, row: dict[str, Any]) -> LoggedAnswer:
    known = {name: row[name] for name in PREDICTION_COLUMNS if name in LoggedAnswer.model_fields}
    texts = {name: row[name] or "" for name in ("request_id", "version", "role")}
    return LoggedAnswer(
        **{**known, **texts, "row": row["row"] or 0}, model=model, features=_features(row)
    )


def _features(row: dict[str, Any]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for column, value in row.items():
        if column.startswith(FEATURE_PREFIX):
            name = column.removeprefix(FEATURE_PREFIX).partition(TYPED_FEATURE_SEPARATOR)[0]
            # A feature whose type changed has a column of each type, and a value in one of them.
            if found.get(name) is None:
                found[name] = value
    return found
