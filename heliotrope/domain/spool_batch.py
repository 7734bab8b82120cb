"""What the collector makes of a spool batch: columns of many records at once, and which to keep.

A batch is a segment's header frame and frames of its records, byte for byte as the predictor wrote
them, so that a predictor spends nothing on encoding them again. Records are decoded here by
columns: one by one would cost more than writing them to the store does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import orjson
from numpy.lib.stride_tricks import sliding_window_view

from heliotrope.domain.spool_format import _RECORD as RECORD_HEAD
from heliotrope.domain.spool_format import (
    FRAME,
    MARK,
    PROTOCOLS,
    REPLAY,
    Kind,
    SegmentHeader,
    decode_header,
)
from heliotrope.spec.features import FeatureType
from heliotrope.vocabulary import Task

Ints = npt.NDArray[np.int64]
_LATEST_NS = 7_258_118_400 * 10**9
"""The year 2200: a later time is a clock gone wrong, and would make a partition for ever."""


class BatchError(ValueError):
    """A batch is not what it must be; the message says where."""


@dataclass(frozen=True)
class SpoolBatch:
    """Records of one segment, by columns."""

    header: SegmentHeader
    sequences: Ints
    """[records], rising."""
    predicted_at_us: Ints
    """[records]"""
    latency_us: Ints
    """[records]"""
    rows: Ints
    """[records]"""
    request_ids: Sequence[str]
    """[records]"""
    replayed: npt.NDArray[np.bool_]
    """[records], whether it answers a request repeated from the log, and so nobody."""
    features: npt.NDArray[np.float32]
    """[rows in all, features]"""
    scores: npt.NDArray[np.float32]
    """[rows in all] or [rows in all, classes]"""
    predictions: npt.NDArray[np.uint16] | None
    """[rows in all] positions in the classes; None for regression."""
    entity_keys: Sequence[str | None] | None
    """[rows in all], or None where no record has any."""

    @property
    def total_rows(self) -> int:
        """Rows of all records."""
        return len(self.features)

    def after(self, sequence: int) -> "SpoolBatch":
        """The records with a higher sequence number."""
        start = int(np.searchsorted(self.sequences, sequence, side="right"))
        if start == 0:
            return self
        row = int(self.rows[:start].sum())
        return SpoolBatch(
            header=self.header,
            sequences=self.sequences[start:],
            predicted_at_us=self.predicted_at_us[start:],
            latency_us=self.latency_us[start:],
            rows=self.rows[start:],
            request_ids=self.request_ids[start:],
            replayed=self.replayed[start:],
            features=self.features[row:],
            scores=self.scores[row:],
            predictions=None if self.predictions is None else self.predictions[row:],
            entity_keys=None if self.entity_keys is None else self.entity_keys[row:],
        )

    def prediction_ids(self) -> list[str]:
        """`<request_id>/<row>` of every row."""
        if self.total_rows == len(self.request_ids):
            return [name + "/0" for name in self.request_ids]
        return [
            f"{name}/{row}"
            for name, rows in zip(self.request_ids, self.rows.tolist(), strict=True)
            for row in range(rows)
        ]


@dataclass
class _Walk:
    """Where things are in a batch's bytes, while it is walked."""

    heads: list[tuple[int, int, int, int]]
    """Sequence, predicted at, latency (ns), rows."""
    protocols: list[int]
    names: list[bytes]
    features: list[int]
    scores: list[int]
    predictions: list[int]
    tails: list[bytes]


