"""Event tables in Delta: exactly once from many writers, typed columns, upkeep beside readers."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pytest
from deltalake import DeltaTable

from heliotrope.adapters import delta_tables
from heliotrope.adapters.delta_tables import TablePolicy
from heliotrope.adapters.event_status import label_status
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.adapters.event_upkeep import EventUpkeep, UpkeepPolicy
from heliotrope.domain.events import LABEL_COLUMNS, LOSS_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.labels import LabelContract, LabelRows, LabelUpload
from heliotrope.domain.spool_batch import Loss, Standing, decode_batch
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.errors import UnavailableError
from heliotrope.service.collecting import (
    Parcel,
    RisingClock,
    SpoolAnswer,
    commit_labels,
    commit_spools,
)
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.telemetry import collector_metrics as metrics
from heliotrope.telemetry.board import Board
from heliotrope.vocabulary import Role, Task

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
FEATURES = (
    Feature(name="amount", type=FeatureType.FLOAT),
    Feature(name="count", type=FeatureType.INTEGER),
    Feature(name="grade", type=FeatureType.CATEGORY, categories=("a", "b")),
    Feature(name="owner", type=FeatureType.BOOLEAN),
)


def clock() -> RisingClock:
    return RisingClock(lambda: int(NOON.timestamp() * 1e6))


def header(spool: int = 1, **changed: Any) -> SegmentHeader:
    given = {
        "spool": f"00000000-0000-0000-0000-{spool:012d}",
        "first_sequence": 1,
        "model": "m",
        "version": "3",
        "role": Role.CANARY,
        "task": Task.BINARY,
        "features": FEATURES,
        "classes": ("no", "yes"),
    }
    return SegmentHeader(**{**given, **changed})


def record(sequence: int, spool: int = 1, **changed: Any) -> bytes:
    given: dict[str, Any] = {
        "sequence": sequence,
        "predicted_at_ns": int(NOON.timestamp()) * 10**9,
        "latency_ns": 1_500_000,
        "request_id": f"r{spool}-{sequence}",
        "protocol": "v2",
        "features": np.array([[1.5, 7, 1, 0], [np.nan] * 4], np.float32),
        "scores": np.array([0.25, 0.75], np.float32),
        "predictions": np.array([0, 1], np.uint16),
        "entity_keys": ["e1", None],
    }
    return encode_record(Record(**{**given, **changed}))


def parcel(first: int, count: int, follows: int | None = None, spool: int = 1) -> Parcel:
    frames = b"".join(record(n, spool) for n in range(first, first + count))
    return Parcel(
        encode_header(header(spool)) + frames, first - 1 if follows is None else follows, "budget"
    )


def rows_of(store: DeltaEventStore, kind: str = "predictions") -> list[dict[str, Any]]:
    return list(DeltaTable(store.table_uri(kind, "m")).to_pyarrow_table().to_pylist())


@pytest.fixture
def store(tmp_path: Path) -> DeltaEventStore:
    return DeltaEventStore(str(tmp_path / "store"))


def test_a_prediction_is_kept_as_the_contract_says(store: DeltaEventStore) -> None:
    commit_spools(store, clock(), "m", [parcel(1, 1)])
    table = DeltaTable(store.table_uri("predictions", "m"))
    assert table.metadata().partition_columns == ["day"]
    first, second = sorted(rows_of(store), key=lambda row: row["row"])
    received = first.pop("received_at")
    assert received == NOON
    assert first == {
        "prediction_id": "r1-1/0",
        "request_id": "r1-1",
        "row": 0,
        "version": "3",
        "role": "canary",
        "predicted_at": NOON,
        "entity_key": "e1",
        "prediction": "no",
        "score": 0.25,
        "scores": None,
        "latency_us": 1500,
        "spool_id": "00000000-0000-0000-0000-000000000001",
        "spool_sequence": 1,
        "day": NOON.date(),
        "f_amount": 1.5,
        "f_count": 7,
        "f_grade": "b",
        "f_owner": False,
    }
    assert (second["prediction_id"], second["prediction"]) == ("r1-1/1", "yes")
    assert [second[f"f_{feature.name}"] for feature in FEATURES] == [None] * 4
    assert set(first) | {"received_at"} >= set(PREDICTION_COLUMNS)


def test_multiclass_and_regression_keep_their_scores(store: DeltaEventStore) -> None:
    kinds = header(task=Task.MULTICLASS, classes=("x", "y", "z"))
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], np.float32)
    body = encode_header(kinds) + record(1, scores=scores, predictions=np.array([1, 0], np.uint16))
    commit_spools(store, clock(), "m", [Parcel(body, 0, "budget")])
    rows = sorted(rows_of(store), key=lambda row: row["row"])
    assert [row["prediction"] for row in rows] == ["y", "x"]
    assert [round(row["score"], 6) for row in rows] == [0.7, 0.5]
    assert [round(score, 6) for score in rows[0]["scores"]] == [0.1, 0.7, 0.2]
    numbers = header(2, task=Task.REGRESSION, classes=())
    body = encode_header(numbers) + record(1, 2, predictions=None)
    commit_spools(store, clock(), "m", [Parcel(body, 0, "budget")])
    found = {r["prediction"]: r["score"] for r in rows_of(store) if r["request_id"] == "r2-1"}
    assert found == {"0.25": 0.25, "0.75": 0.75}


def test_batches_again_out_of_order_and_overlapping_are_written_once(
    store: DeltaEventStore,
) -> None:
    parcels = [parcel(1, 3), parcel(1, 3), parcel(6, 2), parcel(2, 4), parcel(6, 2)]
    answers = commit_spools(store, clock(), "m", parcels)
    standings = [a.standing for a in answers if isinstance(a, SpoolAnswer)]
    assert standings == [
        *(Standing.NEW, Standing.DUPLICATE, Standing.AHEAD, Standing.NEW, Standing.NEW),
    ]
    again = commit_spools(
        DeltaEventStore(str(Path(store.table_uri("x", "m")).parents[1])), clock(), "m", parcels
    )
    assert {a.standing for a in again if isinstance(a, SpoolAnswer)} == {Standing.DUPLICATE}
    names = [row["prediction_id"] for row in rows_of(store)]
    assert sorted(names) == sorted(f"r1-{n}/{row}" for n in range(1, 8) for row in (0, 1))


def test_declared_gaps_are_noted_once(store: DeltaEventStore) -> None:
    commit_spools(store, clock(), "m", [parcel(1, 2)])
    answers = commit_spools(store, clock(), "m", [parcel(5, 1, follows=2)])
    assert isinstance(answers[0], SpoolAnswer)
    assert answers[0].lost_records == 2
    commit_spools(store, clock(), "m", [parcel(5, 1, follows=2)])
    losses = rows_of(store, "losses")
    assert [(r["first_sequence"], r["last_sequence"], r["records"]) for r in losses] == [(3, 4, 2)]
    assert set(losses[0]) == set(LOSS_COLUMNS)
    assert losses[0]["reason"] == "budget"


def test_a_gap_is_noted_once_though_its_batch_had_to_come_again(store: DeltaEventStore) -> None:
    gap = Loss(header().spool, "3", "canary", 3, 4, "budget")
    later = Loss(header().spool, "3", "canary", 9, 9, "damaged")
    assert store.append_losses("m", [gap], clock().take())
    assert store.append_losses("m", [gap], clock().take())
    assert store.append_losses("m", [gap, later], clock().take())
    noted = sorted(row["first_sequence"] for row in rows_of(store, "losses"))
    assert noted == [3, 9]


def test_a_decision_made_on_an_old_version_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle is renewed between reading the position and the commit."""
    one, two = DeltaEventStore(str(tmp_path)), DeltaEventStore(str(tmp_path))
    commit_spools(one, clock(), "m", [parcel(1, 1)])
    positions = one.spool_positions("m", [header()], fresh=True)
    commit_spools(two, clock(), "m", [parcel(2, 1)])
    monkeypatch.setattr(delta_tables, "STALE_SECONDS", -1.0)
    batch = decode_batch(parcel(2, 1).body)
    moved = {header().spool: positions[header().spool] + 1}
    assert not one.append_predictions("m", [batch], moved, 1)
    again = commit_spools(one, clock(), "m", [parcel(2, 1)])[0]
    assert isinstance(again, SpoolAnswer)
    assert again.standing is Standing.DUPLICATE
    assert len(rows_of(one)) == 4


