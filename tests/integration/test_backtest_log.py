"""`heliotrope backtest --history log`: what is played is what was served, labels as they came."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.backtest_parts import open_history
from heliotrope.bootstrap import platform
from heliotrope.cli import build_app
from heliotrope.domain.backtest.history import FROM_LOG, History, moment
from heliotrope.domain.labels import LabelRows, LabelUpload
from heliotrope.domain.spool_batch import decode_batch
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.errors import DataFault, NotFoundError
from heliotrope.spec import ModelSpec, load_spec
from heliotrope.vocabulary import Role

SPEC = """
name: price
task: regression
event_time: at
label: {name: y, delay: 6h}
source: {path: before.parquet}
features:
  - {name: a, type: float, nullable: true}
  - {name: count, type: integer}
  - {name: grade, type: category, categories: [low, high]}
  - {name: owner, type: boolean, nullable: true}
trainer: {parameters: {max_iter: 12, max_leaf_nodes: 6, learning_rate: 0.3}}
metrics: {primary: mae}
validation: {minimum_rows: 200}
gates: {minimum_rows: 50, tolerance: 2}
monitoring: {window: 1d, minimum_rows: 50, fall: 2}
rollout: {shadow: {share: 1.0, minimum_labels: 40, backfill: 1d}, steps: [100], bake: 0s}
retraining: {cooldown: 6h, minimum_new_labels: 300}
"""
# Ahead of this machine's clock, as a simulated platform's may be.
START = datetime(2090, 3, 1, tzinfo=UTC)
LIVE = START + timedelta(days=3)
CHANGE = START + timedelta(days=6)
DAYS, A_DAY = 10, 200
HOUR = timedelta(hours=1)


def rows() -> pd.DataFrame:
    """Rows with missing values; what `a` means turns with the change."""
    random = np.random.default_rng(5)
    count = DAYS * A_DAY
    at = pd.Series(pd.date_range(START, periods=count, freq=pd.Timedelta(days=1) / A_DAY))
    a = random.normal(size=count).astype(np.float32)
    label = 50 + 10 * np.where(at < CHANGE, a, -a) + random.normal(size=count)
    lost = random.random(count) < 0.02
    grade, owner = random.choice(["low", "high"], count), random.choice([True, False], count)
    return pd.DataFrame(
        {
            "at": at,
            "a": np.where(lost, np.nan, a),
            "count": random.integers(0, 9, count),
            "grade": grade,
            "owner": pd.array(np.where(lost, None, owner), dtype="boolean"),
            "y": label,
        }
    )


@dataclass
class Served:
    """The platform's store, written to as its collector does."""

    spec: ModelSpec
    store: DeltaEventStore
    spools: int = 0
    sent: list[str] = field(default_factory=list)

    def answer(
        self, names: Sequence[str], rows: pd.DataFrame, version: str = "1",
        role: Role = Role.CHAMPION,
    ) -> None:  # fmt: skip
        """Log answers of one version to rows."""
        self.spools += 1
        head = SegmentHeader(
            spool=f"00000000-0000-0000-0000-{self.spools:012d}", first_sequence=1, model="price",
            version=version, role=role, task=self.spec.task, features=self.spec.features,
            classes=(),
        )  # fmt: skip
        matrix = np.stack(
            [
                rows.a, rows["count"], rows.grade.map({"low": 0, "high": 1}),
                rows.owner.astype("Float32").to_numpy(np.float32, na_value=np.nan),
            ],
            axis=1,
        ).astype(np.float32)  # fmt: skip
        body = encode_header(head)
        for place, name in enumerate(names):
            body += encode_record(
                Record(
                    sequence=place + 1, predicted_at_ns=rows["at"].iloc[place].value,
                    latency_ns=1, request_id=name, protocol="v2",
                    features=matrix[place : place + 1], scores=np.full(1, 50, np.float32),
                    predictions=None, entity_keys=None,
                )
            )  # fmt: skip
        batch = decode_batch(body)
        assert self.store.append_predictions("price", [batch], {head.spool: len(names)}, 1)

    def tell(self, names: Sequence[str], labels: Sequence[float], at: Sequence[Any]) -> None:
        """Log labels, each received at a time."""
        uploads = []
        for name, label in zip(names, labels, strict=True):
            one = LabelRows([f"{name}/0"], [None], [repr(float(label))], [None], [0])
            uploads.append(LabelUpload(one, f"b{len(self.sent)}"))
            self.sent.append(name)
        micros = [pd.Timestamp(moment).value // 1000 for moment in at]
        assert self.store.append_labels("price", uploads, micros)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A folder with a spec and its source; nothing is logged yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path / "home"))
    (tmp_path / "model.yaml").write_text(SPEC)
    everything = rows()
    everything[everything["at"] < LIVE].to_parquet(tmp_path / "before.parquet")
    everything.to_parquet(tmp_path / "all.parquet")
    return Served(load_spec(tmp_path / "model.yaml"), DeltaEventStore(platform().settings.store))


