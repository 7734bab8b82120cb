"""The supervisor: starts everything, keeps it running, tells how it is, ends it in order."""

import asyncio
import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.embedded.supervisor.children import GATEWAY, Household, UpOptions
from heliotrope.adapters.embedded.supervisor.first_plan import FirstPlans
from heliotrope.adapters.embedded.supervisor.gateway import Gateway
from heliotrope.adapters.embedded.supervisor.leftovers import end_leftovers, marked
from heliotrope.adapters.embedded.supervisor.ports import Ports
from heliotrope.adapters.embedded.supervisor.process import Child, ChildSpec, rotate
from heliotrope.adapters.embedded.supervisor.revisions import Revisions
from heliotrope.adapters.embedded.supervisor.state import (
    HEARTBEAT_SECONDS,
    ChildStatus,
    ModelStatus,
    PlatformState,
    start_ticks,
    write_state,
)
from heliotrope.adapters.prometheus_config import targets_file
from heliotrope.adapters.whole_file import write_whole
from heliotrope.settings import Settings
from heliotrope.vocabulary import ENV_PLATFORM

logger = logging.getLogger("heliotrope.up")

TICK_SECONDS = 0.05
SHIP_SECONDS = 15.0
"""For shippers to hand the last records to the collector when the platform goes down."""
DRAIN_SECONDS = 5.0


class Supervisor:
    """Runs a platform until `stop` is called.

    Args:
        settings: where things are.
        options: what was asked for.
        first: finds the version that a model without a plan begins with.
        clock: the simulated clock's file, where there is one.
        tell: called with each new state.
    """

    def __init__(
        self,
        settings: Settings,
        options: UpOptions,
        first: FirstPlans,
        clock: Path | None,
        tell: Callable[[PlatformState], None],
    ) -> None:
        self._settings, self._options, self._tell = settings, options, tell
        self._home = settings.home
        self._first = first
        self._mark = {ENV_PLATFORM: str(settings.home)}
        self._ports_file = settings.home / "platform" / "ports.json"
        ports = Ports(random.Random())
        self._house = Household(settings, options, clock, ports, _read_ports(self._ports_file))
        self._ports_file.write_text(json.dumps(self._house.ports))
        self._gateway = Gateway(
            self._house.folder / "envoy",
            self._house.ports[GATEWAY],
            self._house.admin_port,
            lambda: self._envoy.ready,
        )
        self._envoy = Child(lambda: self._house.gateway(self._gateway.bootstrap))
        self._others = [_child(one) for one in self._house.others()]
        self._revisions = Revisions(
            self._home, EmbeddedServing(self._home), self._gateway, ports, self._house.spec
        )
        self._stopping = asyncio.Event()
        self._started = datetime.now(UTC)
        self._last: PlatformState | None = None
        self._targets = ""

    async def run(self) -> None:
        """Until SIGTERM, SIGINT or `stop`; everything has ended when this returns."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        orphans = await end_leftovers(self._mark)
        if orphans:
            logger.warning("Ended %d processes of a platform that was killed.", len(orphans))
        self._envoy.start()
        for child in self._others:
            child.start()
        telling = asyncio.create_task(self._keep_telling())
        planning = asyncio.create_task(self._first.run())
        try:
            while not self._stopping.is_set():
                await self._revisions.step(list(self._options.models))
                self._write_targets()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), TICK_SECONDS)
        finally:
            planning.cancel()
            await self._end()
            telling.cancel()
            self._write_state()

    def stop(self) -> None:
        """Begin to end everything."""
        if not self._stopping.is_set():
            logger.info("Stopping.")
        self._stopping.set()

    async def _end(self) -> None:
        """From the outside in, so that what was answered is written down and shipped."""
        await self._gateway.drain()
        end = time.monotonic() + DRAIN_SECONDS
        while await self._gateway.under_way() and time.monotonic() < end:
            await asyncio.sleep(TICK_SECONDS)
        await self._envoy.stop()
        await self._revisions.stop()
        end = time.monotonic() + SHIP_SECONDS
        while time.monotonic() < end and any(map(_is_shipper, marked(self._mark))):
            await asyncio.sleep(TICK_SECONDS)
        # Those that others send to go last.
        for child in reversed(self._others):
            await child.stop()
        await end_leftovers(self._mark)

    async def _keep_telling(self) -> None:
        while True:
            self._write_state()
            rotate(self._house.folder / "logs" / "supervisor.log")
            await asyncio.sleep(HEARTBEAT_SECONDS / 4)

    def _write_state(self) -> None:
        state = self._state()
        if state != self._last or self._is_due():
            self._last, self._wrote_at = state, time.monotonic()
            write_state(self._home, state)
            self._tell(state)

    _wrote_at = 0.0

    def _is_due(self) -> bool:
        return time.monotonic() - self._wrote_at >= HEARTBEAT_SECONDS

    def _state(self) -> PlatformState:
        children = [self._envoy, *self._others]
        children += [one.child for one in self._revisions.running.values()]
        models = [self._model(model) for model in self._models()]
        planned = [one for one in models if one.model in self._revisions.plans]
        return PlatformState(
            pid=os.getpid(),
            ticks=start_ticks(os.getpid()) or 0,
            home=str(self._home),
            specs=tuple(str(path) for path in self._options.specs),
            started_at=self._started,
            stopping=self._stopping.is_set(),
            ready=all(one.ready for one in children) and all(one.settled for one in planned),
            urls={
                one.spec.name: one.spec.url
                for one in (self._envoy, *self._others)
                if one.spec.url is not None
            },
            children=tuple(_status(one) for one in children),
            models=tuple(models),
            notes=tuple(self._house.notes),
        )

    def _models(self) -> list[str]:
        return sorted({*self._options.models, *self._revisions.plans})

    def _model(self, model: str) -> ModelStatus:
        observed = self._revisions.observed.get(model)
        waiting = (
            [f"version {one.version}: {one.message}" for one in observed.revisions if one.message]
            if observed
            else []
        )
        return ModelStatus(
            model=model,
            weights=observed.weights if observed else {},
            settled=observed is not None and observed.settled,
            message="; ".join(waiting) if observed else self._first.messages.get(model, ""),
        )

    def _write_targets(self) -> None:
        """Tell Prometheus which predictors there are."""
        listening = [one for one in self._revisions.running.values() if one.listens]
        text = targets_file(f"127.0.0.1:{one.http}" for one in listening)
        if text != self._targets:
            self._targets = text
            self._house.targets.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._house.targets, text)


def _child(spec: ChildSpec) -> Child:
    return Child(lambda: spec)


def _status(child: Child) -> ChildStatus:
    running = child.pid is not None
    return ChildStatus(
        name=child.spec.name,
        state=str(child.state),
        pid=child.pid,
        url=child.spec.url,
        restarts=child.restarts,
        started_at=datetime.fromtimestamp(child.started_at, UTC) if running else None,
        message=child.message,
    )


def _is_shipper(pid: int) -> bool:
    try:
        return b"predictors.shipper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _read_ports(file: Path) -> Mapping[str, int]:
    try:
        said = json.loads(file.read_text())
        return {str(name): int(port) for name, port in said.items()}
    except (OSError, ValueError, AttributeError):
        return {}
