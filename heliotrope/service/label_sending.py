"""Sending a file of labels in uploads of a stated size, each safe to send again."""

import random
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import IO, Any, Protocol

import orjson

from heliotrope.domain.label_formats import UploadFormat
from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError, UsageError

UPLOAD_BYTES = 4 << 20
ATTEMPTS = 8
FIRST_PAUSE = 0.25
SHOWN = 20


class Reply(Protocol):
    """What a collector answers."""

    status: int
    value: Any
    retry_after: float | None

    @property
    def error(self) -> str:
        """What is wrong."""
        ...


class LabelClient(Protocol):
    """Reaches a collector."""

    def send_labels(
        self, body: bytes, content_type: str, model: str | None, key: str | None
    ) -> Any:
        """POST an upload; UnavailableError when there is no answer."""
        ...


@dataclass
class Sent:
    """What became of a file."""

    accepted: int = 0
    refused: int = 0
    duplicates: int = 0
    """Of the accepted, rows that were taken before."""
    reasons: list[str] = field(default_factory=list)
    """Of the first refused rows, by row of the file from 1 (the header of a CSV not counted)."""


def send_labels(
    source: IO[bytes],
    written: str,
    model: str | None,
    client: LabelClient,
    show: Callable[[str], None],
) -> Sent:
    """Send a file.

    Each upload's idempotency key is a hash of its place and content, so the same file sent again
    is recognised, whatever happened the first time.

    Raises:
        UsageError: the file cannot be read as what it claims, or the token is refused.
        NotFoundError: the model is not known.
        UnavailableError: the collector does not answer, after several attempts.
    """
    sent, first = Sent(), 0
    for number, (body, rows) in enumerate(uploads(source, UploadFormat(written))):
        key = sha256(f"{number}:{model}:".encode() + sha256(body).digest()).hexdigest()
        value = _answered(client, body, written, model, key)
        sent.accepted += value["accepted"]
        sent.refused += value["refused"]
        sent.duplicates += value["accepted"] if value["duplicate"] else 0
        for refusal in value["refusals"]:
            text = f"row {first + refusal['row'] + 1}: {refusal['reason']}"
            if len(sent.reasons) < SHOWN:
                sent.reasons.append(text)
                show(text)
        first += rows
    if sent.refused > len(sent.reasons):
        show(f"... and {sent.refused - len(sent.reasons):,} more.")
    return sent


def uploads(source: IO[bytes], written: UploadFormat) -> Iterator[tuple[bytes, int]]:
    """Cut a file into uploads at row borders: body and rows of each."""
    if written is UploadFormat.JSON:
        yield from _lists(source.read())
        return
    header = source.readline() if written is UploadFormat.CSV else b""
    lines: list[bytes] = []
    size, quotes, rows = len(header), 0, 0
    for line in source:
        lines.append(line)
        size += len(line)
        if written is UploadFormat.CSV:
            quotes += line.count(b'"')
        # Within quotes a CSV row goes on over the line's end.
        if quotes % 2:
            continue
        rows += 1 if line.strip() else 0
        if size >= UPLOAD_BYTES:
            yield header + b"".join(lines), rows
            lines, size, rows = [], len(header), 0
    if lines or header:
        yield header + b"".join(lines), rows


def _lists(body: bytes) -> Iterator[tuple[bytes, int]]:
    rows: Any = None
    if len(body) > UPLOAD_BYTES:
        # What is no JSON goes as it is: the collector says what is wrong with it.
        with suppress(orjson.JSONDecodeError):
            rows = orjson.loads(body.removeprefix(BOM_UTF8))
    if not isinstance(rows, list):
        yield body, 0
        return
    some = max(1, len(rows) * UPLOAD_BYTES // len(body))
    for at in range(0, len(rows), some):
        part = rows[at : at + some]
        yield orjson.dumps(part), len(part)


def _answered(
    client: LabelClient, body: bytes, written: str, model: str | None, key: str
) -> dict[str, Any]:
    rng, trouble = random.Random(key), "no answer"
    for attempt in range(ATTEMPTS):
        pause = FIRST_PAUSE * 2**attempt * rng.uniform(0.5, 1.0)
        try:
            reply = client.send_labels(body, written, model, key)
        except UnavailableError as error:
            trouble = str(error)
        else:
            if reply.status in (200, 422):
                return dict(reply.value)
            if reply.status not in (408, 429, 500, 502, 503, 504):
                raise _refused(reply)
            trouble = reply.error
            pause = max(pause, reply.retry_after or 0.0)
        time.sleep(pause)
    raise UnavailableError(f"The collector must take labels. After {ATTEMPTS} attempts: {trouble}")


def _refused(reply: Reply) -> HeliotropeError:
    if reply.status == 404:
        return NotFoundError(reply.error)
    return UsageError(f"The collector must take the labels. HTTP {reply.status}: {reply.error}")
