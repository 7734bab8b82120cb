"""Windows of outcomes out of tables that the collectors' own store wrote, in a folder and on S3."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliotrope.adapters.answer_finder import DeltaAnswerFinder
from heliotrope.adapters.event_reader import DeltaOutcomeReader
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.domain.labels import LabelRows, LabelUpload
from heliotrope.domain.spool_batch import decode_batch
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.errors import UsageError
from heliotrope.spec import Feature, FeatureType, ModelSpec, parse_spec
from heliotrope.vocabulary import Role, Task

DAY = timedelta(days=1)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HEAD = "name: m\nevent_time: at\nsource: {path: nowhere.parquet}\n"
FEATURES = """
features:
  - {name: amount, type: float}
  - {name: count, type: integer}
  - {name: grade, type: category, categories: [a, b]}
  - {name: owner, type: boolean}
slices: [{feature: grade}, {feature: amount, bins: [2]}]
"""
BINARY = parse_spec(
    HEAD + "task: binary\nlabel: {name: y, positive: true}\nmetrics: {primary: accuracy}" + FEATURES
)
MULTICLASS = parse_spec(
    HEAD + "task: multiclass\nlabel: {name: y, classes: [x, y, z]}\n"
    "metrics: {primary: accuracy}" + FEATURES
)
REGRESSION = parse_spec(
    HEAD + "task: regression\nlabel: {name: y}\nmetrics: {primary: mae}" + FEATURES
)


def micros(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


@dataclass
class World:
    """A store, and a way to write to it as a collector does."""

    root: str
    spec: ModelSpec = BINARY
    store: DeltaEventStore = field(init=False)
    reader: DeltaOutcomeReader = field(init=False)
    spools: int = 0
    uploads: int = 0

    def __post_init__(self) -> None:
        self.store = DeltaEventStore(self.root)
        self.reader = DeltaOutcomeReader(self.root)

    def predict(
        self,
        rows: list[tuple[str, datetime, float]],
        version: str = "1",
        role: Role = Role.CHAMPION,
        entities: list[str | None] | None = None,
        features: Any = None,
        header_features: Any = None,
    ) -> None:
        """Rows of (id, time, score) from a spool of their own."""
        self.spools += 1
        task = self.spec.task
        head = SegmentHeader(
            spool=f"00000000-0000-0000-0000-{self.spools:012d}", first_sequence=1, model="m",
            version=version, role=role, task=task,
            features=header_features or self.spec.features, classes=tuple(self.spec.classes),
        )  # fmt: skip
        body = encode_header(head)
        for n, (name, at, score) in enumerate(rows):
            given = np.array([[1.5, n, n % 2, 1]], np.float32) if features is None else features[n]
            scores = np.full(len(given), score, np.float32)
            called: Any = np.full(len(given), score >= 0.5, np.uint16)
            if task is Task.MULTICLASS:
                scores = np.array([[score, 1 - score, 0]], np.float32)
                called = np.array([int(score < 0.5)], np.uint16)
            body += encode_record(
                Record(
                    sequence=n + 1, predicted_at_ns=micros(at) * 1000, latency_ns=1,
                    request_id=name, protocol="v2", features=given, scores=scores,
                    predictions=None if task is Task.REGRESSION else called,
                    entity_keys=None if entities is None else [entities[n]],
                )
            )  # fmt: skip
        batch = decode_batch(body)
        assert self.store.append_predictions("m", [batch], {head.spool: len(rows)}, micros(NOON))

    def tell(
        self,
        rows: list[tuple[str | None, str | None, str]],
        at: datetime,
        happened: datetime | None = None,
        batch: str | None = None,
    ) -> None:
        """Labels of (prediction id, entity key, label), received at a time."""
        self.uploads += 1
        ids, entities, labels = (list(column) for column in zip(*rows, strict=True))
        when = None if happened is None else micros(happened)
        accepted = LabelRows(ids, entities, labels, [when] * len(rows), list(range(len(rows))))
        upload = LabelUpload(accepted, batch or f"b{self.uploads}")
        assert self.store.append_labels("m", [upload], [micros(at)])

    def read(self, since: datetime = NOON - DAY, until: datetime = NOON + DAY, **more: Any) -> Any:
        return self.reader.outcomes(self.spec, since, until, **more)


@pytest.fixture
def everywhere(root: str) -> World:
    """In a folder, and on S3."""
    return World(root)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """In a folder."""
    return World(str(tmp_path / "store"))


def test_nothing_is_read_where_nothing_was_written(everywhere: World) -> None:
    assert len(everywhere.read()) == 0
    assert everywhere.reader.window(BINARY, NOON, NOON + DAY).total_rows == 0
    assert len(everywhere.reader.pairs(BINARY, "1", "2", NOON, NOON + DAY)) == 0
    assert list(everywhere.read().slices) == ["grade", "amount"]


def test_labelled_predictions_come_in_order_of_time_with_their_last_label(
    everywhere: World,
) -> None:
    later = NOON + timedelta(hours=1)
    everywhere.predict([("b", later, 0.25), ("c", NOON, 0.75), ("a", NOON, 0.5), ("d", NOON, 0.5)])
    everywhere.tell([("b/0", None, "true"), ("c/0", None, "true"), ("a/0", None, "true")], later)
    everywhere.tell([("c/0", None, "false")], later + DAY)
    found = everywhere.read()
    assert found.prediction_id.tolist() == ["a/0", "c/0", "b/0"]
    assert found.prediction.tolist() == [1, 1, 0]
    assert found.label.tolist() == [1, 0, 1]
    assert found.score.tolist() == [0.5, 0.75, 0.25]
    assert found.label_received_at[1] == np.datetime64((later + DAY).replace(tzinfo=None))
    assert found.slices["grade"].tolist() == [0, 1, 0]
    assert found.slices["amount"].tolist() == [0, 0, 0]
    everything = everywhere.read(unlabelled=True)
    assert everything.prediction_id.tolist() == ["a/0", "c/0", "d/0", "b/0"]
    assert everything.labelled.tolist() == [True, True, False, True]
    assert np.isnat(everything.label_received_at[2])
    assert everywhere.read(limit=1).prediction_id.tolist() == ["a/0"]


def test_an_upload_sent_again_under_its_id_undoes_no_correction(world: World) -> None:
    world.predict([("a", NOON, 0.5)])
    world.tell([("a/0", None, "true")], NOON, batch="first")
    world.tell([("a/0", None, "false")], NOON + DAY)
    world.tell([("a/0", None, "true")], NOON + 2 * DAY, batch="first")
    assert world.read().label.tolist() == [0]


def test_a_record_that_came_twice_is_one_prediction(world: World) -> None:
    world.predict([("a", NOON, 0.5)])
    world.predict([("a", NOON, 0.5), ("b", NOON, 0.5)])
    world.tell([("a/0", None, "true"), ("b/0", None, "true")], NOON)
    assert world.read().prediction_id.tolist() == ["a/0", "b/0"]
    assert world.reader.window(BINARY, NOON, NOON + DAY, sample_rows=10).total_rows == 2


def test_a_window_is_half_open_and_of_one_version_and_role(world: World) -> None:
    edges = [("a", NOON, 0.5), ("b", NOON + timedelta(hours=1), 0.5), ("c", NOON + DAY, 0.5)]
    world.predict(edges)
    world.predict(edges, version="2", role=Role.SHADOW)
    world.tell([(f"{name}/0", None, "true") for name in "abc"], NOON + DAY)
    found = world.read(NOON, NOON + DAY)
    assert list(zip(found.prediction_id, found.version, strict=True)) == [
        *(("a/0", "1"), ("a/0", "2"), ("b/0", "1"), ("b/0", "2")),
    ]
    assert world.read(NOON, NOON + DAY, version="2").role.tolist() == ["shadow", "shadow"]
    assert len(world.read(NOON, NOON + DAY, role=Role.CANARY)) == 0
    rest = world.read(NOON + timedelta(microseconds=1), NOON + 2 * DAY, version="1")
    assert rest.prediction_id.tolist() == ["b/0", "c/0"]


def test_a_label_by_entity_belongs_to_what_was_predicted_before_it_happened(world: World) -> None:
    at = [NOON, NOON + timedelta(hours=2), NOON + timedelta(hours=4)]
    world.predict(
        [("a", at[0], 0.5), ("b", at[1], 0.5), ("c", at[2], 0.5), ("d", at[0], 0.5)],
        entities=["e", "e", "e", "other"],
    )
    world.tell([(None, "e", "true")], NOON + DAY, happened=NOON + timedelta(hours=3))
    world.tell([("b/0", None, "false")], NOON + timedelta(hours=3))
    found = world.read()
    assert dict(zip(found.prediction_id, found.label, strict=True)) == {"a/0": 1.0, "b/0": 0.0}


def test_what_was_known_at_a_time_is_read_as_it_was(world: World) -> None:
    world.predict([("a", NOON, 0.5), ("b", NOON, 0.5)])
    world.tell([("a/0", None, "true")], NOON + DAY)
    world.tell([("a/0", None, "false"), ("b/0", None, "true")], NOON + 3 * DAY)
    assert world.read(known_by=NOON + 2 * DAY).label.tolist() == [1]
    assert len(world.read(known_by=NOON)) == 0
    assert world.read(known_by=NOON + 4 * DAY).label.tolist() == [0, 1]


def test_a_multiclass_prediction_has_every_score(world: World) -> None:
    world.spec = MULTICLASS
    world.predict([("a", NOON, 0.75), ("b", NOON, 0.25)])
    world.tell([("a/0", None, "x"), ("b/0", None, "z")], NOON)
    found = world.read()
    assert found.label.tolist() == [0, 2]
    assert found.prediction.tolist() == [0, 1]
    assert found.scores.tolist() == [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0]]
    assert found.score.tolist() == [0.75, 0.75]


def test_a_regression_has_values(world: World) -> None:
    world.spec = REGRESSION
    world.predict([("a", NOON, 3.5), ("b", NOON, 1e30)])
    world.tell([("a/0", None, "4.25"), ("b/0", None, "1.0")], NOON)
    found = world.read(unlabelled=True)
    assert found.score[0] == 3.5
    assert found.label[0] == 4.25
    # A value that cannot be judged has no label either.
    assert np.isnan(found.score[1])
    assert np.isnan(found.label[1])


def test_features_come_typed_with_nulls_and_as_the_spec_types_them(world: World) -> None:
    whole = np.array([[1.5, 7, 1, 0]], np.float32)
    missing = np.full((1, 4), np.nan, np.float32)
    world.predict([("a", NOON, 0.5), ("b", NOON, 0.5)], features=[whole, missing])
    retyped = parse_spec(
        HEAD + "task: binary\nlabel: {name: y, positive: true}\nmetrics: {primary: accuracy}\n"
        "features:\n  - {name: amount, type: category, categories: [low, high]}\n"
        "  - {name: fresh, type: float}\n"
    )
    world.predict(
        [("c", NOON, 0.5)],
        version="2",
        features=[np.array([[1, 2.5]], np.float32)],
        header_features=retyped.features,
    )
    world.tell([("b/0", None, "true")], NOON)
    old = world.reader.window(BINARY, NOON, NOON + DAY, version="1")
    assert old.features.to_pylist() == [
        {"amount": 1.5, "count": 7, "grade": "b", "owner": False},
        {"amount": None, "count": None, "grade": None, "owner": None},
    ]
    assert old.labelled.tolist() == [False, True]
    new = world.reader.window(retyped, NOON, NOON + DAY)
    assert new.features.to_pylist() == [
        {"amount": None, "fresh": None},
        {"amount": None, "fresh": None},
        {"amount": "high", "fresh": 2.5},
    ]
    few = world.reader.window(BINARY, NOON, NOON + DAY, features=["owner"])
    assert few.features.column_names == ["owner"]
    with pytest.raises(UsageError, match="features must be of the spec: amount, count"):
        world.reader.window(BINARY, NOON, NOON + DAY, features=["rich"])


def test_a_sample_is_even_exact_and_the_same_each_time(world: World) -> None:
    names = [f"n{i}" for i in range(2000)]
    world.predict([(name, NOON + timedelta(seconds=i), 0.5) for i, name in enumerate(names)])
    whole = world.reader.window(BINARY, NOON, NOON + DAY)
    assert (len(whole), whole.total_rows, whole.sampled) == (2000, 2000, False)

    def sample(rows: int, seed: int = 0) -> Any:
        return world.reader.window(BINARY, NOON, NOON + DAY, sample_rows=rows, seed=seed)

    one, two, other = sample(500), sample(500), sample(500, seed=1)
    assert (len(one), one.total_rows, one.sampled) == (500, 2000, True)
    assert one.prediction_id.tolist() == two.prediction_id.tolist()
    assert set(one.prediction_id) != set(other.prediction_id)
    assert set(sample(100).prediction_id) < set(one.prediction_id)
    first_half = sum(int(name[1:].split("/")[0]) < 1000 for name in one.prediction_id)
    # Binomial(500, 1/2) is within 5 standard deviations.
    assert abs(first_half - 250) < 56
    with pytest.raises(UsageError, match=r"sample_rows must be 1 or more\. Got 0"):
        sample(0)


def test_pairs_are_requests_that_both_answered_whenever_the_second_did(everywhere: World) -> None:
    hour = timedelta(hours=1)
    everywhere.predict([("a", NOON, 0.75), ("b", NOON + hour, 0.25), ("c", NOON, 0.25)])
    # Replayed from the log two days later, and once more as a canary.
    replayed = [("b", NOON + 2 * DAY, 0.75), ("a", NOON + 2 * DAY, 0.25), ("x", NOON, 0.5)]
    everywhere.predict(replayed, version="2", role=Role.SHADOW)
    everywhere.predict([("a", NOON + 3 * DAY, 0.5)], version="2", role=Role.CANARY)
    everywhere.tell([("a/0", None, "true")], NOON + hour)
    pairs = everywhere.reader.pairs(BINARY, "1", "2", NOON, NOON + DAY)
    assert pairs.prediction_id.tolist() == ["a/0"]
    assert (pairs.champion_score[0], pairs.candidate_score[0]) == (0.75, 0.5)
    assert pairs.candidate_role.tolist() == ["canary"]
    assert pairs.label.tolist() == [1]
    both = everywhere.reader.pairs(BINARY, "1", "2", NOON, NOON + DAY, labelled=False)
    assert both.prediction_id.tolist() == ["a/0", "b/0"]
    assert both.champion_prediction.tolist() == [1, 0]
    assert both.candidate_prediction.tolist() == [1, 1]
    assert both.predicted_at[1] == np.datetime64((NOON + hour).replace(tzinfo=None))
    assert len(everywhere.reader.pairs(BINARY, "1", "2", NOON + DAY, NOON + 5 * DAY)) == 0
    assert len(everywhere.reader.pairs(BINARY, "2", "1", NOON, NOON + 5 * DAY, labelled=False)) == 2


def test_a_time_without_a_zone_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match=r"since must have a time zone\. Got 2026-03-04T00:00:00"):
        world.read(datetime(2026, 3, 4), NOON)  # noqa: DTZ001


def test_only_the_days_asked_for_are_opened(world: World) -> None:
    """Files of other days are gone, and nobody notices."""
    for day in range(4):
        world.predict([(f"d{day}", NOON + day * DAY, 0.5)])
        world.tell([(f"d{day}/0", None, "true")], NOON + (day + 2) * DAY)
    for table, day in (("predictions", "2026-03-04"), ("predictions", "2026-03-07")):
        for file in (Path(world.root) / table / "m" / f"day={day}").glob("*.parquet"):
            file.unlink()
    found = world.read(NOON + DAY, NOON + 3 * DAY)
    assert found.prediction_id.tolist() == ["d1/0", "d2/0"]


@pytest.mark.parametrize("seed", range(3))
def test_any_history_reads_as_the_rules_say(world: World, seed: int) -> None:
    """Against the rules spelled out over lists: repeats, corrections, entities, versions."""
    rng = np.random.default_rng(seed)
    predictions: dict[tuple[str, str], tuple[datetime, float, str | None]] = {}
    labels: dict[str, tuple[datetime, str | None, str | None, str, datetime | None]] = {}
    for _ in range(6):
        chosen = [int(n) for n in rng.integers(0, 12, 5)]
        version = str(rng.integers(1, 3))
        rows = [(f"r{n}", NOON + timedelta(hours=n), n / 11) for n in chosen]
        entities = [f"e{n % 3}" if n % 2 else None for n in chosen]
        world.predict(rows, version, entities=entities)
        for (name, at, score), entity in zip(rows, entities, strict=True):
            predictions[f"{name}/0", version] = (at, float(np.float32(score)), entity)
    for upload in range(8):
        at = NOON + timedelta(hours=int(rng.integers(0, 48)), seconds=upload)
        happened = NOON + timedelta(hours=int(rng.integers(0, 12))) if rng.random() < 0.5 else None
        batch = f"u{rng.integers(0, 6)}"
        by_id = rng.random() < 0.6
        target = (f"r{rng.integers(0, 12)}/0", None) if by_id else (None, f"e{rng.integers(0, 3)}")
        label = str(rng.random() < 0.5).lower()
        world.tell([(*target, label)], at, happened, batch)
        key = f"{target} {batch}"
        if key not in labels or at < labels[key][0]:
            labels[key] = (at, *target, label, happened)
    expected = {}
    for (name, version), (at, score, entity) in predictions.items():
        direct = [row for row in labels.values() if row[1] == name]
        through = [
            row for row in labels.values()
            if entity is not None and row[2] == entity and at <= (row[4] or row[0])
        ]  # fmt: skip
        counts = direct or through
        if counts:
            expected[name, version] = (score, float(max(counts, key=lambda r: r[0])[3] == "true"))
    found = world.read(NOON, NOON + 2 * DAY)
    got = {
        (name, version): (score, label)
        for name, version, score, label in zip(
            found.prediction_id, found.version, found.score, found.label, strict=True
        )
    }
    assert got == expected
    assert len(found) == len(expected)


def test_an_answer_is_found_by_its_id_and_a_request_with_all_its_rows(everywhere: World) -> None:
    finder = DeltaAnswerFinder(everywhere.root)
    assert finder.models() == []
    assert finder.find("m", "a/0", 10) == []
    batch = np.array([[0.5, 3, 0, 1], [np.nan, 4, 1, 0]], np.float32)
    everywhere.predict([("a", NOON, 0.25), ("b", NOON, 0.75)], entities=["e", None])
    everywhere.predict([("a", NOON, 0.25)], entities=["e"])
    everywhere.predict([("a", NOON + DAY, 0.875)], version="2", role=Role.SHADOW, features=[batch])
    assert finder.models() == ["m"]
    first, second = finder.find("m", "a/0", 10)
    assert (first.version, first.role, first.prediction, first.score) == (
        *("1", "champion", "false", 0.25),
    )
    assert first.features == {"amount": 1.5, "count": 0, "grade": "a", "owner": True}
    assert (first.predicted_at, first.request_id, first.row) == (NOON, "a", 0)
    assert (second.version, second.role) == ("2", "shadow")
    assert [a.prediction_id for a in finder.find("m", "a", 10)] == ["a/0", "a/0", "a/1"]
    assert finder.find("m", "a", 10)[2].features["amount"] is None
    assert finder.find("m", "a", 1) == [first]
    assert finder.find("m", "it's", 10) == finder.find("n", "a", 10) == []


def test_an_answer_s_feature_of_a_changed_type_is_found_in_the_column_it_is_in(
    world: World,
) -> None:
    changed = (Feature(name="amount", type=FeatureType.INTEGER), *BINARY.features[1:])
    world.predict([("a", NOON, 0.5)])
    world.predict([("b", NOON, 0.5)], header_features=changed)
    finder = DeltaAnswerFinder(world.root)
    assert finder.find("m", "a/0", 10)[0].features["amount"] == 1.5
    assert finder.find("m", "b/0", 10)[0].features["amount"] == 1
