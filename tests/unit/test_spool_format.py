"""The bytes of a spool segment survive what a disk and a kill do to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.spool_format import (
    FRAME,
    Kind,
    Record,
    Seal,
    SegmentHeader,
    decode_header,
    decode_record,
    decode_seal,
    encode_header,
    encode_record,
    encode_seal,
    scan,
)
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task

HEADER = SegmentHeader(
    spool="8e0c1bb0-6a1b-4a6c-9d2f-3d3b0a2c9f11",
    first_sequence=1,
    model="loans",
    version="3",
    role=Role.CHAMPION,
    task=Task.BINARY,
    features=(Feature(name="age", type=FeatureType.INTEGER, min=0),),
    classes=("no", "yes"),
)
FLOATS = st.floats(width=32, allow_nan=False)


@st.composite
def records(draw: st.DrawFn) -> Record:
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    classes = draw(st.sampled_from([0, 3]))
    count = rows * max(classes, 1)
    features = draw(
        st.lists(FLOATS | st.just(float("nan")), min_size=rows * width, max_size=rows * width)
    )
    scores = np.array(draw(st.lists(FLOATS, min_size=count, max_size=count)), dtype=np.float32)
    chosen = draw(st.none() | st.lists(st.integers(0, 65535), min_size=rows, max_size=rows))
    keys = st.lists(st.none() | st.text(max_size=9), min_size=rows, max_size=rows)
    return Record(
        sequence=draw(st.integers(0, 2**64 - 1)),
        predicted_at_ns=draw(st.integers(0, 2**64 - 1)),
        latency_ns=draw(st.integers(0, 2**64 - 1)),
        request_id=draw(st.text(max_size=40)),
        protocol=draw(st.sampled_from(["v1", "v2", "grpc"])),
        features=np.array(features, dtype=np.float32).reshape(rows, width),
        scores=scores.reshape(rows, classes) if classes else scores,
        predictions=None if chosen is None else np.array(chosen, dtype=np.uint16),
        entity_keys=draw(st.none() | keys),
    )


def same(one: Record, other: Record) -> bool:
    plain = ("sequence", "predicted_at_ns", "latency_ns", "request_id", "protocol", "entity_keys")
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and one.features.tobytes() == other.features.tobytes()
        and one.features.shape == other.features.shape
        and one.scores.tobytes() == other.scores.tobytes()
        and one.scores.shape == other.scores.shape
        and (one.predictions is None) == (other.predictions is None)
        and (one.predictions is None or one.predictions.tolist() == other.predictions.tolist())
    )


@settings(deadline=None)
@given(st.lists(records(), min_size=1, max_size=4))
def test_records_read_back_as_they_were_written(written: list[Record]) -> None:
    data = encode_header(HEADER) + b"".join(map(encode_record, written))
    items = [item.payload for item in scan(data)]
    assert decode_header(items[0] or b"") == HEADER
    assert all(same(decode_record(p or b""), r) for p, r in zip(items[1:], written, strict=True))


@settings(deadline=None, max_examples=25)
@given(st.lists(records(), min_size=1, max_size=3))
def test_cut_at_any_byte_every_whole_record_is_read_and_nothing_else(
    written: list[Record],
) -> None:
    frames = [encode_record(record) for record in written]
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    data = b"".join(frames)
    for cut in range(len(data) + 1):
        items = list(scan(data[:cut]))
        assert all(item.payload is not None for item in items)
        assert len(items) == sum(end <= cut for end in ends)


@settings(deadline=None, max_examples=60)
@given(records(), records(), records(), st.data())
def test_a_damaged_byte_costs_only_the_record_it_is_in(
    one: Record, two: Record, three: Record, data: st.DataObject
) -> None:
    frames = [encode_record(record) for record in (one, two, three)]
    damaged = bytearray(b"".join(frames))
    place = len(frames[0]) + data.draw(st.integers(0, len(frames[1]) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    items = list(scan(bytes(damaged)))
    whole = [decode_record(item.payload) for item in items if item.payload is not None]
    assert [same(a, b) for a, b in zip(whole, (one, three), strict=True)] == [True, True]
    assert sum(item.end - item.start for item in items if item.payload is None) == len(frames[1])


def test_a_seal_reads_back() -> None:
    (item,) = scan(encode_seal(Seal(3, 300, 17)))
    assert decode_seal(item.payload or b"") == Seal(3, 300, 17)


@pytest.mark.parametrize("payload", [b"", b"\1", b"\1" * 20, b"\1" * 60, b"\2\0"])
def test_nonsense_is_not_a_record_or_a_seal(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode_record(payload)
    with pytest.raises(ValueError):
        decode_seal(payload)


def test_a_frame_adds_twelve_bytes() -> None:
    assert FRAME.size == 12
    assert encode_header(HEADER)[FRAME.size] == Kind.HEADER
