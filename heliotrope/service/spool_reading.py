"""Reading a spool while it is written: over torn tails, damage, rotation and dropped segments."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heliotrope.domain.spool_format import (
    Kind,
    Record,
    SegmentHeader,
    decode_header,
    decode_record,
    decode_value,
    scan,
)
from heliotrope.errors import NotFoundError

SUFFIX = ".spool"


def segment_files(folder: Path) -> list[Path]:
    """The spool's segments, oldest first."""
    found = [p for p in folder.glob(f"*{SUFFIX}") if p.stem.isdigit() and len(p.stem) == 20]
    return sorted(found)


@dataclass(frozen=True)
class Entry:
    """One request with the header that says what its numbers mean."""

    header: SegmentHeader
    record: Record

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its predictions, one a row, ready for JSON.

        Scores are a number, or one a class; `predicted_at` is ISO 8601 UTC; `latency_ms` is the
        whole request's.
        """
        header, record = self.header, self.record
        at = datetime.fromtimestamp(record.predicted_at_ns / 1e9, UTC).isoformat()
        features, scores = record.features.tolist(), record.scores.tolist()
        for number in range(record.rows):
            prediction: Any = scores[number]
            if record.predictions is not None:
                prediction = header.classes[int(record.predictions[number])]
            yield {
                "prediction_id": f"{record.request_id}/{number}",
                "request_id": record.request_id,
                "row": number,
                "model": header.model,
                "version": header.version,
                "role": str(record.role_in(header)),
                "protocol": record.protocol,
                "predicted_at": at,
                "entity_key": record.entity_keys[number] if record.entity_keys else None,
                "features": {
                    feature.name: decode_value(feature, value)
                    for feature, value in zip(header.features, features[number], strict=True)
                },
                "score": scores[number],
                "prediction": prediction,
                "latency_ms": record.latency_ns / 1e6,
                "spool": header.spool,
                "sequence": record.sequence,
            }


@dataclass
class _Place:
    offset: int = 0
    header: SegmentHeader | None = None


class SpoolReader:
    """Reads each record once, in order, however often `poll` is called.

    Raises:
        NotFoundError: there is no such folder, or it holds the spools of several predictors.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        """Read from `folder` the records whose sequence number is above `after`."""
        if not folder.is_dir():
            raise NotFoundError(
                f"The spool must be a folder that a predictor writes. Got {folder}."
            )
        inner = sorted({str(one.parent) for one in folder.glob(f"*/*{SUFFIX}")})
        if inner and not any(folder.glob(f"*{SUFFIX}")):
            raise NotFoundError(
                f"The spool must be one predictor's. Got {folder}, which holds {', '.join(inner)}."
            )
        self.folder = folder
        self.after = after
        self.damaged_bytes = 0
        """Bytes passed over since no whole record could be made of them."""
        self._places: dict[Path, _Place] = {}

    def poll(self) -> Iterator[Entry]:
        """The records that were added since the last call."""
        files = segment_files(self.folder)
        for path in set(self._places).difference(files):
            del self._places[path]
        for path in files:
            yield from self._read(path, self._places.setdefault(path, _Place()))

    def _read(self, path: Path, place: _Place) -> Iterator[Entry]:
        try:
            with path.open("rb") as file:
                file.seek(place.offset)
                data = file.read()
        except FileNotFoundError:
            return
        start = place.offset
        for item in scan(data):
            place.offset = start + item.end
            entry = self._entry(item.payload, place)
            if entry is None and (item.payload is None or item.payload[0] == Kind.RECORD):
                self.damaged_bytes += item.end - item.start
            if entry is not None and entry.record.sequence > self.after:
                self.after = entry.record.sequence
                yield entry

    def _entry(self, payload: bytes | None, place: _Place) -> Entry | None:
        if payload is None:
            return None
        try:
            if payload[0] == Kind.HEADER:
                place.header = decode_header(payload)
            elif payload[0] == Kind.RECORD and place.header is not None:
                return Entry(place.header, decode_record(payload))
        except ValueError:
            return None
        return None
