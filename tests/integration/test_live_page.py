"""The live page in a real Chromium: what a person sees, in every light, and when things break."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from heliotrope.adapters.controller_app import ControllerApp
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.adapters.truth_access import open_truth
from heliotrope.adapters.web_files import WebFiles
from heliotrope.bootstrap import CHECKOUT
from heliotrope.clock import SystemClock
from heliotrope.domain.alarms import Told
from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.drift.documents import ColumnDrift, DriftReport, DriftRule
from heliotrope.domain.rollout.documents import Check, Rollout, Waits
from heliotrope.domain.rollout.evidence import Evidence
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing
from heliotrope.domain.triggers import Cause, CauseKind, Trigger, TriggerState
from heliotrope.ports import RegisteredVersion
from heliotrope.ports.state import Put, StateKind
from heliotrope.service.alerts import AlertIntake
from heliotrope.service.alias_book import AliasBook
from heliotrope.service.controller import Controller
from heliotrope.service.live_view import LiveViews, Sources
from heliotrope.service.rollout_keeping import JUDGEMENT_KEY, Judgement
from heliotrope.service.tokens import TokenRing
from heliotrope.service.truth_book import TruthBook
from heliotrope.service.truth_duty import TruthDuty
from heliotrope.settings import Settings
from heliotrope.spec import parse_spec
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS
from heliotrope.vocabulary import Role, Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
SPEC = """
name: credit-risk
description: Late payers among loans
task: binary
label: {name: y, positive: true, delay: 3d}
event_time: at
source: {path: nowhere.parquet}
features: [{name: grade, type: category, categories: [A, B]}, {name: income, type: float}]
metrics: {primary: accuracy, others: [roc_auc, log_loss]}
monitoring: {window: 1d, floor: 0.7}
"""
STAMP = pa.timestamp("us", "UTC")
NOW = datetime.now(UTC).replace(microsecond=0)
WAIT = 60_000
WORDY = "no harm is diagnosed: " + "income moved by 0.31 standard deviations; " * 8 + "that is all"


def write_events(home: Path, days: int = 40, a_day: int = 600, seed: int = 1) -> None:
    """A champion that gets worse in the last third, and a canary in the last days."""
    rng = np.random.default_rng(seed)
    count = days * a_day
    age = np.sort(rng.uniform(0, days, count))[::-1]
    at = [NOW - timedelta(days=float(one)) for one in age]
    score = rng.beta(1, 3, count)
    worse = np.clip((days * 0.35 - age) / days, 0, 1) * 0.8
    truth = rng.random(count) < score * (1 - worse) + worse * 0.5
    canary = (age < 5) & (rng.random(count) < 0.25)
    labelled = [i for i in range(count) if rng.random() < min(0.97, float(age[i]) / 3)]
    received = [min(NOW, at[i] + timedelta(days=float(rng.gamma(3, 0.4)))) for i in labelled]
    names = [f"p{i}" for i in range(count)]
    predictions = pa.table({
        "prediction_id": names, "version": ["4" if c else "3" for c in canary],
        "role": ["canary" if c else "champion" for c in canary],
        "predicted_at": pa.array(at, STAMP),
        "prediction": ["true" if s >= 0.5 else "false" for s in score], "score": score,
        "f_grade": ["A"] * count, "f_income": pa.array(rng.random(count), pa.float32()),
        "day": [moment.date() for moment in at],
    })  # fmt: skip
    labels = pa.table({
        "label_id": [f"l{i}" for i in labelled], "prediction_id": [f"p{i}" for i in labelled],
        "label": ["true" if truth[i] else "false" for i in labelled],
        "received_at": pa.array(received, STAMP), "day": [moment.date() for moment in received],
    })  # fmt: skip
    for kind, rows in (("predictions", predictions), ("labels", labels)):
        path = home / "store" / kind / "credit-risk"
        write_deltalake(str(path), rows, mode="append", partition_by=["day"])


def documents() -> list[Put]:
    """A canary on its way, with drift and a retraining behind it."""
    rollout = Rollout(
        model="credit-risk", number=3, candidate="4", champion="3", cause="drift of income",
        state=RolloutState.CANARY, share=25, turn=4, opened_at=NOW - timedelta(days=5),
        entered_at=NOW - timedelta(hours=7), seen_at=NOW,
        reason="Nothing speaks against version 4 after 7 h at 25%; the comparison is still open.",
    )  # fmt: skip
    checks = (
        Check(check="alive", verdict=Verdict.PASS, text="ready, no restart"),
        Check(check="errors", verdict=Verdict.PASS, text="0.00% of 4,102 <= 1%"),
        Check(check="latency", verdict=Verdict.PASS, text="p99 3.1 ms, 1.04 times the champion's"),
        Check(check="comparison", verdict=Verdict.HOLD,
              text="gain 0.021 [-0.004, 0.046] over 412 paired labels"),
    )  # fmt: skip
    waits = Waits(text="about 180 more paired labels", labels=180, until=NOW + timedelta(hours=9))
    judged = Judgement(number=3, turn=4, at=NOW, verdict=Verdict.HOLD, checks=checks, waits=waits,
                       evidence=Evidence(turn=4))  # fmt: skip
    drifts = [("income", 0.31, 0.42), ("debt_to_income", 0.14, 0.21), ("grade", 0.06, 0.18),
              ("homeownership", 0.03, 0.11), ("emp_length", 0.01, 0.08)]  # fmt: skip
    report = DriftReport(
        model="credit-risk", version="3", window_from=NOW - timedelta(days=2),
        window_to=NOW - timedelta(days=1), rows=600, reference_rows=20_000, rule=DriftRule(),
        verdict=Verdict.FAIL, reason="2 of 5 features moved: income .31, debt_to_income .14.",
        score=0.19, scored=5, expected=5, smallest_shift=0.12,
        columns=tuple(
            ColumnDrift(column=name, verdict=Verdict.FAIL if effect > 0.1 else Verdict.PASS,
                        method="wasserstein", effect=effect, p=0.001, budget=0.002, weight=weight,
                        text=f"{name} moved by {effect} standard deviations (limit 0.1)")
            for name, effect, weight in drifts
        ),
    )  # fmt: skip
    cause = Cause(kind=CauseKind.DRIFT, key="w", model="credit-risk", asked_at=NOW,
                  text="3 of the last 3 windows drifted")  # fmt: skip
    trigger = Trigger(cause=cause, state=TriggerState.REFUSED, rule="cooldown", decided_at=NOW,
                      reason="the last run was 2 h ago, less than 6 h")  # fmt: skip
    wordy = Trigger(cause=cause, state=TriggerState.REFUSED, rule="remedy", reason=WORDY,
                    decided_at=NOW - timedelta(days=1))  # fmt: skip
    found: list[tuple[StateKind, str, Any]] = [
        (StateKind.ROLLOUT, "000003", rollout), (StateKind.CURSOR, JUDGEMENT_KEY, judged),
        (StateKind.DRIFT, "window", report), (StateKind.TRIGGER, "t", trigger),
        (StateKind.TRIGGER, "u", wordy),
    ]  # fmt: skip
    return [Put(kind, "credit-risk", key, one.to_json(), 0) for kind, key, one in found]


def entries() -> list[DecisionEntry]:
    said = [
        (DecisionKind.TRIGGER, "requested, drift: 3 of the last 3 windows drifted", "controller"),
        (DecisionKind.RUN, "version 4 registered: accuracy 0.781 > 0.742 on the holdout", "run:r1"),
        (DecisionKind.ROLLOUT, "version 4 shadow: opened for drift of income", "controller"),
        (DecisionKind.ROLLOUT, "version 4 canary at 10%: gain 0.03 [0.01, 0.06]", "controller"),
        (DecisionKind.TRAFFIC, "version 3 75%, version 4 25%", "controller"),
        (DecisionKind.PERSON, "<b>pause</b> until Monday", "person:ada"),
    ] * 3
    return [
        DecisionEntry(model="credit-risk", at=NOW - timedelta(hours=30 - n), kind=kind,
                      actor=actor, subject="rollout 3", reason=reason)
        for n, (kind, reason, actor) in enumerate(said)
    ]  # fmt: skip


class Served:
    """A gateway that splits as it is told; the serving port's reading half."""

    def __init__(self, **weights: int) -> None:
        self.weights = weights

    def observe(self, model: str) -> ObservedServing | None:
        if not self.weights:
            return None
        roles = {"3": Role.CHAMPION, "4": Role.CANARY}
        running = tuple(
            ObservedRevision(version=v, role=roles[v], ready=True, address=None)
            for v in self.weights
        )
        return ObservedServing(model=model, revisions=running, weights=self.weights, settled=True,
                               gateway=None)  # fmt: skip


