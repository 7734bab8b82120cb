"""What a Delta table gained since a version: its log's `add` actions, read in order.

The log is read commit by commit, so the cost is that of what is new. Files that compaction wrote
(`dataChange` false) hold no new row and are left out. Where a commit can no longer be read, because
the log was cleaned up or a file vacuumed, the newest version's files are given whole: readers know
the rows they have, so this costs time and nothing else.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from heliotrope.adapters import object_store
from heliotrope.domain.truth.feed import FeedStep

_LOG = "_delta_log"


class DeltaFeed:
    """The commits of one model's event tables under a store's root."""

    def __init__(self, store: str, model: str) -> None:
        self._store, self._model = store.rstrip("/"), model

    def _root(self, table: str) -> str:
        return f"{self._store}/{table}/{self._model}"

    def steps(self, table: str, after: int | None) -> Iterator[FeedStep]:
        """The commits after a version, oldest first; nothing when there is no table yet.

        Args:
            table: `predictions` or `labels`.
            after: the version last read; None reads from the beginning.

        Raises:
            UnavailableError: the object store does not answer.
        """
        root = self._root(table)
        with object_store.object_errors(root):
            files = _Files(root)
            version = 0 if after is None else after + 1
            while (commit := files.commit(version)) is not None:
                added = [action["add"] for action in commit if "add" in action]
                fresh = [add for add in added if add.get("dataChange", True)]
                paths = [f"{root}/{unquote(add['path'])}" for add in fresh]
                if not all(files.exists(path) for path in paths):
                    yield self._whole(root)
                    return
                rows = sum(_rows(add) for add in fresh)
                yield FeedStep(version=version, files=tuple(paths), rows=rows)
                version += 1
            newest = self._newest(root, version, files)
            if newest is not None:
                yield newest

    def files(self, table: str) -> tuple[str, ...]:
        """Every file of the newest version; none when there is no table yet."""
        root = self._root(table)
        with object_store.object_errors(root):
            if not _Files(root).exists(f"{root}/{_LOG}"):
                return ()
            return self._whole(root).files

    def _newest(self, root: str, version: int, files: "_Files") -> FeedStep | None:
        # No commit of this number: either nothing is newer, or the log before a checkpoint is gone.
        checkpoint = files.text(f"{root}/{_LOG}/_last_checkpoint")
        if checkpoint is None or int(json.loads(checkpoint)["version"]) < version:
            return None
        return self._whole(root)

    def _whole(self, root: str) -> FeedStep:
        from deltalake import DeltaTable

        table = DeltaTable(root, storage_options=object_store.storage_options(root))
        paths = object_store.delta_files(table, root)
        return FeedStep(version=table.version(), files=tuple(paths), rows=table.count())


class _Files:
    """The few things asked of a folder or a bucket."""

    def __init__(self, root: str) -> None:
        self._remote: Any = object_store.filesystem() if object_store.is_remote(root) else None
        self._root = root

    def commit(self, version: int) -> list[dict[str, Any]] | None:
        text = self.text(f"{self._root}/{_LOG}/{version:020d}.json")
        if text is None:
            return None
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    def text(self, path: str) -> str | None:
        try:
            if self._remote is None:
                return Path(path).read_text(encoding="utf-8")
            with self._remote.open_input_stream(object_store.key_of(path)) as stream:
                return str(stream.read().decode())
        except FileNotFoundError:
            return None

    def exists(self, path: str) -> bool:
        if self._remote is None:
            return Path(path).exists()
        from pyarrow.fs import FileType

        info = self._remote.get_file_info(object_store.key_of(path))
        return bool(info.type != FileType.NotFound)


def _rows(add: dict[str, Any]) -> int:
    stats = add.get("stats")
    return int(json.loads(stats).get("numRecords", 0)) if stats else 0
