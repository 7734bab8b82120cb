"""Labels: what is taken, in which canonical text, and why a row is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.domain.label_formats import UploadError, UploadFormat, parse_upload
from heliotrope.domain.labels import (
    REFUSALS_SHOWN,
    Judged,
    LabelContract,
    LabelRefused,
    LabelUpload,
    batch_id_of,
    judge_rows,
)
from heliotrope.vocabulary import Task

TRUTH = LabelContract("m", Task.BINARY, ("false", "true"))
DIGITS = LabelContract("m", Task.BINARY, ("0", "1"))
LATE = LabelContract("m", Task.BINARY, ("not late", "late"))
YES = LabelContract("m", Task.BINARY, ("no", "yes"))
COLOURS = LabelContract("m", Task.MULTICLASS, ("red", "green", "blue"))
NUMBERS = LabelContract("m", Task.REGRESSION, (), 0.0, 100.0)


@pytest.mark.parametrize(
    ("contract", "value", "text"),
    [
        (TRUTH, True, "true"),
        (TRUTH, 0, "false"),
        (TRUTH, "TRUE", "true"),
        (TRUTH, 1.0, "true"),
        (DIGITS, True, "1"),
        (DIGITS, "0", "0"),
        (DIGITS, "false", "0"),
        (LATE, "late", "late"),
        (LATE, "not late", "not late"),
        (LATE, "paid", "not late"),
        (COLOURS, "green", "green"),
        (NUMBERS, 3, "3.0"),
        (NUMBERS, "3.50", "3.5"),
        (NUMBERS, 1e-3, "0.001"),
    ],
)
def test_a_label_becomes_its_canonical_text(
    contract: LabelContract, value: object, text: str
) -> None:
    assert contract.canonical(value) == text


@pytest.mark.parametrize(
    ("contract", "value", "kind", "says"),
    [
        (TRUTH, "maybe", "label_unknown", "one of false, true"),
        (TRUTH, 2, "label_unknown", "one of false, true"),
        (DIGITS, "2", "label_unknown", "one of 0, 1"),
        (LATE, "Late ", "label_unknown", "'late' to the letter"),
        (YES, "maybe", "label_unknown", "one of no, yes"),
        (YES, "Yes", "label_unknown", "one of no, yes"),
        (COLOURS, "pink", "label_unknown", "one of red, green, blue"),
        (COLOURS, ["red"], "label_unknown", "text, a number or true/false"),
        (COLOURS, "", "label_missing", "must be given"),
        (COLOURS, None, "label_missing", "must be given"),
        (NUMBERS, "many", "label_unknown", "a number"),
        (NUMBERS, True, "label_unknown", "a number"),
        (NUMBERS, "nan", "label_unknown", "a number"),
        (NUMBERS, 101, "label_out_of_bounds", "between 0.0 and 100.0"),
    ],
)
def test_what_is_no_label_of_the_model_is_refused_with_a_reason(
    contract: LabelContract, value: object, kind: str, says: str
) -> None:
    with pytest.raises(LabelRefused) as refused:
        contract.canonical(value)
    assert refused.value.kind == kind
    assert says in str(refused.value)


@given(st.sampled_from([TRUTH, DIGITS, LATE, COLOURS]), st.data())
def test_canonical_text_is_a_class_and_stays_itself(
    contract: LabelContract, data: st.DataObject
) -> None:
    value = data.draw(st.sampled_from([*contract.classes, True, False, 0, 1, "x", 1.0]))
    try:
        text = contract.canonical(value)
    except LabelRefused:
        return
    assert text in contract.classes
    assert contract.canonical(text) == text


def known(model: str) -> LabelContract | None:
    return {"m": LATE, "n": NUMBERS}.get(model)


def judged(body: bytes, written: UploadFormat, model: str | None = "m") -> Judged:
    return judge_rows(parse_upload(body, written), known, model)


@pytest.mark.parametrize(
    ("row", "kind", "says"),
    [
        (b'{"label":"late"}', "key", "Got neither"),
        (b'{"prediction_id":"a/0","entity_key":"e","label":"late"}', "key", "Got both"),
        (b'{"prediction_id":7,"label":"late"}', "key", "text of at most"),
        (b'{"prediction_id":"%s","label":"late"}' % (b"x" * 513), "key", "at most 512"),
        (b'{"prediction_id":"a/0"}', "label_missing", "must be given"),
        (b'{"prediction_id":"a/0","label":"late","lable":1}', "malformed", "'lable'"),
        (b'{"prediction_id":"a/0","label":"late","model":"z"}', "model_unknown", "'z'"),
        (b'{"prediction_id":"a/0","label":"late","happened_at":"soon"}', "happened_at", "ISO"),
        (
            b'{"prediction_id":"a/0","label":"late","happened_at":"2026-01-02T03:04:05"}',
            "happened_at",
            "time zone",
        ),
        (b'{"prediction_id":"a/0","label":"late","happened_at":1e300}', "happened_at", "ISO"),
        (
            b'{"prediction_id":"a/0","label":"late","happened_at":"0001-01-01T00:00:00+14:00"}',
            "happened_at",
            "within 1970 to 2261",
        ),
        (
            b'{"prediction_id":"a/0","label":"late","happened_at":"2999-01-01T00:00:00Z"}',
            "happened_at",
            "within 1970 to 2261",
        ),
        (b"7", "malformed", "an object"),
        (b"{", "malformed", "one JSON object"),
    ],
)
def test_one_bad_row_is_refused_and_the_others_are_taken(row: bytes, kind: str, says: str) -> None:
    good = b'{"prediction_id":"a/0","label":"late"}'
    found = judged(good + b"\n" + row + b"\n\n" + good, UploadFormat.NDJSON)
    assert found.refused == {kind: 1}
    assert [position for position, _ in found.refusals] == [1]
    assert says in found.refusals[0][1]
    assert found.accepted["m"].positions == [0, 2]


def test_all_formats_give_the_same_rows() -> None:
    csv = b"prediction_id,label,happened_at\na/0,late,2026-01-02T03:04:05Z\nb/0,paid,\n"
    ndjson = (
        b'{"prediction_id":"a/0","label":"late","happened_at":"2026-01-02T04:04:05+01:00"}\n'
        b'{"prediction_id":"b/0","label":"paid","happened_at":null}'
    )
    of_list = b"[" + ndjson.replace(b"\n", b",") + b"]"
    found = [
        judged(csv, UploadFormat.CSV).accepted["m"],
        judged(ndjson, UploadFormat.NDJSON).accepted["m"],
        judged(of_list, UploadFormat.JSON).accepted["m"],
    ]
    assert found[0] == found[1] == found[2]
    assert found[0].happened_at_us == [1767323045000000, None]


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (b'{"prediction_id":"a/0","label":"late"}', UploadFormat.JSON),
        (b'{"prediction_id":"a/0","label":"late"}\n', UploadFormat.NDJSON),
        (b"prediction_id,label\na/0,late\n", UploadFormat.CSV),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_row(body: bytes, written: UploadFormat) -> None:
    found = judged(b"\xef\xbb\xbf" + body, written)
    assert found.refusals == []
    assert found.accepted["m"].prediction_ids == ["a/0"]


def test_rows_may_name_their_own_models() -> None:
    body = b'[{"model":"n","entity_key":"e","label":5},{"entity_key":"e","label":"late"}]'
    found = judged(body, UploadFormat.JSON)
    assert found.accepted["n"].labels == ["5.0"]
    assert found.accepted["m"].positions == [1]


@pytest.mark.parametrize(
    ("body", "written", "says"),
    [
        (b"{", UploadFormat.JSON, "must be JSON"),
        (b'"text"', UploadFormat.JSON, "an object or a list"),
        (b"", UploadFormat.CSV, "Got nothing"),
        (b"prediction_id,lable\na,b", UploadFormat.CSV, "Got prediction_id, lable"),
        (b"label,label\n", UploadFormat.CSV, "each once"),
        (b"prediction_id,label\n\xff,late", UploadFormat.CSV, "UTF-8"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_whole(
    body: bytes, written: UploadFormat, says: str
) -> None:
    with pytest.raises(UploadError, match=says):
        judged(body, written)


def test_csv_lines_of_another_width_are_refused_by_the_row() -> None:
    found = judged(b"prediction_id,label\na/0\nb/0,late\nc/0,late,x\n", UploadFormat.CSV)
    assert [position for position, _ in found.refusals] == [0, 2]
    assert found.accepted["m"].prediction_ids == ["b/0"]


def test_reasons_are_capped_and_all_refusals_counted() -> None:
    found = judged(b"[" + b",".join([b"{}"] * (REFUSALS_SHOWN + 5)) + b"]", UploadFormat.JSON)
    assert found.refused.total() == REFUSALS_SHOWN + 5
    assert len(found.refusals) == REFUSALS_SHOWN


def upload_id(key: str | None, body: bytes) -> str:
    return batch_id_of(key, body, fresh="fresh")


@pytest.mark.parametrize("change", [lambda k, b: (k + "x", b), lambda k, b: (k, b + b" ")])
def test_a_batch_id_is_of_key_and_body(
    change: Callable[[str, bytes], tuple[str, bytes]],
) -> None:
    assert upload_id("key", b"body") == upload_id("key", b"body")
    assert upload_id(*change("key", b"body")) != upload_id("key", b"body")
    assert upload_id(None, b"body") == "fresh"


def test_label_ids_follow_the_position_in_the_upload_so_refused_rows_shift_nothing() -> None:
    found = judged(b'[{},{"prediction_id":"a/0","label":"late"}]', UploadFormat.JSON)
    assert LabelUpload(found.accepted["m"], "batch").label_ids() == ["batch-1"]
