"""Carries out serving plans: a predictor a version, its role, and the split of the traffic."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.embedded.supervisor.envoy import Backend
from heliotrope.adapters.embedded.supervisor.gateway import Gateway
from heliotrope.adapters.embedded.supervisor.http import ask
from heliotrope.adapters.embedded.supervisor.ports import Ports, can_listen
from heliotrope.adapters.embedded.supervisor.process import Child, ChildSpec
from heliotrope.adapters.embedded.supervisor.proven import Proven
from heliotrope.adapters.embedded.supervisor.split import split_now
from heliotrope.adapters.whole_file import write_whole
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing, ServingPlan
from heliotrope.errors import UnavailableError
from heliotrope.telemetry.predictor_metrics import PREDICTOR_INFO
from heliotrope.vocabulary import ENV_ROLE_FILE, Role

logger = logging.getLogger("heliotrope.up")

DRAIN_SECONDS = 15.0
"""For requests under way, before a version that left the plan is stopped all the same."""
LINGER_SECONDS = 1.0
"""Without traffic, before a version is stopped: Envoy's threads learn of a split one by one."""
GRACE_SECONDS = 10
_ROLE = re.compile(rf'^{PREDICTOR_INFO.name}\{{.*\brole="(\w+)"'.encode(), re.MULTILINE)


