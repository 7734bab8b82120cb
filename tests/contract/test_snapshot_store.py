"""What every snapshot store must do, in a folder and on an S3 server."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from heliotrope.adapters.delta_store import DeltaSnapshotStore
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.errors import ConflictError, DataFault, HeliotropeError, NotFoundError, UsageError

SCHEMA = pa.schema([("_row", pa.int64()), ("x", pa.float32()), ("name", pa.string())])
TAKEN = datetime(2024, 5, 1, tzinfo=UTC)


def about(**changes: object) -> SnapshotRef:
    """What is known of a snapshot before it is written."""
    known = {
        "model": "toy", "table": "", "version": 0, "content_hash": "", "rows": 0,
        "immature_rows": 3, "taken_at": TAKEN, "source": "loans.csv", "columns": ("x", "name"),
    }  # fmt: skip
    return SnapshotRef.model_validate(known | changes)


def batches(values: list[float | None], size: int = 1000) -> Iterator[pa.RecordBatch]:
    """Rows in batches of `size`."""
    for start in range(0, len(values), size):
        part = values[start : start + size]
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(range(start, start + len(part)), pa.int64()),
                pa.array(part, pa.float32()),
                pa.array([None if v is None else f"n{v}" for v in part], pa.string()),
            ],
            schema=SCHEMA,
        )


def read(store: DeltaSnapshotStore, ref: SnapshotRef) -> list[float | None]:
    """The values of one version in stored order."""
    with store.open(ref) as table:
        return [row["x"] for row in table.order_by("_row").to_pyarrow().to_pylist()]


def test_an_empty_store_has_no_latest(root: str) -> None:
    assert DeltaSnapshotStore(root).latest("toy") is None


def test_what_is_written_is_read_back_with_its_facts(root: str) -> None:
    store = DeltaSnapshotStore(root)
    ref = store.write("toy", batches([1.0, None, 3.0]), SCHEMA, about())
    assert read(store, ref) == [1.0, None, 3.0]
    assert (ref.version, ref.rows, ref.immature_rows, ref.taken_at) == (0, 3, 3, TAKEN)
    assert DeltaSnapshotStore(root).latest("toy") == ref


def test_a_new_version_leaves_the_old_one_as_it_was(root: str) -> None:
    store = DeltaSnapshotStore(root)
    first = store.write("toy", batches([1.0, 2.0]), SCHEMA, about())
    second = store.write("toy", batches([9.0]), SCHEMA, about())
    assert (read(store, first), read(store, second)) == ([1.0, 2.0], [9.0])
    assert store.latest("toy") == second
    assert store.previous(second) == first
    assert store.previous(first) is None


def test_a_faulty_snapshot_is_no_measure_for_the_next(root: str) -> None:
    store = DeltaSnapshotStore(root)
    first = store.write("toy", batches([1.0, 2.0]), SCHEMA, about())
    faulty = store.write("toy", batches([1000.0, 2000.0]), SCHEMA, about())
    store.judge(faulty, usable=False)
    store.judge(faulty, usable=False)
    assert store.latest("toy") == faulty
    mended = store.write("toy", batches([1.0, 3.0]), SCHEMA, about())
    assert store.previous(mended) == first
    assert store.previous(faulty) == first
    assert (read(store, faulty), read(store, mended)) == ([1000.0, 2000.0], [1.0, 3.0])


def test_the_last_word_on_a_snapshot_counts(root: str) -> None:
    store = DeltaSnapshotStore(root)
    first = store.write("toy", batches([1.0]), SCHEMA, about())
    second = store.write("toy", batches([2.0]), SCHEMA, about())
    store.judge(first, usable=False)
    assert store.previous(second) is None
    store.judge(first, usable=True)
    assert store.previous(second) == first


def test_the_same_content_writes_nothing_whatever_its_batches(root: str) -> None:
    store = DeltaSnapshotStore(root)
    values: list[float | None] = [float(i) for i in range(70_000)]
    first = store.write("toy", batches(values, 7_001), SCHEMA, about())
    again = store.write("toy", batches(values, 500), SCHEMA, about(taken_at=datetime.now(UTC)))
    assert again == first
    assert store.latest("toy") == first


def test_models_do_not_share_a_table(root: str) -> None:
    store = DeltaSnapshotStore(root)
    store.write("toy", batches([1.0]), SCHEMA, about())
    assert store.latest("other") is None


def test_a_failure_in_the_middle_leaves_no_version(root: str) -> None:
    store = DeltaSnapshotStore(root)
    first = store.write("toy", batches([1.0]), SCHEMA, about())

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches([5.0] * 200_000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("toy", broken(), SCHEMA, about())
    assert store.latest("toy") == first
    assert read(store, first) == [1.0]


def test_a_snapshot_without_rows_is_refused(root: str) -> None:
    with pytest.raises(DataFault, match="must hold rows"):
        DeltaSnapshotStore(root).write("toy", iter(()), SCHEMA, about())


@pytest.mark.parametrize("version", [7, 10**6])
def test_a_version_that_is_not_there_is_named(root: str, version: int) -> None:
    store = DeltaSnapshotStore(root)
    ref = store.write("toy", batches([1.0]), SCHEMA, about())
    with (
        pytest.raises(NotFoundError, match=f"version {version}"),
        store.open(ref.model_copy(update={"version": version})),
    ):
        pass


def test_writers_at_the_same_time_never_mix_their_rows(root: str) -> None:
    def write(number: int) -> SnapshotRef | ConflictError:
        try:
            rows = batches([float(number)] * (1000 + number))
            return DeltaSnapshotStore(root).write("toy", rows, SCHEMA, about())
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(write, range(1, 9)))
    written = [answer for answer in answers if isinstance(answer, SnapshotRef)]
    assert written
    assert sorted(ref.version for ref in written) == list(range(len(written)))
    for ref in written:
        values = read(DeltaSnapshotStore(root), ref)
        assert len(values) == ref.rows
        assert len(set(values)) == 1


def test_files_that_were_vacuumed_are_missed_by_name(tmp_path: Path) -> None:
    store = DeltaSnapshotStore(str(tmp_path))
    ref = store.write("toy", batches([1.0]), SCHEMA, about())
    for file in Path(ref.table).glob("*.parquet"):
        file.unlink()
    with pytest.raises(NotFoundError, match="vacuumed"), store.open(ref):
        pass


def test_a_killed_writer_leaves_no_version(tmp_path: Path) -> None:
    store = DeltaSnapshotStore(str(tmp_path))
    first = store.write("toy", batches([1.0]), SCHEMA, about())
    script = f"""
