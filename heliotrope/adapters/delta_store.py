"""Snapshots as versions of Delta tables, in a folder or on S3.

Rows are first written to a temporary file while their hash is computed: only then is it known
whether they differ from the newest version, and the commit can carry what the snapshot is. One
commit replaces all rows. Nothing is visible before it, and a commit that lost a race is made again
from the newest state or refused: two snapshots never mix.
"""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heliotrope.adapters import object_store
from heliotrope.adapters.duckdb_engine import EngineSettings, duckdb_engine, no_pattern
from heliotrope.adapters.scratch import scratch_folder
from heliotrope.domain.content_hash import ContentHash, blocks
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.errors import ConflictError, DataFault, HeliotropeError, NotFoundError

_ABOUT = "heliotrope.snapshot"
_WRITE = "heliotrope.write"
_JUDGED = "heliotrope.judged"
_ATTEMPTS = 5
_LISTINGS = 50
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KEPT_FOR_EVER = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
"""A model is explained and reproduced from its snapshot for as long as the model is kept."""


class DeltaSnapshotStore:
    """Keeps one Delta table a model under `<root>/snapshots/` (`ports.SnapshotStore`)."""

    def __init__(self, root: str, settings: EngineSettings | None = None) -> None:
        """Use a root that is a folder or `s3://bucket/prefix`; nothing is touched yet."""
        self._root = object_store.require_root(root)
        self._settings = settings or EngineSettings()

    def table_uri(self, model: str) -> str:
        """Where a model's snapshots are."""
        return f"{self._root.rstrip('/')}/snapshots/{model}"

    def write(
        self, model: str, batches: Iterator[Any], schema: Any, about: SnapshotRef
    ) -> SnapshotRef:
        """Replace the table's content in one transaction.

        Raises:
            ConflictError: other writers won every attempt.
            DataFault: there is no row.
            UnavailableError: the object store does not answer or refuses.
        """
        uri = self.table_uri(model)
        with (
            scratch_folder(self._settings.folder) as folder,
            object_store.object_errors(uri),
            _disk_errors(uri),
        ):
            staged = folder / "rows.arrow"
            rows, content_hash = _stage(staged, batches, schema)
            if rows == 0:
                raise DataFault(f"a snapshot of {model} must hold rows. Got none.")
            ref = about.model_copy(
                update={"model": model, "table": uri, "rows": rows, "content_hash": content_hash}
            )
            for _ in range(_ATTEMPTS):
                newest = self.latest(model)
                if newest is not None and newest.content_hash == content_hash:
                    return newest
                written = _commit(uri, staged, ref)
                if written is not None:
                    return written
        raise ConflictError(
            f"the snapshot table {uri} must not change while it is written. Other writers "
            f"committed first {_ATTEMPTS} times; repeat the command."
        )

    @contextmanager
    def open(self, ref: SnapshotRef) -> Iterator[Any]:
        """One version as an Ibis table on a private DuckDB engine.

        Raises:
            NotFoundError: the table, the version or its files are gone.
            UnavailableError: the object store does not answer or refuses.
        """
        with duckdb_engine(self._settings) as engine:
            with object_store.object_errors(ref.table):
                table = _load(ref.table, ref.version)
                files = object_store.delta_files(table, ref.table)
                if object_store.is_remote(ref.table):
                    engine.raw.register("snapshot", _remote_dataset(ref, files))
                else:
                    _require_files(ref, [f for f in files if not Path(f).exists()])
                    listed = ", ".join("'" + no_pattern(f).replace("'", "''") + "'" for f in files)
                    engine.raw.execute(
                        f"CREATE VIEW snapshot AS SELECT * FROM read_parquet([{listed}])"  # noqa: S608
                    )
            yield engine.ibis.table("snapshot")

    def latest(self, model: str) -> SnapshotRef | None:
        """The newest snapshot.

        Raises:
            UnavailableError: the object store does not answer or refuses.
        """
        uri = self.table_uri(model)
        return next((_ref_of(commit, uri) for commit in _listed(uri) if _ABOUT in commit), None)

    def previous(self, ref: SnapshotRef) -> SnapshotRef | None:
        """The newest snapshot before it that was not found faulty.

        Raises:
            UnavailableError: the object store does not answer or refuses.
        """
        judged: dict[int, bool] = {}
        for commit in _listed(ref.table):
            if _JUDGED in commit:
                verdict = json.loads(commit[_JUDGED])
                judged.setdefault(verdict["version"], verdict["usable"])
                continue
            at = commit["version"]
            if _ABOUT in commit and at < ref.version and judged.get(at, True):
                return _ref_of(commit, ref.table)
        return None

    def judge(self, ref: SnapshotRef, usable: bool) -> None:
        """Note whether a snapshot can be trained on; a commit without rows. The last word counts.

        Raises:
            UnavailableError: the object store does not answer or refuses.
        """
        commits = _listed(ref.table)
        said = [json.loads(commit[_JUDGED]) for commit in commits if _JUDGED in commit]
        known = next((one["usable"] for one in said if one["version"] == ref.version), True)
        if known == usable:
            return
        verdict = json.dumps({"version": ref.version, "usable": usable})
        with object_store.object_errors(ref.table), _disk_errors(ref.table):
            _note(ref.table, {_JUDGED: verdict})


def delta_dataset(path: str, version: int | None) -> Any:
    """Any Delta table as an Arrow dataset.

    Raises:
        NotFoundError: there is no table, or not that version.
        DataFault: the table uses a feature that cannot be read here.
    """
    from deltalake.exceptions import DeltaError

    with object_store.object_errors(path):
        table = _load(path, version)
        try:
            return table.to_pyarrow_dataset()
        except DeltaError as error:
            raise DataFault(f"source {path} must be a readable Delta table. {error}") from error


