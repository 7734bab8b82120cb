"""`heliotrope explain --prediction`: from an answer to label, version, data, code, decisions."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.labels import LabelRows, LabelUpload
from heliotrope.domain.rollout.documents import PointAlias, Rollout, SetTraffic
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.spool_batch import decode_batch
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.domain.triggers import Cause, CauseKind
from heliotrope.service.rollout_keeping import RolloutBook
from heliotrope.spec import load_spec
from heliotrope.vocabulary import Outcome, Role

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


def micros(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def answer(shop: Any, request: str, version: str, role: Role, at: datetime) -> None:
    """One logged answer to a row, as a predictor spools it."""
    spec = load_spec(shop.folder / "model.yaml")
    head = SegmentHeader(
        spool=f"00000000-0000-0000-0000-{micros(at) % 10**12:012d}", first_sequence=1,
        model="toy", version=version, role=role, task=spec.task, features=spec.features,
        classes=tuple(spec.classes),
    )  # fmt: skip
    record = Record(
        sequence=1, predicted_at_ns=micros(at) * 1000, latency_ns=2_500_000, request_id=request,
        protocol="v2", features=np.array([[np.nan, 44, 1, 1]], np.float32),
        scores=np.array([0.75], np.float32), predictions=np.array([1], np.uint16),
        entity_keys=["k7"],
    )  # fmt: skip
    batch = decode_batch(encode_header(head) + encode_record(record))
    store = DeltaEventStore(shop.here.settings.store)
    assert store.append_predictions("toy", [batch], {head.spool: 1}, micros(at) + 5)


def tell(shop: Any, entity: str, label: str, at: datetime) -> None:
    """A label by entity, as the collector takes it."""
    rows = LabelRows([None], [entity], [label], [micros(at)], [0])
    store = DeltaEventStore(shop.here.settings.store)
    assert store.append_labels("toy", [LabelUpload(rows, label)], [micros(at)])


def rolled_out(shop: Any) -> None:
    """A log: version 1 made by run-1, promoted; another rollout that did not concern it."""
    book, state = RolloutBook(shop.here.state), shop.here.state
    cause = Cause(model="toy", kind=CauseKind.DRIFT, key="w", text="it moved", asked_at=NOON)
    other = DecisionEntry(
        model="toy", at=NOON, kind=DecisionKind.TRIGGER, actor="controller", subject="drift w",
        reason="another run's cause", evidence={"cause": cause.model_dump(mode="json")},
    )  # fmt: skip
    ended = DecisionEntry(
        model="toy", at=NOON, kind=DecisionKind.RUN, actor="controller", subject="run run-1",
        reason="registered: gate says so", evidence={"run_key": "run-1", "version": "1"},
    )  # fmt: skip
    state.apply(NOON, decisions=[other, ended])
    for number, candidate, champion in ((1, "1", None), (2, "8", "7")):
        made = Rollout(
            model="toy", number=number, candidate=candidate, champion=champion, cause="first",
            opened_at=NOON, entered_at=NOON, seen_at=NOON, reason=f"opened for v{candidate}",
        )  # fmt: skip
        kept = book.write(None, made, NOON)
        baking = made.model_copy(
            update={"state": RolloutState.BAKING, "turn": 1, "reason": f"v{candidate} is ready"}
        )
        actions = (SetTraffic(weights={candidate: 100}), PointAlias(version=candidate))
        book.write(kept, baking, NOON + timedelta(minutes=1), actions=actions)


def test_a_prediction_is_walked_back_to_all_that_is_behind_it(workshop: Any) -> None:
    workshop.write(workshop.loans())
    assert workshop.train(cause="a test").outcome is Outcome.REGISTERED
    rolled_out(workshop)
    answer(workshop, "r-1", "1", Role.CHAMPION, NOON)
    tell(workshop, "k7", "1", NOON + timedelta(days=3))
    tell(workshop, "k7", "0", NOON + timedelta(days=4))

    told = workshop.cli("explain", "--prediction", "r-1/0")
    assert told.code == 0, told.err
    for words in (
        "Prediction r-1/0 by toy version 1 as champion", "2024-06-01 12:00:00", "in 2.50 ms",
        "(score 0.7500)", "came 2024-06-05", ": wrong", "income=missing, age=44, zip=0999",
        "k7", "toy version 1", "version 0 of", "sha256", "commit", "Gate", "PASS",
        "registered: gate says so", "version 1 pending: opened for v1", "version 1 100%: v1 is",
        "champion becomes version 1",
    ):  # fmt: skip
        assert words in told.out, (words, told.out)
    for words in ("opened for v8", "another run's cause", "Not there"):
        assert words not in told.out

    read = json.loads(workshop.cli("explain", "toy", "--prediction", "r-1", "--json").out)
    assert [a["answer"]["prediction_id"] for a in read["answers"]] == ["r-1/0"]
    assert read["answers"][0]["label"]["right"] is False
    (version,) = read["versions"]
    assert version["explanation"]["lineage"]["snapshot"]["content_hash"]
    assert [d["kind"] for d in version["decisions"]] == [
        *("run", "rollout", "rollout", "traffic", "alias"),
    ]


def test_what_cannot_be_found_is_said_and_the_rest_is_shown(workshop: Any) -> None:
    workshop.write(None)
    nobody = workshop.cli("explain", "--prediction", "r-9")
    assert nobody.code != 0
    assert "'r-9' must be logged" in nobody.err
    answer(workshop, "r-1", "4", Role.CANARY, NOON)
    told = workshop.cli("explain", "--prediction", "r-1")
    assert told.code == 0, told.err
    assert "by toy version 4 as canary" in told.out
    assert told.out.count("Not there") >= 2
    assert "what labels mean is in the lineage of version 4" in told.out.replace("\n", " ")
    assert "must be given" in workshop.cli("explain").err
    assert "Got version '3'" in workshop.cli("explain", "toy", "3", "--prediction", "r-1").err
