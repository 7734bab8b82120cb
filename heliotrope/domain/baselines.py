"""The trivial answers every model must beat: the majority class, the mean, and persistence.

They are fitted on rows older than the holdout, like the model itself.
"""

from datetime import timedelta

import numpy as np
import numpy.typing as npt

from heliotrope.domain.metrics import Answers
from heliotrope.vocabulary import Task

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]
Labels = FloatVector | IntVector
Times = npt.NDArray[np.datetime64]


def majority(
    task: Task, history: Labels, labels: Labels, classes: int, call_positive: bool = False
) -> Answers:
    """The same answer for every row: the commonest class with the class shares, or the mean.

    Args:
        task: what is predicted.
        history: [older rows] labels it is fitted on.
        labels: [rows] the truth it is judged on.
        classes: how many classes.
        call_positive: call every row positive instead of the commonest class (binary). For
            precision, which is undefined for who never calls a positive.
    """
    rows = len(labels)
    if task is Task.REGRESSION:
        return Answers.regression(labels, np.full(rows, np.mean(history)))
    shares = class_shares(history, classes)
    called = np.full(rows, 1 if call_positive else int(np.argmax(shares)))
    if task is Task.BINARY:
        return Answers.binary(labels, np.full(rows, shares[1]), decisions=called)
    return Answers.multiclass(labels, np.tile(shares, (rows, 1)), decisions=called)


def class_shares(labels: Labels, classes: int) -> FloatVector:
    """[classes] share of each class, one row added to each so that none is impossible."""
    counts = np.bincount(labels.astype(np.int64), minlength=classes) + 1.0
    return np.asarray(counts / counts.sum())


def last_known(times: Times, delay: timedelta, at: Times) -> IntVector:
    """[len(at)] position of the newest row whose label was final before each time; -1 if none.

    A label is final `delay` after its row's event. Strictly before: a label that becomes final at
    the very time of a question might still be that question's own.

    Args:
        times: [rows] event times, rising.
        delay: the label's.
        at: [questions] when each answer is given.
    """
    if np.any(times[1:] < times[:-1]):
        raise ValueError("event times must rise; sort the rows by time first")
    final = times + np.timedelta64(round(delay.total_seconds() * 1e6), "us")
    return np.searchsorted(final, at, side="left").astype(np.int64) - 1


def persistence(
    task: Task,
    history: tuple[Labels, Times],
    holdout: tuple[Labels, Times],
    delay: timedelta,
    classes: int,
) -> Answers:
    """The newest label already final at each row's time, over history and holdout together.

    Its call is that label. Its probability is the share of each class after such a label in the
    history (so that log loss and Brier score are fair to it). Rows before the first final label
    are answered as `majority` would.

    Args:
        task: what is predicted.
        history: labels and event times of the older rows, times rising.
        holdout: labels and event times of the rows it is judged on, none older than the history.
        delay: of the label.
        classes: how many classes.
    """
    labels = np.concatenate([history[0], holdout[0]])
    times = np.concatenate([history[1], holdout[1]])
    before = last_known(times, delay, times)
    split = len(history[0])
    source = before[split:]
    known = source >= 0
    if task is Task.REGRESSION:
        values = np.where(known, labels[source], np.mean(history[0]))
        return Answers.regression(holdout[0], values)
    table, shares = _transitions(labels[:split], before[:split], classes)
    last = np.where(known, labels[source], 0).astype(np.int64)
    called = np.where(known, last, int(np.argmax(shares)))
    scores = np.where(known[:, None], table[last], shares)
    if task is Task.BINARY:
        return Answers.binary(holdout[0], scores[:, 1], decisions=called)
    return Answers.multiclass(holdout[0], scores, decisions=called)


def _transitions(
    labels: Labels, before: IntVector, classes: int
) -> tuple[FloatVector, FloatVector]:
    shares = class_shares(labels, classes)
    seen = before >= 0
    pairs = labels[before[seen]].astype(np.int64) * classes + labels[seen].astype(np.int64)
    counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    smoothed = counts + shares
    return smoothed / smoothed.sum(axis=1, keepdims=True), shares
