"""Which rows train, which calibrate and which judge: oldest to newest, as ranges over `_row`.

Rows of one moment are never divided between two parts: a boundary inside a tie would let a model
see what it is judged on. A random split is never made, since it would answer "how well does the
model fill gaps in the past" where the question is the future.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.errors import DataFault
from heliotrope.spec import Split


@dataclass(frozen=True)
class SplitRows:
    """Three ranges of `_row` that follow each other and cover the snapshot."""

    train: range
    """The oldest rows; they fit the estimator."""
    calibration: range
    """The next ones; they stop the boosting and calibrate. Empty if the spec gives them 0."""
    holdout: range
    """The newest ones; they judge."""


def split_rows(
    rows: int,
    event_time: npt.NDArray[Any] | None,
    split: Split,
    changed_row: int | None = None,
    minimum: int = 0,
) -> SplitRows:
    """Divide a snapshot in time.

    Args:
        rows: of the snapshot.
        event_time: [rows] of any ordered dtype (datetime64, int64), not falling; None where the
            spec names no event time: then every row is its own moment.
        split: the shares wanted.
        changed_row: the first row since the world changed. The shares are then of the rows from
            there on, so that some of them train: held out whole, the new world would be judged on
            and never learnt.
        minimum: rows that the holdout then still has, and the calibration half as many, where
            their shares of all rows allow.

    Returns:
        Ranges whose boundaries are the ends of moments that come nearest to the shares: the
        holdout's start first, then the calibration's among those before it.

    Raises:
        DataFault: there are too few different moments for the parts wanted, naming both.
        ValueError: times fall, or are not one a row (a fault of the caller).

    >>> split_rows(10, None, Split(holdout=0.2, calibration=0.2))
    SplitRows(train=range(0, 6), calibration=range(6, 8), holdout=range(8, 10))
    """
    borders = _borders(rows, event_time)
    parts = 3 if split.calibration > 0 else 2
    if len(borders) < parts - 1:
        what = "rows" if event_time is None else "different event times"
        names = "train, calibration and holdout" if parts == 3 else "train and holdout"
        raise DataFault(
            f"the data must hold at least {parts} {what}, one each for {names}. "
            f"Got {len(borders) + 1 if rows else 0} in {rows:,} rows."
        )
    holdout = _wanted(rows, split.holdout, changed_row, minimum)
    calibration = _wanted(rows, split.calibration, changed_row, minimum // 2)
    holdout_wanted = rows - holdout
    holdout_at = _nearest(borders[parts - 2 :], holdout_wanted)
    if parts == 2:
        return SplitRows(range(holdout_at), range(holdout_at, holdout_at), range(holdout_at, rows))
    calibration_wanted = rows - holdout - calibration
    calibration_at = _nearest(borders[borders < holdout_at], calibration_wanted)
    return SplitRows(
        range(calibration_at), range(calibration_at, holdout_at), range(holdout_at, rows)
    )


def _wanted(rows: int, share: float, changed_row: int | None, minimum: int) -> float:
    if changed_row is None:
        return rows * share
    return min(rows * share, max((rows - changed_row) * share, minimum))


def _borders(rows: int, event_time: npt.NDArray[Any] | None) -> npt.NDArray[np.signedinteger]:
    if event_time is None:
        return np.arange(1, max(rows, 1))
    if len(event_time) != rows:
        raise ValueError(f"event_time must hold one value a row, {rows}. Got {len(event_time)}.")
    if rows and bool(np.any(event_time[1:] < event_time[:-1])):
        raise ValueError("event_time must not fall: rows are numbered in its order")
    return np.flatnonzero(event_time[1:] != event_time[:-1]) + 1


def _nearest(borders: npt.NDArray[np.signedinteger], wanted: float) -> int:
    return int(borders[np.argmin(np.abs(borders - wanted))])


def check_classes(
    part: str, counts: Mapping[str, int], *, all_of: tuple[str, ...] = (), timed: bool = True
) -> None:
    """Refuse a part that cannot teach or judge a classifier.

    Args:
        part: how the message names it, such as `train`.
        counts: rows of each class in it.
        all_of: classes that must each be there, such as every class of a multiclass model.
        timed: whether rows are in order of event time (else the order is the source's, and the
            message says what to do about it).

    Raises:
        DataFault: the part is empty, has one class, or lacks one of `all_of`.
    """
    present = {name: count for name, count in counts.items() if count > 0}
    if not present:
        raise DataFault(f"the {part} rows must not be empty. Got 0 rows.")
    hint = "" if timed else (
        " Rows are divided in the source's order, since the spec names no event_time: "
        "name one, or shuffle the source."
    )  # fmt: skip
    if len(present) == 1:
        (name, count), *_ = present.items()
        raise DataFault(
            f"the {part} rows must hold at least two classes. "
            f"Got {count:,} rows, all of class {name!r}.{hint}"
        )
    missing = [name for name in all_of if name not in present]
    if missing:
        raise DataFault(
            f"the {part} rows must hold every class of the label. "
            f"Got none of {', '.join(map(repr, missing))}.{hint}"
        )
