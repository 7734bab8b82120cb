"""Train a spec on a snapshot: gather the parts in time, fit, and write a model folder whole.

The folder holds SKOPS_FILE, ONNX_FILE, SERVING_FILE and TRAINING_FILE. It appears under its name
only when all four are on disk, so a run that is killed or finds the disk full leaves no folder
that looks like a model.
"""

import hashlib
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.importance import permutation_importance
from heliotrope.domain.memory import memories
from heliotrope.domain.serving import ServingContract
from heliotrope.domain.split import SplitRows, check_classes, split_rows
from heliotrope.domain.training import SplitRange, TrainingRecord
from heliotrope.errors import HeliotropeError
from heliotrope.ports import FittedModel, LabelledRows, Trainer, TrainingData
from heliotrope.service.remembering import choose_memory, remembered
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ONNX_FILE, SERVING_FILE, TRAINING_FILE, Task

Seconds = Callable[[], float]
"""A clock that only goes forward, such as time.monotonic."""


def train(
    spec: ModelSpec,
    data: TrainingData,
    trainer: Trainer,
    out: Path,
    clock: Seconds,
    changed_at: datetime | None = None,
) -> TrainingRecord:
    """Fit a spec's model on a snapshot and write the model folder `out`.

    Args:
        spec: what to fit.
        data: the snapshot, read part by part.
        trainer: fits it.
        out: folder to write; replaced as a whole if it is there.
        clock: for the seconds in the record.
        changed_at: when the world changed, where the cause of the run knows (UTC); rows since then
            are divided among all parts, and a memory that starts there is tried.

    Raises:
        DataFault: a part is empty or lacks a class.
        UsageError: the spec's trainer or its parameters are wrong, or the estimator cannot be
            exported.
        HeliotropeError: the estimator raised or answers with NaN, or the folder cannot be written.
    """
    start = clock()
    times = data.event_time()
    changed_row = _row_at(times, changed_at)
    parts = split_rows(data.rows, times, spec.split, changed_row, spec.gates.minimum_rows)
    counts = _require_classes(spec, data, parts)
    train_rows = data.load(parts.train)
    later = data.load(parts.calibration) if len(parts.calibration) else None
    tries = memories(parts.train, spec.retraining, changed_row)
    memory, choice = choose_memory(spec, trainer, train_rows, later, tries)
    train_rows = remembered(train_rows, memory)
    model = trainer.fit(spec, train_rows, later)
    importances, notes = _importances(spec, model, train_rows, later)
    sizes = (len(train_rows.labels), 0 if later is None else len(later.labels))
    ranges = {
        "train": _describe(range(memory.start, parts.train.stop), times, sizes[0]),
        "calibration": _describe(parts.calibration, times, sizes[1]),
        "holdout": _describe(parts.holdout, times, counts),
    }
    with _whole_folder(out) as folder:
        model.save(folder)
        digest = hashlib.sha256((folder / ONNX_FILE).read_bytes()).hexdigest()
        (folder / SERVING_FILE).write_text(serving_contract(spec, digest).to_json())
        record = TrainingRecord(
            **ranges,
            estimator=model.estimator,
            parameters=dict(model.parameters),
            seed=spec.trainer.seed,
            classes=tuple(spec.classes),
            importances=importances,
            curve=dict(model.curve),
            calibration_method=model.calibration,
            memory=choice,
            changed_at=changed_at,
            seconds=clock() - start,
            peak_rss_bytes=peak_rss_bytes(),
            warnings=(*model.warnings, *notes),
        )
        (folder / TRAINING_FILE).write_text(record.to_json())
    return record


def _row_at(times: npt.NDArray[Any] | None, moment: datetime | None) -> int | None:
    if times is None or moment is None:
        return None
    utc = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return int(np.searchsorted(times, np.datetime64(utc, "us")))


def serving_contract(spec: ModelSpec, model_hash: str) -> ServingContract:
    """What a predictor needs of a spec's model; `version` is given when it is registered.

    Args:
        spec: of the model.
        model_hash: sha256 of the ONNX file, in hex.
    """
    return ServingContract(
        model=spec.name,
        task=spec.task,
        features=spec.features,
        classes=tuple(spec.classes),
        threshold=spec.threshold if spec.task is Task.BINARY else None,
        entity_key=spec.entity_key,
        label_delay_seconds=spec.label.delay.total_seconds(),
        model_hash=model_hash,
    )


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _require_classes(spec: ModelSpec, data: TrainingData, parts: SplitRows) -> int:
    """Refuse parts that cannot teach or judge; answers with the usable rows of the holdout."""
    timed = spec.event_time is not None
    if spec.task is Task.REGRESSION:
        usable = len(data.load(parts.holdout).labels)
        if usable == 0:
            check_classes("holdout", {}, timed=timed)
        return usable
    every = tuple(spec.classes)
    check_classes("train", data.class_counts(parts.train), all_of=every, timed=timed)
    holdout = data.class_counts(parts.holdout)
    check_classes("holdout", holdout, timed=timed)
    return sum(holdout.values())


def _importances(
    spec: ModelSpec, model: FittedModel, train_rows: LabelledRows, later: LabelledRows | None
) -> tuple[dict[str, float], list[str]]:
    notes = []
    if later is None or len(later.labels) == 0:
        later = train_rows
        notes.append("importances were measured on train rows: there is no calibration part")
    shares = permutation_importance(
        model.score, later.features, later.labels, spec.task, spec.feature_names, spec.trainer.seed
    )
    if not shares:
        notes.append("no feature has importance: shuffling none of them makes the loss worse")
    return shares, notes


def _describe(rows: range, times: npt.NDArray[Any] | None, usable: int) -> SplitRange:
    known = times is not None and len(rows) > 0
    return SplitRange(
        rows=usable,
        row_from=rows.start,
        row_to=rows.stop,
        event_from=_moment(times[rows.start]) if known and times is not None else None,
        event_to=_moment(times[rows.stop - 1]) if known and times is not None else None,
    )


def _moment(value: Any) -> datetime:
    micros = int(np.datetime64(value, "us").astype(np.int64))
    return datetime.fromtimestamp(micros // 1_000_000, tz=UTC).replace(microsecond=micros % 10**6)


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the block ends well, and is gone otherwise."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A killed run may have left one.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise HeliotropeError(
            f"the model folder {out} could not be written: {error.strerror or error}. "
            "Nothing was left there."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
