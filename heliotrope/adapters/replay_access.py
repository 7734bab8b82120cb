"""A replay put together: rows, schedule, gateway, collector and clock."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from heliotrope.adapters.collector_client import CollectorClient
from heliotrope.adapters.embedded.clock_hand import FileClockHand, TrainingWatch
from heliotrope.adapters.gateway_client import GatewayClient
from heliotrope.adapters.replay_rows import History
from heliotrope.clock import SimulatedClock, clock_of
from heliotrope.domain.replay import (
    ReplayPlan,
    ReplaySchedule,
    Span,
    plan_machine_time,
    plan_simulated_time,
)
from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError, UsageError
from heliotrope.service.replay import Replay, ReplayOptions
from heliotrope.service.replay_counts import ReplayCounts, ReplaySummary
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ENV_CLOCK

_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class ReplayPlace:
    """Where a replay goes."""

    gateway: str
    collector: str
    token: str
    home: Path
    """Unsent labels are kept here, and training runs watched."""
    clock: Path | None
    """A simulated clock's file; the machine's clock without it."""


@dataclass(frozen=True)
class ReplayWish:
    """What is asked of a replay; see `heliotrope replay --help`."""

    rate: float | None = None
    speed: float | None = None
    label_delay: timedelta | None = None
    label_share: float = 1.0
    labels_by_entity: bool = False
    seed: int = 0
    drive_clock: bool = False
    hold_while_training: bool = False
    protocol: str = "v1"
    headers: tuple[tuple[str, str], ...] = ()
    connections: int = 16
    wait_for_labels: bool = True
    patience: float = 30.0

    def check(self, spec: ModelSpec, simulated: bool) -> None:
        """Refuse what contradicts itself; UsageError says how."""
        for name, value in (("--rate", self.rate), ("--speed", self.speed)):
            if value is not None and not 0 < value <= 1e9:
                raise UsageError(f"{name} must be above 0 and at most 1e9. Got {value}.")
        if not 0 <= self.label_share <= 1:
            raise UsageError(f"--label-share must be between 0 and 1. Got {self.label_share}.")
        if self.rate is not None and self.speed is not None:
            raise UsageError("--rate or --speed may be given, not both.")
        if self.drive_clock and not simulated:
            raise UsageError(f"--drive-clock needs a simulated clock ({ENV_CLOCK}). Got none.")
        if self.hold_while_training and not self.drive_clock:
            raise UsageError("--hold-while-training needs --drive-clock: only it moves the clock.")
        if simulated and not self.drive_clock and (self.rate or self.speed):
            raise UsageError(
                "--rate and --speed need --drive-clock where the clock is simulated: rows go by "
                "the clock, and whoever drives it says how fast."
            )
        if self.labels_by_entity and spec.entity_key is None:
            raise UsageError("--labels-by entity needs a spec with entity_key. Got none.")


@dataclass(frozen=True)
class Replayed:
    """How a replay ended."""

    summary: ReplaySummary
    unsent: Path | None
    """Labels that were not acknowledged, as NDJSON."""
    error: HeliotropeError | None
    interrupted: bool


def run_replay(
    spec: ModelSpec,
    rows: AbstractContextManager[History],
    place: ReplayPlace,
    wish: ReplayWish,
    *,
    started: Callable[[History, ReplayPlan], None] = lambda _, __: None,
    show: Callable[[ReplayCounts, datetime], None] = lambda _, __: None,
    busy: Callable[[], bool] | None = None,
    tempo: Callable[[], float] | None = None,
) -> Replayed:
    """Replay rows to their end, or to where it has to stop; what was done is told either way.

    Args:
        spec: of the model.
        rows: opened here and closed again.
        place: where they go.
        wish: how.
        started: told what there is, before the first row.
        show: told the counts and the clock's time, a few times a second.
        busy: what a driven clock waits for, beside late rows and, where wished, training runs.
        tempo: how fast a driven clock runs, where that changes on the way.

    Raises:
        UsageError: the wish contradicts itself, or the token is refused.
        NotFoundError: the gateway does not serve the model.
        UnavailableError: gateway or collector do not answer before the first row.
    """
    wish.check(spec, place.clock is not None)
    clock = clock_of({ENV_CLOCK: str(place.clock)} if place.clock else {})
    gateway = GatewayClient(place.gateway, spec, wish.protocol, wish.headers)
    with closing(CollectorClient(place.collector, place.token)) as client, rows as history:
        _require_collector(client, wish.patience)
        asyncio.run(_require_gateway(gateway, spec.name, wish.patience))
        plan = _plan(Span(history.count, history.first, history.last), spec, clock.now(), wish,
                     simulated=place.clock is not None)  # fmt: skip
        with _driven(place, plan, tempo) as hand:
            started(history, plan)
            watch = TrainingWatch(place.home / "runs") if wish.hold_while_training else None
            waits = [one for one in (busy, watch.busy if watch else None) if one is not None]
            name = f"replay-{secrets.token_hex(4)}"
            replay = Replay(
                ReplaySchedule(history.rows, plan.pace, plan.delay, wish.label_share, wish.seed),
                gateway,
                client,
                clock,
                lambda: clock.speed if isinstance(clock, SimulatedClock) else 1.0,
                ReplayOptions(
                    model=spec.name,
                    name=name,
                    entity_key=spec.entity_key if wish.labels_by_entity else None,
                    connections=wish.connections,
                    wait_for_labels=wish.wait_for_labels,
                    patience=wish.patience,
                ),
                hand=hand,
                busy=(lambda: any(one() for one in waits)) if waits else None,
                show=lambda counts: show(counts, clock.now()),
            )
            return _ended(replay, history, place, spec, name)


def _plan(
    span: Span, spec: ModelSpec, now: datetime, wish: ReplayWish, *, simulated: bool
) -> ReplayPlan:
    if simulated:
        return plan_simulated_time(
            span, now, spec.label.delay, drive=wish.drive_clock, rate=wish.rate, speed=wish.speed,
            delay=wish.label_delay,
        )  # fmt: skip
    if wish.rate is None and wish.speed is None:
        raise UsageError("--rate or --speed must be given on the machine's own clock. Got neither.")
    return plan_machine_time(
        span, now, spec.label.delay, rate=wish.rate, speed=wish.speed, delay=wish.label_delay
    )


@contextmanager
def _driven(
    place: ReplayPlace, plan: ReplayPlan, tempo: Callable[[], float] | None
) -> Iterator[FileClockHand | None]:
    if place.clock is None or not plan.drive:
        yield None
        return
    constant = plan.clock_speed or SimulatedClock(place.clock).speed
    hand = FileClockHand(place.clock, tempo or (lambda: constant))
    if hand.speed == 0:
        raise UsageError("--rate or --speed must be given: the clock stands still. Got neither.")
    if plan.move_clock_to is not None:
        hand.move_to(plan.move_clock_to)
    try:
        yield hand
    finally:
        hand.restore()


def _ended(
    replay: Replay, history: History, place: ReplayPlace, spec: ModelSpec, name: str
) -> Replayed:
    began, error, interrupted = time.monotonic(), None, False
    try:
        asyncio.run(replay.run())
    except HeliotropeError as stopped:
        error = stopped
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.monotonic() - began
    unsent, counts = replay.unsent_labels(), replay.counts
    file: Path | None = None
    if unsent:
        file = place.home / "replay" / f"{name}.labels.ndjson"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps({**row, "model": spec.name}) + "\n" for row in unsent))
    summary = ReplaySummary(
        model=spec.name,
        gateway=place.gateway,
        rows_from=history.first.isoformat(),
        rows_until=history.last.isoformat(),
        sent=counts.sent,
        answered=_most_first(counts.answered),
        refused=_most_first(counts.refused),
        failed=_most_first(counts.failed),
        retries=counts.retries,
        labels_sent=counts.labels_sent,
        labels_refused=_most_first(counts.labels_refused),
        labels_left=len(unsent),
        latency=counts.latency(),
        seconds=round(seconds, 3),
        rows_a_second=round(counts.sent / seconds, 1) if seconds else 0.0,
        latest_behind=round(counts.behind, 3),
    )
    return Replayed(summary, file, error, interrupted)


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _require_collector(client: CollectorClient, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            reply = client.models()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
        else:
            if reply.status == 200:
                return
            if reply.status < 500 or time.monotonic() > deadline:
                raise UsageError(f"The collector must know the token. {reply.error}")
        time.sleep(_ASK_SECONDS)


async def _require_gateway(gateway: GatewayClient, model: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        trouble: HeliotropeError
        try:
            status = await gateway.ready()
        except UnavailableError as error:
            trouble = error
        else:
            if status == 200:
                await gateway.close()
                return
            said = f"at {gateway.url} must serve {model}. It answers HTTP {status}."
            trouble = (NotFoundError if status == 404 else UnavailableError)(f"The gateway {said}")
        if time.monotonic() > deadline:
            await gateway.close()
            raise trouble
        await asyncio.sleep(_ASK_SECONDS)