def _listed(uri: str) -> list[dict[str, Any]]:
    from deltalake.exceptions import TableNotFoundError

    with object_store.object_errors(uri):
        try:
            return _commits(uri)
        except TableNotFoundError:
            return []


def _note(uri: str, metadata: dict[str, str]) -> None:
    from deltalake import CommitProperties, DeltaTable

    table = DeltaTable(uri, storage_options=object_store.storage_options(uri))
    table.create_write_transaction(
        actions=[],
        mode="append",
        schema=table.schema(),
        commit_properties=CommitProperties(custom_metadata=metadata),
    )


def _commits(uri: str) -> list[dict[str, Any]]:
    """The table's commits, newest first, with their true versions."""
    from deltalake import DeltaTable

    options = object_store.storage_options(uri)
    table = DeltaTable(uri, storage_options=options)
    # delta-rs numbers the commits it lists down from the version it loaded, so one that came in
    # between shifts them all.
    for _ in range(_LISTINGS):
        commits: list[dict[str, Any]] = table.history()
        again = DeltaTable(uri, storage_options=options)
        if again.version() == table.version():
            return commits
        table = again
    raise ConflictError(f"{uri} must come to rest to be listed. It changed {_LISTINGS} times.")


def _load(uri: str, version: int | None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    options = object_store.storage_options(uri)
    try:
        table = DeltaTable(uri, storage_options=options)
    except TableNotFoundError as error:
        raise NotFoundError(f"{uri} must be a Delta table. There is none.") from error
    newest = table.version()
    if version is None or version == newest:
        return table
    if version > newest:
        raise NotFoundError(f"{uri} must have version {version}. Its newest is {newest}.")
    try:
        table.load_as_version(version)
    except DeltaError as error:
        raise NotFoundError(f"{uri} must have version {version}. Its log is gone.") from error
    return table


def _stage(path: Path, batches: Iterator[Any], schema: Any) -> tuple[int, str]:
    import pyarrow as pa

    digest, rows = ContentHash(_hashed(schema)), 0
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    names = _hashed(schema).names
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as out:
        for block in blocks(batches, schema):
            digest.add(block.select(names))
            out.write_batch(block)
            rows += block.num_rows
    return rows, digest.hexdigest()


def _hashed(schema: Any) -> Any:
    import pyarrow as pa

    # Positions follow from the order of the rows, which the hash covers already.
    return pa.schema([field for field in schema if not field.name.startswith("_row")])


def _commit(uri: str, staged: Path, ref: SnapshotRef) -> SnapshotRef | None:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

    options = object_store.storage_options(uri)
    try:
        target: Any = DeltaTable(uri, storage_options=options)
        version = target.version() + 1
    except TableNotFoundError:
        target, version = uri, 0
    about, token = ref.model_dump_json(), uuid.uuid4().hex
    with pa.OSFile(str(staged), "rb") as source, pa.ipc.open_file(source) as file:
        stream = (file.get_batch(i) for i in range(file.num_record_batches))
        try:
            write_deltalake(
                target,
                pa.RecordBatchReader.from_batches(file.schema, stream),
                # Overwriting would quietly follow a table that somebody made a moment ago.
                mode="overwrite" if version else "error",
                schema_mode="overwrite" if version else None,
                configuration=_KEPT_FOR_EVER if version == 0 else None,
                storage_options=options,
                writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
                commit_properties=CommitProperties(
                    custom_metadata={_ABOUT: about, _WRITE: token}, max_commit_retries=0
                ),
            )
        except CommitFailedError:
            return None
        except DeltaError as error:
            # Two first writers: the loser finds a table where it was about to create one.
            if version == 0 and "exist" in str(error).lower():
                return None
            raise
    # The writer may have followed a newer state, and a store that ignores conditional writes lets
    # the later of two commits replace the earlier: only the log knows which version this became.
    mine = [commit for commit in _commits(uri) if commit.get(_WRITE) == token]
    return _ref_of(mine[0], uri) if mine else None


def _ref_of(commit: dict[str, Any], uri: str) -> SnapshotRef:
    ref = SnapshotRef.from_json(commit[_ABOUT])
    return ref.model_copy(update={"version": commit["version"], "table": uri})


def _remote_dataset(ref: SnapshotRef, files: list[str]) -> Any:
    import pyarrow.dataset as ds

    try:
        return ds.dataset(
            [object_store.key_of(file) for file in files],
            filesystem=object_store.filesystem(),
            format="parquet",
        )
    except FileNotFoundError:
        _require_files(ref, files)
        raise


def _require_files(ref: SnapshotRef, gone: list[str]) -> None:
    if gone:
        raise NotFoundError(
            f"snapshot {ref.model} v{ref.version} must still have its files in {ref.table}. "
            f"{len(gone)} of them are gone (vacuumed?), such as {Path(gone[0]).name}."
        )


@contextmanager
def _disk_errors(uri: str) -> Iterator[None]:
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (OSError, DeltaError) as error:
        number = getattr(error, "errno", None)
        if number in _NO_ROOM or "No space left" in str(error) or "too large" in str(error):
            raise HeliotropeError(
                f"writing {uri} must have room, on its own disk and on the one that holds "
                f"temporary files (TMPDIR). Got: {_reason(error)}. No version was written."
            ) from error
        raise


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error).splitlines()[-1].strip(" ↳")