def test_a_position_that_moved_while_ours_was_committed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another collector's commit comes between our commit and our look at the table."""
    one, two = DeltaEventStore(str(tmp_path)), DeltaEventStore(str(tmp_path))
    commit_spools(one, clock(), "m", [parcel(1, 1)])
    written = deltalake.write_deltalake

    def write_and_be_overtaken(table: Any, *args: Any, **more: Any) -> None:
        written(table, *args, **more)
        monkeypatch.setattr(deltalake, "write_deltalake", written)
        commit_spools(two, clock(), "m", [parcel(3, 1)])
        table.update_incremental()

    monkeypatch.setattr(deltalake, "write_deltalake", write_and_be_overtaken)
    commit_spools(one, clock(), "m", [parcel(2, 1)])
    late = commit_spools(one, clock(), "m", [parcel(3, 1)])[0]
    assert isinstance(late, SpoolAnswer)
    assert late.standing is Standing.DUPLICATE
    assert len(rows_of(one)) == 6


def test_writers_at_once_on_one_table_lose_and_double_nothing(tmp_path: Path) -> None:
    """Four writers; each spool is sent by two of them, as after a lost answer."""
    root, failures = str(tmp_path / "store"), []

    def send(writer: int) -> None:
        store, moments = DeltaEventStore(root), clock()
        try:
            for first in range(1, 25, 4):
                # Two writers race for a spool, so one may be asked to look again.
                for _ in range(200):
                    parcels = [parcel(first, 4, spool=writer % 2)]
                    answer = commit_spools(store, moments, "m", parcels)[0]
                    assert isinstance(answer, SpoolAnswer)
                    if answer.standing is not Standing.AHEAD:
                        break
                else:
                    raise AssertionError("always ahead")
        except Exception as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    names = [row["prediction_id"] for row in rows_of(DeltaEventStore(root))]
    expected = [f"r{s}-{n}/{row}" for s in (0, 1) for n in range(1, 25) for row in (0, 1)]
    assert sorted(names) == sorted(expected)


