"""A model's way on a cluster: trained, deployed, rolled out by the controller's duties, promoted.

Kubernetes and KServe are emulated over HTTP, below them are real predictors; MLflow, SQL and Delta
are real.
"""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.bootstrap_cluster import ClusterPlatform
from heliotrope.domain.deployment import StepState
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.serving_plan import ObservedServing
from heliotrope.service.deploying import carry_out
from heliotrope.service.rollout_duty import RolloutDuty
from heliotrope.settings import Settings
from heliotrope.spec import ModelSpec, load_spec
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS
from heliotrope.vocabulary import ALIAS_CHAMPION, ServingMode
from tests.emulated.contracts import KFP, contract
from tests.emulated.kfp_api import FakeKfp, serve
from tests.emulated.kserve_place import KServePlace, kserve_place
from tests.emulated.swagger import Swagger

POLICY = """
gates: {tolerance: 0.4, slice_drop: 1.0}
rollout:
  shadow: {enabled: false, minimum_labels: 20}
  steps: [50, 100]
  step_minimum: 2m
  step_timeout: 10d
  bake: 4m
"""
PATIENCE = 180.0
STAMP = pa.timestamp("us", "UTC")


@dataclass
class Loop:
    """A cluster, a model's spec, a controller's rollout duty, users and their labels."""

    place: KServePlace
    shop: Any
    spec: ModelSpec
    kfp_url: str
    now: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)
    asked: int = 0
    board: Board = field(default_factory=lambda: Board(CONTROLLER_METRICS))
    platforms: list[ClusterPlatform] = field(default_factory=list)

    def platform(self, account: Account) -> ClusterPlatform:
        """As a process of that account has it."""
        settings = Settings.parse({"HELIOTROPE_PLACE": "cluster"}, self.shop.folder)
        environ = {"HELIOTROPE_KFP_URL": self.kfp_url}
        kube = client_of(self.place.api.url, account, "shop")
        made = ClusterPlatform(settings, environ, str(account), kube, self.place.serving)
        self.platforms.append(made)
        return made

    def train(self, frame: pd.DataFrame) -> str:
        """A training's steps; the version is put where the storage initializer finds it."""
        frame.to_csv(self.shop.folder / "loans.csv", index=False)
        outcome = self.shop.train()
        assert outcome.version is not None, outcome
        registry = self.shop.here.registry
        found = registry.version("toy", outcome.version)
        registry.download(found, self.place.models / "toy" / outcome.version)
        return str(outcome.version)

    def users(self, observed: ObservedServing, rows: pd.DataFrame) -> None:
        """Ask through the gateway; predictions and labels go where a collector would put them."""
        link = http.client.HTTPConnection(urlsplit(observed.gateway or "").netloc, timeout=60)
        answers = []
        for row in rows.to_dict("records"):
            self.asked += 1
            features = {k: row[k] for k in ("income", "age", "zip", "owner")}
            body = json.dumps({"instances": [features]}, default=lambda value: value.item())
            link.request("POST", "/v1/models/toy:predict", body,
                         {"content-type": "application/json"})  # fmt: skip
            answer = link.getresponse()
            said = answer.read()
            assert answer.status == 200, said
            version, found = answer.headers["x-model-version"], json.loads(said)
            answers.append((f"u{self.asked}", version, found, str(row["y"])))
        link.close()
        self._log(answers)

    def _log(self, answers: list[tuple[str, str, Any, str]]) -> None:
        names = [one[0] for one in answers]
        moments = [self.now + timedelta(milliseconds=n) for n in range(len(answers))]
        days = pa.array([moment.date() for moment in moments])
        predictions = pa.table({
            "prediction_id": names, "version": [one[1] for one in answers],
            "role": ["champion"] * len(names), "predicted_at": pa.array(moments, STAMP),
            "prediction": [str(one[2]["predictions"][0]) for one in answers],
            "score": [float(one[2]["scores"][0]) for one in answers], "day": days,
        })  # fmt: skip
        labels = pa.table({
            "label_id": names, "prediction_id": names, "label": [one[3] for one in answers],
            "received_at": pa.array(moments, STAMP), "day": days,
        })  # fmt: skip
        store = Path(self.shop.here.settings.store)
        for kind, rows in (("predictions", predictions), ("labels", labels)):
            write_deltalake(str(store / kind / "toy"), rows, mode="append", partition_by=["day"])

    def settled(self) -> ObservedServing:
        """Await that the plan is carried out."""
        end = time.monotonic() + PATIENCE
        while True:
            seen = self.place.serving.observe("toy")
            if seen is not None and seen.settled:
                return seen
            assert time.monotonic() < end, seen
            time.sleep(0.05)

    def duty(self) -> RolloutDuty:
        """A controller's, which knows nothing but what is kept."""
        here = self.platform(Account.CONTROLLER)
        return RolloutDuty(
            self.spec, lambda: here.rollouts, here.serving.observe, self.board,
            lambda model, now: here.traffic.sample(model, now),
        )  # fmt: skip


