"""Runs the truth's expressions: DuckDB on one machine, Spark where one is outgrown."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.parquet as pq

from heliotrope.adapters import object_store
from heliotrope.adapters.duckdb_engine import (
    DuckDBEngine,
    EngineSettings,
    duckdb_engine,
    no_pattern,
)
from heliotrope.adapters.scratch import scratch_folder
from heliotrope.domain.events import LABEL_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.truth import rows as clean
from heliotrope.domain.truth.matching import matched
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.statistics import cells, details
from heliotrope.errors import UnavailableError


def _builtin(name: str) -> Callable[[Any], Any]:
    """An engine's own function from a timestamp to whole microseconds since 1970."""

    def micros(at: Any) -> Any:
        raise NotImplementedError(f"{name} runs in the engine")

    declared: Callable[[Any], Any] = ibis.udf.scalar.builtin(
        micros, name=name, signature=((dt.Timestamp(timezone="UTC"),), dt.int64)
    )
    return declared


epoch_us = _builtin("epoch_us")
unix_micros = _builtin("unix_micros")


class TruthEngine(ABC):
    """What both engines share: the expressions. Each adds how it reads, keeps and answers."""

    def prediction_rows(
        self, files: Sequence[str], plan: TruthPlan, batch_rows: int
    ) -> Iterator[pa.Table]:
        """Clean predictions of Parquet files in the key's order, each key once.

        Args:
            files: paths or s3:// addresses; none gives nothing.
            plan: of the model.
            batch_rows: at most so many at a time.
        """
        if not files:
            return
        raw = self._files(files, PREDICTION_COLUMNS)
        found = clean.prediction_rows(raw, plan, self.micros)
        yield from self._batches(found.order_by(list(clean.PREDICTION_KEY)), batch_rows)

    def label_rows(
        self, files: Sequence[str], plan: TruthPlan, batch_rows: int
    ) -> Iterator[pa.Table]:
        """Clean labels, as `prediction_rows`."""
        if not files:
            return
        found = clean.label_rows(self._files(files, LABEL_COLUMNS), plan, self.micros)
        yield from self._batches(found.order_by(list(clean.LABEL_KEY)), batch_rows)

    def unusable_labels(self, files: Sequence[str], plan: TruthPlan) -> int:
        """How many label rows say nothing of use."""
        if not files:
            return 0
        count = clean.unusable_labels(self._files(files, LABEL_COLUMNS), plan)
        answer = count.name("unusable").as_table().to_pyarrow()
        return int(answer.column(0)[0].as_py())

    def cells(
        self, predictions: pa.Table, labels: pa.Table, plan: TruthPlan, entities: bool
    ) -> dict[str, Any]:
        """Statistics of clean rows with a `sign`, as columns of numpy arrays.

        Args:
            predictions: clean predictions and `sign`: 1 adds a row, -1 takes it out.
            labels: clean labels and `sign`; they meet predictions of their own sign.
            plan: of the model.
            entities: whether any label is by entity key.
        """
        with self._given(predictions) as known, self._given(labels) as told:
            return self._cells(known, told, plan, entities)

    def events(self, files: Sequence[str], types: dict[str, str]) -> Any:
        """Parquet files of an event table as one Ibis table; without files, one with no row."""
        return self._files(files, types)

    def recompute(
        self, prediction_files: Sequence[str], label_files: Sequence[str], plan: TruthPlan
    ) -> dict[str, Any]:
        """Statistics of whole tables from scratch, out of core."""
        if not prediction_files:
            return {"n": []}
        predictions = self._files(prediction_files, PREDICTION_COLUMNS)
        known = clean.prediction_rows(predictions, plan, self.micros).mutate(sign=1)
        labels = self._files(label_files, LABEL_COLUMNS)
        told = clean.label_rows(labels, plan, self.micros).mutate(sign=1)
        return self._cells(known, told, plan, entities=True)

    def _cells(self, known: Any, told: Any, plan: TruthPlan, entities: bool) -> dict[str, Any]:
        with self._kept(details(matched(known, told, entities), plan)) as detail:
            answer = self._answer(cells(detail, plan))
        return {
            name: answer.column(name).to_numpy(zero_copy_only=False) for name in answer.column_names
        }

    @abstractmethod
    def micros(self, at: Any) -> Any:
        """Microseconds of a timestamp column."""

    @abstractmethod
    def _files(self, files: Sequence[str], types: dict[str, str]) -> Any: ...

    @abstractmethod
    def _given(self, table: pa.Table) -> Any: ...

    @abstractmethod
    def _kept(self, expression: Any) -> Any: ...

    @abstractmethod
    def _batches(self, expression: Any, rows: int) -> Iterator[pa.Table]: ...

    @abstractmethod
    def _answer(self, expression: Any) -> pa.Table: ...


