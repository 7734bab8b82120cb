"""The shipper against a collector that follows the protocol and fails at random."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.serving import ServingContract
from heliotrope.domain.spool_batch import BatchError, Gap, Standing, decode_batch, plan_batch
from heliotrope.domain.spool_format import Kind, scan
from heliotrope.errors import UnavailableError
from heliotrope.service.shipping import (
    QUARANTINE,
    STATE_FILE,
    Answered,
    ShipOptions,
    ShipState,
    SpoolShipper,
    drained,
)
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task
from predictors.segments import segment_files
from predictors.spool import Spool, SpoolOptions

CONTRACT = ServingContract(
    model="m",
    task=Task.BINARY,
    features=(Feature(name="x", type=FeatureType.FLOAT),),
    classes=("no", "yes"),
    threshold=0.5,
)


class Collector:
    """Holds what it was sent, by the same rules as the real one."""

    def __init__(self) -> None:
        self.watermark = 0
        self.names: list[str] = []
        self.gaps: list[tuple[Gap, str]] = []
        self.faults: Callable[[], str] = lambda: ""
        self.refused: set[str] = set()

    def take(self, body: bytes, follows: int, reason: str) -> Answered:
        fault = self.faults()
        if fault == "down":
            raise UnavailableError("down")
        if fault == "busy":
            return Answered(429, retry_after=1.0, error="busy")
        answer = self._decide(body, follows, reason)
        if fault == "lost answer":
            raise UnavailableError("no answer")
        return answer

    def _decide(self, body: bytes, follows: int, reason: str) -> Answered:
        try:
            batch = decode_batch(body)
        except BatchError as error:
            return Answered(400, error=str(error))
        if self.refused.intersection(batch.request_ids):
            return Answered(400, error="poison")
        plan = plan_batch(batch.sequences, follows, self.watermark)
        if plan.standing is Standing.AHEAD:
            return Answered(409, watermark=self.watermark)
        if plan.standing is Standing.NEW:
            kept = batch.after(self.watermark)
            self.names += kept.request_ids
            self.gaps += [(gap, reason) for gap in plan.gaps]
            self.watermark = int(kept.sequences[-1])
        return Answered(200, watermark=self.watermark)


def make_spool(folder: Path, max_bytes: int = 1 << 20) -> Spool:
    return Spool(SpoolOptions(folder, max_bytes, 60.0, 1 << 30), CONTRACT, "1", Role.CHAMPION)


def write(spool: Spool, first: int, count: int) -> list[str]:
    names = [f"request-{n:04d}" for n in range(first, first + count)]
    for name in names:
        spool.append(
            name,
            "v1",
            np.ones((1, 1), np.float32),
            np.full(1, 0.5, np.float32),
            np.zeros(1, np.uint16),
            None,
            1_795_000_000_000_000_000,
            1000,
        )
    return names


def make_shipper(folder: Path, collector: Collector, batch_bytes: int = 400) -> SpoolShipper:
    options = ShipOptions(batch_bytes=batch_bytes)
    return SpoolShipper(folder, collector.take, options, random.Random(1))


def ship_all(shipper: SpoolShipper, steps: int = 2000) -> None:
    for _ in range(steps):
        if shipper.step() > 0 and drained(shipper.folder, shipper.state):
            return
    raise AssertionError("the shipper did not come to an end")


@pytest.mark.parametrize("batch_bytes", [64, 400, 1 << 20])
def test_everything_written_arrives_once_in_order_and_full_segments_are_deleted(
    tmp_path: Path, batch_bytes: int
) -> None:
    spool, collector = make_spool(tmp_path, 20_000), Collector()
    names = write(spool, 1, 100)
    assert len(segment_files(tmp_path)) > 1
    shipper = make_shipper(tmp_path, collector, batch_bytes)
    ship_all(shipper)
    assert collector.names == names
    assert not collector.gaps
    assert len(segment_files(tmp_path)) == 1
    more = write(spool, 101, 5)
    ship_all(shipper)
    assert collector.names == names + more
    spool.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_faults_and_restarts_lose_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    rng, collector = random.Random(seed), Collector()
    faults = ["", "", "down", "busy", "lost answer"]
    spool, names = make_spool(folder), []
    shipper = make_shipper(folder, collector)
    collector.faults = lambda: rng.choice(faults)
    for _ in range(40):
        action = rng.choice(["write", "step", "step", "step", "restart", "forget", "crash"])
        if action == "write":
            names += write(spool, len(names) + 1, rng.randint(1, 12))
        elif action == "step":
            shipper.step()
        elif action == "restart":
            shipper = make_shipper(folder, collector)
        elif action == "forget":
            (folder / STATE_FILE).unlink(missing_ok=True)
            shipper = make_shipper(folder, collector)
        else:
            spool.close()
            spool = make_spool(folder)
    collector.faults = lambda: ""
    ship_all(shipper)
    spool.close()
    assert collector.names == names
    assert not collector.gaps


def test_what_the_budget_dropped_is_declared_lost_with_its_numbers(tmp_path: Path) -> None:
    spool, collector = make_spool(tmp_path, 12_000), Collector()
    names = write(spool, 1, 5)
    shipper = make_shipper(tmp_path, collector)
    ship_all(shipper)
    names += write(spool, 6, 400)
    ship_all(shipper)
    spool.close()
    lost = [n for gap, _ in collector.gaps for n in range(gap.first, gap.last + 1)]
    assert lost
    assert {reason for _, reason in collector.gaps} == {"budget"}
    assert sorted([*collector.names, *(names[n - 1] for n in lost)]) == names
    assert spool.lost["deleted"] == 0


def test_segments_that_were_shipped_do_not_count_as_lost(tmp_path: Path) -> None:
    spool, collector = make_spool(tmp_path, 20_000), Collector()
    shipper = make_shipper(tmp_path, collector, 1 << 20)
    for start in range(1, 2000, 100):
        write(spool, start, 100)
        ship_all(shipper)
    assert spool.lost.total() == 0
    spool.close()
    assert len(collector.names) == 2000


def test_sequence_numbers_go_on_after_everything_was_shipped_and_deleted(tmp_path: Path) -> None:
    collector = Collector()
    spool = make_spool(tmp_path)
    write(spool, 1, 10)
    ship_all(make_shipper(tmp_path, collector))
    spool.close()
    for path in segment_files(tmp_path):
        path.unlink()
    spool = make_spool(tmp_path)
    write(spool, 11, 3)
    ship_all(make_shipper(tmp_path, collector))
    spool.close()
    assert len(collector.names) == 13
    assert not collector.gaps


def test_poison_is_set_aside_and_never_stops_the_rest(tmp_path: Path) -> None:
    spool, collector = make_spool(tmp_path), Collector()
    names = write(spool, 1, 60)
    collector.refused = {names[17], names[18], names[59]}
    shipper = make_shipper(tmp_path, collector, 1 << 20)
    for _ in range(300):
        shipper.step()
    names += write(spool, 61, 1)
    ship_all(shipper)
    spool.close()
    assert collector.names == [n for n in names if n not in collector.refused]
    aside = sorted((tmp_path / QUARANTINE).iterdir())
    assert [decode_batch(path.read_bytes()).request_ids[0] for path in aside] == sorted(
        collector.refused
    )
    assert shipper.state.quarantined == 3
    assert {reason for _, reason in collector.gaps} == {"quarantined"}


@pytest.mark.parametrize("batch_bytes", [*range(100, 420, 9), 1 << 20])
def test_damage_costs_its_record_and_no_other(tmp_path: Path, batch_bytes: int) -> None:
    spool, collector = make_spool(tmp_path), Collector()
    names = write(spool, 1, 30)
    spool.close()
    path = segment_files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    records = [i for i in scan(bytes(data)) if i.payload and i.payload[0] == Kind.RECORD]
    data[records[11].start + 20] ^= 255
    path.write_bytes(data)
    spool = make_spool(tmp_path)
    names += write(spool, 31, 5)
    ship_all(make_shipper(tmp_path, collector, batch_bytes))
    spool.close()
    assert collector.names == [n for n in names if n != names[11]]
    assert (Gap(12, 12), "damaged") in collector.gaps


def test_another_store_gets_what_is_still_on_disk_and_hears_of_the_rest(tmp_path: Path) -> None:
    spool, first = make_spool(tmp_path, 20_000), Collector()
    write(spool, 1, 100)
    ship_all(make_shipper(tmp_path, first))
    second = Collector()
    names = write(spool, 101, 5)
    ship_all(make_shipper(tmp_path, second))
    spool.close()
    assert second.names[-5:] == names
    lost = sum(gap.last - gap.first + 1 for gap, _ in second.gaps)
    assert lost + len(second.names) == 105
    assert {reason for _, reason in second.gaps} <= {"elsewhere"}


def test_state_of_another_spool_deletes_nothing(tmp_path: Path) -> None:
    spool, collector = make_spool(tmp_path, 20_000), Collector()
    names = write(spool, 1, 100)
    (tmp_path / STATE_FILE).write_text(json.dumps({"spool": "other", "sequence": 90}))
    ship_all(make_shipper(tmp_path, collector))
    spool.close()
    assert collector.names == names


def test_pauses_grow_are_bounded_and_end_with_an_answer(tmp_path: Path) -> None:
    spool, collector = make_spool(tmp_path), Collector()
    write(spool, 1, 1)
    collector.faults = lambda: "down"
    shipper = make_shipper(tmp_path, collector)
    pauses = [shipper.step() for _ in range(12)]
    assert pauses[0] < 0.3
    assert max(pauses) <= ShipOptions().longest_pause
    assert max(pauses) > 4
    assert "down" in shipper.state.error
    collector.faults = lambda: ""
    assert shipper.step() == 0.0
    assert shipper.state.error == ""
    spool.close()


def test_retry_after_is_kept_to(tmp_path: Path) -> None:
    spool, collector = make_spool(tmp_path), Collector()
    write(spool, 1, 1)
    collector.faults = lambda: "busy"
    assert make_shipper(tmp_path, collector).step() >= 1.0
    spool.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sequence": "x"}', '{"surprise": 1}'])
def test_a_damaged_state_file_is_a_new_start(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    assert ShipState.load(tmp_path / STATE_FILE) == ShipState()
