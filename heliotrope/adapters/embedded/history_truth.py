"""The truth of a backtest: the platform's own statistics and folding over a log in memory."""

from datetime import datetime
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from heliotrope.adapters.duckdb_engine import DuckDBEngine
from heliotrope.adapters.embedded.history_log import ROLES, HistoryLog, Logged
from heliotrope.domain.backtest.history import stamp
from heliotrope.domain.truth.cell import CellKey, split_rows
from heliotrope.domain.truth.documents import Folded, WindowTruth
from heliotrope.domain.truth.folding import fold
from heliotrope.domain.truth.intervals import UNDEFINED
from heliotrope.domain.truth.matching import matched
from heliotrope.domain.truth.plan import ORIGIN_US, WHOLE, TruthPlan
from heliotrope.domain.truth.reading import maturity, windows
from heliotrope.domain.truth.rows import BY_ID
from heliotrope.domain.truth.statistics import cells, details
from heliotrope.vocabulary import Task


class WholeStatistics:
    """The platform's own statistics of clean rows, their SQL written once: to write it takes half
    a second, and a simulation asks for every window of every policy.

    Args:
        plan: of a model, slices left out.
        engine: runs it.
    """

    def __init__(self, plan: TruthPlan, engine: DuckDBEngine) -> None:
        self.plan, self._engine = plan, engine
        self._sql: tuple[str, str] | None = None

    def cells(self, predictions: pa.Table, labels: pa.Table) -> dict[str, Any]:
        """As `TruthEngine.cells`, labels by prediction id only."""
        raw = self._engine.raw
        raw.register("backtest_predictions", predictions)
        raw.register("backtest_labels", labels)
        detail, answer = self._sql or self._written()
        raw.execute(f"CREATE OR REPLACE TEMP TABLE backtest_detail AS {detail}")
        found = raw.execute(answer).to_arrow_table()
        return {
            name: found.column(name).to_numpy(zero_copy_only=False) for name in found.column_names
        }

    def _written(self) -> tuple[str, str]:
        here = self._engine.ibis
        joined = matched(
            here.table("backtest_predictions"), here.table("backtest_labels"), entities=False
        )
        detail = str(ibis.to_sql(details(joined, self.plan), dialect="duckdb"))
        self._engine.raw.execute(f"CREATE OR REPLACE TEMP TABLE backtest_detail AS {detail}")
        answer = str(ibis.to_sql(cells(here.table("backtest_detail"), self.plan), dialect="duckdb"))
        self._sql = (detail, answer)
        return self._sql


class HistoryTruth:
    """Windows as of a time, without slices, as the duties ask for them.

    What is counted of a window that is not mature is its predictions and labels, which say whether
    it is; its metrics are left undefined, since nothing may judge by them.

    Args:
        plan: of the model; slices are left out of it.
        log: what was answered.
        statistics: of the same plan.
    """

    def __init__(self, plan: TruthPlan, log: HistoryLog, statistics: WholeStatistics) -> None:
        self._plan, self._log, self._statistics = plan, log, statistics
        self._folded: dict[CellKey, tuple[tuple[int, int], Folded]] = {}
        self._seen: tuple[datetime, int] | None = None
        self._windows: list[WindowTruth] = []

    def windows(self, now: datetime) -> list[WindowTruth]:
        """Every window, oldest first; `now` is the log's own clock."""
        size = self._log.size
        if self._seen != (now, size):
            self._windows = windows(self._plan, self._cells(now), now)
            self._seen = (now, size)
        return self._windows

    def _cells(self, now: datetime) -> list[tuple[CellKey, Folded]]:
        found = self._log.all()
        if not len(found):
            return []
        since = found.at.astype("datetime64[us]").astype(np.int64) - ORIGIN_US
        place = since // self._plan.window_us
        heads, index = np.unique(
            np.stack([place, found.version, found.role.astype(np.int64)], axis=1),
            axis=0,
            return_inverse=True,
        )
        index = index.reshape(-1)
        judged = _judged(self._log, found)
        told = (self._log.history.told[found.row] <= stamp(now)) & judged
        told &= ~np.isnan(self._log.history.label[found.row])
        predicted = np.bincount(index, minlength=len(heads))
        labelled = np.bincount(index, told, minlength=len(heads)).astype(np.int64)
        found_cells = []
        for number, head in enumerate(heads.tolist()):
            key = CellKey(head[0], str(head[1]), str(ROLES[head[2]]), WHOLE, 0)
            counts = (int(predicted[number]), int(labelled[number]))
            found_cells.append((key, self._one(key, counts, found, index == number, now)))
        return sorted(found_cells, key=lambda cell: cell[0])

    def _one(
        self, key: CellKey, counts: tuple[int, int], found: Logged, mine: Any, now: datetime
    ) -> Folded:
        known = self._folded.get(key)
        if known is not None and known[0] == counts:
            return known[1]
        counted = self._counted(*counts)
        if not maturity(self._plan, key.window, counted, now).mature:
            return counted
        folded = self._fold(found.where(mine), key)
        self._folded[key] = (counts, folded)
        return folded

    def _counted(self, predicted: int, labelled: int) -> Folded:
        return Folded(
            predicted=predicted,
            labelled=labelled,
            unjudged=0,
            correct=None if self._plan.task is Task.REGRESSION else 0,
            class_counts=dict.fromkeys(self._plan.classes, 0),
            metrics=dict.fromkeys(self._plan.metrics, UNDEFINED),
            binning_error=0.0,
            delay=None,
            estimate={},
            calibration_gaps=(),
            log_evidence=0.0,
        )

    def _fold(self, rows: Logged, key: CellKey) -> Folded:
        columns = self._statistics.cells(self._predictions(rows, key), self._labels(rows))
        ((_, cell),) = split_rows(columns)
        return fold(cell, self._plan)

    def _predictions(self, rows: Logged, key: CellKey) -> pa.Table:
        says = self._log.answer(key.version)
        score = says.score[rows.row].astype(np.float64)
        columns: dict[str, Any] = {
            "prediction_id": self._log.ids[rows.row],
            "version": [key.version] * len(rows),
            "role": [key.role] * len(rows),
            "at": rows.at.astype(np.int64),
            "entity": pa.nulls(len(rows), pa.string()),
            "called": says.called[rows.row],
            "score": pa.array(score, mask=~np.isfinite(score)),
        }
        if says.scores is not None:
            for place, name in enumerate(self._plan.score_columns):
                columns[name] = says.scores[rows.row, place]
        return pa.table({**columns, "sign": np.ones(len(rows), np.int64)})

    def _labels(self, rows: Logged) -> pa.Table:
        told = self._log.labels(rows.row, rows.at)
        known = ~np.isnat(told["label_received_at"])
        count = int(known.sum())
        at = told["label_received_at"][known].astype(np.int64)
        return pa.table(
            {
                "kind": [BY_ID] * count,
                "target": self._log.ids[rows.row[known]],
                "label_id": self._log.ids[rows.row[known]],
                "value": told["label"][known].astype(np.float64),
                "until": at,
                "received": at,
                "sign": np.ones(count, np.int64),
            }
        )


def _judged(log: HistoryLog, found: Logged) -> Any:
    judged = np.zeros(len(found), bool)
    for number in np.unique(found.version):
        mine = found.version == number
        judged[mine] = np.isfinite(log.answer(str(number)).score[found.row[mine]])
    return judged
