"""The spool on a disk that is full, gone, locked or left behind by a killed process."""

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from heliotrope.domain.serving import ServingContract
from heliotrope.domain.spool_format import decode_header, decode_record, scan
from heliotrope.errors import ConflictError, NotFoundError, UsageError
from heliotrope.service.shipping import STATE_FILE, Answered, ShipOptions, ShipState, SpoolShipper
from heliotrope.service.spool_reading import SpoolReader, segment_files
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task
from predictors.segments import ID_FILE
from predictors.spool import Spool, SpoolOptions
from predictors.waiting import MOST_MARKS, WaitingMarks

CONTRACT = ServingContract(
    model="loans",
    task=Task.BINARY,
    features=(
        Feature(name="age", type=FeatureType.INTEGER, nullable=True),
        Feature(name="grade", type=FeatureType.CATEGORY, categories=("A", "B")),
        Feature(name="home", type=FeatureType.BOOLEAN),
    ),
    classes=("no", "yes"),
    threshold=0.5,
    entity_key="loan",
)


def open_spool(folder: Path, max_bytes: int = 1 << 20, version: str = "3") -> Spool:
    options = SpoolOptions(folder, max_bytes, sync_seconds=0.02, sync_bytes=1 << 20)
    return Spool(options, CONTRACT, version, Role.CANARY)


def write(spool: Spool, name: str, rows: int = 1, keys: list[str | None] | None = None) -> None:
    features = np.tile(np.array([[41, 1, 0]], dtype=np.float32), (rows, 1))
    scores = np.full(rows, 0.75, dtype=np.float32)
    chosen = np.ones(rows, dtype=np.uint16)
    spool.append(name, "v2", features, scores, chosen, keys, 1_700_000_000_000_000_000, 1_500_000)


def ids(folder: Path, after: int = 0) -> list[str]:
    return [entry.record.request_id for entry in SpoolReader(folder, after).poll()]


def wait_for(check: Callable[[], bool]) -> None:
    """Wait, within bounds, until the syncing thread made `check()` true."""
    pause = threading.Event()
    for _ in range(500):
        if check():
            return
        pause.wait(0.01)
    raise AssertionError("the syncing thread did not get there")


def test_a_row_reads_back_in_words(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(
        "r-1",
        "v1",
        np.array([[np.nan, 1, 1]], dtype=np.float32),
        np.array([0.25], dtype=np.float32),
        np.zeros(1, dtype=np.uint16),
        ["L-9"],
        1_700_000_000_000_000_000,
        1_500_000,
    )
    spool.close()
    (entry,) = SpoolReader(tmp_path).poll()
    (row,) = entry.rows()
    assert row == {
        "prediction_id": "r-1/0",
        "request_id": "r-1",
        "row": 0,
        "model": "loans",
        "version": "3",
        "role": "canary",
        "protocol": "v1",
        "predicted_at": "2023-11-14T22:13:20+00:00",
        "entity_key": "L-9",
        "features": {"age": None, "grade": "B", "home": True},
        "score": 0.25,
        "prediction": "no",
        "latency_ms": 1.5,
        "spool": (tmp_path / ID_FILE).read_text().strip(),
        "sequence": 1,
    }


def test_records_are_readable_while_the_spool_is_open_and_across_rotation(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=100_000)
    reader = SpoolReader(tmp_path)
    seen: list[str] = []
    for number in range(300):
        write(spool, f"r{number}")
        if number % 7 == 0:
            seen += [entry.record.request_id for entry in reader.poll()]
    seen += [entry.record.request_id for entry in reader.poll()]
    assert len(segment_files(tmp_path)) > 1
    assert seen == [f"r{number}" for number in range(300)]
    spool.close()


def test_over_the_budget_the_oldest_rows_go_and_every_one_is_counted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=60_000)
    for number in range(2000):
        write(spool, f"r{number}", rows=2)
        assert spool.size <= 60_000
    on_disk = sum(path.stat().st_size for path in segment_files(tmp_path))
    kept = ids(tmp_path)
    assert on_disk == spool.size
    assert kept == [f"r{number}" for number in range(2000 - len(kept), 2000)]
    assert spool.lost == {"budget": 2 * (2000 - len(kept)), "write": 0, "deleted": 0}
    assert spool.rows == 2 * len(kept)
    spool.close()


