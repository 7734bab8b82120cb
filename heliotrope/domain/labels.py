"""Which label rows are taken, and how a label is written down: pure.

A label names its prediction, or its entity, and the truth. What is refused is refused by the row,
with a reason its sender can act on; the other rows of an upload are taken.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from heliotrope.domain.spool_format import SegmentHeader
from heliotrope.spec import ModelSpec
from heliotrope.spec.base import show
from heliotrope.vocabulary import Task

FIELDS = ("prediction_id", "entity_key", "label", "happened_at", "model")
LONGEST_KEY = 512
REFUSALS_SHOWN = 1000
"""Reasons an answer holds; the others are only counted."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Later ones no reader that counts nanoseconds can follow.
_LAST = datetime(2262, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TRUTHS = {"true": "true", "false": "false", "1": "true", "0": "false"}


class LabelRefused(ValueError):
    """One row is not taken; `kind` is its reason as a metric's label has it."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class LabelContract:
    """What a model's labels look like."""

    model: str
    task: Task
    classes: tuple[str, ...] = ()
    """In score order; binary: negative, positive."""
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_spec(cls, spec: ModelSpec) -> "LabelContract":
        """What the spec says."""
        return cls(spec.name, spec.task, tuple(spec.classes), spec.label.min, spec.label.max)

    @classmethod
    def of_header(cls, header: SegmentHeader) -> "LabelContract":
        """What a predictor's spool says; it knows no bounds."""
        return cls(header.model, header.task, header.classes)

    def canonical(self, value: object) -> str:
        """The label as it is stored: the class's name, or the number as text.

        A binary class that is true or false may be given as JSON's, as text or as 1 and 0. Where
        the spec names only a positive class of text, every other text is the negative class.

        Raises:
            LabelRefused: it is no label of this model.

        >>> LabelContract("m", Task.BINARY, ("false", "true")).canonical(1)
        'true'
        >>> LabelContract("m", Task.BINARY, ("not late", "late")).canonical("on time")
        'not late'
        >>> LabelContract("m", Task.REGRESSION).canonical("3.50")
        '3.5'
        """
        if value is None or value == "":
            raise LabelRefused("label_missing", "label must be given.")
        if self.task is Task.REGRESSION:
            return self._number(value)
        text = _text(value)
        if text in self.classes:
            return text
        if self.task is Task.BINARY:
            return self._binary(text, value)
        raise self._unknown(value)

    def _binary(self, text: str, value: object) -> str:
        negative, positive = self.classes
        truth = _TRUTHS.get(text.lower())
        if {negative, positive} == {"true", "false"} and truth:
            return truth
        if {negative, positive} == {"0", "1"} and truth:
            return "1" if truth == "true" else "0"
        if negative != f"not {positive}":
            raise self._unknown(value)
        if text.strip().lower() == positive.lower():
            raise LabelRefused(
                "label_unknown", f"label must be {positive!r} to the letter. Got {show(value)}."
            )
        return negative

    def _unknown(self, value: object) -> LabelRefused:
        known = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
        return LabelRefused("label_unknown", f"label must be one of {known}. Got {show(value)}.")

    def _number(self, value: object) -> str:
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise LabelRefused("label_unknown", f"label must be a number. Got {show(value)}.")
        if (self.low is not None and number < self.low) or (
            self.high is not None and number > self.high
        ):
            raise LabelRefused(
                "label_out_of_bounds",
                f"label must be between {self.low} and {self.high}. Got {number}.",
            )
        return repr(number)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise LabelRefused(
        "label_unknown", f"label must be text, a number or true/false. Got {show(value)}."
    )


@dataclass
class LabelRows:
    """Accepted rows of one model, by columns of one length."""

    prediction_ids: list[str | None] = field(default_factory=list)
    entity_keys: list[str | None] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    happened_at_us: list[int | None] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Of each row in the upload, from 0."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Judged:
    """An upload after every row was looked at."""

    accepted: dict[str, LabelRows] = field(default_factory=dict)
    """By model."""
    refusals: list[tuple[int, str]] = field(default_factory=list)
    """Position and reason of the first `REFUSALS_SHOWN`."""
    refused: Counter[str] = field(default_factory=Counter)
    """By kind of reason."""

    def refuse(self, position: int, refused: LabelRefused) -> None:
        """Note a row that is not taken."""
        self.refused[refused.kind] += 1
        if len(self.refusals) < REFUSALS_SHOWN:
            self.refusals.append((position, str(refused)))


def judge_rows(
    rows: Iterable[Mapping[str, Any] | LabelRefused],
    contract_of: Callable[[str], LabelContract | None],
    model: str | None,
) -> Judged:
    """Sort an upload's rows into accepted and refused.

    Args:
        rows: as parsed; what could not be parsed is its refusal.
        contract_of: a model's contract, None where it is not known.
        model: of all rows that do not name one themselves.
    """
    judged = Judged()
    known: dict[object, str] = {}
    for position, row in enumerate(rows):
        try:
            _judge_row(position, row, contract_of, model, known, judged)
        except LabelRefused as refused:
            judged.refuse(position, refused)
    return judged


def _judge_row(
    position: int,
    row: Mapping[str, Any] | LabelRefused,
    contract_of: Callable[[str], LabelContract | None],
    model: str | None,
    known: dict[object, str],
    judged: Judged,
) -> None:
    if isinstance(row, LabelRefused):
        raise row
    if not isinstance(row, dict):
        raise LabelRefused("malformed", f"a row must be an object. Got {show(row)}.")
    of = row.get("model") or model
    if not isinstance(of, str):
        raise LabelRefused("model_unknown", "model must be given.")
    contract = contract_of(of)
    if contract is None:
        raise LabelRefused("model_unknown", f"model must be a known one. Got {show(of)}.")
    prediction, entity = row.get("prediction_id") or None, row.get("entity_key") or None
    _check_keys(row, prediction, entity)
    value = row.get("label")
    key = (of, type(value), value) if isinstance(value, str | bool | int) else None
    label = known.get(key) if key is not None else None
    if label is None:
        label = contract.canonical(value)
        if key is not None and len(known) < 10_000:
            known[key] = label
    happened = row.get("happened_at")
    moment = None if happened is None or happened == "" else _moment(happened)
    target = judged.accepted.get(of)
    if target is None:
        target = judged.accepted[of] = LabelRows()
    target.prediction_ids.append(prediction)
    target.entity_keys.append(entity)
    target.labels.append(label)
    target.happened_at_us.append(moment)
    target.positions.append(position)


def _check_keys(row: Mapping[str, Any], prediction: object, entity: object) -> None:
    if (prediction is None) == (entity is None):
        got = "neither" if prediction is None else "both"
        raise LabelRefused(
            "key", f"exactly one of prediction_id and entity_key must be given. Got {got}."
        )
    for name, key in (("prediction_id", prediction), ("entity_key", entity)):
        if key is not None and not (isinstance(key, str) and len(key) <= LONGEST_KEY):
            raise LabelRefused(
                "key", f"{name} must be text of at most {LONGEST_KEY} characters. Got {show(key)}."
            )
    if not row.keys() <= _FIELD_SET:
        extra = sorted(str(name) for name in row.keys() - _FIELD_SET)[0]
        raise LabelRefused(
            "malformed", f"fields must be among {', '.join(FIELDS)}. Got {show(extra)}."
        )


_FIELD_SET = frozenset(FIELDS)


def _moment(value: object) -> int:
    """Microseconds since 1970 of ISO 8601 text with a zone, or of seconds since 1970."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise LabelRefused(
                    "happened_at", f"happened_at must name its time zone. Got {show(value)}."
                )
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            raise ValueError
    except LabelRefused:
        raise
    except (ValueError, OverflowError, OSError):
        raise LabelRefused(
            "happened_at",
            "happened_at must be ISO 8601 text with a zone, or a JSON number of seconds since "
            f"1970. Got {show(value)}.",
        ) from None
    if not _EPOCH <= moment < _LAST:
        raise LabelRefused(
            "happened_at",
            f"happened_at must be within {_EPOCH.year} to {_LAST.year - 1}. Got {show(value)}.",
        )
    return (moment - _EPOCH) // _MICROSECOND


@dataclass(frozen=True)
class LabelUpload:
    """Accepted rows of one request for one model."""

    rows: LabelRows
    batch_id: str
    """Of the upload; the same when it is sent again under the same idempotency key."""
    transaction: str | None = None
    """Set where the store itself is to recognise the upload when it comes again."""

    def label_ids(self) -> list[str]:
        """`<batch id>-<row>` of every row."""
        return [f"{self.batch_id}-{position}" for position in self.rows.positions]


def batch_id_of(idempotency_key: str | None, body: bytes, fresh: str) -> str:
    """An upload's id: of its idempotency key and body, or a fresh one where there is no key.

    The body is part of it, so a key that is used twice by mistake loses nothing.
    """
    if idempotency_key is None:
        return fresh
    digest = sha256(idempotency_key.encode())
    digest.update(b"\0")
    digest.update(sha256(body).digest())
    return digest.hexdigest()[:32]
