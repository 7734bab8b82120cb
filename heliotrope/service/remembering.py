"""Choosing how far back a training looks, by rows that none of the tries saw."""

from collections.abc import Sequence

import numpy as np

from heliotrope.domain.importance import loss
from heliotrope.domain.memory import Memory, MemoryChoice, MemoryTried, best
from heliotrope.errors import DataFault, UsageError
from heliotrope.ports import LabelledRows, Trainer
from heliotrope.spec import ModelSpec


def choose_memory(
    spec: ModelSpec,
    trainer: Trainer,
    train: LabelledRows,
    later: LabelledRows | None,
    tries: Sequence[Memory],
) -> tuple[Memory, MemoryChoice | None]:
    """Fit each memory and take the one that errs least on the newer half of the later rows.

    The older half stops early and calibrates, as the whole of them does in the fit that follows.
    The holdout is not looked at: it judges what comes of this.

    Args:
        spec: what to fit.
        trainer: fits it.
        train: all rows that may train.
        later: the calibration part; without it the first memory is taken unseen.
        tries: memories, the longest first.

    Returns:
        The memory, and what was tried where there was a choice.
    """
    if len(tries) == 1 or later is None or len(later.labels) < 2:
        return tries[0], None
    half = len(later.labels) // 2
    older, newer = later.part(slice(0, half)), later.part(slice(half, None))
    tried = tuple(_try(spec, trainer, train, older, newer, memory) for memory in tries)
    chosen = best(tried)
    rows = len(newer.labels)
    return chosen.memory, MemoryChoice(chosen=chosen.memory.name, rows=rows, tried=tried)


def remembered(train: LabelledRows, memory: Memory) -> LabelledRows:
    """The rows a memory holds, weighted as it says."""
    first = int(np.searchsorted(train.row_ids, memory.start))
    return train.part(slice(first, None), memory.weights(train.row_ids[first:]))


def _try(
    spec: ModelSpec,
    trainer: Trainer,
    train: LabelledRows,
    older: LabelledRows,
    newer: LabelledRows,
    memory: Memory,
) -> MemoryTried:
    rows = remembered(train, memory)
    size = len(rows.labels)
    try:
        model = trainer.fit(spec, rows, older)
    except (DataFault, UsageError) as error:
        # A short memory may lack a class, an estimator may take no weights: the others remain.
        return MemoryTried(memory=memory, rows=size, loss=float("nan"), note=str(error))
    return MemoryTried(
        memory=memory, rows=size, loss=loss(spec.task, model.score(newer.features), newer.labels)
    )