def test_new_and_retyped_features_get_columns_and_old_rows_stay(store: DeltaEventStore) -> None:
    commit_spools(store, clock(), "m", [parcel(1, 1)])
    changed = (
        Feature(name="amount", type=FeatureType.CATEGORY, categories=("low", "high")),
        Feature(name="fresh", type=FeatureType.FLOAT),
    )
    body = encode_header(header(2, version="4", features=changed)) + record(
        1, 2, features=np.array([[1, 2.5], [0, 3.5]], np.float32)
    )
    commit_spools(store, clock(), "m", [Parcel(body, 0, "budget")])
    commit_spools(store, clock(), "m", [parcel(2, 1)])
    rows = {row["prediction_id"]: row for row in rows_of(store)}
    assert rows["r2-1/0"]["f_amount@category"] == "high"
    assert rows["r2-1/0"]["f_amount"] is None
    assert rows["r2-1/1"]["f_fresh"] == 3.5
    assert rows["r1-1/0"]["f_amount"] == rows["r1-2/0"]["f_amount"] == 1.5
    assert rows["r1-2/0"]["f_amount@category"] is None
    assert len(rows) == 6


def labels(*ids: str, label: str = "yes") -> LabelRows:
    return LabelRows(
        list(ids), [None] * len(ids), [label] * len(ids), [None] * len(ids), list(range(len(ids)))
    )


def test_labels_are_kept_as_the_contract_says_and_rise_in_time(store: DeltaEventStore) -> None:
    moments = clock()
    commit_labels(store, moments, "m", [LabelUpload(labels("a/0", "a/0"), "batch")])
    commit_labels(store, moments, "m", [LabelUpload(labels("a/0", label="no"), "later")])
    rows = sorted(rows_of(store, "labels"), key=lambda row: row["received_at"])
    assert set(rows[0]) == set(LABEL_COLUMNS)
    assert [row["label_id"] for row in rows] == ["batch-0", "batch-1", "later-0"]
    assert len({row["received_at"] for row in rows}) == 3
    assert rows[-1]["label"] == "no"


def test_a_transaction_makes_an_upload_once_for_all_collectors(tmp_path: Path) -> None:
    one, two = DeltaEventStore(str(tmp_path)), DeltaEventStore(str(tmp_path))
    commit_labels(two, clock(), "m", [LabelUpload(labels("z/0"), "other")])
    upload = LabelUpload(labels("a/0", "b/0"), "batch", transaction="batch")
    assert [a.duplicate for a in commit_labels(one, clock(), "m", [upload, upload])] == [
        False,
        True,
    ]
    assert commit_labels(two, clock(), "m", [upload])[0].duplicate
    assert len(rows_of(one, "labels")) == 3


def test_a_model_is_known_by_what_its_predictor_said(store: DeltaEventStore) -> None:
    assert store.contract("m") is None
    assert store.models() == []
    commit_spools(store, clock(), "m", [parcel(1, 1)])
    assert store.contract("m") == LabelContract("m", Task.BINARY, ("no", "yes"))
    assert store.models() == ["m"]
    assert store.contract("../m") is None
    with pytest.raises(ValueError, match="lower-case"):
        store.table_uri("labels", "../m")


def test_a_store_that_takes_no_writes_says_so_and_goes_on_later(tmp_path: Path) -> None:
    store = DeltaEventStore(str(tmp_path / "store"))
    commit_spools(store, clock(), "m", [parcel(1, 1)])
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(UnavailableError, match="must take writes"):
        commit_spools(store, clock(), "m", [parcel(2, 1)])
    (tmp_path / "store").unlink()
    (tmp_path / "away").rename(tmp_path / "store")
    commit_spools(store, clock(), "m", [parcel(2, 1)])
    assert len(rows_of(store)) == 4


