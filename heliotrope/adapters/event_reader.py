"""Windows of the event tables for judgement (`ports.OutcomeReader`): DuckDB over Delta's files.

Each call lists the files of one version of a table, leaves out those whose day, time or model
version cannot matter, and lets DuckDB read the rest out of core. Nothing is kept between calls.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from heliotrope.adapters import object_store
from heliotrope.adapters.delta_tables import open_table, store_errors
from heliotrope.adapters.duckdb_engine import EngineSettings, duckdb_engine
from heliotrope.adapters.outcome_arrays import (
    class_scores,
    feature_names,
    feature_table,
    key_columns,
    label_columns,
    logged_columns,
    numbers,
    texts,
)
from heliotrope.adapters.truth_engine import DuckDBTruthEngine
from heliotrope.domain.events import LABEL_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.outcomes import FeatureWindow, Outcomes, PairedOutcomes
from heliotrope.domain.truth import judged
from heliotrope.domain.truth.judged import Wanted
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import UsageError
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role

EARLY = timedelta(days=1)
"""A label is looked for from this long before its prediction on: clocks differ, and an id chosen by
a caller may be labelled before its prediction is logged."""


class _Reading(DuckDBTruthEngine):
    """One call's engine."""

    def raw(self, files: Sequence[str], types: dict[str, str]) -> Any:
        """Files as one table; an empty one of these columns where there are none."""
        return self._files(files, types)

    @contextmanager
    def kept(self, expression: Any) -> Iterator[Any]:
        """An expression's rows as a table, for as long as they are needed."""
        with self._kept(expression) as table:
            yield table

    def arrow(self, expression: Any) -> pa.Table:
        """An expression's rows."""
        return self._answer(expression)

    def scalar(self, expression: Any) -> Any:
        """An expression's one value."""
        return self.arrow(expression.name("value").as_table()).column(0)[0].as_py()


@dataclass(frozen=True)
class DeltaOutcomeReader:
    """Reads the event tables under a store's root; for any number of threads."""

    store: str
    engine: EngineSettings | None = None

    def outcomes(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        role: Role | None = None,
        limit: int | None = None,
        unlabelled: bool = False,
        known_by: datetime | None = None,
    ) -> Outcomes:
        """Labelled predictions of a window, in order of time. See the port."""
        plan, wanted = TruthPlan.of(spec), _window(since, until, version, role)
        with self._reading() as engine:
            raw = judged.wanted_rows(self._predictions(engine, spec, wanted), wanted)
            clean = judged.clean_rows(raw, plan, engine.micros)
            with self._labelled(engine, spec, plan, clean, since, known_by) as rows:
                found = engine.arrow(judged.ordered(rows, not unlabelled, limit))
        return Outcomes(
            **key_columns(found),
            prediction=numbers(found, "called", np.int32),
            score=numbers(found, "score", np.float64),
            scores=class_scores(found, plan),
            **label_columns(found),
            slices={
                axis.feature: numbers(found, column, np.int32)
                for axis, column in zip(plan.axes, plan.slice_columns, strict=True)
            },
        )

    def window(
        self,
        spec: ModelSpec,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        role: Role | None = None,
        features: Sequence[str] | None = None,
        sample_rows: int | None = None,
        seed: int = 0,
        known_by: datetime | None = None,
    ) -> FeatureWindow:
        """Predictions of a window with their features. See the port."""
        plan, wanted = TruthPlan.of(spec), _window(since, until, version, role)
        names = feature_names(spec, features)
        with self._reading() as engine:
            raw = judged.wanted_rows(self._predictions(engine, spec, wanted), wanted)
            total, raw = _sampled(engine, raw, sample_rows, seed)
            columns = logged_columns(spec, names, raw.columns, raw.schema())
            clean = judged.clean_rows(raw, plan, engine.micros, sorted(set(columns.values())))
            with self._labelled(engine, spec, plan, clean, since, known_by) as rows:
                found = engine.arrow(judged.ordered(rows, labelled=False, limit=None))
        return FeatureWindow(
            **key_columns(found),
            prediction=numbers(found, "called", np.int32),
            score=numbers(found, "score", np.float64),
            **label_columns(found),
            features=feature_table(spec, names, columns, found),
            total_rows=len(found) if total is None else total,
        )

    def pairs(
        self,
        spec: ModelSpec,
        champion: str,
        candidate: str,
        since: datetime,
        until: datetime,
        *,
        labelled: bool = True,
        limit: int | None = None,
        known_by: datetime | None = None,
    ) -> PairedOutcomes:
        """Requests of a window that both versions answered. See the port."""
        plan, mine = TruthPlan.of(spec), _window(since, until, champion, None)
        # From `since` on: a replayed request is answered later than the first time, never before.
        other = Wanted(since - EARLY, None, candidate)
        with self._reading() as engine:
            first, second = (
                judged.clean_rows(
                    judged.wanted_rows(self._predictions(engine, spec, wanted), wanted),
                    plan, engine.micros,
                )
                for wanted in (mine, other)
            )  # fmt: skip
            both = judged.paired(first, second)
            with self._labelled(engine, spec, plan, both, since, known_by) as rows:
                found = engine.arrow(judged.ordered(rows, labelled, limit))
        key = key_columns(found)
        return PairedOutcomes(
            prediction_id=key["prediction_id"],
            predicted_at=key["predicted_at"],
            champion_prediction=numbers(found, "called", np.int32),
            candidate_prediction=numbers(found, "other_called", np.int32),
            champion_score=numbers(found, "champion_score", np.float64),
            candidate_score=numbers(found, "other_score", np.float64),
            champion_scores=class_scores(found, plan),
            candidate_scores=class_scores(found, plan, "other_"),
            candidate_role=texts(found, "other_role"),
            **label_columns(found),
        )

    @contextmanager
    def _reading(self) -> Iterator[_Reading]:
        with object_store.object_errors(self.store), duckdb_engine(self.engine) as engine:
            yield _Reading(engine)

    def _predictions(self, engine: _Reading, spec: ModelSpec, wanted: Wanted) -> Any:
        uri = f"{object_store.require_root(self.store).rstrip('/')}/predictions/{spec.name}"
        return engine.raw(_files(uri, "predicted_at", wanted), PREDICTION_COLUMNS)

    @contextmanager
    def _labelled(
        self, engine: _Reading, spec: ModelSpec, plan: TruthPlan, clean: Any, since: datetime,
        known_by: datetime | None,
    ) -> Iterator[Any]:  # fmt: skip
        uri = f"{object_store.require_root(self.store).rstrip('/')}/labels/{spec.name}"
        early = since - EARLY
        until = None if known_by is None else known_by + timedelta(microseconds=1)
        raw = engine.raw(_files(uri, "received_at", Wanted(early, until)), LABEL_COLUMNS)
        with engine.kept(clean) as known:
            found = judged.labels_of(raw, known, plan, engine.micros, early, known_by)
            with engine.kept(found) as labels:
                entities = bool(engine.scalar(judged.has_entities(labels)))
                yield judged.with_labels(known, labels, entities)


