"""Puts together what the live page shows of a model, from whatever is known at the moment.

A part whose source does not answer is left out or shown as last known, and the page says so: a
page that is blank when something is wrong is no use.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Protocol, TypeVar

from pydantic import ValidationError

from heliotrope.domain import live_view as view
from heliotrope.domain.alarms import Alarm
from heliotrope.domain.decisions import Decision
from heliotrope.domain.document import Document
from heliotrope.domain.drift.documents import DriftReport
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.triggers import AcceptedLevel, Trigger
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.errors import NotFoundError, UnavailableError
from heliotrope.ports.serving import Serving
from heliotrope.ports.state import Kept, StateKind, StateStore
from heliotrope.service import live_parts as parts
from heliotrope.service.alias_book import AliasBook
from heliotrope.service.rollout_keeping import Judgement, RolloutBook
from heliotrope.service.truth_book import TruthBook
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ALIAS_CANDIDATE, ALIAS_CHAMPION, MODEL_PLATFORM, Role

WINDOWS = 120
"""Windows of time shown at most, the newest ones."""
EVENTS = 60
ALARMS = 30
TRIGGERS = 10
FRESH_SECONDS = 0.5
"""A view younger than this is shown again, so that many watchers cost as much as one."""
_Found = TypeVar("_Found", bound=Document)
_Answer = TypeVar("_Answer")


class Watched(Protocol):
    """What the page shows of the controller itself."""

    @property
    def active(self) -> bool: ...

    @property
    def matters(self) -> tuple[str, ...]: ...


class Now(Protocol):
    """Tells the controller's time."""

    def now(self) -> datetime: ...


@dataclass(frozen=True)
class Sources:
    """Where a view's parts come from."""

    state: StateStore
    books: Mapping[str, TruthBook]
    serving: Serving
    aliases: AliasBook
    controller: Watched
    clock: Now


class LiveViews:
    """The views of a controller's models. Any thread may ask.

    Args:
        specs: of the models.
        sources: asked anew for each view.
    """

    def __init__(self, specs: Sequence[ModelSpec], sources: Sources) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._sources = sources
        self._lock = Lock()
        self._made: dict[str, tuple[float, bytes]] = {}

    def json(self, model: str) -> bytes:
        """A model's view.

        Raises:
            NotFoundError: the controller does not keep this model.
        """
        spec = self._specs.get(model)
        if spec is None:
            known = ", ".join(self._specs)
            raise NotFoundError(f"The model must be one of {known}. Got {model[:60]!r}.")
        with self._lock:
            made = self._made.get(model)
            if made is None or time.monotonic() - made[0] > FRESH_SECONDS:
                text = _Making(spec, self._sources).made().model_dump_json().encode()
                made = self._made[model] = (time.monotonic(), text)
            return made[1]


