"""A spec's source with the labelled log added to it, so that a retraining learns from what came."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from heliotrope.adapters import object_store
from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.duckdb_engine import DuckDBEngine
from heliotrope.adapters.truth_engine import DuckDBTruthEngine
from heliotrope.domain.events import LABEL_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.truth.feed import LABELS, PREDICTIONS
from heliotrope.domain.truth.labelled import labelled_features
from heliotrope.ports import SourceReader
from heliotrope.spec import ModelSpec, Source

Spans = Sequence[tuple[datetime, datetime]]


class JoinedSource:
    """The rows of a source, then those of the log that have a label (`ports.SourceReader`).

    Args:
        reader: opens the source proper.
        store: root of the event tables.
        spec: of the model.
        faulty: spans of prediction time, [from, to), whose features were found broken; nothing is
            learnt from them.
    """

    def __init__(
        self,
        reader: SourceReader,
        store: str,
        spec: ModelSpec,
        faulty: Callable[[], Spans] = lambda: (),
    ) -> None:
        self._reader, self._store, self._spec, self._faulty = reader, store, spec, faulty

    @contextmanager
    def open(self, source: Source) -> Iterator[Any]:
        """Both as one Ibis table of the spec's columns, typed as the source's are.

        Raises:
            NotFoundError, DataFault, UnavailableError: as the reader; the store does not answer.
        """
        with self._reader.open(source) as table:
            yield self._with_log(table) if source.predictions else table

    def locate(self, source: Source, row: int) -> str:
        """Where a row is, as a person finds it."""
        if source.predictions:
            with self._reader.open(source) as table:
                rows = int(table.count().to_pyarrow().as_py())
            if row >= rows:
                return f"the {row - rows + 1:,}. labelled prediction of the log"
        return self._reader.locate(source, row)

    def _with_log(self, table: Any) -> Any:
        spec = self._spec
        feed = DeltaFeed(self._store, spec.name)
        files = {name: feed.files(name) for name in (PREDICTIONS, LABELS)}
        columns = [*spec.feature_names, spec.label.name, spec.entity_key, spec.event_time]
        wanted = [name for name in columns if name is not None]
        if not all(files.values()) or not set(wanted) <= set(table.columns):
            # What the source lacks is told by whoever reads it.
            return table
        backend = table.get_backend()
        with object_store.object_errors(self._store):
            engine = DuckDBTruthEngine(DuckDBEngine(backend, Path()))
            log = labelled_features(
                engine.events(files[PREDICTIONS], PREDICTION_COLUMNS),
                engine.events(files[LABELS], LABEL_COLUMNS),
                spec,
                engine.micros,
            )
            log = _typed_as(self._usable(log), table, wanted)
            if spec.entity_key is not None:
                known = table.select(known_key=table[spec.entity_key]).distinct()
                log = log.anti_join(known, log[spec.entity_key] == known.known_key)
            # Kept, since the order of an expression's rows is not promised through a union.
            made = backend.create_table("labelled_log", log)
        return table.select(*wanted).union(made.select(*wanted))

    def _usable(self, log: Any) -> Any:
        import ibis

        if self._spec.event_time is None:
            return log
        for start, end in self._faulty():
            at = log[self._spec.event_time]
            moments = [ibis.literal(m).cast("timestamp('UTC', 6)") for m in (start, end)]
            log = log.filter((at < moments[0]) | (at >= moments[1]))
        return log


def _typed_as(log: Any, table: Any, names: Sequence[str]) -> Any:
    return log.select(
        **{
            name: log[name]
            if log[name].type() == table[name].type()
            else log[name].try_cast(table[name].type())
            for name in names
        }
    )
