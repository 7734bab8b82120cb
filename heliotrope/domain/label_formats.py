"""An upload's bytes to rows: JSON (one object or a list), NDJSON, CSV."""

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import orjson

from heliotrope.domain.labels import FIELDS, LabelRefused

Rows = Iterator[Mapping[str, Any] | LabelRefused]


class UploadFormat(StrEnum):
    """How an upload is written."""

    JSON = "application/json"
    """One object, or a list of them."""
    NDJSON = "application/x-ndjson"
    """One object a line."""
    CSV = "text/csv"
    """A header line and rows."""


class UploadError(ValueError):
    """The whole upload cannot be read; the message says what it must be."""


def parse_upload(body: bytes, written: UploadFormat) -> Rows:
    """The rows of an upload, in order; a row that cannot be read is its refusal.

    A byte order mark, which Windows' programs put before UTF-8 text, is no part of it.

    Raises:
        UploadError: nothing of it can be read.
    """
    body = body.removeprefix(BOM_UTF8)
    if written is UploadFormat.JSON:
        return iter(_json(body))
    return _ndjson(body) if written is UploadFormat.NDJSON else _csv(body)


def _json(body: bytes) -> list[Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UploadError(f"the body must be JSON. {error}.") from error
    if isinstance(parsed, dict):
        return [parsed]
    if not isinstance(parsed, list):
        raise UploadError("the body must be an object or a list of objects.")
    return parsed


def _ndjson(body: bytes) -> Rows:
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            yield LabelRefused("malformed", "a line must be one JSON object.")


def _csv(body: bytes) -> Rows:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise UploadError(f"the body must be UTF-8 text. Byte {error.start} is not.") from error
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(lines, None)
    except csv.Error as error:
        raise UploadError(f"the body must be CSV with a header line. {error}.") from error
    unknown = [name for name in names or [] if name not in FIELDS]
    if not names or unknown or len(set(names)) != len(names) or "label" not in names:
        got = "nothing" if not names else ", ".join(names)[:200]
        raise UploadError(
            "the CSV header must name label, prediction_id or entity_key, and may name "
            f"happened_at and model, each once. Got {got}."
        )
    return _csv_rows(lines, names)


def _csv_rows(lines: Iterator[list[str]], names: list[str]) -> Rows:
    while True:
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield LabelRefused("malformed", f"a line must be CSV: {error}.")
            continue
        if not cells:
            continue
        if len(cells) != len(names):
            yield LabelRefused(
                "malformed", f"a line must have {len(names)} cells. Got {len(cells)}."
            )
            continue
        yield dict(zip(names, cells, strict=True))
