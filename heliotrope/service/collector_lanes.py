"""A collector's commits: a lane for each table, and the numbers that say how they go."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from heliotrope.domain.labels import LabelUpload
from heliotrope.domain.spool_batch import BatchError, Standing
from heliotrope.ports import EventStore
from heliotrope.service.collecting import (
    LabelAnswer,
    Parcel,
    RisingClock,
    SpoolAnswer,
    commit_labels,
    commit_spools,
)
from heliotrope.service.group_commit import Lane
from heliotrope.telemetry import collector_metrics as metrics
from heliotrope.telemetry.board import Board

Answers = TypeVar("Answers")


@dataclass(frozen=True)
class CollectorLimits:
    """What a collector takes and holds."""

    commit_seconds: float = 0.25
    """Between two commits of a table, at least; so the longest a request waits for company."""
    commit_bytes: int = 16 << 20
    """Of requests in one commit."""
    spool_bytes: int = 24 << 20
    """Of one spool batch; the largest request a predictor takes (8 MiB of JSON) makes a record of
    at most twice that."""
    label_bytes: int = 16 << 20
    """Of one label upload."""
    waiting_bytes: int = 128 << 20
    """Of all requests that are not answered yet."""
    threads: int = 4
    """Commits of different tables at once."""


class CollectorLanes:
    """Queues what was accepted for its table's next commit; used on one event loop."""

    def __init__(
        self,
        store: EventStore,
        counts: Board,
        limits: CollectorLimits,
        clock: Callable[[], int],
    ) -> None:
        self.store_answers = True
        """Whether the last commit tried went through."""
        self._store, self._counts, self._limits = store, counts, limits
        self._clock, self._now = RisingClock(clock), clock
        self._threads = ThreadPoolExecutor(limits.threads, "commit")
        self._spools: dict[str, Lane[Parcel, SpoolAnswer | BatchError]] = {}
        self._labels: dict[str, Lane[LabelUpload, LabelAnswer]] = {}

    def spools(self, model: str, parcel: Parcel) -> "asyncio.Future[SpoolAnswer | BatchError]":
        """Queue a spool batch."""
        lane = self._spools.get(model)
        if lane is None:
            commit = partial(self._commit_spools, model)
            lane = self._spools[model] = Lane(
                commit, self._limits.commit_seconds, self._limits.commit_bytes, self._threads
            )
        return lane.submit(parcel, len(parcel.body))

    def labels(self, model: str, upload: LabelUpload, size: int) -> "asyncio.Future[LabelAnswer]":
        """Queue an upload; `size` in bytes, as it was received."""
        lane = self._labels.get(model)
        if lane is None:
            commit = partial(self._commit_labels, model)
            lane = self._labels[model] = Lane(
                commit, self._limits.commit_seconds, self._limits.commit_bytes, self._threads
            )
        return lane.submit(upload, size)

    def close(self) -> None:
        """Wait for the commits that run."""
        self._threads.shutdown()

    def _commit_spools(
        self, model: str, parcels: Sequence[Parcel]
    ) -> list[SpoolAnswer | BatchError]:
        commit = partial(commit_spools, self._store, self._clock, model, parcels)
        answers = self._timed(model, "predictions", commit)
        for parcel, answer in zip(parcels, answers, strict=True):
            if isinstance(answer, SpoolAnswer):
                self._count(model, parcel, answer)
        return answers

    def _count(self, model: str, parcel: Parcel, answer: SpoolAnswer) -> None:
        if answer.standing is Standing.DUPLICATE:
            self._counts.add(metrics.DUPLICATES, model, "predictions")
        elif answer.standing is Standing.NEW:
            self._counts.add(metrics.ROWS, model, "predictions", by=answer.rows)
            if answer.lost_records:
                self._counts.add(metrics.LOST, model, parcel.reason, by=answer.lost_records)
            age = max(0.0, (self._now() - answer.newest_us) / 1e6)
            self._counts.observe(metrics.AGE, age, model)

    def _commit_labels(self, model: str, uploads: Sequence[LabelUpload]) -> list[LabelAnswer]:
        commit = partial(commit_labels, self._store, self._clock, model, uploads)
        answers = self._timed(model, "labels", commit)
        for answer in answers:
            if answer.duplicate:
                self._counts.add(metrics.DUPLICATES, model, "labels")
            else:
                self._counts.add(metrics.ROWS, model, "labels", by=answer.rows)
        return answers

    def _timed(self, model: str, kind: str, commit: Callable[[], Answers]) -> Answers:
        began = time.monotonic()
        try:
            answers = commit()
        except BaseException:
            self.store_answers = False
            self._counts.add(metrics.COMMITS, model, kind, "failed")
            raise
        self.store_answers = True
        self._counts.add(metrics.COMMITS, model, kind, "written")
        self._counts.observe(metrics.COMMIT_SECONDS, time.monotonic() - began, kind)
        return answers