@contextmanager
def loop(mode: ServingMode, shop: Any) -> Iterator[Loop]:
    file = shop.write(shop.loans(), POLICY)
    template = shop.folder / "template"
    template.mkdir()
    with (
        serve(FakeKfp(Swagger(contract(KFP)))) as kfp,
        kserve_place(mode, template, shop.folder / "cluster") as place,
    ):
        made = Loop(place, shop, load_spec(file), kfp.url)
        yield made
        for platform in made.platforms:
            platform.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", list(ServingMode))
def test_a_candidate_becomes_champion_and_a_new_controller_goes_on_amid_it(
    mode: ServingMode, workshop: Any
) -> None:
    with loop(mode, workshop) as here:
        first = here.train(here.shop.loans())
        deployer = here.platform(Account.DEPLOYER)
        parts = deployer.deployment(here.spec, lambda: here.now)
        done = carry_out(parts)
        assert done.failure is None
        assert {step.state for step in done.steps} == {StepState.DONE}
        assert here.settled().weights == {first: 100}
        again = carry_out(deployer.deployment(here.spec, lambda: here.now))
        assert {step.state for step in again.steps} == {StepState.NOTHING}

        second = here.train(here.shop.loans(seed=1, since="2024-03-01"))
        rows = here.shop.loans(400, seed=5)
        duty, states = here.duty(), [""]
        registry = here.shop.here.registry
        for _ in range(60):
            duty.run(here.now)
            kept = deployer.rollouts.book.latest("toy")
            assert kept is not None
            state = kept.rollout.state
            if str(state) != states[-1]:
                states.append(str(state))
                # The controller is killed and another takes over.
                duty = here.duty()
                duty.run(here.now)
            if state is RolloutState.PROMOTED and kept.rollout.concluded:
                break
            assert state is RolloutState.PROMOTED or not kept.rollout.over, kept.rollout.reason
            seen = here.settled()
            here.now += timedelta(minutes=1)
            duty.run(here.now)
            here.users(seen, rows.sample(150, random_state=here.asked))
            here.now += timedelta(minutes=1)
        else:
            raise AssertionError(f"it never ended: {states} {kept.rollout.reason}")
        assert states[1:] == ["pending", "canary", "full", "baking", "promoted"]
        champion = registry.by_alias("toy", ALIAS_CHAMPION)
        assert champion is not None
        assert champion.version == second
        assert here.settled().weights == {second: 100}
        # A deployment meets what the controller made, and leaves it.
        steps = carry_out(deployer.deployment(here.spec, lambda: here.now)).steps
        assert {step.state for step in steps} == {StepState.NOTHING}
        assert steps[-1].change.why.startswith(f"version {second} as champion, 100%")
        assert not here.place.controller.killed_before_ready
