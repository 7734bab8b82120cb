"""The truth of a model where these settings say: feed, engine and state put together."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from heliotrope.settings import Settings
from heliotrope.spec import ModelSpec

if TYPE_CHECKING:
    from heliotrope.service.truth import Truth


class TruthEngineName(StrEnum):
    """What runs the queries."""

    DUCKDB = "duckdb"
    """On this machine, out of core."""
    SPARK = "spark"
    """Where one machine is outgrown (extra `spark`)."""


@contextmanager
def open_truth(
    settings: Settings, spec: ModelSpec, engine: TruthEngineName = TruthEngineName.DUCKDB
) -> Iterator["Truth"]:
    """The truth of a spec's model; its state is `truth/<model>.db` under home.

    Args:
        settings: say where the event tables and the state are.
        spec: names the model, its metrics, slices, window and label delay.
        engine: runs the queries; stopped on the way out.

    Raises:
        UnavailableError: Spark is asked for and not installed.
        SpecError: the monitoring window is shorter than a second.
    """
    from heliotrope.adapters import truth_engine
    from heliotrope.adapters.delta_feed import DeltaFeed
    from heliotrope.adapters.truth_state import TruthState
    from heliotrope.domain.truth.plan import TruthPlan
    from heliotrope.service.truth import Truth

    plan = TruthPlan.of(spec)
    spark = engine is TruthEngineName.SPARK
    with truth_engine.spark_truth() if spark else truth_engine.duckdb_truth() as opened:
        state = TruthState(settings.home / "truth" / f"{spec.name}.db")
        yield Truth(plan, DeltaFeed(settings.store, spec.name), opened, state)
