"""`heliotrope rollout`, and the training run's part: with no platform up, all still ends well."""

import getpass
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kserve import KServeServing
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.inference_service import ServedAs
from heliotrope.bootstrap import Platform
from heliotrope.domain.decisions import DecisionKind
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.errors import NotFoundError, UnavailableError
from heliotrope.ports.registry import RegisteredVersion
from heliotrope.service.rollout_keeping import RolloutBook
from heliotrope.service.rollout_pipeline import await_rollout, deploy_candidate
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import ALIAS_CANDIDATE, ALIAS_CHAMPION, ServingMode
from tests.emulated.api_http import Fault
from tests.emulated.apiserver import ApiServer

SPEC = """
name: toy
task: binary
label: {name: y, positive: 1}
source: {path: a.csv}
metrics: {primary: accuracy}
features: [{name: x, type: float}]
"""
T0 = datetime(2026, 3, 1, tzinfo=UTC)


class Aliases:
    """A registry of two versions, for who reads versions and moves aliases."""

    def __init__(self) -> None:
        self.aliases = {ALIAS_CHAMPION: "1", ALIAS_CANDIDATE: "2"}

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        return self.version(model, self.aliases[alias])

    def set_alias(self, model: str, alias: str, version: str) -> None:
        self.aliases[alias] = version

    def version(self, model: str, version: str) -> RegisteredVersion:
        return RegisteredVersion(model, version, f"r{version}", T0, (), {}, {}, True)

    def read_text(self, run_id: str, path: str) -> str:
        raise NotFoundError(path)