def upkeep(store: DeltaEventStore, root: Path, policy: UpkeepPolicy) -> EventUpkeep:
    return EventUpkeep(store, str(root), policy, Board(metrics.COLLECTOR_METRICS), lambda: NOON)


def test_compaction_beside_a_writer_and_a_reader_keeps_every_row(tmp_path: Path) -> None:
    store = DeltaEventStore(str(tmp_path))
    commit_spools(store, clock(), "m", [parcel(1, 1)])
    for n in range(2, 20):
        commit_spools(store, clock(), "m", [parcel(n, 1)])
    reader = DeltaTable(store.table_uri("predictions", "m"))
    stopping, written = threading.Event(), [19]

    def write() -> None:
        other = DeltaEventStore(str(tmp_path))
        while not stopping.is_set():
            commit_spools(other, clock(), "m", [parcel(written[0] + 1, 1)])
            written[0] += 1

    writing = threading.Thread(target=write)
    writing.start()
    try:
        keeper = upkeep(store, tmp_path, UpkeepPolicy(small_files=2))
        deadline = time.monotonic() + 30
        for deep in (False, True, False):
            before = written[0]
            keeper.run(deep=deep)
            while written[0] == before and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        stopping.set()
        writing.join()
    # What was read before the compaction is still all there.
    assert reader.to_pyarrow_table().num_rows == 38
    table = DeltaTable(store.table_uri("predictions", "m"))
    assert len(table.file_uris()) < written[0] // 2
    assert len({r["prediction_id"] for r in rows_of(store)}) == 2 * written[0]
    # A position survives compaction, checkpoint and log clean-up.
    again = commit_spools(DeltaEventStore(str(tmp_path)), clock(), "m", [parcel(1, 3)])[0]
    assert isinstance(again, SpoolAnswer)
    assert (again.standing, again.watermark) == (Standing.DUPLICATE, written[0])


def test_days_beyond_the_retention_go_and_the_others_stay(tmp_path: Path) -> None:
    store = DeltaEventStore(str(tmp_path))
    for sequence, days in ((1, 40), (2, 5)):
        at = int((NOON - timedelta(days=days)).timestamp()) * 10**9
        body = encode_header(header()) + record(sequence, predicted_at_ns=at)
        commit_spools(store, clock(), "m", [Parcel(body, sequence - 1, "budget")])
    upkeep(store, tmp_path, UpkeepPolicy(keep_days=30)).run(deep=True)
    assert {row["request_id"] for row in rows_of(store)} == {"r1-2"}


def test_a_checkpoint_keeps_positions_when_the_log_behind_it_is_gone(tmp_path: Path) -> None:
    store = DeltaEventStore(str(tmp_path), TablePolicy(checkpoint_commits=5))
    for n in range(1, 13):
        commit_spools(store, clock(), "m", [parcel(n, 1)])
    log = Path(store.table_uri("predictions", "m")) / "_delta_log"
    newest = max(int(p.name[:20]) for p in log.glob("*.checkpoint.parquet"))
    for path in log.glob("*.json"):
        if int(path.stem) <= newest:
            path.unlink()
    answer = commit_spools(DeltaEventStore(str(tmp_path)), clock(), "m", [parcel(13, 1)])[0]
    assert isinstance(answer, SpoolAnswer)
    assert (answer.standing, answer.lost_records) == (Standing.NEW, 0)
    assert len(rows_of(store)) == 26


def test_status_counts_labelled_unknown_corrected_and_lost(store: DeltaEventStore) -> None:
    moments = clock()
    commit_spools(store, moments, "m", [parcel(1, 2)])
    commit_spools(store, moments, "m", [parcel(5, 1, follows=2)])
    uploads = [
        LabelUpload(labels("r1-1/0", "r1-1/1", "nobody/0"), "one"),
        LabelUpload(labels("r1-1/0", label="no"), "two"),
        LabelUpload(labels("r1-1/0", label="no"), "two"),
        LabelUpload(LabelRows([None], ["e1"], ["no"], [None], [0]), "three"),
        LabelUpload(labels("r1-1/1"), "the same again, which corrects nothing"),
        LabelUpload(labels("r1-2"), "a request's id"),
    ]
    commit_labels(store, moments, "m", uploads)
    found = label_status(store, "m")
    assert (found.predictions, found.labels, found.labelled) == (6, 7, 2)
    assert (found.unknown, found.corrections, found.by_entity) == (2, 1, 1)
    assert found.request_ids == 1
    assert "such as ID/0" in found.text()
    assert "33.3%) by prediction id" in found.text()
    assert found.lost_records == 2
    assert "33.3%" in found.text()
    assert found.last_received is not None
    seen = datetime.fromisoformat(found.last_received)
    assert seen.tzinfo is not None
    assert f"{seen:%Y-%m-%d %H:%M:%S} UTC" in found.text()