class _Making:
    """One view in the making; `matters` gathers what could not be asked."""

    def __init__(self, spec: ModelSpec, sources: Sources) -> None:
        self._spec, self._sources = spec, sources
        self._book = sources.books[spec.name]
        self._now = sources.clock.now()
        self._matters: list[str] = list(sources.controller.matters)

    def made(self) -> view.LiveView:
        """The whole."""
        served = self._asked(lambda: self._sources.serving.observe(self._spec.name), None)
        known = self._sources.aliases.known(self._spec.name)
        if known.trouble:
            self._matters.append(known.trouble)
        windows = self._windows()
        totals = self._book.totals().values()
        drift, (rollout, judged) = self._drift(), self._rollout()
        shown = {
            "contract": self._contract(),
            "champion": parts.alias(known, ALIAS_CHAMPION)
            or parts.in_role(served, Role.CHAMPION)
            or next((w.version for w in reversed(windows) if w.role == Role.CHAMPION), None),
            "candidate": parts.alias(known, ALIAS_CANDIDATE)
            or (rollout.candidate if rollout and not rollout.over else None),
            "versions": parts.versions(served, known),
            "settled": served.settled if served else None,
            "windows": tuple(parts.window(one) for one in windows),
            "predicted": sum(predicted for predicted, _, _ in totals),
            "labelled": sum(labelled for _, labelled, _ in totals),
            "newest_prediction": self._book.newest,
            "first_labels_due": self._first_due(windows),
            "delay": next((w.delay for w in reversed(windows) if _champions(w)), None),
            "drift": drift,
            "rollout": parts.rollout(rollout, judged) if rollout else None,
            "alarms": self._alarms(),
            "triggers": self._triggers(),
            "events": self._events(),
        }
        active = self._sources.controller.active
        return view.LiveView(active=active, matters=tuple(self._matters), **shown)

    def _asked(self, ask: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        try:
            return ask()
        except (UnavailableError, ValidationError) as error:
            read = isinstance(error, UnavailableError)
            text = str(error) if read else f"A document of {self._spec.name} cannot be read."
            if text not in self._matters:
                self._matters.append(text)
            return otherwise

    def _read(self, kind: StateKind, of: type[_Found], model: str | None = None) -> list[_Found]:
        nothing: list[Kept] = []
        name = model or self._spec.name
        kept = self._asked(lambda: self._sources.state.kept(kind, name), nothing)
        found = []
        for one in kept:
            try:
                found.append(of.from_json(one.text))
            except ValidationError:
                # Another version of the controller wrote it; what it says is not for this page.
                continue
        return found

    def _newest(self, kind: StateKind, of: type[_Found]) -> _Found | None:
        return next(iter(self._read(kind, of)), None)

    def _contract(self) -> view.Contract:
        levels = self._read(StateKind.ACCEPTED, AcceptedLevel)
        primary = self._spec.metrics.primary
        fitting = (level for level in levels if level.metric == primary)
        return parts.contract(self._spec, next(fitting, None))

    def _windows(self) -> list[WindowTruth]:
        starts = sorted({key.window for key, _ in self._book.newest_first()})
        if not starts:
            return []
        # From the newest window that is not ahead of the clock: one that is says that a clock
        # somewhere is wrong, and must not push the others off the page.
        last = self._book.plan.window_of(self._now)
        shown = [start for start in starts if start <= last][-WINDOWS:]
        since = self._book.plan.window_start(shown[0]) if shown else None
        found = self._book.windows(self._now, since, slices=False)
        return [one for one in found if one.window_from <= self._now]

    def _first_due(self, windows: Sequence[WindowTruth]) -> datetime | None:
        if not windows or any(one.labelled for one in windows):
            return None
        return windows[0].window_to + self._spec.label.delay

    def _rollout(self) -> tuple[Rollout | None, Judgement | None]:
        book = RolloutBook(self._sources.state)
        nobody: tuple[Rollout | None, Judgement | None] = (None, None)

        def read() -> tuple[Rollout | None, Judgement | None]:
            last = book.latest(self._spec.name)
            return (last.rollout, book.judgement(self._spec.name)) if last else nobody

        return self._asked(read, nobody)

    def _drift(self) -> view.DriftView | None:
        report = self._newest(StateKind.DRIFT, DriftReport)
        return None if report is None else parts.drift(report)

    def _alarms(self) -> tuple[view.AlarmView, ...]:
        found = [
            *self._read(StateKind.ALARM, Alarm),
            *self._read(StateKind.ALARM, Alarm, MODEL_PLATFORM),
        ]
        found.sort(key=lambda one: one.changed, reverse=True)
        # What is on comes first, and of that what somebody is woken for.
        found.sort(key=lambda one: (not one.firing, one.firing and one.severity != "page"))
        return tuple(parts.alarm(one) for one in found[:ALARMS])

    def _triggers(self) -> tuple[view.TriggerView, ...]:
        found = self._read(StateKind.TRIGGER, Trigger)
        found.sort(key=lambda one: one.decided_at, reverse=True)
        return tuple(parts.trigger(one) for one in found[:TRIGGERS])

    def _events(self) -> tuple[view.EventView, ...]:
        state = self._sources.state
        found: list[Decision] = []
        for model in (self._spec.name, MODEL_PLATFORM):
            nothing: list[Decision] = []
            found += self._asked(partial(state.decisions, model, limit=EVENTS), nothing)
        found.sort(key=lambda one: (one.at, one.sequence), reverse=True)
        return tuple(parts.event(one) for one in found[:EVENTS])


def _champions(window: WindowTruth) -> bool:
    return window.role == Role.CHAMPION and window.delay is not None and window.maturity.mature
