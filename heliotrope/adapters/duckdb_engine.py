"""DuckDB behind Ibis, with bounds on memory: what does not fit goes to a temporary folder."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliotrope.adapters.scratch import scratch_folder


@dataclass(frozen=True)
class EngineSettings:
    """What one query engine may use of the machine."""

    memory_limit: str = "512MB"
    """DuckDB's own buffers; sorts and joins beyond it spill."""
    threads: int = 2
    """Each thread holds buffers of its own, so more threads need more memory."""
    folder: str | None = None
    """Where spilled data goes; the system's temporary folder when left out."""


class DuckDBEngine:
    """A private DuckDB database on disk, gone when the engine is closed.

    The database is a file, not memory, so that a table made in it is compressed and can be larger
    than `memory_limit`.
    """

    def __init__(self, connection: Any, folder: Path) -> None:
        self.ibis = connection
        """The Ibis backend."""
        self.raw = connection.con
        """The DuckDB connection below it."""
        self.folder = folder
        """A private temporary folder with the engine's lifetime."""


@contextmanager
def duckdb_engine(settings: EngineSettings | None = None) -> Iterator[DuckDBEngine]:
    """Open an engine with the time zone UTC; its files are removed on the way out."""
    import ibis

    chosen = settings or EngineSettings()
    with scratch_folder(chosen.folder) as folder:
        connection = ibis.duckdb.connect(
            str(folder / "engine.duckdb"),
            memory_limit=chosen.memory_limit,
            threads=chosen.threads,
            temp_directory=str(folder / "spill"),
        )
        try:
            connection.con.execute("SET TimeZone = 'UTC'")
            connection.con.execute("SET enable_progress_bar = false")
            connection.con.execute("SET autoinstall_known_extensions = false")
            yield DuckDBEngine(connection, folder)
        finally:
            connection.disconnect()


def no_pattern(path: str) -> str:
    """A path that DuckDB reads as it stands, though its names hold `*`, `?` or `[`.

    >>> no_pattern("a[1].parquet")
    'a[[]1].parquet'
    """
    return re.sub(r"([*?\[])", r"[\1]", path)
