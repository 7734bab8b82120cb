"""What a training run is trained on: one immutable version of a Delta table."""

from datetime import datetime

from heliotrope.domain.document import Document


class SnapshotRef(Document):
    """Where a snapshot is and what it holds. The table version never changes once written."""

    model: str
    """The spec's name; one snapshot table a model."""
    table: str
    """URI of the Delta table: a folder or s3://."""
    version: int
    """Delta version that *is* the snapshot."""
    content_hash: str
    """sha256 over schema and rows in their stored order: the same rows give the same hash,
    whatever the table's version or file layout."""
    rows: int
    """Mature rows, all of them in the snapshot."""
    immature_rows: int = 0
    """Rows of the source left out since their label was not final when it was read."""
    unlabelled_rows: int = 0
    """Mature rows of the source left out since they have no label."""
    taken_at: datetime
    """When it was read (UTC); maturity was judged at this time."""
    event_from: datetime | None = None
    """Oldest event time (UTC)."""
    event_to: datetime | None = None
    """Newest event time (UTC)."""
    source: str
    """The source's path as the spec gave it, credentials never in it."""
    columns: tuple[str, ...]
    """Columns kept: features, label, entity key, event time."""