def decode_batch(body: bytes) -> SpoolBatch:
    """Read a batch.

    Raises:
        BatchError: a frame is damaged, or a record contradicts the header.
    """
    header, at = _header_of(body)
    multiclass = header.task is Task.MULTICLASS
    width, classes = len(header.features), len(header.classes) if multiclass else 0
    walk = _walk(body, at, width, classes, header.task is not Task.REGRESSION)
    if not walk.heads:
        raise BatchError("a batch must hold a record. Got the header alone.")
    heads = np.array(walk.heads, dtype=np.uint64)
    if heads.max() > np.iinfo(np.int64).max:
        raise BatchError("numbers of a record must fit 63 bits.")
    sequences, predicted_at, latency, rows = heads.astype(np.int64).T
    if (np.diff(sequences) <= 0).any() or sequences[0] < 1:
        raise BatchError("sequence numbers must be 1 or more and rise within a batch.")
    if predicted_at.max() > _LATEST_NS:
        raise BatchError("predicted_at must lie before the year 2200.")
    features = _gather(body, walk.features, rows, width, "<f4").reshape(-1, width)
    scores = _gather(body, walk.scores, rows, max(classes, 1), "<f4")
    predictions = _gather(body, walk.predictions, rows, 1, "<u2") if header.classes else None
    _check_values(header, features, predictions)
    return SpoolBatch(
        header=header,
        sequences=sequences,
        predicted_at_us=predicted_at // 1000,
        latency_us=latency // 1000,
        rows=rows,
        request_ids=_texts(walk.names),
        replayed=np.array(walk.protocols) == PROTOCOLS.index(REPLAY),
        features=features,
        scores=scores.reshape(-1, classes) if classes else scores,
        predictions=predictions,
        entity_keys=_entity_keys(walk.tails, rows),
    )


def peek_header(body: bytes) -> SegmentHeader:
    """The header a batch begins with.

    Raises:
        BatchError: it does not begin with one.
    """
    return _header_of(body)[0]


def _payload_size(body: bytes, at: int) -> int:
    if at + FRAME.size > len(body):
        raise BatchError(f"a frame must be whole. Got {len(body) - at} bytes at {at}.")
    mark, size, check = FRAME.unpack_from(body, at)
    start = at + FRAME.size
    if mark != MARK or not 0 < size <= len(body) - start:
        raise BatchError(f"a frame must be whole and begin with its mark, at byte {at}.")
    if crc32(memoryview(body)[start : start + size], size) != check:
        raise BatchError(f"a frame must have its checksum, at byte {at}.")
    return int(size)


def _header_of(body: bytes) -> tuple[SegmentHeader, int]:
    size = _payload_size(body, 0)
    end = FRAME.size + size
    if body[FRAME.size] != Kind.HEADER:
        raise BatchError("a batch must begin with a header's frame.")
    try:
        header = decode_header(body[FRAME.size : end])
    except ValueError as error:
        raise BatchError("the header must be one of this format.") from error
    if (header.task is Task.REGRESSION) != (not header.classes):
        raise BatchError("the header must name classes, other than for regression.")
    return header, end


def _walk(body: bytes, at: int, width: int, classes: int, classified: bool) -> _Walk:
    walk = _Walk([], [], [], [], [], [], [])
    unpack, end_of_body = RECORD_HEAD.unpack_from, len(body)
    while at < end_of_body:
        size = _payload_size(body, at)
        start = at + FRAME.size
        at = end = start + size
        if body[start] != Kind.RECORD:
            if body[start] == Kind.SEAL:
                continue
            raise BatchError(f"a batch must hold records of one header, at byte {start}.")
        if size < RECORD_HEAD.size:
            raise BatchError(f"a record must be whole, at byte {start}.")
        _, protocol, name_size, own_width, own_classes, rows, sequence, when, latency = unpack(
            body, start
        )
        name_at = start + RECORD_HEAD.size
        features_at = name_at + name_size
        scores_at = features_at + 4 * rows * own_width
        flag_at = scores_at + 4 * rows * max(own_classes, 1)
        if own_width != width or own_classes != classes or rows == 0 or flag_at >= end:
            raise BatchError(f"record {sequence} must have the columns its header names.")
        tail_at = flag_at + 1 + (2 * rows if body[flag_at] else 0)
        if tail_at > end or bool(body[flag_at]) != classified:
            raise BatchError(f"record {sequence} must have its predictions.")
        walk.heads.append((sequence, when, latency, rows))
        walk.protocols.append(protocol)
        walk.names.append(body[name_at:features_at])
        walk.features.append(features_at)
        walk.scores.append(scores_at)
        walk.predictions.append(flag_at + 1)
        walk.tails.append(body[tail_at:end])
    return walk


def _gather(body: bytes, starts: list[int], rows: Ints, width: int, kind: str) -> npt.NDArray[Any]:
    """The numbers of all records one after another; `width` numbers a row."""
    item = np.dtype(kind).itemsize
    if len(starts) > 1 and (rows == 1).all() and width:
        windows = sliding_window_view(np.frombuffer(body, np.uint8), width * item)
        return np.ascontiguousarray(windows[starts]).view(kind).reshape(-1)
    return np.concatenate(
        [
            np.frombuffer(body, kind, count * width, start)
            for start, count in zip(starts, rows.tolist(), strict=True)
        ]
    )