@dataclass
class Running:
    """A version that was started."""

    model: str
    version: str
    http: int
    grpc: int
    role_file: Path
    wanted: Role
    child: Child = field(init=False)
    role: Role | None = None
    """What it said its role is."""
    listens: bool = False
    """It was ready at least once, so the gateway knows it."""
    leaving_since: float | None = None
    asking: asyncio.Task[None] | None = None
    stopping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Of its child and of its cluster."""
        return f"{self.model}/{self.version}"

    @property
    def backend(self) -> Backend:
        """As the gateway knows it."""
        return Backend(self.model, self.version, self.http)


class Revisions:
    """All versions of all models; `step` moves them towards the plans.

    Args:
        home: HELIOTROPE_HOME.
        serving: the plans.
        gateway: Envoy.
        ports: where predictors get theirs.
        make: a child's spec from its name, its command and its own variables.
    """

    def __init__(
        self,
        home: Path,
        serving: EmbeddedServing,
        gateway: Gateway,
        ports: Ports,
        make: Callable[[str, tuple[str, ...], Mapping[str, str], int], ChildSpec],
    ) -> None:
        self._home, self._serving, self._gateway = home, serving, gateway
        self._ports, self._make = ports, make
        self.running: dict[tuple[str, str], Running] = {}
        self.plans: dict[str, tuple[ServingPlan, str]] = {}
        self.observed: dict[str, ObservedServing] = {}
        self._split: dict[str, dict[str, int]] = {}
        self._proven = Proven(home / "platform" / "proven.json")
        self._refused: dict[str, str] = {}
        self._told: dict[str, str] = {}

    async def step(self, models: list[str]) -> None:
        """Look at the plans, and do what can be done now."""
        for model in sorted({*models, *self._serving.models()}):
            self._look(model)
        for running in self.running.values():
            self._follow(running)
        backends = [self._backend(one) for one in self.running.values() if one.listens]
        await self._gateway.step(backends, self._split)
        await self._retire()
        for model in self.plans:
            self._tell(model)

    def _backend(self, running: Running) -> Backend:
        """With the versions that may stand in for it: such as users have been sent to before.

        A shadow that nobody has judged yet is none of them, and one that the plan dropped neither.
        """
        plan = self.plans[running.model][0]
        named = {one.version for one in plan.revisions}
        spares = tuple(
            one.http
            for one in self.running.values()
            if one.model == running.model
            and one is not running
            and one.listens
            and one.version in named
            and self._proven.has(one.model, one.version)
        )
        return replace(running.backend, spares=spares)

    async def stop(self) -> None:
        """Stop all predictors; each answers what it has and closes its spool."""
        await asyncio.gather(*(one.child.stop() for one in self.running.values()))

    def _look(self, model: str) -> None:
        try:
            found = self._serving.read_plan(model)
        except UnavailableError as error:
            if self._refused.get(model) != str(error):
                self._refused[model] = str(error)
                logger.error("%s The last plan stays.", error)
            found = None
        if found is not None and self.plans.get(model, (None, ""))[1] != found[1]:
            self.plans[model] = found
            logger.info("plan of %s: %s (%s)", model, found[0].weights, found[0].reason)
        plan = self.plans[model][0] if model in self.plans else None
        for revision in plan.revisions if plan else ():
            running = self.running.get((model, revision.version))
            if running is None:
                self._start(model, revision.version, revision.role)
            elif running.wanted is not revision.role:
                self._give_role(running, revision.role)
        ready = {v for (m, v), one in self.running.items() if m == model and one.child.ready}
        last = self._split.get(model, {})
        there = {v: weight for v, weight in last.items() if (model, v) in self.running}
        self._split[model] = split_now(plan.weights if plan else {}, ready, there)
        if plan is not None:
            named = [one.version for one in plan.revisions]
            self._proven.note(model, named, self._split[model])

    def _start(self, model: str, version: str, role: Role) -> None:
        file = self._home / "platform" / "roles" / model / version
        running = Running(model, version, self._ports.take(), self._ports.take(), file, role)
        self._give_role(running, role)
        running.child = Child(lambda: self._spec(running))
        self.running[model, version] = running
        running.child.start()

    def _spec(self, running: Running) -> ChildSpec:
        if not (can_listen(running.http) and can_listen(running.grpc)):
            running.http, running.grpc = self._ports.take(), self._ports.take()
        spool = self._home / "spool" / running.model / running.version
        command = (
            *(sys.executable, "-m", "heliotrope", "serve", running.model),
            *("--version", running.version, "--role", str(running.wanted)),
            *("--http-port", str(running.http), "--grpc-port", str(running.grpc)),
            *("--spool", str(spool)),
        )
        own = {
            ENV_ROLE_FILE: str(running.role_file),
            "HELIOTROPE_GRACE_SECONDS": str(GRACE_SECONDS),
            "OMP_NUM_THREADS": "1",
        }
        made = self._make(running.name, command, own, running.http)
        return replace(made, answers_itself=True)

    def _give_role(self, running: Running, role: Role) -> None:
        running.wanted = role
        running.role_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(running.role_file, f"{role}\n")

    def _follow(self, running: Running) -> None:
        """Learn whether it listens, and in which role it answers."""
        if not running.child.ready:
            return
        running.listens = True
        asking = running.asking is not None and not running.asking.done()
        if running.role is not running.wanted and not asking:
            running.asking = asyncio.create_task(self._ask_role(running))

    async def _ask_role(self, running: Running) -> None:
        said = await ask(f"http://127.0.0.1:{running.http}/metrics")
        found = _ROLE.search(said[1]) if said is not None else None
        if found is not None:
            running.role = Role(found[1].decode())

    async def _retire(self) -> None:
        """Stop versions that no plan names, once no traffic and no request is theirs."""
        for key, running in list(self.running.items()):
            model, version = key
            plan = self.plans[model][0]
            if running.stopping is not None:
                # Where a plan wants it again, it is started anew once it is gone.
                if running.stopping.done():
                    self._forget(key)
            elif any(one.version == version for one in plan.revisions):
                running.leaving_since = None
            elif await self._is_idle(running):
                running.listens = False
                running.stopping = asyncio.create_task(running.child.stop())

    async def _is_idle(self, running: Running) -> bool:
        if version_in(self._gateway.in_force, running) or version_in(self._split, running):
            running.leaving_since = None
            return False
        now = time.monotonic()
        running.leaving_since = running.leaving_since or now
        if now - running.leaving_since > DRAIN_SECONDS:
            return True
        if now - running.leaving_since < LINGER_SECONDS:
            return False
        return await self._gateway.active(running.backend) == 0

    def _forget(self, key: tuple[str, str]) -> None:
        running = self.running.pop(key)
        self._ports.give_back(running.http)
        self._ports.give_back(running.grpc)
        running.role_file.unlink(missing_ok=True)

    def _tell(self, model: str) -> None:
        plan, digest = self.plans[model]
        seen = [self._seen(one) for one in self.running.values() if one.model == model]
        weights = self._gateway.in_force.get(model, {})
        named = {one.version: one.role for one in plan.revisions}
        settled = (
            {one.version: one.role for one in seen} == named
            and all(one.ready for one in seen)
            and all(self.running[model, v].role is role for v, role in named.items())
            and weights == {v: weight for v, weight in plan.weights.items() if weight}
            and self._gateway.settled
        )
        observed = ObservedServing(
            model=model,
            revisions=tuple(seen),
            weights=weights,
            settled=settled,
            gateway=self._gateway.url,
        )
        if self.observed.get(model) != observed or self._told.get(model) != digest:
            self._serving.write_observed(digest, observed)
            self.observed[model] = observed
            self._told[model] = digest

    def _seen(self, running: Running) -> ObservedRevision:
        child = running.child
        return ObservedRevision(
            version=running.version,
            role=running.role or running.wanted,
            ready=child.ready,
            address=f"http://127.0.0.1:{running.http}" if running.listens else None,
            restarts=child.restarts,
            message="" if child.ready else child.message or str(child.state),
        )


def version_in(split: Mapping[str, Mapping[str, int]], running: Running) -> bool:
    """Whether a split gives a version anything."""
    return split.get(running.model, {}).get(running.version, 0) > 0
