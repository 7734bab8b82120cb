"""KFP's pipelines, schedules and runs over HTTP: what is repeated, what is not, and who wins."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliotrope.adapters.cluster.kfp import Kfp, KfpOptions, ScheduleAction
from heliotrope.adapters.cluster.kfp_pipelines import version_name, with_image
from heliotrope.adapters.cluster.kfp_runs import KfpState
from heliotrope.errors import (
    ConflictError,
    HeliotropeError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from heliotrope.ports.registry import Registry
from heliotrope.ports.runs import RunState
from heliotrope.service.recurring import Recurring
from pipelines.compile import COMPILED
from tests.emulated.contracts import KFP, contract
from tests.emulated.kfp_api import FakeKfp, Fault, serve
from tests.emulated.swagger import Swagger

KEY = "loans-drift-0123456789ab"
TRAINING = (COMPILED / "training.yaml").read_text()
ARGUMENTS = {"spec": "name: loans", "run_key": KEY, "cause": "drift: moved", "since": ""}
Open = Callable[..., Kfp]


def no_registry() -> Registry:
    raise AssertionError("nothing here asks MLflow")


@pytest.fixture(scope="module")
def swagger() -> Swagger:
    return Swagger(contract(KFP))


@pytest.fixture(params=["single", "multi"])
def server(request: pytest.FixtureRequest, swagger: Swagger) -> Iterator[FakeKfp]:
    """A KFP for one user, and one for many."""
    with serve(FakeKfp(swagger, multi_user=request.param == "multi")) as running:
        yield running


@pytest.fixture
def opened(server: FakeKfp, tmp_path: Path) -> Iterator[Open]:
    """Opens clients as each process has its own."""
    token = tmp_path / "token"
    token.write_text("good-token\n")
    many = {"namespace": "team-a", "token_file": token} if server.multi_user else {}
    with ExitStack() as stack:

        def make(**more: Any) -> Kfp:
            options = replace(
                KfpOptions(url=server.url, patience=60.0, page_size=3, **many), **more
            )
            kfp = Kfp(options, COMPILED, no_registry)
            stack.callback(kfp.close)
            return kfp

        yield make


@pytest.fixture
def kfp(opened: Open) -> Kfp:
    return opened()


@pytest.fixture
def deployed(kfp: Kfp) -> Kfp:
    """With the training pipeline."""
    kfp.pipelines.upload(TRAINING)
    return kfp


def start(kfp: Kfp, key: str = KEY) -> None:
    kfp.runs.start("training.yaml", {**ARGUMENTS, "run_key": key}, key)


def at_once(*work: Callable[[], None]) -> None:
    """All of it at the same time; what one raises is raised here."""
    raised: list[BaseException] = []

    def guarded(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_it_says_what_it_is(server: FakeKfp, kfp: Kfp) -> None:
    assert kfp.health().multi_user is server.multi_user
    assert kfp.health().pipeline_store == "database"


# Pipelines


def test_a_pipeline_is_uploaded_once_under_the_hash_of_its_content(
    server: FakeKfp, kfp: Kfp, opened: Open
) -> None:
    assert kfp.pipelines.current(TRAINING) is None
    made, new = kfp.pipelines.upload(TRAINING)
    again, newer = opened().pipelines.upload("# another comment\n" + TRAINING)
    assert (new, newer) == (True, False)
    assert made == again == kfp.pipelines.current(TRAINING)
    assert made.version == version_name(TRAINING)
    assert [v["name"] for v in server.versions.values()] == [made.version]
    space = "team-a" if server.multi_user else ""
    assert [p["namespace"] for p in server.pipelines.values()] == [space]


def test_another_image_is_another_version_and_going_back_makes_the_old_content_the_newest(
    server: FakeKfp, kfp: Kfp
) -> None:
    other = with_image(TRAINING, "registry.example/c@sha256:" + "0" * 64)
    first, _ = kfp.pipelines.upload(TRAINING)
    second, _ = kfp.pipelines.upload(other)
    assert second.version != first.version
    assert kfp.pipelines.current(TRAINING) is None
    back, made = kfp.pipelines.upload(TRAINING)
    assert made
    assert back.version == first.version + "-2"
    assert kfp.pipelines.newest("heliotrope-training") == back
    assert kfp.pipelines.upload(TRAINING) == (back, False)
    assert len(server.versions) == 3


def test_versions_that_people_uploaded_do_not_stand_for_ours(server: FakeKfp, kfp: Kfp) -> None:
    params = {"name": "heliotrope-training"}
    if server.multi_user:
        params["namespace"] = "team-a"
    kfp.pipelines._link.upload("/pipelines/upload", params, TRAINING)
    assert [v["name"] for v in server.versions.values()] == ["heliotrope-training"]
    _, made = kfp.pipelines.upload(TRAINING)
    assert made
    assert len(server.pipelines) == 1


def test_of_two_who_deploy_at_once_both_have_the_one_version(server: FakeKfp, opened: Open) -> None:
    gate = threading.Barrier(2)
    server.before = together(gate, "POST", r"/pipelines$")
    got: list[str] = []

    def deploy() -> None:
        got.append(opened().pipelines.upload(TRAINING)[0].version_id)

    at_once(deploy, deploy)
    assert got[0] == got[1]
    assert len(server.pipelines) == len(server.versions) == 1


def test_a_lost_answer_to_an_upload_is_found_out(server: FakeKfp, kfp: Kfp) -> None:
    server.faults = [
        Fault("POST", r"/pipelines$", after=True),
        Fault("POST", r"/upload_version$", after=True),
    ]
    made, _ = kfp.pipelines.upload(TRAINING)
    assert [v["pipeline_version_id"] for v in server.versions.values()] == [made.version_id]
    assert len(server.pipelines) == 1


def test_a_pipeline_that_kfp_refuses_is_said_so(server: FakeKfp, kfp: Kfp) -> None:
    with pytest.raises(UsageError, match=r"upload_version.*unknown template"):
        kfp.pipelines.upload("pipelineInfo: {name: nothing}\n")
    with pytest.raises(HeliotropeError, match=r"pipelineInfo\.name"):
        kfp.pipelines.upload("a: 1\n")
    assert server.versions == {}


def test_a_pipeline_is_deleted_with_its_versions_and_only_once(
    server: FakeKfp, deployed: Kfp
) -> None:
    assert deployed.pipelines.delete("heliotrope-training")
    assert not deployed.pipelines.delete("heliotrope-training")
    assert server.pipelines == server.versions == {}


# Runs


def together(gate: threading.Barrier, method: str, path: str) -> Callable[[str, str], None]:
    """Holds the first requests of a kind until both are there."""
    import re

    left = threading.Semaphore(2)

    def wait(asked: str, at: str) -> None:
        if asked == method and re.search(path, at) and left.acquire(blocking=False):
            gate.wait(timeout=60)

    return wait


def test_a_run_is_started_from_the_newest_version_with_its_arguments(
    server: FakeKfp, deployed: Kfp
) -> None:
    start(deployed)
    (run,) = server.runs.values()
    assert run["display_name"] == KEY
    assert run["runtime_config"]["parameters"] == ARGUMENTS
    newest = deployed.pipelines.newest("heliotrope-training")
    assert run["pipeline_version_reference"] == newest.reference
    assert server.experiments[run["experiment_id"]]["display_name"] == "heliotrope"


def test_the_same_cause_starts_one_run_however_often_and_by_whomever(
    server: FakeKfp, deployed: Kfp, opened: Open
) -> None:
    for number in range(7):
        start(deployed, f"loans-person-{number:012d}")
    for kfp in (deployed, opened(), opened()):
        start(kfp)
        start(kfp)
    assert len(server.named(KEY)) == 1
    server.move(KEY, "SUCCEEDED")
    start(opened())
    assert len(server.runs) == 8
    assert len(deployed.runs.everything()) == 8


def test_a_name_that_differs_in_case_alone_is_another(server: FakeKfp, deployed: Kfp) -> None:
    start(deployed, KEY.upper())
    assert deployed.runs.state(KEY) is RunState.ABSENT
    start(deployed)
    assert len(server.runs) == 2


@pytest.mark.parametrize("ticking", [True, False], ids=["apart", "in one second"])
def test_of_two_who_start_at_once_exactly_one_run_remains(
    server: FakeKfp, deployed: Kfp, opened: Open, ticking: bool
) -> None:
    server.ticking = ticking
    server.before = together(threading.Barrier(2), "POST", r"/runs$")
    one, two = opened(), opened()
    at_once(lambda: start(one), lambda: start(two))
    # Both looked before either began, so both began.
    assert server.count("POST", r"/runs$") == 2
    assert one.runs.state(KEY) is RunState.RUNNING
    assert two.runs.state(KEY) is RunState.RUNNING
    (left,) = server.named(KEY)
    assert [run.run_id for run in one.runs.find(KEY)] == [left["run_id"]]


def test_an_answer_that_was_lost_is_not_asked_for_a_second_time_and_trying_again_is_safe(
    server: FakeKfp, deployed: Kfp
) -> None:
    server.faults = [Fault("POST", r"/runs$", after=True)]
    with pytest.raises(UnavailableError, match="POST /runs"):
        start(deployed)
    assert len(server.named(KEY)) == 1
    start(deployed)
    assert len(server.named(KEY)) == 1


def test_a_start_that_was_turned_away_is_tried_again(server: FakeKfp, deployed: Kfp) -> None:
    server.faults = [Fault("POST", r"/runs$", status=429, times=2)]
    start(deployed)
    assert len(server.named(KEY)) == 1
    assert server.count("POST", r"/runs$") == 3


def test_a_server_error_on_a_start_is_not_repeated(server: FakeKfp, deployed: Kfp) -> None:
    server.faults = [Fault("POST", r"/runs$", status=503)]
    with pytest.raises(UnavailableError, match="503"):
        start(deployed)
    assert server.count("POST", r"/runs$") == 1


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_what_only_looks_is_repeated(server: FakeKfp, deployed: Kfp, status: int) -> None:
    start(deployed)
    server.faults = [Fault("GET", r"/runs$", status=status, times=2)]
    assert deployed.runs.state(KEY) is RunState.RUNNING


@pytest.mark.parametrize("state", [s for s in KfpState if not s.over])
def test_what_is_not_over_is_running(server: FakeKfp, deployed: Kfp, state: KfpState) -> None:
    start(deployed)
    server.move(KEY, state)
    assert deployed.runs.state(KEY) is RunState.RUNNING


def test_a_run_is_terminated_and_what_is_over_is_left_alone(server: FakeKfp, deployed: Kfp) -> None:
    assert not deployed.runs.terminate(KEY)
    start(deployed)
    assert deployed.runs.terminate(KEY)
    assert server.named(KEY)[0]["state"] == "CANCELING"
    assert deployed.runs.state(KEY) is RunState.RUNNING
    server.move(KEY, "CANCELED")
    assert not deployed.runs.terminate(KEY)


def test_without_a_deploy_a_start_says_what_to_do(server: FakeKfp, kfp: Kfp) -> None:
    with pytest.raises(NotFoundError, match="heliotrope deploy"):
        start(kfp)
    assert server.runs == {}


def test_arguments_that_the_pipeline_does_not_take_are_refused(
    server: FakeKfp, deployed: Kfp
) -> None:
    with pytest.raises(UsageError, match="colour"):
        deployed.runs.start("training.yaml", {**ARGUMENTS, "colour": "red"}, KEY)
    assert server.runs == {}


# Recurring runs

NIGHTLY = Recurring("loans-training", "training.yaml", {"spec": "name: loans"}, cron="0 0 3 * * *")


def test_a_schedule_is_made_once(server: FakeKfp, deployed: Kfp, opened: Open) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    assert deployed.schedules.plan(NIGHTLY, version).action is ScheduleAction.CREATE
    assert server.recurring == {}
    assert deployed.schedules.upsert(NIGHTLY, version).action is ScheduleAction.CREATE
    assert opened().schedules.upsert(NIGHTLY, version).action is ScheduleAction.NONE
    (made,) = server.recurring.values()
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert made["max_concurrency"] == "1"
    assert made["no_catchup"] is True
    assert server.count("POST", r"/recurringruns$") == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cron": "0 30 3 * * *"}, "trigger: cron 0 0 3 * * * -> cron 0 30 3 * * *"),
        ({"cron": None, "every_seconds": 60}, "trigger: cron 0 0 3 * * * -> every 60 s"),
        ({"max_concurrency": 2}, "max_concurrency: 1 -> 2"),
        ({"parameters": {"spec": "name: loans2"}}, "parameter spec changed"),
        ({"parameters": {"spec": "name: loans", "since": "x"}}, "parameter since changed"),
    ],
)
def test_what_differs_is_replaced_and_told(
    server: FakeKfp, deployed: Kfp, change: dict[str, Any], told: str
) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    deployed.schedules.upsert(NIGHTLY, version)
    (before,) = server.recurring
    changed = replace(NIGHTLY, **change)
    plan = deployed.schedules.upsert(changed, version)
    assert plan.action is ScheduleAction.REPLACE
    assert plan.differences == (told,)
    (after,) = server.recurring
    assert after != before
    assert deployed.schedules.plan(changed, version).action is ScheduleAction.NONE


def test_a_new_version_replaces_the_schedule(server: FakeKfp, deployed: Kfp) -> None:
    first = deployed.pipelines.newest("heliotrope-training")
    deployed.schedules.upsert(NIGHTLY, first)
    second, _ = deployed.pipelines.upload(with_image(TRAINING, "r/c@sha256:1"))
    plan = deployed.schedules.upsert(NIGHTLY, second)
    assert plan.differences == (f"version: {first.version_id} -> {second.version_id}",)
    (made,) = server.recurring.values()
    assert made["pipeline_version_reference"] == second.reference


def test_a_schedule_that_kfp_refuses_leaves_the_old_one_at_work(
    server: FakeKfp, deployed: Kfp
) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    deployed.schedules.upsert(NIGHTLY, version)
    before = list(server.recurring)
    with pytest.raises(UsageError, match="concurrency"):
        deployed.schedules.upsert(replace(NIGHTLY, max_concurrency=11), version)
    assert list(server.recurring) == before


def test_of_two_who_schedule_at_once_one_schedule_remains(
    server: FakeKfp, deployed: Kfp, opened: Open
) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    server.before = together(threading.Barrier(2), "POST", r"/recurringruns$")
    one, two = opened(), opened()
    at_once(
        lambda: one.schedules.apply(one.schedules.plan(NIGHTLY, version)),
        lambda: two.schedules.apply(two.schedules.plan(NIGHTLY, version)),
    )
    assert server.count("POST", r"/recurringruns$") == 2
    # Whatever the two left, the next who looks leaves one.
    deployed.schedules.upsert(NIGHTLY, version)
    assert len(server.recurring) == 1
    assert deployed.schedules.plan(NIGHTLY, version).action is ScheduleAction.NONE


def test_a_schedule_that_was_switched_off_is_switched_on(server: FakeKfp, deployed: Kfp) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    deployed.schedules.upsert(NIGHTLY, version)
    assert deployed.schedules.disable(NIGHTLY.name) == 1
    assert deployed.schedules.disable(NIGHTLY.name) == 0
    assert deployed.schedules.upsert(NIGHTLY, version).action is ScheduleAction.ENABLE
    (made,) = server.recurring.values()
    assert made["status"] == "ENABLED"


def test_a_model_that_goes_takes_its_schedules_and_no_other(server: FakeKfp, deployed: Kfp) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    for model in ("loans", "flights"):
        for kind in ("monitoring", "retraining"):
            one = replace(NIGHTLY, name=f"{model}-{kind}")
            deployed.schedules.upsert(one, version)
    assert deployed.remove_model("loans", keep=True) == 2
    assert deployed.remove_model("loans") == 2
    assert deployed.remove_model("loans") == 0
    left = sorted(one["display_name"] for one in server.recurring.values())
    assert left == ["flights-monitoring", "flights-retraining"]


def test_all_pages_are_read(server: FakeKfp, deployed: Kfp) -> None:
    version = deployed.pipelines.newest("heliotrope-training")
    for _ in range(10):
        deployed.schedules.apply(
            replace(deployed.schedules.plan(NIGHTLY, version), action=ScheduleAction.CREATE)
        )
        # Each tidies up after itself; so put them there by hand.
    body = dict(next(iter(server.recurring.values())))
    for number in range(10):
        server.recurring[f"copy-{number}"] = {**body, "recurring_run_id": f"copy-{number}"}
    assert len(deployed.schedules.named(NIGHTLY.name)) == 11
    plan = deployed.schedules.upsert(NIGHTLY, version)
    assert plan.action is ScheduleAction.TIDY
    assert len(server.recurring) == 1


# A KFP that is not there


def test_nobody_listening_is_said_so(server: FakeKfp, opened: Open) -> None:
    dead = opened(url="http://127.0.0.1:1", patience=0.3)
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1 must answer"):
        dead.health()
    with pytest.raises(UnavailableError):
        start(dead)
    with pytest.raises(UnavailableError):
        dead.runs.state(KEY)


def test_one_that_never_answers_is_given_up(server: FakeKfp, opened: Open) -> None:
    over = threading.Event()
    server.before = lambda *_: over.wait(60) and None
    try:
        with pytest.raises(UnavailableError, match="Timeout"):
            opened(timeout=0.2, patience=0.3).health()
    finally:
        over.set()


def test_a_login_page_is_no_answer(server: FakeKfp, kfp: Kfp) -> None:
    server.faults = [Fault("GET", "/healthz", status=200, text="<html>Sign in</html>")]
    with pytest.raises(UnavailableError, match=r"in JSON. Got text/html"):
        kfp.health()


def test_one_that_comes_back_within_the_patience_is_waited_for(
    server: FakeKfp, deployed: Kfp
) -> None:
    server.faults = [Fault("GET", ".", times=4), Fault("POST", "/experiments", times=2)]
    start(deployed)
    assert len(server.named(KEY)) == 1


# Who asks


@pytest.fixture
def many(swagger: Swagger) -> Iterator[FakeKfp]:
    with serve(FakeKfp(swagger, multi_user=True)) as running:
        yield running


def options(server: FakeKfp, token: Path, **more: Any) -> KfpOptions:
    wanted = {"namespace": "team-a", "token_file": token, "patience": 2.0, **more}
    return KfpOptions(url=server.url, **wanted)


def test_a_token_that_was_renewed_on_disk_is_read_again(many: FakeKfp, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("good-token")
    kfp = Kfp(options(many, token), COMPILED, no_registry)
    kfp.pipelines.upload(TRAINING)
    many.tokens = {"newer-token"}
    token.write_text("newer-token")
    start(kfp)
    assert len(many.named(KEY)) == 1
    kfp.close()


def test_a_token_that_is_renewed_while_it_is_shown_is_shown_again(
    many: FakeKfp, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("good-token")
    kfp = Kfp(options(many, token), COMPILED, no_registry)

    def renew(method: str, path: str) -> None:
        many.tokens = {"newer-token"}
        token.write_text("newer-token")

    many.before = renew
    kfp.pipelines.upload(TRAINING)
    assert len(many.versions) == 1
    kfp.close()


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("old-token", {}, "401"),
        ("good-token", {"namespace": "team-b"}, "403"),
        ("good-token", {"namespace": ""}, "400"),
    ],
)
def test_who_may_not_is_told_so_without_the_token(
    many: FakeKfp,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    text: str,
    more: dict[str, str],
    said: str,
) -> None:
    caplog.set_level(0)
    token = tmp_path / "token"
    token.write_text(text)
    kfp = Kfp(options(many, token, **more), COMPILED, no_registry)
    with pytest.raises(HeliotropeError, match=said) as raised:
        start(kfp)
    shown = f"{raised.value} {raised.value.__cause__} {kfp.options!r} {kfp._link!r} {caplog.text}"
    assert text not in shown
    kfp.close()


def test_a_token_that_cannot_be_read_is_said_so(many: FakeKfp, tmp_path: Path) -> None:
    kfp = Kfp(options(many, tmp_path / "nothing"), COMPILED, no_registry)
    with pytest.raises(UnavailableError, match="token for KFP must be readable"):
        start(kfp)
    kfp.close()


def test_another_conflict_is_a_conflict(many: FakeKfp, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("good-token")
    kfp = Kfp(options(many, token), COMPILED, no_registry)
    many.faults = [Fault("POST", r"/experiments$", status=409)]
    kfp.pipelines.upload(TRAINING)
    with pytest.raises(NotFoundError, match="must be listed once it is there"):
        start(kfp)
    many.faults = [Fault("POST", r"/upload_version$", status=409, times=2)]
    with pytest.raises(ConflictError, match="rest for a moment"):
        kfp.pipelines.upload(with_image(TRAINING, "r/c@sha256:2"))
    kfp.close()


@pytest.mark.parametrize(
    "url", ["ml-pipeline:8888", "ftp://kfp", "http://", "http://user:secret@kfp:8888"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="HELIOTROPE_KFP_URL") as raised:
        KfpOptions.parse({"HELIOTROPE_KFP_URL": url})
    assert "secret" not in str(raised.value)
