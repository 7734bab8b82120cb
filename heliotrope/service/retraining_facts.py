"""What the door to retraining looks at before it decides."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from heliotrope.domain.decisions import DecisionKind
from heliotrope.domain.lineage import Lineage
from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.retraining_history import Level, PastRun, RetrainingHistory
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.triggers import Trigger
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.errors import NotFoundError
from heliotrope.ports import RegisteredVersion, Registry
from heliotrope.ports.runs import RunLauncher
from heliotrope.ports.state import Kept, StateKind, StateStore
from heliotrope.service.accepted import read_accepted
from heliotrope.spec import ModelSpec
from heliotrope.spec.metrics import METRICS
from heliotrope.vocabulary import ALIAS_CANDIDATE, ALIAS_CHAMPION, ARTIFACT_LINEAGE, Role

FRESH_WINDOWS = 2
"""Monitoring windows that a diagnosis holds; while an alarm is on, each window gets a new one."""
Windows = Callable[[datetime], Sequence[WindowTruth]]
"""The truth as of a time, oldest first; slices may be among them."""


@dataclass(frozen=True)
class RetrainingTools:
    """What the door needs of the outside."""

    state: StateStore
    registry: Callable[[], Registry]
    launcher: RunLauncher
    windows: Windows | None = None
    """None where nobody keeps the truth (a person's command): labels are not counted then."""
    python_path: Path | None = None
    """Where the spec's own trainer module is."""


@dataclass
class Facts:
    """Gathers a model's history; remembers what cannot change."""

    spec: ModelSpec
    tools: RetrainingTools
    _trained_until: dict[str, datetime | None] = field(default_factory=dict)
    _parsed: dict[str, tuple[int, Trigger]] = field(default_factory=dict)

    def triggers(self) -> list[tuple[Kept, Trigger]]:
        """All triggers with what is stored of them, the latest change first."""
        found = []
        for kept in self.tools.state.kept(StateKind.TRIGGER, self.spec.name):
            known = self._parsed.get(kept.key)
            if known is None or known[0] != kept.revision:
                known = (kept.revision, Trigger.from_json(kept.text))
                self._parsed[kept.key] = known
            found.append((kept, known[1]))
        return found

    def history(
        self, now: datetime, triggers: Iterable[Trigger], since: datetime | None = None
    ) -> RetrainingHistory:
        """What is known as of now; labels are also counted from `since`, when the world changed.

        Raises:
            UnavailableError: MLflow or the database does not answer.
        """
        registry, model = self.tools.registry(), self.spec.name
        champion = registry.by_alias(model, ALIAS_CHAMPION)
        rollouts = self._rollouts()
        truth = self.tools.windows(now) if self.tools.windows else None
        return RetrainingHistory(
            runs=_runs(triggers, rollouts),
            champion=champion.version if champion else None,
            rollout=_rollout(rollouts, registry.by_alias(model, ALIAS_CANDIDATE), champion),
            new_labels=None if truth is None else self._new_labels(registry, champion, truth),
            changed_labels=None if truth is None or since is None else labels_since(truth, since),
            level=None if truth is None else self._level(champion, truth),
            diagnosed=self._diagnosed(champion, now),
        )

    def champion(self) -> str | None:
        """The version that is champion."""
        found = self.tools.registry().by_alias(self.spec.name, ALIAS_CHAMPION)
        return None if found is None else found.version

    def failures(self, triggers: Iterable[Trigger]) -> int:
        """Candidates in a row that came to nothing."""
        return RetrainingHistory(runs=_runs(triggers, self._rollouts())).failures

    def _rollouts(self) -> list[Rollout]:
        kept = self.tools.state.kept(StateKind.ROLLOUT, self.spec.name)
        return [Rollout.from_json(one.text) for one in kept]

    def _new_labels(
        self, registry: Registry, champion: RegisteredVersion | None, truth: Sequence[WindowTruth]
    ) -> int | None:
        if champion is None:
            return None
        if champion.version not in self._trained_until:
            self._trained_until[champion.version] = _trained_until(registry, champion)
        until = self._trained_until[champion.version]
        return sum(
            window.labelled
            for window in truth
            if window.slice is None
            and window.maturity.mature
            and window.role != Role.SHADOW
            and (until is None or window.window_from >= until)
        )

    def _diagnosed(self, champion: RegisteredVersion | None, now: datetime) -> Remedy | None:
        kinds = [DecisionKind.DIAGNOSIS]
        since = now - FRESH_WINDOWS * self.spec.monitoring.window
        found = self.tools.state.decisions(self.spec.name, since=since, kinds=kinds, limit=1)
        if not found or champion is None:
            return None
        said = found[-1].evidence
        if said.get("version") != champion.version or said.get("remedy") not in list(Remedy):
            return None
        return Remedy(said["remedy"])

    def _level(
        self, champion: RegisteredVersion | None, truth: Sequence[WindowTruth]
    ) -> Level | None:
        accepted = read_accepted(self.tools.state, self.spec)
        if champion is None or accepted is None:
            return None
        primary = self.spec.metrics.primary
        mature = [
            window
            for window in truth
            if window.slice is None
            and window.maturity.mature
            and (window.version, window.role) == (champion.version, Role.CHAMPION)
            and primary in window.metrics
            and math.isfinite(window.metrics[primary].value)
        ]
        if not mature:
            return None
        newest = max(mature, key=lambda window: window.window_to)
        found = newest.metrics[primary]
        return Level(
            metric=primary,
            greater_is_better=METRICS[primary].greater_is_better,
            accepted=accepted.value,
            fall=self.spec.monitoring.fall,
            value=found.value,
            low=found.low,
            high=found.high,
            labels=newest.labelled,
            window=newest.window_from,
        )


def labels_since(truth: Sequence[WindowTruth], since: datetime) -> int:
    """Mature labels of live answers since a time; of its own window, in proportion."""
    found = 0.0
    for window in truth:
        if window.slice is None and window.maturity.mature and window.role != Role.SHADOW:
            length = (window.window_to - window.window_from).total_seconds()
            later = (window.window_to - max(since, window.window_from)).total_seconds()
            found += window.labelled * max(0.0, later) / length
    return int(found)


def _runs(triggers: Iterable[Trigger], rollouts: Sequence[Rollout]) -> list[PastRun]:
    return [_past(one, rollouts) for one in triggers if one.requested_at is not None]


def _past(trigger: Trigger, rollouts: Sequence[Rollout]) -> PastRun:
    if trigger.requested_at is None:
        raise AssertionError("only triggers with a run have a past")
    taken_back = any(
        one.candidate == trigger.version and one.state is RolloutState.ROLLED_BACK
        for one in rollouts
    )
    return PastRun(
        run_key=trigger.cause.run_key,
        kind=trigger.cause.kind,
        requested_at=trigger.requested_at,
        forced=trigger.cause.forced,
        outcome=trigger.outcome,
        rolled_back=taken_back,
        version=trigger.version,
    )


def _rollout(
    rollouts: Sequence[Rollout],
    candidate: RegisteredVersion | None,
    champion: RegisteredVersion | None,
) -> str | None:
    for one in rollouts:
        # A candidate that is champion already answers no evidence that comes now.
        if not one.over and not one.crowned:
            return f"rollout {one.number} of version {one.candidate} ({one.state})"
    if candidate is None or (champion and candidate.version == champion.version):
        return None
    if any(one.candidate == candidate.version for one in rollouts):
        return None
    return f"version {candidate.version}, a candidate that no rollout has taken up yet,"


def _trained_until(registry: Registry, champion: RegisteredVersion) -> datetime | None:
    try:
        text = registry.read_text(champion.run_id, ARTIFACT_LINEAGE)
    except NotFoundError:
        return None
    snapshot = Lineage.from_json(text).snapshot
    return snapshot.event_to or snapshot.taken_at
