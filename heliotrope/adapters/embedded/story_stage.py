"""The embedded platform as the story's stage: brought up, fed with loans, taken down."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from heliotrope.adapters.embedded.clock_hand import TrainingWatch
from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.embedded.supervisor.clock_file import clock_path
from heliotrope.adapters.embedded.supervisor.launch import start_in_background, stop_platform
from heliotrope.adapters.embedded.supervisor.state import folder_of, read_state
from heliotrope.adapters.loan_file import write_loans
from heliotrope.adapters.replay_access import Replayed, ReplayPlace, ReplayWish, run_replay
from heliotrope.adapters.replay_rows import History, generated_rows
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.clock import SimulatedClock, set_clock
from heliotrope.domain.decisions import Decision
from heliotrope.domain.live_view import LiveView, RolloutView
from heliotrope.domain.replay import ReplayRow
from heliotrope.domain.rollout.states import LIVE
from heliotrope.domain.synthetic import LoanGenerator
from heliotrope.domain.synthetic.story import Story
from heliotrope.errors import HeliotropeError
from heliotrope.settings import Settings
from heliotrope.spec import ModelSpec, load_spec
from heliotrope.vocabulary import COLLECTOR_TOKEN_FILE, ENV_CLOCK, PATH_API

SPEC_FILE, WORSE_FILE, HISTORY_FILE = "story.yaml", "worse.yaml", "data/story.parquet"
READY_SECONDS = 600.0
LAG = timedelta(hours=12)
"""By which the truth may be behind the clock before the clock waits for the controller."""
WATCHED, EXPOSED = 2.0, 4.0
"""By how much slower the clock runs, and how much sooner it waits, while a candidate is on its way
and while users get its answers: the controller looks once a second, and what it may decide within
hours is not to take days."""
_LOOK_SECONDS = 0.3
_STOP_SECONDS = 60.0


class StoryStage:
    """A platform in a folder of its own (`service.story.Stage`).

    Args:
        story: whose loans are sent.
        spec_file: of the model; copied into the folder.
        folder: kept if it is to be looked at afterwards.
        speed: most simulated seconds a second.
    """

    def __init__(self, story: Story, spec_file: Path, folder: Path, speed: float) -> None:
        self._story, self._folder, self._speed = story, folder, speed
        self._spec_text = spec_file.read_text()
        self.settings = Settings.parse({"HELIOTROPE_HOME": str(folder / "home")}, folder)
        self.home = self.settings.home
        self._clock_file = folder_of(self.home) / "clock"
        self._state = SqlStateStore(self.settings.state_url, patience=self.settings.patience)
        self._serving = EmbeddedServing(self.home)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._replayed: Replayed | None = None
        self._broken: str | None = None
        self._newest: datetime | None = None
        self._careful = 1.0
        self._trainings: list[subprocess.Popen[bytes]] = []
        self._bringing: threading.Thread | None = None
        self._training: TrainingWatch | None = None

    @cached_property
    def spec(self) -> ModelSpec:
        """As it was copied."""
        return load_spec(self._folder / SPEC_FILE)

    def prepare(self) -> int:
        """Write the history, the specs and the clock; answers how many loans are known."""
        self.home.mkdir(parents=True, exist_ok=True)
        folder_of(self.home).mkdir(parents=True, exist_ok=True)
        (self._folder / SPEC_FILE).write_text(self._spec_text)
        (self._folder / WORSE_FILE).write_text(worse_spec(self._spec_text))
        start = self._story.chapters()[0].starts
        set_clock(self._clock_file, 0.0, start)
        return write_loans(
            LoanGenerator(self._story.history()), self._folder / HISTORY_FILE, with_truth=False
        )

    def begin_up(self) -> "threading.Thread":
        """Bring the platform up, on a thread: the first training may go on meanwhile."""
        words = [str(self._folder / SPEC_FILE), "--speed", "1", "--start"]
        words.append(f"{self._story.chapters()[0].starts:%Y-%m-%dT%H:%M:%S}")

        def bring_up() -> None:
            os.environ.update(self.settings.environment())
            state, why = start_in_background(self.home, words, READY_SECONDS)
            if state is None:
                self._broken = f"The platform did not start: {why}"

        thread = self._bringing = threading.Thread(target=bring_up, daemon=True)
        thread.start()
        return thread

    def train(self, file: str, log: str) -> "subprocess.Popen[bytes]":
        """Begin to train."""
        with (self.home / log).open("wb") as output:
            training = subprocess.Popen(
                [sys.executable, "-m", "heliotrope", "train", str(self._folder / file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    **self.settings.environment(),
                    ENV_CLOCK: str(self._clock_file),
                },
            )
        self._trainings.append(training)
        return training

    def wait_ready(self) -> None:
        """Return when the champion answers.

        Raises:
            HeliotropeError: it does not.
        """
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            state = read_state(self.home)
            if self._broken:
                raise HeliotropeError(self._broken)
            if state is not None and state.ready and self.view() is not None:
                return
            time.sleep(_LOOK_SECONDS)
        state = read_state(self.home)
        children = state.children if state else ()
        late = [f"{c.name} ({c.message or c.state})" for c in children if c.state != "ready"]
        raise HeliotropeError(
            f"The platform must be ready in {READY_SECONDS:g} s. It is not: "
            f"{', '.join(late) or 'the champion does not answer'}."
        )

    def play(self) -> None:
        """Begin to send the loans."""
        self._training = TrainingWatch(self.home / "runs")
        self._thread = threading.Thread(target=self._replay, daemon=True)
        self._thread.start()

    def _replay(self) -> None:
        state = read_state(self.home)
        urls = state.urls if state else {}
        history = generated_rows(self._story.loans(), self.spec, self._story.chapters()[0].starts)
        rows = History(history.count, history.first, history.last, self._until_stopped(history))
        place = ReplayPlace(
            urls.get("gateway", ""),
            urls.get("collector", ""),
            (self.home / COLLECTOR_TOKEN_FILE).read_text().split()[0],
            self.home,
            clock_path(folder_of(self.home)),
        )
        wish = ReplayWish(
            speed=self._speed,
            # Sooner than the spec's, since sending takes a while that is hours on this clock.
            label_delay=0.75 * self.spec.label.delay,
            drive_clock=True,
            wait_for_labels=False,
            patience=60.0,
        )
        try:
            self._replayed = run_replay(
                self.spec, nullcontext(rows), place, wish, busy=self._busy, tempo=self._tempo
            )
        except HeliotropeError as error:
            self._broken = str(error)

    def _until_stopped(self, history: History) -> Iterator[ReplayRow]:
        for row in history.rows:
            if self._stopping.is_set():
                return
            yield row

    def _busy(self) -> bool:
        """Whether the clock is to wait: for a training, a version that starts, the controller."""
        training = self._training is not None and self._training.busy()
        served = self._serving.observe(self.spec_name)
        unsettled = served is not None and not served.settled
        self.view()
        seen = self._newest or self._story.chapters()[0].starts
        behind = self.now() - seen > LAG / self._careful
        return training or unsettled or behind

    def _tempo(self) -> float:
        return self._speed / self._careful

    @property
    def spec_name(self) -> str:
        """The model's."""
        return self.spec.name

    def now(self) -> datetime:
        """By the platform's clock."""
        return SimulatedClock(self._clock_file).now()

    def view(self) -> LiveView | None:
        """What the controller knows; None while it does not answer."""
        state = read_state(self.home)
        url = state.urls.get("controller") if state else None
        if url is None:
            return None
        parts = urlsplit(url)
        link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        try:
            link.request("GET", f"{PATH_API}/models/{self.spec_name}")
            answer = link.getresponse()
            body = answer.read()
            view = LiveView.from_json(body) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValidationError):
            return None
        finally:
            link.close()
        if view is not None:
            self._newest = view.newest_prediction
            self._careful = _careful(view.rollout)
        return view

    def decisions(self) -> list[Decision]:
        """The whole log, oldest first."""
        return self._state.decisions(self.spec_name)

    def force_worse(self) -> None:
        """Train by the old recipe on the old loans alone, with the gate off."""
        self.train(WORSE_FILE, "worse.log")

    def trouble(self) -> str | None:
        """Why the loans no longer come, where they do not."""
        if self._broken:
            return self._broken
        failed = any(one.poll() not in (None, 0) for one in self._trainings)
        if failed and not self._stopping.is_set():
            return f"A training of the story's failed; its log is in {self.home}."
        done = self._replayed
        if done is None or self._stopping.is_set():
            return None
        return str(done.error) if done.error else "All of them were sent."

    def replayed(self) -> Replayed | None:
        """How the replay ended, once it has."""
        return self._replayed

    def stop(self, keep: bool) -> None:
        """End the loans and what trains; and the platform, unless it is kept, whose clock then is
        as a wall's."""
        self._stopping.set()
        try:
            for training in self._trainings:
                _end(training)
            if self._thread is not None:
                self._thread.join(_STOP_SECONDS)
        finally:
            if keep:
                set_clock(self._clock_file, 1.0)
            else:
                # One that is just starting can be told to end only once it has begun.
                while self._bringing is not None and self._bringing.is_alive():
                    stop_platform(self.home)
                    self._bringing.join(_LOOK_SECONDS)
                stop_platform(self.home)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # A training gives its steps time to take back what they half did.
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _careful(rollout: RolloutView | None) -> float:
    if rollout is None or rollout.over:
        return 1.0
    return EXPOSED if rollout.state in LIVE else WATCHED


def worse_spec(text: str) -> str:
    """The story's spec as somebody in a hurry would bend it: old loans only, gate off."""
    import yaml

    document = yaml.safe_load(text)
    document["source"]["predictions"] = False
    document["gates"] = {"enabled": False}
    document["trainer"]["parameters"]["max_iter"] = 5
    document["retraining"].pop("memory_rows", None)
    return f"# Made by the demo: what must not get through.\n{json.dumps(document, indent=2)}\n"