def _texts(names: list[bytes]) -> list[str]:
    try:
        return [name.decode() for name in names]
    except UnicodeDecodeError as error:
        raise BatchError("request ids must be UTF-8.") from error


def _entity_keys(tails: list[bytes], rows: Ints) -> list[str | None] | None:
    if not any(tails):
        return None
    try:
        lists = orjson.loads(b"[" + b",".join(tail or b"null" for tail in tails) + b"]")
    except orjson.JSONDecodeError as error:
        raise BatchError("entity keys must be JSON.") from error
    counts = rows.tolist()
    if len(lists) != len(counts):
        raise BatchError("each record must have one list of entity keys.")
    filled = [[None] * n if keys is None else keys for keys, n in zip(lists, counts, strict=True)]
    if any(
        not isinstance(keys, list) or len(keys) != n for keys, n in zip(filled, counts, strict=True)
    ):
        raise BatchError("each row must have one entity key.")
    flat = list(chain.from_iterable(filled))
    if not all(key is None or isinstance(key, str) for key in flat):
        raise BatchError("an entity key must be text or null.")
    return flat


def _check_values(
    header: SegmentHeader,
    features: npt.NDArray[np.float32],
    predictions: npt.NDArray[np.uint16] | None,
) -> None:
    if predictions is not None and predictions.max() >= len(header.classes):
        raise BatchError(f"predictions must be one of {len(header.classes)} classes.")
    for position, feature in enumerate(header.features):
        if feature.type is FeatureType.FLOAT:
            continue
        column = features[:, position]
        if np.isinf(column).any():
            raise BatchError(f"feature {feature.name} must be finite.")
        if feature.type is FeatureType.CATEGORY:
            known = column[~np.isnan(column)]
            if len(known) and (known.min() < 0 or known.max() >= len(feature.categories or ())):
                raise BatchError(f"feature {feature.name} must be one of its categories.")


class Standing(StrEnum):
    """How a batch stands to what the store holds of its spool."""

    NEW = "new"
    """Some of it is to be written."""
    DUPLICATE = "duplicate"
    """All of it was written, or declared lost, before."""
    AHEAD = "ahead"
    """Its sender believes that more was acknowledged than the store holds; it must say again."""


@dataclass(frozen=True)
class Gap:
    """Sequence numbers, both inclusive, whose records will never come."""

    first: int
    last: int


@dataclass(frozen=True)
class Loss:
    """A gap as `losses/<model>` notes it."""

    spool_id: str
    version: str
    role: str
    first_sequence: int
    last_sequence: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What to do with a batch."""

    standing: Standing
    gaps: tuple[Gap, ...] = ()
    """To be noted before its records are written."""


def plan_batch(sequences: Ints, follows: int, watermark: int) -> Plan:
    """Decide by the highest sequence number the store has (`watermark`, 0 for none).

    `follows` is what the sender believes the watermark to be. When it believes too much, nothing
    may be written: the records between could still be on their way, and once the watermark is
    past them they would be taken for duplicates and lost while acknowledged.

    >>> plan_batch(np.array([4, 5]), follows=3, watermark=3)
    Plan(standing=<Standing.NEW: 'new'>, gaps=())
    >>> plan_batch(np.array([4, 5]), follows=3, watermark=1).standing
    <Standing.AHEAD: 'ahead'>
    >>> plan_batch(np.array([4, 7]), follows=2, watermark=2).gaps
    (Gap(first=3, last=3), Gap(first=5, last=6))
    """
    if int(sequences[-1]) <= watermark:
        return Plan(Standing.DUPLICATE)
    if follows > watermark:
        return Plan(Standing.AHEAD)
    fresh = sequences[sequences > watermark]
    before = np.concatenate([np.array([watermark], dtype=np.int64), fresh[:-1]])
    jumps = np.flatnonzero(fresh - before > 1)
    gaps = tuple(Gap(int(before[at]) + 1, int(fresh[at]) - 1) for at in jumps)
    return Plan(Standing.NEW, gaps)
