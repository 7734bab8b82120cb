"""How a prediction is written down: the bytes of a spool segment, pure.

A segment is a run of frames. A frame is a mark, the payload's length, a CRC-32 over length and
payload, and the payload; the first byte of a payload is its kind. So a reader can tell a torn tail
from a damaged middle, and find the next whole frame behind damage.

The first frame of a segment is its header: JSON that says which spool and model it is of and how
the columns are called, so that nothing else is needed to read it, and a record need not repeat it.
Integers are little-endian; matrices are float32, row after row.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import orjson

from heliotrope.domain.document import Document
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task

FORMAT = 1
MARK = b"HSP1"
FRAME = struct.Struct("<4sII")
"""Mark, payload bytes, CRC-32."""
PAYLOAD_MAX = 1 << 28
"""Larger lengths are damage."""
_RECORD = struct.Struct("<BBHHHIQQQ")
_SEAL = struct.Struct("<BQQQ")
SEAL_BYTES = FRAME.size + _SEAL.size
REPLAY = "replay"
"""v1, of a request that the platform repeats from its log to hear another version's answer."""
PROTOCOLS = ("v1", "v2", "grpc", REPLAY)
"""How a request came; a record holds the place."""


class Kind(IntEnum):
    """What a frame holds; its payload's first byte."""

    HEADER = 0
    """What the segment is of."""
    RECORD = 1
    """One answered request."""
    SEAL = 2
    """The segment is complete; how much it holds."""


class SegmentHeader(Document):
    """The first frame of a segment."""

    format: int = FORMAT
    spool: str
    """Id of the spool (a UUID), the same in all its segments."""
    first_sequence: int
    """Sequence number of the first record; they rise by one, also over segments."""
    model: str
    version: str
    role: Role
    task: Task
    features: tuple[Feature, ...]
    classes: tuple[str, ...] = ()
    """Class names in score order; empty for regression."""
    entity_key: str | None = None


@dataclass(frozen=True)
class Record:
    """One answered request as the predictor writes it."""

    sequence: int
    predicted_at_ns: int
    """Nanoseconds since 1970, UTC."""
    latency_ns: int
    """From the whole request's arrival to this record."""
    request_id: str
    protocol: str
    features: npt.NDArray[np.float32]
    """[rows, features]"""
    scores: npt.NDArray[np.float32]
    """[rows] or [rows, classes]"""
    predictions: npt.NDArray[np.uint16] | None
    """[rows] positions in the header's classes; None for regression, where the score is it."""
    entity_keys: Sequence[str | None] | None = None

    @property
    def rows(self) -> int:
        """How many rows the request had."""
        return len(self.features)

    def role_in(self, header: SegmentHeader) -> Role:
        """Of the version as it answered this: what it answers of the log it answers as a shadow."""
        return Role.SHADOW if self.protocol == REPLAY else header.role


@dataclass(frozen=True)
class Seal:
    """The last frame of a segment that is complete."""

    records: int
    rows: int
    last_sequence: int


def frame(payload: bytes) -> bytes:
    """Frame a payload."""
    size = len(payload)
    return FRAME.pack(MARK, size, crc32(payload, size)) + payload


def encode_header(header: SegmentHeader) -> bytes:
    """A header's frame."""
    return frame(bytes([Kind.HEADER]) + header.model_dump_json().encode())


def encode_seal(seal: Seal) -> bytes:
    """A seal's frame; always `SEAL_BYTES` long."""
    return frame(_SEAL.pack(Kind.SEAL, seal.records, seal.rows, seal.last_sequence))


def encode_record(record: Record) -> bytes:
    """A record's frame, about 60 bytes and 4 a number."""
    name = record.request_id.encode()
    scores, predictions = record.scores, record.predictions
    parts = [
        _RECORD.pack(
            Kind.RECORD,
            PROTOCOLS.index(record.protocol),
            len(name),
            record.features.shape[1],
            0 if scores.ndim == 1 else scores.shape[1],
            len(record.features),
            record.sequence,
            record.predicted_at_ns,
            record.latency_ns,
        ),
        name,
        record.features.tobytes(),
        scores.tobytes(),
        b"\0" if predictions is None else b"\1" + predictions.tobytes(),
    ]
    if record.entity_keys is not None:
        parts.append(orjson.dumps(record.entity_keys))
    return frame(b"".join(parts))