def test_after_a_restart_the_sequence_and_the_id_go_on(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    write(first, "a")
    write(first, "b")
    first.close()
    second = open_spool(tmp_path, version="4")
    write(second, "c")
    second.close()
    entries = list(SpoolReader(tmp_path).poll())
    assert [(e.record.sequence, e.header.version) for e in entries] == [
        (1, "3"),
        (2, "3"),
        (3, "4"),
    ]
    assert first.id == second.id == entries[0].header.spool
    assert second.rows == 0


@pytest.mark.parametrize("cut", [1, 5, 13, 40, 60])
def test_a_torn_tail_is_cut_and_the_sequence_goes_on(tmp_path: Path, cut: int) -> None:
    spool = open_spool(tmp_path)
    for name in ("a", "b", "c"):
        write(spool, name)
    data = segment_files(tmp_path)[0].read_bytes()
    spool.close()
    path = segment_files(tmp_path)[0]
    path.write_bytes(data[:-cut])
    assert ids(tmp_path) == ["a", "b"]
    after = open_spool(tmp_path)
    assert after.torn_bytes > 0
    assert after.rows == 2
    write(after, "d")
    after.close()
    assert ids(tmp_path) == ["a", "b", "d"]


def test_damage_in_the_middle_is_passed_over_and_its_numbers_are_not_used_again(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path)
    for name in ("a", "b", "c"):
        write(spool, name)
    path = segment_files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    spool.close()
    data[-10] ^= 255
    path.write_bytes(bytes(data) + b"rubbish at the end")
    after = open_spool(tmp_path)
    assert after.damaged_bytes > 0
    write(after, "d")
    after.close()
    entries = list(SpoolReader(tmp_path).poll())
    assert [e.record.request_id for e in entries] == ["a", "b", "d"]
    assert entries[-1].record.sequence > 3


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(ConflictError, match="must have one writer"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_a_folder_deleted_under_the_spool_is_made_again_and_the_loss_counted(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "spool"
    spool = open_spool(folder)
    write(spool, "a", rows=3)
    shutil.rmtree(folder)
    wait_for(lambda: spool.lost["deleted"] == 3 and spool.writable)
    write(spool, "b")
    spool.close()
    (entry,) = SpoolReader(folder).poll()
    assert entry.record.request_id == "b"
    assert entry.record.sequence == 2
    assert entry.header.spool == spool.id


def test_a_folder_that_cannot_be_written_counts_losses_and_is_used_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = tmp_path / "spool"
    blocker.write_text("a file where the folder should be")
    spool = open_spool(blocker)
    for _ in range(50):
        write(spool, "lost")
    assert spool.lost["write"] == 50
    assert not spool.writable
    blocker.unlink()
    wait_for(lambda: spool.writable)
    write(spool, "kept")
    spool.close()
    assert ids(blocker) == ["kept"]
    assert len([r for r in caplog.records if "must be writable" in r.message]) == 1


def test_a_record_that_only_partly_fits_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    write(spool, "a")
    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
        write(spool, "b", rows=4)
    write(spool, "c")
    spool.close()
    assert ids(tmp_path) == ["a", "c"]
    assert spool.lost["write"] == 4
    assert SpoolReader(tmp_path).damaged_bytes == 0


def test_a_budget_too_small_for_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"spool_max_bytes must be at least \d+ for this model"):
        open_spool(tmp_path, max_bytes=1000)


def test_a_record_larger_than_the_budget_is_lost_and_counted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=30_000)
    write(spool, "huge", rows=5000)
    write(spool, "small")
    spool.close()
    assert spool.lost["write"] == 5000
    assert ids(tmp_path) == ["small"]


def test_everything_is_synced_within_an_interval(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, "a")
    write(spool, "b")
    wait_for(lambda: spool.synced_sequence == 2)
    spool.close()


def test_reading_starts_after_a_sequence_number(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for name in ("a", "b", "c"):
        write(spool, name)
    spool.close()
    assert ids(tmp_path, after=2) == ["c"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        SpoolReader(tmp_path / "nowhere")


def test_a_change_of_role_is_of_later_records_only_for_readers_and_shippers(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path)
    reader = SpoolReader(tmp_path)
    spool.change_role(Role.SHADOW)
    spool.change_role(Role.CANARY)
    write(spool, "first")
    seen = [(entry.record.request_id, entry.header.role) for entry in reader.poll()]
    spool.change_role(Role.CHAMPION)
    write(spool, "second")
    write(spool, "third")
    spool.change_role(Role.SHADOW)
    seen += [(entry.record.request_id, entry.header.role) for entry in reader.poll()]
    expected = [("first", "canary"), ("second", "champion"), ("third", "champion")]
    assert seen == expected
    sent: list[tuple[str, str]] = []

    def send(body: bytes, follows: int, reason: str) -> Answered:
        header, *records = [item.payload for item in scan(body) if item.payload is not None]
        role = str(decode_header(header).role)
        found = [decode_record(record) for record in records]
        sent.extend((record.request_id, role) for record in found)
        return Answered(200, found[-1].sequence)

    shipper = SpoolShipper(tmp_path, send, ShipOptions(), random.Random(1))
    for _ in range(10):
        shipper.step()
    assert sent == expected
    spool.close()


def test_a_role_stays_where_the_disk_refuses_a_new_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    write(spool, "first")
    with monkeypatch.context() as broken:

        def refuse(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        broken.setattr("predictors.spool.os.open", refuse)
        with pytest.raises(OSError, match="No space"):
            spool.change_role(Role.CHAMPION)
    write(spool, "second")
    spool.change_role(Role.CHAMPION)
    write(spool, "third")
    spool.close()
    roles = [entry.header.role for entry in SpoolReader(tmp_path).poll()]
    assert roles == ["canary", "canary", "champion"]


def note_shipped(spool: Spool, sequence: int) -> None:
    ShipState(spool=str(spool.id), sequence=sequence).save(spool.options.folder / STATE_FILE)


def test_what_was_shipped_waits_no_more_though_its_file_is_still_there(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    assert spool.oldest_at is None
    write(spool, "first")
    wait_for(lambda: spool.synced_sequence == 1)
    first = spool.oldest_at
    write(spool, "second")
    wait_for(lambda: spool.synced_sequence == 2)
    assert first is not None
    assert spool.oldest_at == first
    note_shipped(spool, 1)
    second = spool.oldest_at
    assert second is not None
    assert second > first
    note_shipped(spool, 2)
    assert spool.oldest_at is None
    assert spool.rows == 2
    spool.close()


def test_what_an_earlier_process_left_waits_until_it_is_shipped(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, "left")
    spool.close()
    again = open_spool(tmp_path)
    left = again.oldest_at
    assert left is not None
    write(again, "new")
    assert again.oldest_at == left
    note_shipped(again, 2)
    assert again.oldest_at is None
    again.close()


def test_a_reader_that_has_an_empty_segment_s_header_learns_who_writes_behind_it(
    tmp_path: Path,
) -> None:
    killed = open_spool(tmp_path, version="90")
    assert killed.current is not None
    reader, path = SpoolReader(tmp_path), killed.current.path
    assert list(reader.poll()) == []
    left = path.read_bytes()
    killed.close()
    # As kill -9 leaves it: a header, the beginning of a frame, and no record.
    path.write_bytes(left + left[:7])
    after = open_spool(tmp_path, version="91")
    write(after, "mine")
    (entry,) = reader.poll()
    assert (entry.record.request_id, entry.header.version) == ("mine", "91")
    assert [one.header.version for one in SpoolReader(tmp_path).poll()] == ["91"]
    after.close()


def test_marks_stay_few_and_tell_every_age_within_a_hundredth() -> None:
    marks, last = WaitingMarks(), 200_000
    for number in range(1, last + 1):
        marks.note(number, float(number))
    assert len(marks._marks) <= MOST_MARKS
    for shipped in (0, 1, 777, 100_000, 150_001, 199_000):
        oldest = marks.oldest(shipped)
        assert oldest is not None
        assert 0 <= shipped + 1 - oldest <= 0.01 * last
    assert marks.oldest(last) is None
    assert marks.waiting
    marks.forget(last)
    assert not marks.waiting
    marks.note(last + 1, 300_000.0)
    assert marks.oldest(0) == 300_000.0


def test_the_folder_of_several_spools_is_no_spool_and_names_them(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / f"{1:020d}.spool").write_bytes(b"")
    with pytest.raises(NotFoundError, match=f"holds {tmp_path}/1"):
        SpoolReader(tmp_path)
