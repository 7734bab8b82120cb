"""KServe's adapter where things go wrong: kills, conflicts, stale statuses, refusals, silence."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import Call, Object
from heliotrope.adapters.cluster.kube_link import KubeLink
from heliotrope.adapters.inference_service import ServingMode
from heliotrope.domain.serving_plan import ServingPlan
from heliotrope.errors import (
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
)
from heliotrope.vocabulary import Role
from tests.emulated.api_http import Fault
from tests.emulated.kserve_steps import (
    BAKE,
    DARK,
    FULL,
    HALF,
    MODEL,
    ONE,
    TWO,
    WAY,
    Cluster,
    plan,
)

STANDARD, KNATIVE = ServingMode.STANDARD, ServingMode.KNATIVE


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(mode: ServingMode, **more: Any) -> Cluster:
        made.append(Cluster(mode, **more))
        return made[-1]

    yield make
    for one in made:
        one.api.stop()


@pytest.mark.parametrize("mode", ServingMode)
def test_the_candidates_pods_stay_from_the_dark_launch_to_the_promotion(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    here = cluster(mode, replicas=2)
    for one in WAY[:5]:
        seen = here.settle(one)
        assert here.served() == {v: w for v, w in one.weights.items() if w}
        assert {r.version: r.role for r in seen.revisions} == {
            r.version: r.role for r in one.revisions
        }
    first = here.alive("2")
    made = here.made("2")
    seen = here.settle(TWO)
    assert [r.version for r in seen.revisions] == ["2"]
    assert here.served() == {"2": 100}
    assert not here.alive("1")
    if mode is STANDARD:
        # Not even the last step, which makes it the stable predictor, starts it anew.
        assert [pod.port for pod in here.alive("2")] == [pod.port for pod in first]
        assert here.made("2") == made == 2
        assert here.controller.killed_before_ready == []


def test_a_dark_launch_takes_no_pod_from_the_champion(cluster: Callable[..., Cluster]) -> None:
    here = cluster(STANDARD, replicas=3)
    here.settle(ONE)
    here.settle(DARK)
    here.round(3)
    assert (len(here.alive("1")), len(here.alive("2"))) == (3, 1)
    here.settle(HALF)
    here.round(3)
    assert (len(here.alive("1")), len(here.alive("2"))) == (3, 2)
    here.settle(FULL)
    here.round(3)
    # What is promoted next carries everything alone, and what may come back is still whole.
    assert (len(here.alive("1")), len(here.alive("2"))) == (3, 3)


@pytest.mark.parametrize("mode", ServingMode)
def test_a_rollback_takes_the_traffic_at_once_then_the_pods_and_needs_no_registry(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    here = cluster(mode)
    for one in (ONE, DARK, HALF):
        here.settle(one)
    asked = list(here.uris)
    here.serving.apply(ONE)
    here.round(2)
    assert here.served() == {"1": 100}
    assert here.alive("2"), "requests under way may still be there"
    here.until(lambda seen: seen.settled)
    assert not here.alive("2")
    assert here.uris == asked == ["1", "2"]


@pytest.mark.parametrize("mode", ServingMode)
@pytest.mark.parametrize("after", [FULL, BAKE])
def test_a_version_that_has_all_traffic_is_taken_back_within_a_round_or_two(
    cluster: Callable[..., Cluster], mode: ServingMode, after: ServingPlan
) -> None:
    here = cluster(mode)
    for one in (ONE, DARK, HALF, FULL, after):
        here.settle(one)
    here.serving.apply(ONE)
    here.round(2)
    assert here.served() == {"1": 100}
    seen = here.until(lambda seen: seen.settled)
    assert [r.version for r in seen.revisions] == ["1"]


def test_a_promotion_in_knative_mode_is_taken_back_before_the_former_one_is_up_again(
    cluster: Callable[..., Cluster],
) -> None:
    here = cluster(KNATIVE)
    for one in (ONE, DARK, HALF):
        here.settle(one)
    here.serving.apply(FULL)
    here.round(2)
    assert here.served() == {"2": 100}
    here.serving.apply(ONE)
    here.round(2)
    assert here.served() == {"1": 100}
    here.until(lambda seen: seen.settled)
    assert here.served() == {"1": 100}


@pytest.mark.parametrize("mode", ServingMode)
def test_a_version_that_never_gets_ready_gets_nothing_and_the_next_one_comes_after_it(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    here = cluster(mode, ready_after={"2": 10_000})
    here.settle(ONE)
    here.serving.apply(HALF)
    for _ in range(10):
        here.round()
        seen = here.serving.observe(MODEL)
        assert seen is not None
        assert not seen.settled
        assert seen.weights == here.served() == {"1": 100}
        there = seen.revision("2")
        assert there is not None
        assert (there.ready, there.address) == (False, None)
    third = plan({"1": Role.CHAMPION, "3": Role.CANARY}, v1=50, v3=50)
    seen = here.settle(third)
    assert here.served() == {"1": 50, "3": 50}
    assert not here.alive("2")


@pytest.mark.parametrize("mode", ServingMode)
def test_a_jump_to_a_version_that_does_not_run_yet_waits_for_it(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    here = cluster(mode, ready_after={"7": 5})
    here.settle(ONE)
    here.serving.apply(plan({"7": Role.CHAMPION}, v7=100))
    while here.served() != {"7": 100}:
        assert here.served() == {"1": 100}
        assert here.alive("1")
        here.round()
        here.serving.observe(MODEL)
    here.until(lambda seen: seen.settled)
    assert here.controller.killed_before_ready == []


@pytest.mark.parametrize("mode", ServingMode)
def test_what_a_sleeping_controller_says_of_before_is_not_taken_for_now(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    here = cluster(mode)
    for one in WAY:
        here.serving.apply(one)
        # Nobody acts on it: all conditions are still True.
        for _ in range(3):
            seen = here.serving.observe(MODEL)
            assert seen is None or not seen.settled, one
        here.until(lambda seen: seen.settled)


@pytest.mark.parametrize("mode", ServingMode)
def test_a_role_is_what_the_pods_say(cluster: Callable[..., Cluster], mode: ServingMode) -> None:
    here = cluster(mode)
    for one in (ONE, DARK):
        here.settle(one)
    here.serving.apply(plan({"1": Role.CHAMPION, "2": Role.CANARY}, v1=100, v2=0))
    seen = here.serving.observe(MODEL)
    assert seen is not None
    there = seen.revision("2")
    assert there is not None
    assert (there.role, seen.settled) == (Role.SHADOW, False)
    here.round()
    seen = here.serving.observe(MODEL)
    assert seen is not None
    there = seen.revision("2")
    assert there is not None
    assert (there.role, seen.settled) == (Role.CANARY, True)
    assert here.made("2") == 1


class Killed(BaseException):
    """The process dies."""


class MortalLink(KubeLink):
    """Dies at one of its requests: before it is sent, or before its answer is read."""

    def fated(self, at: int, after: bool) -> "MortalLink":
        self.left, self.after = at, after
        return self

    def once(self, call: Call) -> Object:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        answer = super().once(call)
        if self.left == 0:
            raise Killed
        return answer


def run(here: Cluster, at: int | None, after: bool) -> int:
    """The whole way, with a process that dies at one request and is started anew; the requests."""
    alive = here.kube()
    mortal = MortalLink(alive._link.api, alive.account).fated(at or 10**9, after)
    here.serving = here.connect(KubeClient(mortal, alive.namespace))
    for one in WAY:
        for _ in range(80):
            try:
                if here.serving.plan(MODEL) != one:
                    here.serving.apply(one)
                seen = here.serving.observe(MODEL)
                if seen is not None and seen.settled:
                    break
            except Killed:
                here.serving = here.connect()
            here.round()
            for version in here.served():
                assert any(pod.ready for pod in here.alive(version)) or here.made(version) == 1
        else:
            raise AssertionError(f"{one.weights} not carried out")
        assert here.served() == {v: w for v, w in one.weights.items() if w}
    return 10**9 - mortal.left


def killed_at(cluster: Callable[..., Cluster], mode: ServingMode, step: int) -> None:
    whole = cluster(mode)
    requests = run(whole, None, False)
    assert requests > 60
    for at in range(1, requests, step):
        for after in (False, True):
            here = cluster(mode)
            run(here, at, after)
            assert here.controller.killed_before_ready == []
            assert here.made("2") == whole.made("2"), (at, after)
            here.api.stop()


@pytest.mark.parametrize("mode", ServingMode)
def test_a_process_killed_at_some_requests_is_resumed(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    killed_at(cluster, mode, 13)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ServingMode)
def test_a_process_killed_at_any_request_is_resumed(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    killed_at(cluster, mode, 1)


@pytest.mark.parametrize("mode", ServingMode)
@pytest.mark.parametrize("trouble", [0, 429, 503])
@pytest.mark.parametrize("after", [False, True])
def test_an_unwell_server_is_asked_again_and_nothing_is_done_twice(
    cluster: Callable[..., Cluster], mode: ServingMode, trouble: int, after: bool
) -> None:
    here = cluster(mode)
    here.settle(ONE)
    here.settle(DARK)
    here.api.faults.append(Fault(trouble, times=1, after=after, retry_after="0", method="PATCH"))
    here.settle(HALF)
    assert here.served() == {"1": 50, "2": 50}
    assert (here.made("1"), here.made("2")) == (1, 1)


def test_a_plan_that_could_not_be_kept_leaves_the_one_before(
    cluster: Callable[..., Cluster],
) -> None:
    here = cluster(STANDARD)
    here.settle(ONE)
    here.api.faults.append(Fault(403, times=1, method="PATCH"))
    with pytest.raises(UnavailableError, match="must be allowed to patch configmaps"):
        here.serving.apply(HALF)
    assert here.serving.plan(MODEL) == ONE
    here.settle(HALF)


@pytest.mark.parametrize("mode", ServingMode)
def test_what_a_person_edits_by_hand_is_taken_back_and_said(
    cluster: Callable[..., Cluster], mode: ServingMode, caplog: pytest.LogCaptureFixture
) -> None:
    here = cluster(mode)
    for one in (ONE, DARK):
        here.settle(one)
    predictor: dict[str, Any] = {"canaryTrafficPercent": 90}
    if mode is STANDARD:
        predictor = {"minReplicas": 9}
    here.api.edit("inferenceservices", MODEL, {"spec": {"predictor": predictor}}, "kubectl-edit")
    here.until(lambda seen: seen.settled)
    assert here.isvc()["spec"]["predictor"].get("canaryTrafficPercent", 0) == 0
    assert here.isvc()["spec"]["predictor"]["minReplicas"] != 9
    assert "kubectl-edit" in caplog.text


def test_what_others_and_webhooks_add_is_left_alone(cluster: Callable[..., Cluster]) -> None:
    here = cluster(STANDARD)
    here.settle(ONE)
    given = here.isvc()["spec"]["predictor"]["model"]["env"]
    env = [{"name": "THEIRS", "value": "1"}, *given]
    model = {"protocolVersion": "v1", "env": env}
    added = {"spec": {"predictor": {"model": model, "timeout": 30}}}
    here.api.edit("inferenceservices", MODEL, added, "kserve-webhook")
    here.until(lambda seen: seen.settled)
    before = len([1 for method, _ in here.api.asked if method == "PATCH"])
    for _ in range(3):
        here.round()
        here.serving.observe(MODEL)
    assert len([1 for method, _ in here.api.asked if method == "PATCH"]) == before
    assert here.isvc()["spec"]["predictor"]["timeout"] == 30


def test_two_who_act_at_once_do_not_undo_each_others_step(
    cluster: Callable[..., Cluster],
) -> None:
    here = cluster(STANDARD)
    for one in (ONE, DARK):
        here.settle(one)
    slow = here.kube()
    asks = slow.get
    first = iter([True])

    def late(kind: access.Kind, name: str, namespace: str | None = None) -> Any:
        found = asks(kind, name, namespace)
        if kind is access.INFERENCE_SERVICE and next(first, False):
            # While it thinks, another takes the version back altogether.
            here.settle(ONE)
        return found

    slow.get = late  # type: ignore[method-assign]
    here.connect(slow).apply(HALF)
    here.serving.apply(ONE)
    seen = here.until(lambda seen: seen.settled)
    assert seen.weights == {"1": 100}
    assert here.served() == {"1": 100}


def test_a_refusal_of_the_cluster_is_told_in_its_words(cluster: Callable[..., Cluster]) -> None:
    here = cluster(STANDARD)
    here.settle(ONE)
    here.api.admit = lambda _before, after: (
        "no new versions on Fridays" if after["kind"] == "InferenceService" else None
    )
    here.serving.apply(DARK)
    assert here.serving.plan(MODEL) == DARK
    with pytest.raises(RefusedError, match="no new versions on Fridays"):
        here.serving.observe(MODEL)
    here.settle(ONE)


def test_without_kserve_it_says_what_is_missing(cluster: Callable[..., Cluster]) -> None:
    here = cluster(STANDARD)
    here.api.kinds = {kind: v for kind, v in here.api.kinds.items() if "kserve" not in kind[0]}
    here.serving.apply(ONE)
    with pytest.raises(NotFoundError, match=r"inferenceservices\.serving\.kserve\.io"):
        here.serving.observe(MODEL)


def test_a_version_that_is_not_registered_changes_nothing(
    cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster(STANDARD)
    here.settle(ONE)

    def unknown(model: str, version: str) -> str:
        raise NotFoundError(f"{model} has no version {version}")

    monkeypatch.setattr(here.serving, "_artifact_uri", unknown)
    with pytest.raises(NotFoundError, match="no version 2"):
        here.serving.apply(DARK)
    assert here.serving.plan(MODEL) == ONE


def test_names_and_numbers_that_cannot_be_are_refused(cluster: Callable[..., Cluster]) -> None:
    here = cluster(KNATIVE)
    long = plan({"123": Role.CHAMPION}, model="m" * 50, v123=100)
    with pytest.raises(UsageError, match=r"at most 48 characters.*Got 50"):
        here.serving.apply(long)
    three = {"1": Role.CHAMPION, "2": Role.CANARY, "3": Role.SHADOW}
    with pytest.raises(UsageError, match="at most 2 versions in Knative mode"):
        here.serving.apply(plan(three, v1=100))
    with pytest.raises(UsageError, match="lower-case letters and digits"):
        here.serving.apply(plan({"v 1": Role.CHAMPION}, **{"vv 1": 100}))


def test_in_standard_mode_three_versions_are_served(cluster: Callable[..., Cluster]) -> None:
    here = cluster(STANDARD)
    three = plan(
        {"1": Role.CHAMPION, "2": Role.CANARY, "3": Role.SHADOW}, v1=80, v2=20, v3=0
    )  # fmt: skip
    here.settle(three)
    assert here.served() == {"1": 80, "2": 20}
    here.settle(plan({"2": Role.CHAMPION, "3": Role.CANARY}, v2=60, v3=40))
    assert here.served() == {"2": 60, "3": 40}
    assert not here.alive("1")


@pytest.mark.parametrize("mode", ServingMode)
@pytest.mark.parametrize("account", [Account.CONTROLLER, Account.PIPELINE, Account.DEPLOYER])
def test_the_table_grants_all_that_serving_needs_and_nothing_that_it_does_not(
    cluster: Callable[..., Cluster], mode: ServingMode, account: Account
) -> None:
    lines = [
        one
        for one in access.accesses_of(account)
        if not one.built_in and (mode is KNATIVE or not one.knative)
    ]

    def rules(left_out: access.Access | None = None) -> dict[str, list[dict[str, list[str]]]]:
        return {
            "controller": [
                {
                    "apiGroups": [one.kind.group], "resources": [one.kind.plural],
                    "verbs": [str(one.verb)],
                }
                for one in lines
                if one is not left_out
            ]
        }  # fmt: skip

    used = [one for one in lines if access.granted(Account.PIPELINE, one.verb, one.kind)]
    here = cluster(mode, rules=rules())
    for one in WAY:
        here.settle(one)
    for line in used:
        less = cluster(mode, rules=rules(left_out=line))
        with pytest.raises((UnavailableError, AssertionError)):  # noqa: PT012
            for step in (ONE, DARK):
                less.settle(step, most=8)


@pytest.mark.parametrize("mode", ServingMode)
def test_an_inference_service_that_nobody_planned_is_shown_and_left_alone(
    cluster: Callable[..., Cluster], mode: ServingMode
) -> None:
    here = cluster(mode)
    here.settle(ONE)
    here.api.drop(("", "configmaps", "shop", f"heliotrope-plan-{MODEL}"))
    seen = here.serving.observe(MODEL)
    assert seen is not None
    assert not seen.settled
    assert [r.version for r in seen.revisions] == ["1"]
    assert here.serving.plan(MODEL) is None
    here.api.put(
        ("", "configmaps", "shop", f"heliotrope-plan-{MODEL}"),
        {"metadata": {}, "data": {"plan.json": "no plan"}},
    )
    with pytest.raises(UnavailableError, match="must keep a serving plan"):
        here.serving.plan(MODEL)
