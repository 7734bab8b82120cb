"""Spool batches: decoded by columns as one by one, refused when damaged, planned without loss."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.adapters.event_arrow import predictions_table
from heliotrope.domain.spool_batch import (
    BatchError,
    Gap,
    Standing,
    decode_batch,
    plan_batch,
)
from heliotrope.domain.spool_format import (
    FRAME,
    Record,
    Seal,
    SegmentHeader,
    decode_record,
    encode_header,
    encode_record,
    encode_seal,
)
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task

FEATURES = (
    Feature(name="amount", type=FeatureType.FLOAT),
    Feature(name="grade", type=FeatureType.CATEGORY, categories=("a", "b", "c")),
)
CLASSES = {
    Task.BINARY: ("no", "yes"),
    Task.MULTICLASS: ("red", "green", "blue"),
    Task.REGRESSION: (),
}


def header(task: Task = Task.BINARY) -> SegmentHeader:
    return SegmentHeader(
        spool="00000000-0000-0000-0000-000000000001",
        first_sequence=1,
        model="m",
        version="3",
        role=Role.CHAMPION,
        task=task,
        features=FEATURES,
        classes=CLASSES[task],
    )


def record(sequence: int, rows: int = 1, task: Task = Task.BINARY, **changed: Any) -> Record:
    rng = np.random.default_rng(sequence)
    classes = CLASSES[task]
    features = np.stack([rng.random(rows), rng.integers(0, 3, rows)], axis=1).astype(np.float32)
    shape = (rows, 3) if task is Task.MULTICLASS else (rows,)
    given = {
        "sequence": sequence,
        "predicted_at_ns": 1_795_000_000_000_000_000 + sequence,
        "latency_ns": 1500,
        "request_id": f"request-{sequence}",
        "protocol": "v1",
        "features": features,
        "scores": rng.random(shape, dtype=np.float32),
        "predictions": rng.integers(0, len(classes), rows).astype(np.uint16) if classes else None,
    }
    return Record(**{**given, **changed})


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Task)), st.lists(st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_columns_hold_what_records_hold_one_by_one(
    task: Task, sizes: list[int], data: st.DataObject
) -> None:
    keys = [data.draw(st.none() | st.just(["k", None, "ä", "k", "x"][:rows])) for rows in sizes]
    records = [
        record(n + 1, rows, task, entity_keys=key)
        for n, (rows, key) in enumerate(zip(sizes, keys, strict=True))
    ]
    frames = [encode_record(r) for r in records]
    batch = decode_batch(encode_header(header(task)) + b"".join(frames))
    singly = [decode_record(frame[FRAME.size :]) for frame in frames]
    assert batch.sequences.tolist() == [r.sequence for r in singly]
    assert batch.request_ids == [r.request_id for r in singly]
    np.testing.assert_array_equal(batch.features, np.concatenate([r.features for r in singly]))
    np.testing.assert_array_equal(batch.scores, np.concatenate([r.scores for r in singly]))
    expected = [key for r in singly for key in (r.entity_keys or [None] * r.rows)]
    assert (batch.entity_keys or [None] * batch.total_rows) == expected
    assert batch.prediction_ids() == [f"{r.request_id}/{n}" for r in singly for n in range(r.rows)]
    if task is not Task.REGRESSION:
        assert batch.predictions is not None
        np.testing.assert_array_equal(
            batch.predictions, np.concatenate([r.predictions for r in singly])
        )
    later = batch.after(len(sizes) // 2)
    assert later.prediction_ids() == batch.prediction_ids()[sum(sizes[: len(sizes) // 2]) :]
    np.testing.assert_array_equal(later.features, batch.features[sum(sizes[: len(sizes) // 2]) :])


def test_what_answers_a_repeated_request_is_a_shadow_s_whatever_the_version_is() -> None:
    frames = [encode_record(record(1, 2)), encode_record(record(2, protocol="replay"))]
    frames.append(encode_record(record(3, protocol="v2")))
    canary = header().model_copy(update={"role": Role.CANARY})
    batch = decode_batch(encode_header(canary) + b"".join(frames))
    assert batch.replayed.tolist() == [False, True, False]
    assert batch.after(1).replayed.tolist() == [True, False]
    table = predictions_table(batch, 0, {})
    assert table["role"].to_pylist() == ["canary", "canary", "shadow", "canary"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_is_never_taken(data: st.DataObject) -> None:
    body = encode_header(header()) + encode_record(record(1)) + encode_record(record(2, 3))
    at = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BatchError):
        decode_batch(bytes(changed))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500))
def test_a_cut_batch_is_never_taken(cut: int) -> None:
    whole = encode_header(header()) + encode_record(record(1)) + encode_record(record(2))
    one = encode_header(header()) + encode_record(record(1))
    body = whole[: max(0, len(whole) - cut)]
    if body == one:
        return
    with pytest.raises(BatchError):
        decode_batch(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "a frame must be whole"),
        (encode_record(record(1)), "begin with a header"),
        (encode_header(header()), "the header alone"),
        (encode_header(header()) * 2 + encode_record(record(1)), "of one header"),
        (
            encode_header(header()) + encode_record(record(2)) + encode_record(record(2)),
            "rise within a batch",
        ),
        (
            encode_header(header()) + encode_record(record(1, task=Task.MULTICLASS)),
            "columns its header names",
        ),
        (
            encode_header(header(Task.REGRESSION)) + encode_record(record(1)),
            "have its predictions",
        ),
        (
            encode_header(header())
            + encode_record(record(1, features=np.array([[1, 3]], np.float32))),
            "one of its categories",
        ),
        (
            encode_header(header())
            + encode_record(record(1, predictions=np.array([2], np.uint16))),
            "one of 2 classes",
        ),
        (
            encode_header(header()) + encode_record(record(1, predicted_at_ns=2**63 - 1)),
            "year 2200",
        ),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(BatchError, match=says):
        decode_batch(body)


def test_a_seal_between_records_is_passed_over() -> None:
    sealed = encode_record(record(1)) + encode_seal(Seal(1, 1, 1))
    assert decode_batch(encode_header(header()) + sealed).sequences.tolist() == [1]


@pytest.mark.parametrize(
    ("sequences", "follows", "watermark", "standing", "gaps"),
    [
        ([1, 2], 0, 0, Standing.NEW, []),
        ([1, 2], 0, 2, Standing.DUPLICATE, []),
        ([1, 2, 3], 0, 2, Standing.NEW, []),
        ([5, 6], 4, 2, Standing.AHEAD, []),
        ([5, 6], 2, 2, Standing.NEW, [Gap(3, 4)]),
        ([5, 8], 4, 4, Standing.NEW, [Gap(6, 7)]),
        ([3, 9], 2, 5, Standing.NEW, [Gap(6, 8)]),
    ],
)
def test_a_batch_is_judged_by_what_the_store_has(
    sequences: list[int], follows: int, watermark: int, standing: Standing, gaps: list[Gap]
) -> None:
    plan = plan_batch(np.array(sequences), follows, watermark)
    assert (plan.standing, list(plan.gaps)) == (standing, gaps)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8)), max_size=60))
def test_honest_batches_in_any_order_and_number_are_written_once_and_in_order(
    sent: list[tuple[int, int]],
) -> None:
    watermark, written = 0, []
    for first, count in sent:
        sequences = np.arange(first, first + count)
        plan = plan_batch(sequences, first - 1, watermark)
        assert not plan.gaps
        if plan.standing is Standing.NEW:
            written += [int(n) for n in sequences if n > watermark]
            watermark = written[-1]
    assert written == list(range(1, watermark + 1))