import os, signal, pyarrow as pa
from heliotrope.adapters.delta_store import DeltaSnapshotStore
from heliotrope.domain.snapshot import SnapshotRef
schema = pa.schema([("_row", pa.int64()), ("x", pa.float32()), ("name", pa.string())])
def rows():
    for start in range(0, 400_000, 65_536):
        yield pa.RecordBatch.from_arrays(
            [pa.array(range(start, start + 65_536)), pa.array([2.0] * 65_536, pa.float32()),
             pa.array(["n"] * 65_536)], schema=schema)
    os.kill(os.getpid(), signal.SIGKILL)
about = SnapshotRef.from_json({first.model_dump_json()!r})
DeltaSnapshotStore({str(tmp_path)!r}).write("toy", rows(), schema, about)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, env=dict(os.environ))
    assert ended.returncode == -9
    assert store.latest("toy") == first


def test_no_room_for_the_rows_is_said_plainly(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = DeltaSnapshotStore(str(tmp_path))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        values: list[float | None] = [float(i) for i in range(300_000)]
        with pytest.raises(HeliotropeError, match="must have room"):
            store.write("toy", batches(values), SCHEMA, about())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert store.latest("toy") is None


@pytest.mark.parametrize("name", ["a[1]", "a|b", "a^b", "a%20b", "a#b", "a?b", "a*"])
def test_a_folder_that_tables_cannot_be_kept_in_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="the store's folder must have none of"):
        DeltaSnapshotStore(str(tmp_path / name / "store"))
    assert list(tmp_path.iterdir()) == []
