"""What a backtest is made of: the one place that chooses for it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from heliotrope.bootstrap import Platform
    from heliotrope.domain.backtest.history import History
    from heliotrope.service.backtest_oracle import OracleWorld
    from heliotrope.spec import ModelSpec

LOG = "log"
"""As `--history`: the platform's own log."""


def open_history(platform: "Platform", spec: "ModelSpec", name: str) -> "History":
    """A history by name: a file or table, or the platform's own log.

    Raises:
        HeliotropeError: as `adapters.history_file`.
    """
    from pydantic import ValidationError

    from heliotrope.adapters.history_file import logged_history, read_history
    from heliotrope.errors import UsageError
    from heliotrope.spec import Source

    if name == LOG:
        return logged_history(platform.reader, platform.outcomes, spec)
    try:
        source = Source(path=name)
    except ValidationError:
        raise UsageError(
            "--history must be `log`, or a path that ends in .csv, .csv.gz, .parquet or .delta, "
            f"here or s3://. Got {name!r}."
        ) from None
    return read_history(platform.reader, spec, source)


@contextmanager
def backtest_worlds(
    history: "History", start: "datetime"
) -> "Iterator[Callable[[ModelSpec], AbstractContextManager[OracleWorld]]]":
    """Makes a world a policy; nothing that they write outlives the context."""
    from heliotrope.adapters.duckdb_engine import duckdb_engine
    from heliotrope.adapters.embedded.backtest_world import BacktestWorld, Shared
    from heliotrope.adapters.onnx_model import OnnxScorer
    from heliotrope.adapters.scratch import scratch_folder
    from heliotrope.adapters.sklearn_model import SklearnTrainer
    from heliotrope.service.backtest_training import Shelf

    with scratch_folder() as folder, duckdb_engine() as db:
        shared = Shared(history, Shelf(SklearnTrainer(), folder / "shelf"), OnnxScorer, db)

        @contextmanager
        def world(spec: "ModelSpec") -> "Iterator[OracleWorld]":
            with tempfile.TemporaryDirectory(dir=folder) as own:
                yield BacktestWorld(spec, shared, start, Path(own))

        yield world
