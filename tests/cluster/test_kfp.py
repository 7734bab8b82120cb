"""The same promises against a live Kubeflow Pipelines, where the environment names one.

    HELIOTROPE_TEST_KFP_URL=http://localhost:8888 python -m pytest tests/cluster/test_kfp.py

With HELIOTROPE_KFP_NAMESPACE and KF_PIPELINES_SA_TOKEN_PATH for an installation of many users. It
makes a pipeline, an experiment's runs and a recurring run of names of its own, and removes them;
no step of a run needs to succeed.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from heliotrope.adapters.cluster.kfp import Kfp, KfpOptions, ScheduleAction
from heliotrope.adapters.cluster.kfp_pipelines import with_image
from heliotrope.errors import HeliotropeError, NotFoundError
from heliotrope.ports.registry import Registry
from heliotrope.ports.runs import RunState
from heliotrope.service.recurring import Recurring
from heliotrope.vocabulary import ENV_KFP_URL
from pipelines.compile import COMPILED

ENV = "HELIOTROPE_TEST_KFP_URL"
URL = os.environ.get(ENV, "")
ARGUMENTS = {"spec": "name: contract"}

pytestmark = pytest.mark.skipif(not URL, reason=f"no live KFP: set {ENV} to its API server")


def no_registry() -> Registry:
    raise AssertionError("nothing here asks MLflow")


@dataclass
class Live:
    """A KFP, and a pipeline that is ours alone."""

    kfp: Kfp
    again: Callable[[], Kfp]
    text: str
    name: str
    key: str

    def start(self, kfp: Kfp | None = None) -> None:
        (kfp or self.kfp).runs.start("contract.yaml", ARGUMENTS, self.key)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    unique = uuid.uuid4().hex[:12]
    name = f"heliotrope-contract-{unique}"
    documents = list(yaml.safe_load_all((COMPILED / "retraining.yaml").read_text()))
    documents[0]["pipelineInfo"]["name"] = name
    text = yaml.safe_dump_all(documents)
    (tmp_path / "contract.yaml").write_text(text)
    options = replace(
        KfpOptions.parse({**os.environ, ENV_KFP_URL: URL}, patience=60.0),
        experiment="heliotrope-contract",
    )
    opened: list[Kfp] = []

    def make() -> Kfp:
        opened.append(Kfp(options, tmp_path, no_registry))
        return opened[-1]

    here = Live(make(), make, text, name, f"contract-person-{unique}")
    yield here
    here.kfp.schedules.delete(f"{name}-schedule")
    here.kfp.runs.terminate(here.key)
    for run in here.kfp.runs.find(here.key):
        here.kfp._link.delete(f"/runs/{run.run_id}")
    here.kfp.pipelines.delete(name)
    for kfp in opened:
        kfp.close()


def test_it_answers(live: Live) -> None:
    assert live.kfp.health().pipeline_store in ("database", "kubernetes", "")


def test_a_pipeline_is_uploaded_once_for_each_content(live: Live) -> None:
    with pytest.raises(NotFoundError, match="heliotrope deploy"):
        live.kfp.pipelines.newest(live.name)
    first, made = live.kfp.pipelines.upload(live.text)
    assert made
    assert live.again().pipelines.upload(live.text) == (first, False)
    assert live.kfp.pipelines.current(live.text) == first
    # KFP's times are whole seconds: the next version is to be the younger one.
    time.sleep(1.1)
    other = with_image(live.text, "registry.example/c@sha256:" + "0" * 64)
    second, made = live.kfp.pipelines.upload(other)
    assert made
    assert second.version != first.version
    assert live.kfp.pipelines.newest(live.name) == second
    assert live.kfp.pipelines.delete(live.name)
    assert not live.kfp.pipelines.delete(live.name)


def test_a_schedule_is_made_once_replaced_switched_and_removed(live: Live) -> None:
    version, _ = live.kfp.pipelines.upload(live.text)
    yearly = Recurring(
        f"{live.name}-schedule", "contract.yaml", ARGUMENTS, cron="0 0 3 1 1 *", description="x"
    )
    upsert = live.kfp.schedules.upsert
    assert upsert(yearly, version).action is ScheduleAction.CREATE
    assert live.again().schedules.upsert(yearly, version).action is ScheduleAction.NONE
    assert live.kfp.schedules.disable(yearly.name) == 1
    assert upsert(yearly, version).action is ScheduleAction.ENABLE
    later = replace(yearly, cron="0 0 4 1 1 *")
    assert upsert(later, version).action is ScheduleAction.REPLACE
    assert upsert(later, version).action is ScheduleAction.NONE
    assert len(live.kfp.schedules.named(yearly.name)) == 1
    assert live.kfp.schedules.delete(yearly.name) == 1
    assert live.kfp.schedules.delete(yearly.name) == 0


def test_a_line_that_its_parser_refuses_is_a_persons_error(live: Live) -> None:
    version, _ = live.kfp.pipelines.upload(live.text)
    wrong = Recurring(f"{live.name}-schedule", "contract.yaml", ARGUMENTS, cron="not a line")
    with pytest.raises(HeliotropeError):
        live.kfp.schedules.upsert(wrong, version)
    assert live.kfp.schedules.named(wrong.name) == []


def test_a_key_starts_one_run_which_can_be_stopped(live: Live) -> None:
    live.kfp.pipelines.upload(live.text)
    assert live.kfp.runs.state(live.key) is RunState.ABSENT
    live.start()
    live.start(live.again())
    assert len(live.kfp.runs.find(live.key)) == 1
    assert live.key in {run.run_key for run in live.kfp.runs.everything()}
    (run,) = live.kfp.runs.find(live.key)
    assert live.kfp.runs.terminate(live.key) or run.state.over


def test_two_who_start_at_once_leave_one_run(live: Live) -> None:
    live.kfp.pipelines.upload(live.text)
    both = [live.again(), live.again()]
    gate = threading.Barrier(len(both))

    def start(kfp: Kfp) -> None:
        gate.wait(timeout=60)
        live.start(kfp)

    threads = [threading.Thread(target=start, args=(kfp,)) for kfp in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A look settles what the two may have left.
    live.kfp.runs._settle(live.kfp.runs.find(live.key))
    assert len(live.kfp.runs.find(live.key)) == 1