class Registered:
    """A registry's reading half."""

    def versions(self, model: str) -> list[RegisteredVersion]:
        aliases = {"3": ("champion",), "4": ("candidate",)}
        return [
            RegisteredVersion(model, v, "r", NOW - timedelta(days=9), aliases[v], {}, {}, True)
            for v in ("4", "3")
        ]


class Free:
    """A lock that nobody else wants."""

    def take(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing to give back."""


class Stage:
    """A controller served in this process, over real tables, truth and state."""

    def __init__(self, home: Path, served: Served, registry: Any) -> None:
        import uvicorn

        spec, clock = parse_spec(SPEC), SystemClock()
        settings = Settings.parse({"HELIOTROPE_HOME": str(home)}, home)
        self.state = SqlStateStore(settings.state_url)
        self.opened = ExitStack()
        book = TruthBook(self.opened.enter_context(open_truth(settings, spec)))
        board = Board(CONTROLLER_METRICS)
        loop = Controller([TruthDuty(spec, book, board)], clock, board, Free(), 0.2)
        sources = Sources(self.state, {spec.name: book}, served, AliasBook(lambda: registry), loop,
                          clock)  # fmt: skip
        self.intake = AlertIntake(self.state, clock, loop.wake)
        self.app = ControllerApp(
            loop, (spec.name,), self.state, LiveViews([spec], sources).json, clock.now,
            self.intake, TokenRing.parse(["a-token-for-the-stage"], "test"),
            WebFiles(CHECKOUT / "dashboards" / "web"),
        )  # fmt: skip
        listening = Event()

        class Server(uvicorn.Server):
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets)
                listening.set()

        config = uvicorn.Config(self.app, port=0, log_level="warning", lifespan="on")
        self.server = Server(config)
        self.thread = Thread(target=self.server.run)
        self.thread.start()
        assert listening.wait(60)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.opened.close()
        self.state.close()


def full_stage(home: Path) -> Stage:
    """Everything that a page can show."""
    write_events(home)
    stage = Stage(home, Served(**{"3": 75, "4": 25}), Registered())
    stage.state.apply(NOW, documents(), entries())
    fire = {
        "status": "firing", "startsAt": NOW.isoformat(), "fingerprint": "f",
        "labels": {"alertname": "HeliotropeAccuracyFalling", "model": "credit-risk",
                   "severity": "page"},
        "annotations": {"summary": "accuracy 0.713 [0.69, 0.74] over 1,240 labelled < 0.76",
                        "runbook_url": "https://example.org/runbook#falling"},
    }  # fmt: skip
    later = {"startsAt": (NOW + timedelta(seconds=1)).isoformat(), "fingerprint": "g",
             "labels": {"alertname": "label_coverage", "severity": "ticket"}}  # fmt: skip
    stage.intake.receive([Told.model_validate(fire), Told.model_validate(fire | later)])
    return stage


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Looking:
    """A page, and all that its console complained of."""

    def __init__(self, browser: Any, url: str, width: int = 1280, **more: Any) -> None:
        context = browser.new_context(viewport={"width": width, "height": 800}, **more)
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("main[aria-busy=false]")

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def text(self, place: str) -> str:
        return str(self.page.inner_text(place)).replace("\u202f", " ")

    def colour(self, place: str, what: str) -> str:
        ask = "([p, w]) => getComputedStyle(document.querySelector(p))[w]"
        return str(self.page.evaluate(ask, [place, what]))

    def until(self, place: str, text: str) -> None:
        """Wait until a place says something."""
        from playwright.sync_api import expect

        expect(self.page.locator(place)).to_contain_text(re.compile(text), timeout=WAIT)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = full_stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


def test_everything_is_shown_and_nothing_complains(stage: Stage, browser: Any) -> None:
    look = Looking(browser, stage.url)
    look.until("#traffic", "v4")
    look.until("#tiles", "v4 is the candidate")
    # The controller takes predictions in while the page is up already.
    look.until("#tiles", "24,000")
    assert look.text("h1") == "credit-risk"
    for place, said in {
        "#tiles": ("Accuracy", "to", "labels", "floor", "Coverage", "Label delay", "24,000", "v3"),
        "#traffic": ("v3 champion", "75 %", "v4 canary", "25 %"),
        "#rollout": ("412 paired labels", "HOLD", "Waits for about 180 more", "drift of income"),
        "#drift": ("income", "0.31", "2 of 5 features moved"),
        "#alarms": ("Accuracy Falling", "page", "1,240 labelled", "What to do"),
        "#triggers": ("drift", "refused", "less than 6 h"),
        "#events": ("version 4 canary at 10%", "(ada)", "<b>pause</b>"),
    }.items():
        for part in said:
            assert part in look.text(place), (place, part)
    assert look.page.title() == "(!) credit-risk – Heliotrope"
    assert look.page.locator("#chart .s-champion .path").count() >= 2
    assert look.page.locator("#chart .s-other .path").count() >= 1
    assert look.page.locator("#chart .young").count() == 1
    look.page.get_by_text("Show all 20").click()
    assert look.page.locator("#events li").count() == 20
    look.page.get_by_text("Show as a table").click()
    assert look.page.locator("#table tbody tr").count() >= 40
    assert look.complaints == []


def test_it_is_worked_with_the_keyboard_and_told_to_screen_readers(
    stage: Stage, browser: Any
) -> None:
    look = Looking(browser, stage.url, reduced_motion="reduce")
    look.until("#drift", "income")
    look.page.wait_for_selector("#chart svg")
    look.page.focus("#chart")
    look.page.keyboard.press("Home")
    look.until("#chart-said", r"version 3 champion: Accuracy .* Labels ")
    first = look.text("#chart-said")
    assert look.page.is_visible("#tip")
    look.page.keyboard.press("ArrowRight")
    assert look.text("#chart-said") != first
    look.page.keyboard.press("Escape")
    assert not look.page.is_visible("#tip")
    look.page.focus("#drift li:first-child")
    assert "42 % of the model's reliance" in look.text("#tip")
    named = "[...document.querySelectorAll('section')].every(s => s.ariaLabel || "
    named += "document.getElementById(s.getAttribute('aria-labelledby')))"
    assert look.page.evaluate(named)
    for landmark in ("header", "main", "footer", "nav[aria-label]", "a.skip"):
        assert look.page.locator(landmark).count() == 1
    assert look.colour(".split i", "transitionDuration") == "0s"
    assert look.complaints == []


def test_who_works_with_the_keyboard_stays_where_they_were(stage: Stage, browser: Any) -> None:
    look = Looking(browser, stage.url)
    look.until("#events", "Show all 20")
    look.page.focus("#events .more")
    look.page.keyboard.press("Enter")
    assert look.page.evaluate("document.activeElement.textContent") == "Show fewer"
    assert look.complaints == []


def test_a_long_reason_is_folded_and_stays_open_once_opened(stage: Stage, browser: Any) -> None:
    from playwright.sync_api import expect

    look = Looking(browser, stage.url)
    look.until("#triggers", "no harm is diagnosed")
    assert "that is all" not in look.text("#triggers")
    look.page.focus("#triggers summary")
    look.page.keyboard.press("Enter")
    look.until("#triggers", "that is all")
    # Ages are told anew every few seconds, by new elements.
    look.page.evaluate("document.querySelector('#triggers li').dataset.old = 'yes'")
    expect(look.page.locator("#triggers li[data-old]")).to_have_count(0, timeout=WAIT)
    assert "that is all" in look.text("#triggers")
    assert look.page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_what_somebody_is_woken_for_is_above_the_newer_ticket(stage: Stage, browser: Any) -> None:
    look = Looking(browser, stage.url)
    look.until("#alarms", "Label Coverage")
    shown = look.text("#alarms")
    assert shown.index("Accuracy Falling") < shown.index("Label Coverage")


@pytest.mark.parametrize("width", [360, 820, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen_in_the_dark_and_in_the_light(
    stage: Stage, browser: Any, width: int, scheme: str
) -> None:
    look = Looking(browser, stage.url, width, color_scheme=scheme)
    look.until("#traffic", "v4")
    assert look.page.evaluate("document.documentElement.scrollWidth") == width
    ground = [int(part) for part in re.findall(r"\d+", look.colour("body", "backgroundColor"))]
    ink = [int(part) for part in re.findall(r"\d+", look.colour("body", "color"))]
    assert (sum(ground) < sum(ink)) == (scheme == "dark")
    # Cards do not run over each other.
    boxes = [one.bounding_box() for one in look.page.locator(".card, .tile").all()]
    for place, a in enumerate(boxes):
        for b in boxes[place + 1 :]:
            apart = (
                a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
                or a["y"] + a["height"] <= b["y"] + 1 or b["y"] + b["height"] <= a["y"] + 1
            )  # fmt: skip
            assert apart, (a, b)
    assert look.complaints == []


def test_a_persons_choice_of_colours_outlasts_the_page(stage: Stage, browser: Any) -> None:
    look = Looking(browser, stage.url, color_scheme="light")
    before = look.colour("body", "backgroundColor")
    look.page.click("#theme")
    look.page.click("#theme")
    assert look.page.get_attribute("#theme", "aria-label") == "Colours: dark"
    dark = look.colour("body", "backgroundColor")
    assert dark != before
    look.page.reload()
    look.page.wait_for_selector("main[aria-busy=false]")
    assert look.colour("body", "backgroundColor") == dark


def test_before_anything_happened_it_says_what_will(tmp_path: Path, browser: Any) -> None:
    empty = Stage(tmp_path, Served(), Nothing())
    try:
        look = Looking(browser, empty.url)
        for place, said in {
            "#tiles": "Nothing is predicted yet.",
            "#chart": "No prediction has reached the log yet.",
            "#traffic": "Nothing is served here yet.",
            "#rollout": "No candidate was tried yet.",
            "#drift": "No window was compared",
            "#alarms": "None was ever raised.",
            "#triggers": "Nothing has asked for a retraining yet.",
            "#events": "Nothing was decided yet.",
        }.items():
            assert said in look.text(place)
        assert look.complaints == []
        write_events(tmp_path, days=1, a_day=200, seed=2)
        shutil.rmtree(tmp_path / "store" / "labels")
        look.until("#tiles", "No labels yet: the first are due on")
        assert look.page.locator("#chart svg").count() == 1
    finally:
        empty.close()


class Nothing:
    """A registry without versions."""

    def versions(self, model: str) -> list[RegisteredVersion]:
        return []


def test_a_real_controller_is_watched_dies_and_comes_back(
    tmp_path: Path, mlflow_template: Path, browser: Any
) -> None:
    from playwright.sync_api import expect

    (tmp_path / "model.yaml").write_text(SPEC)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    write_events(tmp_path, days=10, a_day=50)
    children: list[subprocess.Popen[str]] = []

    def start(port: str) -> str:
        child = subprocess.Popen(
            [sys.executable, "-c", "from heliotrope.cli import main; main()", "controller",
             "--spec", "model.yaml", "--port", port, "--tick-seconds", "0.2"],
            cwd=tmp_path, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "HELIOTROPE_HOME": str(tmp_path),
                 "OMP_NUM_THREADS": "1", "HELIOTROPE_PATIENCE": "1"},
        )  # fmt: skip
        children.append(child)
        assert child.stdout is not None
        found = re.search(r"http://\S+?:(\d+)", child.stdout.readline())
        assert found
        return found[1]

    try:
        port = start("0")
        look = Looking(browser, f"http://127.0.0.1:{port}/")
        look.until("#link", "live")
        look.until("#tiles", r"Predictions500\D")
        before = look.page.locator("#table tbody").inner_text()
        late = pa.table({
            "label_id": ["late"] * 50, "prediction_id": [f"p{n}" for n in range(450, 500)],
            "label": ["true"] * 50, "received_at": pa.array([NOW] * 50, STAMP),
            "day": [NOW.date()] * 50,
        })  # fmt: skip
        write_deltalake(str(tmp_path / "store/labels/credit-risk"), late, mode="append")
        expect(look.page.locator("#table tbody")).not_to_have_text(before, timeout=WAIT)
        assert look.complaints == []
        children[0].send_signal(signal.SIGKILL)
        children[0].wait(60)
        look.until("#link", "controller away, trying")
        assert "credit-risk" in look.text("h1")
        start(port)
        look.until("#link", "live")
    finally:
        for child in children:
            child.kill()
            child.communicate(timeout=60)