@pytest.fixture(params=["embedded", *ServingMode], autouse=True)
def silence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where versions are served, which keeps plans and says nothing more; what is said of that."""
    if request.param == "embedded":
        yield "The embedded platform must be up"
        return
    api = ApiServer().start()
    api.faults.append(Fault(503, times=1_000_000, within="/inferenceservices"))
    kube = client_of(api.url, Account.DEPLOYER, "shop", patience=0.05)
    serving = KServeServing(kube, ServedAs(request.param, "shop"), lambda m, v: f"s3://b/{m}/{v}")
    monkeypatch.setattr(Platform, "serving", serving)
    yield "Kubernetes' API at .* must answer to get inferenceservices"
    api.stop()


@pytest.fixture
def aliases(monkeypatch: pytest.MonkeyPatch) -> Aliases:
    made = Aliases()
    monkeypatch.setattr(Platform, "registry", made)
    return made


@pytest.fixture
def spec() -> ModelSpec:
    return parse_spec(SPEC)


def deploy(here: Platform, spec: ModelSpec, version: str = "2") -> str:
    return deploy_candidate(
        spec, version, "test", here.registry, lambda: here.rollouts, lambda: here.serving, T0
    )


def test_without_a_platform_the_candidate_is_recorded_and_waits(
    workshop: Any, aliases: Aliases, spec: ModelSpec
) -> None:
    here = workshop.here
    told = deploy(here, spec)
    assert "rollout 1 of version 2 against champion 1; it waits for a platform" in told
    kept = RolloutBook(here.state).latest("toy")
    assert kept is not None
    assert (kept.rollout.state, kept.rollout.candidate) == (RolloutState.PENDING, "2")
    plan = here.serving.plan("toy")
    assert plan.weights == {"1": 100, "2": 0}
    # The same run again, as after a crash, opens no second one.
    assert "rollout 1 of version 2" in deploy(here, spec)
    assert len(RolloutBook(here.state).all("toy")) == 1


def test_the_first_champion_needs_no_rollout(
    workshop: Any, aliases: Aliases, spec: ModelSpec
) -> None:
    here = workshop.here
    assert "first champion" in deploy(here, spec, "1")
    assert RolloutBook(here.state).latest("toy") is None


def test_a_training_ends_well_where_the_state_is_away(
    workshop: Any, aliases: Aliases, spec: ModelSpec
) -> None:
    def away() -> Any:
        raise UnavailableError("the database must answer")

    here = workshop.here
    told = deploy_candidate(spec, "2", "test", here.registry, away, lambda: here.serving, T0)
    assert told == "version 2 is a candidate and waits for a rollout: the database must answer"


def test_waiting_is_only_where_the_spec_says_so_and_never_for_nobody(
    workshop: Any, aliases: Aliases, spec: ModelSpec, silence: str
) -> None:
    here = workshop.here
    deploy(here, spec)

    def wait(spec: ModelSpec) -> tuple[str, str]:
        def fail(seconds: float) -> None:
            raise AssertionError("there is nothing to wait for")

        return await_rollout(
            spec, "2", "deployed", lambda: here.rollouts, lambda: here.serving, lambda: T0, fail
        )

    assert wait(spec)[0].startswith("not waited for")
    patient = parse_spec(SPEC + "rollout: {wait: true}\n")
    line, page = wait(patient)
    assert re.search(f"waits for a rollout: {silence}", line)
    assert "| pending" not in page
    assert "- **state**: pending" in page
    assert workshop.cli("rollout", "abort", "toy").code == 0
    assert "was taken back: aborted by" in wait(patient)[0]


def test_a_rollout_that_ends_while_it_is_waited_for_is_shown(
    workshop: Any, aliases: Aliases
) -> None:
    spec = parse_spec(SPEC + "rollout: {wait: true}\n")
    here = workshop.here
    deploy(here, spec)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            assert workshop.cli("rollout", "abort", "toy", "--why", "no | pipes").code == 0

    class Up:
        def observe(self, model: str) -> None:
            """A platform is up."""

    line, page = await_rollout(
        spec,
        "2",
        "",
        lambda: here.rollouts,
        Up,
        lambda: T0 + timedelta(hours=1),
        sleep,  # type: ignore[arg-type]
    )
    assert len(looks) == 2
    assert "no | pipes" in line
    assert "- **state**: aborted" in page


def test_status_tells_state_evidence_and_what_it_waits_for(
    workshop: Any, aliases: Aliases, spec: ModelSpec
) -> None:
    missing = workshop.cli("rollout", "status", "toy")
    assert missing.code == 3
    assert "must have a rollout" in missing.err
    here = workshop.here
    deploy(here, spec)
    shown = workshop.cli("rollout", "status", "toy")
    assert "toy rollout 1: version 2 pending, against champion 1" in shown.out
    # No platform is up; what could be seen is kept all the same.
    here.rollouts.tick(spec, T0)
    shown = workshop.cli("rollout", "status", "toy")
    assert "ERROR  alive" in shown.out
    assert "waits for" in shown.out
    document = json.loads(workshop.cli("rollout", "status", "toy", "--json").out)
    assert document["rollout"]["candidate"] == "2"
    assert document["judgement"]["checks"][0]["verdict"] == "ERROR"


def test_orders_carry_a_name_and_a_reason_and_bad_ones_are_refused(
    workshop: Any, aliases: Aliases, spec: ModelSpec, silence: str
) -> None:
    deploy(workshop.here, spec)
    paused = workshop.cli("rollout", "pause", "toy", "--why", "release freeze", "--by", "kim")
    assert paused.out == (
        "toy rollout 1: version 2 paused (from pending). paused by kim: release freeze.\n"
    )
    again = workshop.cli("rollout", "pause", "toy")
    assert again.code == 2
    assert "pause must be given to one that is not paused" in again.err
    assert workshop.cli("rollout", "resume", "toy", "--json").code == 0
    refused = workshop.cli("rollout", "promote", "toy")
    assert refused.code == 6
    assert re.search(silence, refused.err)
    assert workshop.cli("rollout", "abort", "toy").code == 0
    assert workshop.here.serving.plan("toy").weights == {"1": 100}
    orders = workshop.here.state.decisions("toy", kinds=[DecisionKind.PERSON])
    assert [d.actor for d in orders] == ["person:kim", *[f"person:{getpass.getuser()}"] * 2]
