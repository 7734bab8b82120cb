"""The source and its snapshots."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.spec import Source


class SourceReader(Protocol):
    """Reads the training data a person points at."""

    def open(self, source: Source) -> AbstractContextManager[Any]:
        """The source as an Ibis table expression, read lazily and out of core.

        Raises:
            NotFoundError: nothing is there.
            DataFault: it is empty, or not in the format it claims (with line and column for CSV).
            UnavailableError: the object store does not answer or refuses the credentials.
        """
        ...

    def locate(self, source: Source, row: int) -> str:
        """Where the row at 0-based position `row` is, as a person finds it: `line 17`."""
        ...


class SnapshotStore(Protocol):
    """Keeps immutable snapshots, one Delta table a model."""

    def write(
        self, model: str, batches: Iterator[Any], schema: Any, about: SnapshotRef
    ) -> SnapshotRef:
        """Replace the table's content by Arrow record batches in one transaction.

        `about` carries what is known before writing; the answer has table, version, rows and
        content hash filled in. Identical content to the newest version writes nothing and
        answers with that version. Interrupted, it leaves no version.
        """
        ...

    def open(self, ref: SnapshotRef) -> AbstractContextManager[Any]:
        """One version as an Ibis table expression (holds `_row`); NotFoundError if vacuumed."""
        ...

    def latest(self, model: str) -> SnapshotRef | None:
        """The newest snapshot."""
        ...

    def previous(self, ref: SnapshotRef) -> SnapshotRef | None:
        """The newest snapshot before it that was not found faulty.

        What was refused is no measure: mended data would differ from it and be refused in turn.
        """
        ...

    def judge(self, ref: SnapshotRef, usable: bool) -> None:
        """Note whether a snapshot can be trained on; every one can until it is said otherwise."""
        ...