class DuckDBTruthEngine(TruthEngine):
    """DuckDB: in process, out of core, memory bounded by the engine's settings."""

    def __init__(self, engine: DuckDBEngine) -> None:
        self._engine = engine
        self._made = 0

    def micros(self, at: Any) -> Any:
        """Microseconds of a timestamp column."""
        return epoch_us(at)

    def _name(self) -> str:
        self._made += 1
        return f"truth_{self._made}"

    def _files(self, files: Sequence[str], types: dict[str, str]) -> Any:
        if not files:
            return ibis.memtable(_no_rows(types))
        if object_store.is_remote(files[0]):
            name = self._name()
            self._engine.raw.register(name, _remote_dataset(files))
            return self._engine.ibis.table(name)
        return self._engine.ibis.read_parquet(
            [no_pattern(file) for file in files],
            table_name=self._name(),
            union_by_name=True,
            hive_partitioning=False,
        )

    @contextmanager
    def _given(self, table: pa.Table) -> Iterator[Any]:
        name = self._name()
        self._engine.raw.register(name, table)
        try:
            yield self._engine.ibis.table(name)
        finally:
            self._engine.raw.unregister(name)

    @contextmanager
    def _kept(self, expression: Any) -> Iterator[Any]:
        name = self._name()
        table = self._engine.ibis.create_table(name, expression)
        try:
            yield table
        finally:
            # Ibis' own drop_table writes no statement with the sqlglot it allows.
            self._engine.raw.execute(f'DROP TABLE "{name}"')

    def _batches(self, expression: Any, rows: int) -> Iterator[pa.Table]:
        # Through a file: the next query on the connection would cut a streamed answer short.
        path = self._engine.folder / f"{self._name()}.parquet"
        expression.to_parquet(path)
        try:
            for batch in pq.ParquetFile(path).iter_batches(rows):
                yield pa.Table.from_batches([batch])
        finally:
            path.unlink()

    def _answer(self, expression: Any) -> pa.Table:
        return expression.to_pyarrow()


@contextmanager
def duckdb_truth(settings: EngineSettings | None = None) -> Iterator[DuckDBTruthEngine]:
    """A DuckDB engine; its files are removed on the way out."""
    with duckdb_engine(settings) as engine:
        yield DuckDBTruthEngine(engine)


class SparkTruthEngine(TruthEngine):
    """Spark behind Ibis; rows handed to it and back go through Parquet files."""

    def __init__(self, session: Any, folder: Path) -> None:
        self._session, self._folder = session, folder
        self._ibis = ibis.pyspark.connect(session)
        self._made = 0

    def micros(self, at: Any) -> Any:
        """Microseconds of a timestamp column."""
        return unix_micros(at)

    def _view(self, frame: Any) -> Any:
        self._made += 1
        name = f"truth_{self._made}"
        frame.createOrReplaceTempView(name)
        return self._ibis.table(name)

    def _files(self, files: Sequence[str], types: dict[str, str]) -> Any:
        if not files:
            return self._table(_no_rows(types))
        # Spark's own spelling of S3 is s3a.
        paths = [path.replace("s3://", "s3a://", 1) for path in files]
        return self._view(self._session.read.option("mergeSchema", "true").parquet(*paths))

    def _table(self, table: pa.Table) -> Any:
        self._made += 1
        path = self._folder / f"given_{self._made}.parquet"
        # Rows that Spark once wrote carry its schema of then, which it would read instead.
        pq.write_table(table.replace_schema_metadata(None), path)
        return self._view(self._session.read.parquet(str(path)))

    @contextmanager
    def _given(self, table: pa.Table) -> Iterator[Any]:
        yield self._table(table)

    @contextmanager
    def _kept(self, expression: Any) -> Iterator[Any]:
        self._made += 1
        path = str(self._folder / f"kept_{self._made}.parquet")
        self._session.sql(ibis.to_sql(expression, dialect="pyspark")).write.parquet(path)
        yield self._view(self._session.read.parquet(path))
        shutil.rmtree(path, ignore_errors=True)

    def _batches(self, expression: Any, rows: int) -> Iterator[pa.Table]:
        with self._kept(expression):
            folder = self._folder / f"kept_{self._made - 1}.parquet"
            for path in sorted(folder.glob("*.parquet")):
                for batch in pq.ParquetFile(path).iter_batches(rows):
                    yield pa.Table.from_batches([batch])

    def _answer(self, expression: Any) -> pa.Table:
        with self._kept(expression):
            folder = self._folder / f"kept_{self._made - 1}.parquet"
            return pa.concat_tables(
                [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
            )


@contextmanager
def spark_truth(master: str = "local[2]") -> Iterator[SparkTruthEngine]:
    """A Spark session of one's own, stopped on the way out.

    Args:
        master: Spark's; a cluster's workers must see the temporary folder, so it is for one node
            unless TMPDIR is shared.

    Raises:
        UnavailableError: PySpark (extra `spark`) or Java 17 is not installed.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UnavailableError(
            "PySpark must be installed for the Spark engine: pip install 'heliotrope[spark]'."
        ) from error
    if shutil.which("java") is None:
        raise UnavailableError("Java 17 must be installed for the Spark engine. There is no java.")
    with scratch_folder() as folder:
        try:
            session = (
                SparkSession.builder.master(master)
                .appName("heliotrope-truth")
                .config("spark.sql.session.timeZone", "UTC")
                .config("spark.ui.enabled", "false")
                .config("spark.driver.host", "127.0.0.1")
                .config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.sql.shuffle.partitions", "4")
                .config("spark.ui.showConsoleProgress", "false")
                .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
                .getOrCreate()
            )
        except PySparkRuntimeError as error:
            raise UnavailableError(f"Spark must start. It said: {error}") from error
        try:
            yield SparkTruthEngine(session, folder)
        finally:
            session.stop()


def _no_rows(types: dict[str, str]) -> pa.Table:
    arrow = {
        "string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "date": pa.date32(),
        "float64": pa.float64(), "list<float64>": pa.list_(pa.float64()),
        "timestamp[us, UTC]": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    return pa.schema([(name, arrow[kind]) for name, kind in types.items()]).empty_table()


def _remote_dataset(files: Sequence[str]) -> Any:
    # DuckDB's own S3 client is an extension that is downloaded when first used.
    from pyarrow import dataset

    source = object_store.filesystem()
    keys = [object_store.key_of(path) for path in files]
    parts = [dataset.dataset(key, filesystem=source, format="parquet") for key in keys]
    schema = pa.unify_schemas([part.schema for part in parts])
    return dataset.dataset(keys, filesystem=source, format="parquet", schema=schema)