def live() -> tuple[list[str], pd.DataFrame]:
    everything = rows()
    found = everything[everything["at"] >= LIVE].reset_index(drop=True)
    # Names whose order is not that of time.
    return [f"r{(place * 7919) % 10_007:05d}" for place in range(len(found))], found


def history(served: Served, name: str = "log") -> History:
    return open_history(platform(), served.spec, name)


def run(name: str, *words: str) -> dict[str, Any]:
    told = ["backtest", "model.yaml", "--history", name, "--json", *words]
    done = CliRunner().invoke(build_app(), told)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return dict(json.loads(done.stdout))


def test_the_log_is_played_as_it_was_served_and_labelled(served: Served) -> None:
    names, found = live()
    half = len(found) // 2
    # In another order than they happened, and two versions share the users.
    served.answer(names[half:], found[half:], version="2", role=Role.CANARY)
    served.answer(names[:half], found[:half])
    # A shadow and a canary were asked again and a spool was sent twice: none of them is a user.
    served.answer(names[:30], found[:30].assign(at=found["at"][:30] + HOUR), "2", Role.CANARY)
    served.answer(names[:50], found[:50].assign(at=found["at"][:50] + HOUR), "2", Role.SHADOW)
    served.answer(names[:20], found[:20])
    told = np.flatnonzero(np.arange(len(found)) % 10)
    late = [found["at"][place] + (6 + place % 40) * HOUR for place in told]
    served.tell([names[place] for place in told], found["y"][told], late)
    # One label is corrected a week later.
    again = found["at"][11] + timedelta(days=7)
    served.tell([names[11]], [7.5], [again])

    played, file = history(served), history(served, "all.parquet")
    before = len(file) - len(found)
    assert played.labels_come == FROM_LOG
    assert np.array_equal(played.at, file.at)
    assert np.array_equal(played.matrix, file.matrix, equal_nan=True)
    assert played.table.equals(file.table)
    # The rows of the source are as the file has them.
    assert np.array_equal(played.label[:before], file.label[:before])
    assert np.array_equal(played.told[:before], file.told[:before])
    label, came = played.label[before:], played.told[before:]
    never = np.arange(len(found)) % 10 == 0
    assert np.isnan(label[never]).all()
    assert np.isnat(came[never]).all()
    assert label[11] == 7.5
    assert moment(came[11]) == again
    rest = told[told != 11]
    assert np.array_equal(label[rest], found["y"].to_numpy()[rest])
    wanted = dict(zip(told.tolist(), late, strict=True))
    assert [moment(at) for at in came[rest]] == [wanted[place] for place in rest.tolist()]


@pytest.mark.timeout(600)
def test_a_log_whose_labels_came_in_time_is_judged_as_the_same_rows_from_a_file(
    served: Served,
) -> None:
    names, found = live()
    served.answer(names, found)
    served.tell(names, found["y"], found["at"] + 6 * HOUR)
    words = ("--change", f"{CHANGE:%Y-%m-%dT%H:%M:%S}", "--only", "--tick", "6h")
    # A log is played from where it begins.
    log = run("log", *words)
    file = run("all.parquet", *words, "--start", f"{LIVE:%Y-%m-%d}")
    assert log["labels_come"] == "when the collector received each"
    assert log["source"].startswith("the log of price, after history ")
    for report in (log, file):
        for name in ("source", "labels_come"):
            del report[name]
        for policy in report["policies"]:
            del policy["seconds"]
    assert log == file
    ours, never = log["policies"]
    assert ours["promotions"] >= 1
    assert ours["value_after"] < never["value_after"] - 2


def test_a_log_without_a_label_has_nothing_to_judge(served: Served) -> None:
    names, found = live()
    served.answer(names, found)
    with pytest.raises(DataFault, match=r"the log of price, .* must have labels after the start"):
        run("log", "--only")


def test_a_source_that_is_gone_is_named_since_the_first_model_learns_from_it(
    served: Served,
) -> None:
    names, found = live()
    served.answer(names, found)
    Path("before.parquet").unlink()
    with pytest.raises(NotFoundError, match=r"before\.parquet"):
        run("log", "--only")
