"""The event tables of all models in Delta (`ports.EventStore`)."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heliotrope.adapters import object_store
from heliotrope.adapters.delta_tables import EventTable, TablePolicy, open_table, store_errors
from heliotrope.adapters.event_arrow import (
    LABELS,
    LOSSES,
    PREDICTIONS,
    concatenated,
    fitted,
    labels_table,
    losses_table,
    predictions_table,
)
from heliotrope.domain.labels import LabelContract, LabelUpload
from heliotrope.domain.spool_batch import Loss, SpoolBatch
from heliotrope.domain.spool_format import SegmentHeader
from heliotrope.vocabulary import Task

KINDS = ("predictions", "labels", "losses")
_CONTRACT = "heliotrope.contract"
_MODEL = re.compile(r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$")
_STATS = {
    "predictions": ("predicted_at", "received_at", "version"),
    "labels": ("received_at", "happened_at"),
    "losses": ("noted_at",),
}


class DeltaEventStore:
    """`predictions/`, `labels/` and `losses/` under a root that is a folder or s3://bucket/prefix.

    Each table is for one thread at a time; different tables may be written at once.
    """

    def __init__(self, root: str, policy: TablePolicy | None = None) -> None:
        """Nothing is touched yet."""
        self._root = object_store.require_root(root).rstrip("/")
        self.policy = policy or TablePolicy()
        self._tables: dict[tuple[str, str], EventTable] = {}

    def table_uri(self, kind: str, model: str) -> str:
        """Where a table is."""
        if not valid_model(model):
            raise ValueError(
                f"a model's name must be lower-case letters, digits and dashes: {model!r}"
            )
        return f"{self._root}/{kind}/{model}"

    def models(self) -> list[str]:
        """Models that have a predictions or a labels table.

        Raises:
            UnavailableError: the store does not answer.
        """
        found: set[str] = set()
        for kind in ("predictions", "labels"):
            with store_errors(self._root):
                found.update(_children(f"{self._root}/{kind}"))
        return sorted(name for name in found if valid_model(name))

    def contract(self, model: str) -> LabelContract | None:
        """What the model's predictors said of its labels; None where none has shipped yet."""
        if not valid_model(model):
            return None
        with store_errors(self._root):
            table = open_table(self.table_uri("predictions", model))
        if table is None:
            return None
        text = table.metadata().configuration.get(_CONTRACT)
        if not text:
            return None
        said = json.loads(text)
        return LabelContract(model, Task(said["task"]), tuple(said["classes"]))

    def spool_positions(
        self, model: str, spools: Sequence[SegmentHeader], fresh: bool
    ) -> dict[str, int]:
        """The highest sequence number held of each spool, 0 for none.

        Args:
            model: whose table; it is created as the first header says.
            spools: one header of each.
            fresh: look at what others wrote; otherwise it may be behind, which `append_predictions`
                then notices.
        """
        table = self._predictions(model, spools[0])
        if fresh:
            table.refresh()
        return {h.spool: table.position(_spool(h.spool)) or 0 for h in spools}

    def append_predictions(
        self,
        model: str,
        batches: Sequence[SpoolBatch],
        positions: Mapping[str, int],
        received_at_us: int,
    ) -> bool:
        """Append all rows of the batches and move their spools, in one commit.

        Answers False, with nothing written, when a spool moved since its position was read.

        Raises:
            UnavailableError: the store does not take it; whether it did is not known.
        """
        table = self._predictions(model, batches[0].header)
        columns = table.columns()
        parts = []
        for batch in batches:
            part = predictions_table(batch, received_at_us, columns)
            columns |= {f.name: f.type for f in part.schema if f.name not in columns}
            parts.append(part)
        rows = _fitted(concatenated(parts), table)
        return table.append(rows, {_spool(s): at for s, at in positions.items()})

    def append_losses(self, model: str, losses: Sequence[Loss], noted_at_us: int) -> bool:
        """Note gaps that were not noted before; False when somebody else just noted some."""
        table = self._plain("losses", model, LOSSES)
        fresh = [
            loss
            for loss in losses
            if loss.last_sequence > (table.position(_spool(loss.spool_id)) or 0)
        ]
        if not fresh:
            return True
        highest: dict[str, int] = {}
        for loss in fresh:
            name = _spool(loss.spool_id)
            highest[name] = max(highest.get(name, 0), loss.last_sequence)
        return table.append(_fitted(losses_table(fresh, noted_at_us), table), highest)

    def upload_known(self, model: str, transaction: str) -> bool:
        """Whether an upload with this transaction was written before, as far as has been read."""
        return self._plain("labels", model, LABELS).position(_upload(transaction)) is not None

    def append_labels(
        self, model: str, uploads: Sequence[LabelUpload], received_at_us: Sequence[int]
    ) -> bool:
        """Append the rows of uploads in one commit.

        Answers False, with nothing written, when another collector wrote one of them.

        Raises:
            UnavailableError: the store does not take it; whether it did is not known.
        """
        table = self._plain("labels", model, LABELS)
        rows = labels_table(uploads, received_at_us)
        moved = {_upload(u.transaction): 1 for u in uploads if u.transaction is not None}
        return table.append(_fitted(rows, table), moved)

    def refresh_labels(self, model: str) -> None:
        """Look at what others wrote."""
        self._plain("labels", model, LABELS).refresh()

    def _predictions(self, model: str, header: SegmentHeader) -> EventTable:
        key = ("predictions", model)
        if key not in self._tables:
            said = json.dumps({"task": str(header.task), "classes": list(header.classes)})
            self._tables[key] = self._made("predictions", model, PREDICTIONS, {_CONTRACT: said})
        return self._tables[key]

    def _plain(self, kind: str, model: str, schema: Any) -> EventTable:
        key = (kind, model)
        if key not in self._tables:
            self._tables[key] = self._made(kind, model, schema, {})
        return self._tables[key]

    def _made(
        self, kind: str, model: str, schema: Any, properties: Mapping[str, str]
    ) -> EventTable:
        uri = self.table_uri(kind, model)
        return EventTable(uri, schema, _STATS[kind], self.policy, properties)


def valid_model(name: str) -> bool:
    """Whether a name can be a model's, and so a folder's."""
    return _MODEL.match(name) is not None


def _fitted(rows: Any, table: EventTable) -> Any:
    """Rows in the table's columns, and any new ones behind."""
    import pyarrow as pa

    schema = table.arrow_schema()
    new = [f for f in rows.schema if f.name not in schema.names]
    return fitted(rows, pa.schema([*schema, *new]) if new else schema)


def _spool(spool: str) -> str:
    return f"spool:{spool}"


def _upload(transaction: str) -> str:
    return f"upload:{transaction}"


def _children(folder: str) -> list[str]:
    if not object_store.is_remote(folder):
        path = Path(folder)
        return [p.name for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
    from pyarrow import fs

    selector = fs.FileSelector(object_store.key_of(folder), allow_not_found=True)
    return [info.base_name for info in object_store.filesystem().get_file_info(selector)]
