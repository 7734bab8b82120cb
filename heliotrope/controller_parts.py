"""What a controller is made of: the one place where its duties are listed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heliotrope.vocabulary import MODEL_PLATFORM

if TYPE_CHECKING:
    from heliotrope.adapters.controller_app import ControllerApp
    from heliotrope.bootstrap import Platform
    from heliotrope.clock import Clock
    from heliotrope.service.controller import Duty, Lock
    from heliotrope.service.notifying import NotifyDuty
    from heliotrope.service.retraining_facts import RetrainingTools
    from heliotrope.service.tokens import TokenRing
    from heliotrope.service.truth_book import TruthBook
    from heliotrope.spec import ModelSpec
    from heliotrope.telemetry.board import Board


@dataclass(frozen=True)
class Parts:
    """What duties are made of."""

    platform: "Platform"
    specs: tuple["ModelSpec", ...]
    board: "Board"
    clock: "Clock"
    books: dict[str, "TruthBook"]
    """The truth of each model, by name; refreshed by its duty before the others run."""
    notify: "NotifyDuty"
    folders: "Mapping[str, Path]"
    """Where each model's spec is, by name; its own trainer module is found there."""


def controller_duties(parts: Parts) -> "list[Duty]":
    """All duties, in the order in which a tick runs them; a line each.

    The truth comes first, since the others judge on it, and people are told last.
    """
    from heliotrope.service.truth_duty import TruthDuty

    return [
        *(TruthDuty(spec, parts.books[spec.name], parts.board) for spec in parts.specs),
        *(_accuracy_duty(parts, spec) for spec in parts.specs),
        *(duty for spec in parts.specs for duty in _drift_duties(parts, spec)),
        *(_retraining_duty(parts, spec) for spec in parts.specs),
        *(_rollout_duty(parts, spec) for spec in parts.specs),
        parts.notify,
    ]


def _accuracy_duty(parts: Parts, spec: "ModelSpec") -> "Duty":
    from heliotrope.service.alarms import AccuracyDuty, AlarmTools

    here, book = parts.platform, parts.books[spec.name]
    tools = AlarmTools(
        here.state,
        here.outcomes,
        lambda now: book.windows(now, slices=False),
        lambda: here.registry,
    )
    return AccuracyDuty(spec, tools, parts.board)


def _drift_duties(parts: Parts, spec: "ModelSpec") -> "list[Duty]":
    from heliotrope.service.drift_duty import DiagnosisDuty, DriftDuty
    from heliotrope.service.retraining import RetrainingDoor

    door = RetrainingDoor(spec, retraining_tools(parts, spec))
    return [
        DriftDuty(spec, parts.platform, parts.board, door),
        DiagnosisDuty(spec, parts.platform, door),
    ]


def retraining_tools(parts: Parts, spec: "ModelSpec") -> "RetrainingTools":
    """What a model's door to retraining looks at; any duty may hold a `RetrainingDoor` on it."""
    from heliotrope.service.retraining_facts import RetrainingTools

    here, book = parts.platform, parts.books[spec.name]
    return RetrainingTools(
        here.state,
        lambda: here.registry,
        here.runs,
        lambda now: book.windows(now, slices=False),
        parts.folders.get(spec.name),
    )


def _retraining_duty(parts: Parts, spec: "ModelSpec") -> "Duty":
    from heliotrope.service.retraining_duty import RetrainingDuty

    return RetrainingDuty(spec, retraining_tools(parts, spec), parts.board)


def _rollout_duty(parts: Parts, spec: "ModelSpec") -> "Duty":
    from heliotrope.service.rollout_duty import RolloutDuty

    here = parts.platform
    return RolloutDuty(
        spec,
        lambda: here.rollouts,
        lambda model: here.serving.observe(model),
        parts.board,
        lambda model, now: here.traffic.sample(model, now),
    )


@contextmanager
def open_controller(
    platform: "Platform",
    specs: "Sequence[ModelSpec]",
    clock: "Clock",
    lock: "Lock",
    ring: "TokenRing",
    tick_seconds: float,
    folders: "Mapping[str, Path] | None" = None,
) -> "Iterator[ControllerApp]":
    """A controller and its HTTP application, ready to be served.

    Args:
        platform: where it acts.
        specs: of the models it keeps.
        clock: of everything it decides.
        lock: held while it acts.
        ring: who may tell it what.
        tick_seconds: between the starts of two ticks.
        folders: where each model's spec is, by name; its own trainer module is found there.

    Raises:
        SpecError: a monitoring window is shorter than a second.
        UsageError: a place to tell people at is none.
        UnavailableError: the state's database does not answer.
    """
    from heliotrope.adapters.controller_app import ControllerApp
    from heliotrope.adapters.notify import AppriseMessenger
    from heliotrope.adapters.web_files import WebFiles
    from heliotrope.bootstrap import CHECKOUT
    from heliotrope.service.alerts import AlertIntake
    from heliotrope.service.alias_book import AliasBook
    from heliotrope.service.controller import Controller
    from heliotrope.service.live_view import LiveViews, Sources
    from heliotrope.service.notifying import NotifyDuty
    from heliotrope.service.truth_book import TruthBook
    from heliotrope.telemetry.board import Board
    from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS

    board = Board(CONTROLLER_METRICS)
    state, names = platform.state, tuple(spec.name for spec in specs)
    notify = NotifyDuty(
        state, [*names, MODEL_PLATFORM], AppriseMessenger(platform.settings.notify), board
    )
    with ExitStack() as opened:
        books = {spec.name: TruthBook(opened.enter_context(platform.truth(spec))) for spec in specs}
        parts = Parts(platform, tuple(specs), board, clock, books, notify, folders or {})
        controller = Controller(controller_duties(parts), clock, board, lock, tick_seconds)
        aliases = AliasBook(lambda: platform.registry)
        sources = Sources(state, books, platform.serving, aliases, controller, clock)
        views = LiveViews(parts.specs, sources)
        pages = WebFiles(CHECKOUT / "dashboards" / "web")
        yield ControllerApp(
            controller, names, state, views.json, clock.now,
            AlertIntake(state, clock, controller.wake), ring, pages,
        )  # fmt: skip
        notify.close()