def _window(since: datetime, until: datetime, version: str | None, role: Role | None) -> Wanted:
    for name, at in (("since", since), ("until", until)):
        if at.tzinfo is None:
            raise UsageError(f"{name} must have a time zone. Got {at.isoformat()}.")
    return Wanted(since, until, version, None if role is None else str(role))


def _files(uri: str, column: str, wanted: Wanted) -> list[str]:
    """Files of the newest version that can hold a wanted row, as paths that open."""
    with store_errors(uri):
        table = open_table(uri)
        if table is None:
            return []
        adds = pa.table(table.get_add_actions(flatten=True))
    files = [f"{uri}/{unquote(path)}" for path in adds.column("path").to_pylist()]
    keep = np.ones(len(files), bool)
    names = adds.column_names
    low = wanted.since
    high = None if wanted.until is None else wanted.until - timedelta(microseconds=1)
    for name, first, last in (
        ("partition.day", low.date(), None if high is None else high.date()),
        (column, low, high),
        ("version", wanted.version, wanted.version),
    ):
        least, most = (name, name) if "." in name else (f"min.{name}", f"max.{name}")
        if first is not None and most in names:
            late = [value is None or value >= first for value in adds.column(most).to_pylist()]
            keep &= np.array(late, bool)
        if last is not None and least in names:
            early = [value is None or value <= last for value in adds.column(least).to_pylist()]
            keep &= np.array(early, bool)
    return [file for file, kept in zip(files, keep, strict=True) if kept]


def _sampled(
    engine: _Reading, raw: Any, sample_rows: int | None, seed: int
) -> tuple[int | None, Any]:
    if sample_rows is None:
        return None, raw
    if sample_rows < 1:
        raise UsageError(f"sample_rows must be 1 or more. Got {sample_rows}.")
    with engine.kept(judged.sample_keys(raw, seed)) as keys:
        total = int(engine.scalar(keys.count()))
        if total <= sample_rows:
            return total, raw
        # The place of the first row that is left out: rows of one id come or stay together.
        beyond = keys.order_by("place").limit(1, offset=sample_rows).select("place")
        edge = engine.arrow(beyond).column(0)[0].as_py()
    return total, raw.filter(judged.sample_place(raw, seed) < edge)