def decode_record(payload: bytes) -> Record:
    """Read a record's payload (the frame taken off, the checksum checked).

    Raises:
        ValueError: it is not one.
    """
    try:
        (_, protocol, name_size, width, classes, rows, sequence, at, latency) = _RECORD.unpack_from(
            payload
        )
        at_byte = _RECORD.size + name_size
        name = payload[_RECORD.size : at_byte].decode()
        features = np.frombuffer(payload, "<f4", rows * width, at_byte).reshape(rows, width)
        at_byte += features.nbytes
        scores = np.frombuffer(payload, "<f4", rows * max(classes, 1), at_byte)
        at_byte += scores.nbytes
        predictions = None
        if payload[at_byte]:
            predictions = np.frombuffer(payload, "<u2", rows, at_byte + 1)
            at_byte += predictions.nbytes
        tail = payload[at_byte + 1 :]
        return Record(
            sequence=sequence,
            predicted_at_ns=at,
            latency_ns=latency,
            request_id=name,
            protocol=PROTOCOLS[protocol],
            features=features,
            scores=scores if classes == 0 else scores.reshape(rows, classes),
            predictions=predictions,
            entity_keys=orjson.loads(tail) if tail else None,
        )
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError("not a prediction record") from error


def decode_header(payload: bytes) -> SegmentHeader:
    """Read a header's payload; pydantic.ValidationError (a ValueError) when it is not one."""
    return SegmentHeader.from_json(payload[1:])


def decode_seal(payload: bytes) -> Seal:
    """Read a seal's payload.

    Raises:
        ValueError: it is not one.
    """
    if len(payload) != _SEAL.size or payload[0] != Kind.SEAL:
        raise ValueError("not a seal")
    _, records, rows, last = _SEAL.unpack(payload)
    return Seal(records, rows, last)


@dataclass(frozen=True)
class Scan:
    """What was found at one place of a segment's bytes."""

    start: int
    end: int
    payload: bytes | None
    """None where the bytes from start to end are damaged."""


def scan(data: bytes, start: int = 0) -> Iterator[Scan]:
    """Walk the frames of a segment's bytes, over damage too.

    A tail that could be the beginning of a frame still being written is not reported: the walk
    ends where it starts. `end` of the last item, or `start`, is where to go on later.
    """
    at = start
    while at < len(data):
        payload, torn = _frame_at(data, at)
        if payload is not None:
            end = at + FRAME.size + len(payload)
            yield Scan(at, end, payload)
            at = end
            continue
        following = _next_whole(data, at + 1)
        if following is not None:
            yield Scan(at, following, None)
            at = following
        elif torn:
            return
        else:
            yield Scan(at, len(data), None)
            return


def _frame_at(data: bytes, at: int) -> tuple[bytes | None, bool]:
    """The payload of the frame at a place, or None and whether it may still be written."""
    head = data[at : at + FRAME.size]
    if len(head) < FRAME.size:
        return None, head[: len(MARK)] == MARK[: len(head)]
    mark, size, check = FRAME.unpack(head)
    if mark != MARK or not 0 < size <= PAYLOAD_MAX:
        return None, False
    payload = data[at + FRAME.size : at + FRAME.size + size]
    if len(payload) < size:
        return None, True
    return (payload, False) if crc32(payload, size) == check else (None, False)


def _next_whole(data: bytes, start: int) -> int | None:
    at = data.find(MARK, start)
    while at >= 0:
        if _frame_at(data, at)[0] is not None:
            return at
        at = data.find(MARK, at + 1)
    return None


def decode_value(feature: Feature, number: float) -> Any:
    """A feature's value as it was sent, of the number the model saw; None where it was missing."""
    if number != number:
        return None
    if feature.type is FeatureType.CATEGORY:
        return (feature.categories or ())[int(number)]
    if feature.type is FeatureType.BOOLEAN:
        return bool(number)
    return int(number) if feature.type is FeatureType.INTEGER else number
