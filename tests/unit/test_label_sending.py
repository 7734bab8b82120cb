"""Sending a file of labels: cut at row borders, again after trouble, rows named by the file."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from heliotrope.domain.label_formats import UploadFormat, parse_upload
from heliotrope.domain.labels import LabelContract, judge_rows
from heliotrope.errors import NotFoundError, UnavailableError, UsageError
from heliotrope.service import label_sending
from heliotrope.service.label_sending import send_labels, uploads
from heliotrope.vocabulary import Task

LOANS = LabelContract("loans", Task.BINARY, ("no", "yes"))


@dataclass
class Reply:
    status: int
    value: Mapping[str, Any]
    retry_after: float | None = None
    error: str = "what is wrong"


@dataclass
class Client:
    """A collector that takes labels by the real rules, after some failures."""

    failures: list[Reply | None] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def send_labels(
        self, body: bytes, content_type: str, model: str | None, key: str | None
    ) -> Reply:
        if self.failures:
            failure = self.failures.pop(0)
            if failure is None:
                raise UnavailableError("no answer")
            return failure
        judged = judge_rows(parse_upload(body, UploadFormat(content_type)), lambda _: LOANS, model)
        accepted = sum(map(len, judged.accepted.values()))
        known = str(key) in self.seen
        self.seen[str(key)] = accepted
        refusals = [{"row": row, "reason": reason} for row, reason in judged.refusals]
        return Reply(
            200 if accepted else 422,
            {
                "accepted": accepted,
                "refused": judged.refused.total(),
                "refusals": refusals,
                "duplicate": known,
            },
        )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_sending, "UPLOAD_BYTES", 200)
    monkeypatch.setattr(label_sending, "FIRST_PAUSE", 0.0)


def csv_file(rows: int, bad: int | None = None) -> io.BytesIO:
    lines = [f"r{n}/0,{'maybe' if n == bad else 'yes'}" for n in range(1, rows + 1)]
    return io.BytesIO(("prediction_id,label\n" + "\n".join(lines) + "\n").encode())


def test_a_file_is_sent_in_several_uploads_and_again_as_duplicates() -> None:
    client = Client()
    first = send_labels(csv_file(100), UploadFormat.CSV, "loans", client, lambda _: None)
    assert (first.accepted, first.refused, first.duplicates) == (100, 0, 0)
    assert len(client.seen) > 3
    again = send_labels(csv_file(100), UploadFormat.CSV, "loans", client, lambda _: None)
    assert (again.accepted, again.duplicates) == (100, 100)


def test_a_refused_row_is_named_by_its_place_in_the_file() -> None:
    shown: list[str] = []
    sent = send_labels(csv_file(100, bad=77), UploadFormat.CSV, "loans", Client(), shown.append)
    assert (sent.accepted, sent.refused) == (99, 1)
    assert shown == sent.reasons
    assert shown[0].startswith("row 77: label must be one of no, yes")


def test_of_many_refused_rows_some_are_named_and_the_others_counted() -> None:
    shown: list[str] = []
    body = b"prediction_id,label\n" + b"a/0,maybe\n" * 45
    sent = send_labels(io.BytesIO(body), UploadFormat.CSV, "loans", Client(), shown.append)
    assert sent.refused == 45
    assert len(sent.reasons) == 20
    assert shown == [*sent.reasons, "... and 25 more."]


def test_a_list_that_is_longer_than_an_upload_is_sent_in_parts() -> None:
    rows = [{"prediction_id": f"r{n}/0", "label": "maybe" if n == 37 else "yes"} for n in range(60)]
    body = b"\xef\xbb\xbf" + json.dumps(rows).encode()
    client, shown = Client(), []
    sent = send_labels(io.BytesIO(body), UploadFormat.JSON, "loans", client, shown.append)
    assert (sent.accepted, sent.refused) == (59, 1)
    assert len(client.seen) > 5
    assert shown[0].startswith("row 38: label must be")


def test_a_long_file_that_is_no_list_is_sent_as_it_is_to_be_told_what_is_wrong() -> None:
    body = b'[{"prediction_id": "a/0",' + b" " * 300
    assert list(uploads(io.BytesIO(body), UploadFormat.JSON)) == [(body, 0)]


@pytest.mark.parametrize("failure", [None, Reply(503, {}), Reply(429, {}, 0.0)])
def test_trouble_is_ridden_out(failure: Reply | None) -> None:
    client = Client(failures=[failure, failure])
    sent = send_labels(csv_file(3), UploadFormat.CSV, "loans", client, lambda _: None)
    assert sent.accepted == 3


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ([None] * 20, UnavailableError),
        ([Reply(404, {})], NotFoundError),
        ([Reply(401, {})], UsageError),
        ([Reply(413, {})], UsageError),
    ],
)
def test_what_does_not_pass_is_an_error_that_says_so(
    failures: list[Reply | None], raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        send_labels(csv_file(3), UploadFormat.CSV, "loans", Client(failures), lambda _: None)


def test_a_quoted_line_break_is_never_cut_in_two() -> None:
    body = b"entity_key,label\n" + b'"one\ntwo",yes\n' * 60
    parts = [part for part, _ in uploads(io.BytesIO(body), UploadFormat.CSV)]
    assert len(parts) > 1
    keys = [row["entity_key"] for part in parts for row in parse_upload(part, UploadFormat.CSV)]
    assert keys == ["one\ntwo"] * 60
    assert sum(rows for _, rows in uploads(io.BytesIO(body), UploadFormat.CSV)) == 60
