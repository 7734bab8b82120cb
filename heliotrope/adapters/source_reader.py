"""Training data as people keep it: CSV, Parquet or Delta, in a folder or on S3.

A CSV file is read as text, once, into a table on disk: its types follow from the spec
(`domain.casting`), not from a sample, and a broken line is found before anything is written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from heliotrope.adapters import csv_text, object_store
from heliotrope.adapters.duckdb_engine import (
    DuckDBEngine,
    EngineSettings,
    duckdb_engine,
    no_pattern,
)
from heliotrope.errors import DataFault, HeliotropeError, NotFoundError
from heliotrope.spec import Source, SourceFormat

_TABLE = "source"


class DuckDBSourceReader:
    """Opens a source as an Ibis table on a private DuckDB engine (`ports.SourceReader`)."""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self._settings = settings

    @contextmanager
    def open(self, source: Source) -> Iterator[Any]:
        """The source as an Ibis table; rows come in the source's order. CSV columns are text.

        Raises:
            NotFoundError: nothing is there.
            DataFault: it is empty or not in the format it claims.
            UnavailableError: the object store does not answer or refuses the credentials.
        """
        with duckdb_engine(self._settings) as engine, _faults(source.path):
            openers = {
                SourceFormat.CSV: _open_csv,
                SourceFormat.PARQUET: _open_parquet,
                SourceFormat.DELTA: _open_delta,
            }
            with object_store.object_errors(source.path):
                openers[source.resolved_format](engine, source)
                table = engine.ibis.table(_TABLE)
                if not len(table.limit(1).to_pyarrow()):
                    raise DataFault(
                        f"source {source.path} must hold rows. Got {len(table.columns)} columns "
                        "and no row."
                    )
            yield table

    def locate(self, source: Source, row: int) -> str:
        """Where the row at 0-based position `row` is, as a person finds it: `line 17`."""
        if source.resolved_format is not SourceFormat.CSV or source.remote:
            return f"row {row + 1}"
        return f"line {csv_text.line_of_row(Path(source.path), source.delimiter, row)}"


def _open_csv(engine: DuckDBEngine, source: Source) -> None:
    # A fixed name: DuckDB would read *, ? and [ in the file's own name as a pattern.
    local = engine.folder / "source.csv"
    if source.remote:
        with (
            object_store.filesystem().open_input_stream(
                object_store.key_of(source.path), compression=None
            ) as stream,
            local.open("wb") as file,
        ):
            while chunk := stream.read(8 << 20):
                file.write(chunk)
    else:
        local.symlink_to(_file(source.path))
    if source.path.lower().endswith(".gz"):
        local = csv_text.unpack(local, engine.folder / "unpacked.csv", source.path)
    names = csv_text.header(local, source.path, source.delimiter)
    columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in names)
    engine.raw.execute(
        f"CREATE TABLE {_TABLE} AS SELECT * FROM read_csv({_text(str(local))}, "  # noqa: S608
        f"columns = {{{columns}}}, header = true, auto_detect = false, strict_mode = true, "
        f"delim = {_text(source.delimiter)}, quote = '\"', escape = '\"', nullstr = '')"
    )


def _open_parquet(engine: DuckDBEngine, source: Source) -> None:
    if source.remote:
        _register_remote_parquet(engine, source.path)
        return
    path = Path(source.path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*.parquet") if p.is_file())
        if not files:
            raise DataFault(f"source {path} must hold .parquet files. The folder has none.")
    else:
        files = [_file(source.path)]
    for file in files:
        if file.stat().st_size == 0:
            raise DataFault(f"source {file} must be a Parquet file. It is empty (0 bytes).")
    listed = ", ".join(_text(no_pattern(str(file))) for file in files)
    union = "true" if len(files) > 1 else "false"
    engine.raw.execute(
        f"CREATE VIEW {_TABLE} AS SELECT * FROM "  # noqa: S608
        f"read_parquet([{listed}], union_by_name = {union})"
    )


def _register_remote_parquet(engine: DuckDBEngine, path: str) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import FileType

    files = object_store.filesystem()
    key = object_store.key_of(path)
    if files.get_file_info(key).type is FileType.NotFound:
        raise NotFoundError(f"source {path} must exist. Nothing is there.")
    try:
        dataset = ds.dataset(key, filesystem=files, format="parquet", partitioning="hive")
    except pa.ArrowInvalid as error:
        raise DataFault(
            f"source {path} must be Parquet. It cannot be read as such: {_first_line(error)}"
        ) from error
    if not dataset.files:
        raise DataFault(f"source {path} must hold Parquet files. The folder has none.")
    engine.raw.register(_TABLE, dataset)


def _open_delta(engine: DuckDBEngine, source: Source) -> None:
    from heliotrope.adapters.delta_store import delta_dataset

    engine.raw.register(_TABLE, delta_dataset(source.path, source.version))


def _file(path: str) -> Path:
    file = Path(path)
    if not file.exists():
        raise NotFoundError(f"source {path} must exist. Nothing is there.")
    if file.is_dir():
        raise DataFault(f"source {path} must be a file. Got a folder.")
    return file.resolve()


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300]


@contextmanager
def _faults(path: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        _raise_fault(path, error)
    except PermissionError as error:
        raise DataFault(f"source {path} must be readable. {error.strerror}.") from error


def _raise_fault(path: str, error: Exception) -> NoReturn:
    text = str(error)
    if remote := object_store.translate(path, error):
        raise remote from error
    if "No space left" in text:
        raise HeliotropeError(
            f"reading {path} must have room on the disk that holds temporary files (TMPDIR). "
            "It is full."
        ) from error
    if type(error).__name__ == "OutOfMemoryException":
        raise HeliotropeError(f"reading {path} ran out of memory: {_first_line(error)}") from error
    if "CSV Error on Line" in text:
        raise DataFault(csv_text.explain(path, text)) from error
    raise DataFault(
        f"source {path} must be in the format it claims. It cannot be read: {_first_line(error)}"
    ) from error
