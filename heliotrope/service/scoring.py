"""Scoring a file of rows with a model folder, by the predictor's own checks and encoding."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from heliotrope.domain.encoding import encode_rows
from heliotrope.domain.serving import ServingContract
from heliotrope.errors import UsageError
from heliotrope.ports import FloatVector, Scorer
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Task

_TRUE, _FALSE = {"true", "1", "t", "yes"}, {"false", "0", "f", "no"}


@dataclass(frozen=True)
class Answers:
    """What the model says of each row."""

    keys: tuple[str | None, ...]
    """Entity keys, where the rows have them."""
    predictions: tuple[str | float, ...]
    """Class names, or numbers for regression."""
    scores: FloatVector
    """[rows], or [rows, classes] for multiclass."""
    classes: tuple[str, ...]


def read_rows(lines: TextIO, source: str, contract: ServingContract) -> list[dict[str, Any]]:
    """Rows of a CSV with a header, or of NDJSON, by what the first line looks like.

    Raises:
        UsageError: there is no row, or a line is neither.
    """
    first = lines.readline()
    if not first.strip():
        raise UsageError(f"{source} must hold a header or a JSON row in its first line. Got none.")
    rest = _chain(first, lines)
    if first.lstrip().startswith("{"):
        rows = [
            _json_row(source, number, line) for number, line in enumerate(rest, 1) if line.strip()
        ]
    else:
        rows = list(_csv_rows(source, rest, contract))
    if not rows:
        raise UsageError(f"{source} must hold at least one row. Got only a header.")
    return rows


def _chain(first: str, rest: TextIO) -> Iterable[str]:
    yield first
    yield from rest


def _json_row(source: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{source} line {number} must be JSON. {error.msg}.") from error
    if not isinstance(row, dict):
        raise UsageError(f"{source} line {number} must be a JSON object. Got {type(row).__name__}.")
    return row


def _csv_rows(
    source: str, lines: Iterable[str], contract: ServingContract
) -> Iterable[dict[str, Any]]:
    reader = csv.DictReader(lines, strict=True)
    features = {feature.name: feature for feature in contract.features}
    missing = [name for name in features if name not in (reader.fieldnames or ())]
    if any(not features[name].nullable for name in missing):
        raise UsageError(
            f"{source} must have a column for each feature. Missing: {', '.join(missing)}. "
            f"Got {', '.join(reader.fieldnames or ())}."
        )
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(
                    f"{source} line {reader.line_num} must have "
                    f"{len(reader.fieldnames or ())} fields, as the header."
                )
            yield {
                name: _from_text(features[name], text) if name in features else text
                for name, text in row.items()
            }
    except csv.Error as error:
        raise UsageError(f"{source} line {reader.line_num} must be CSV. {error}.") from error


def _from_text(feature: Feature, text: str) -> Any:
    # Text that is no value of its type is handed on as it is: the encoder names row and bound.
    if text == "":
        return None
    if feature.type is FeatureType.BOOLEAN:
        lowered = text.lower()
        return True if lowered in _TRUE else False if lowered in _FALSE else text
    if feature.type.numeric:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def score_rows(contract: ServingContract, scorer: Scorer, rows: list[dict[str, Any]]) -> Answers:
    """Score rows; columns that are no feature are left out.

    Raises:
        UsageError: a row that the predictor would refuse, naming it.
    """
    names = {feature.name for feature in contract.features}
    matrix = encode_rows(contract, [{k: v for k, v in row.items() if k in names} for row in rows])
    scores = scorer.score(matrix)
    key = contract.entity_key
    return Answers(
        keys=tuple(None if key is None else _text(row.get(key)) for row in rows),
        predictions=tuple(_predictions(contract, scores)),
        scores=scores,
        classes=contract.classes,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _predictions(contract: ServingContract, scores: FloatVector) -> list[str | float]:
    if contract.task is Task.REGRESSION:
        return [float(score) for score in scores]
    if contract.task is Task.BINARY:
        # In float64, as the predictor compares: a borderline row is called the same by both.
        limit = 0.5 if contract.threshold is None else contract.threshold
        positions = (scores >= limit).astype(int)
    else:
        positions = np.argmax(scores, axis=1)
    return [contract.classes[position] for position in positions]


def write_answers(out: TextIO, answers: Answers, *, as_json: bool) -> None:
    """Print answers: CSV with a header, or one JSON object a line."""
    rows = [_answer(answers, index) for index in range(len(answers.predictions))]
    if as_json:
        for row in rows:
            out.write(json.dumps(row) + "\n")
        return
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _answer(answers: Answers, index: int) -> Mapping[str, Any]:
    row: dict[str, Any] = {}
    if any(key is not None for key in answers.keys):
        row["key"] = answers.keys[index]
    row["prediction"] = answers.predictions[index]
    score = answers.scores[index]
    if answers.scores.ndim == 1:
        return row | {"score": float(score)}
    return row | {
        f"score_{name}": float(value) for name, value in zip(answers.classes, score, strict=True)
    }
