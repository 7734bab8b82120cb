"""Rollouts in the state store: read, written with their reasons, never one without the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.document import Document
from heliotrope.domain.rollout.documents import (
    Action,
    Check,
    Decision,
    PointAlias,
    Rollout,
    Waits,
    rollout_key,
)
from heliotrope.domain.rollout.evidence import Evidence
from heliotrope.ports.state import Put, StateKind, StateStore
from heliotrope.vocabulary import Verdict

JUDGEMENT_KEY = "rollout"
CONTROLLER = "controller"


class Judgement(Document):
    """What the last tick saw and thought, for whoever looks; decisions are not taken on it."""

    number: int
    """Of the rollout."""
    turn: int
    at: datetime
    verdict: Verdict
    checks: tuple[Check, ...]
    waits: Waits | None
    evidence: Evidence


@dataclass(frozen=True)
class KeptRollout:
    """A rollout as it was read."""

    rollout: Rollout
    revision: int
    """0 when it is not stored yet."""


class RolloutBook:
    """The rollouts of all models, on a state store."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def all(self, model: str) -> list[KeptRollout]:
        """A model's rollouts, the newest first."""
        found = [
            KeptRollout(Rollout.from_json(kept.text), kept.revision)
            for kept in self._state.kept(StateKind.ROLLOUT, model)
        ]
        return sorted(found, key=lambda kept: -kept.rollout.number)

    def latest(self, model: str) -> KeptRollout | None:
        """The one that is under way, or the last that was; there is never more than one."""
        return next(iter(self.all(model)), None)

    def write(
        self,
        before: KeptRollout | None,
        after: Rollout,
        now: datetime,
        *,
        actor: str = CONTROLLER,
        actions: Sequence[Action] = (),
        checks: Sequence[Check] = (),
        evidence: Evidence | None = None,
    ) -> KeptRollout:
        """Write the next document and why, in one transaction; effects come after.

        Raises:
            ConflictError: somebody else moved it first; nothing was written.
        """
        revision = before.revision if before else 0
        put = Put(
            StateKind.ROLLOUT, after.model, rollout_key(after.number), after.to_json(), revision
        )
        moved = before is None or _place(before.rollout) != _place(after)
        entries = _entries(before, after, now, actor, actions, checks, evidence) if moved else []
        self._state.apply(now, [put], entries)
        return KeptRollout(after, revision + 1)

    def judge(
        self, rollout: Rollout, decision: Decision, evidence: Evidence, now: datetime
    ) -> None:
        """Keep what was seen and thought, where that says anything new."""
        kept = self._state.get(StateKind.CURSOR, rollout.model, JUDGEMENT_KEY)
        judged = Judgement(
            number=rollout.number,
            turn=evidence.turn,
            at=now,
            verdict=decision.verdict,
            checks=decision.checks,
            waits=decision.waits,
            evidence=evidence,
        )
        if kept is not None and _said(Judgement.from_json(kept.text)) == _said(judged):
            return
        revision = kept.revision if kept else 0
        put = Put(
            StateKind.CURSOR, rollout.model, JUDGEMENT_KEY, judged.to_json(), expected=revision
        )
        self._state.apply(now, [put])

    def judgement(self, model: str) -> Judgement | None:
        """What the last tick saw and thought."""
        kept = self._state.get(StateKind.CURSOR, model, JUDGEMENT_KEY)
        return Judgement.from_json(kept.text) if kept else None


def _place(rollout: Rollout) -> tuple[object, ...]:
    return rollout.state, rollout.share, rollout.turn


def _said(judged: Judgement) -> str:
    # Times move with every tick and say nothing; all else does.
    waits = judged.waits.model_copy(update={"until": None}) if judged.waits else None
    evidence = judged.evidence.model_copy(update={"gathered_at": None})
    fields = {"at": datetime.min.replace(tzinfo=UTC), "waits": waits, "evidence": evidence}
    return judged.model_copy(update=fields).to_json()


def _entries(
    before: KeptRollout | None,
    after: Rollout,
    now: datetime,
    actor: str,
    actions: Sequence[Action],
    checks: Sequence[Check],
    evidence: Evidence | None,
) -> list[DecisionEntry]:
    old = before.rollout if before else None
    facts: dict[str, object] = {
        "candidate": after.candidate,
        "champion": after.champion,
        "from": None if old is None else {"state": old.state.value, "share": old.share},
        "to": {"state": after.state.value, "share": after.share},
        "forced": after.forced_by is not None,
        "checks": [check.model_dump(mode="json") for check in checks],
    }
    if evidence is not None and evidence.comparison is not None:
        facts["comparison"] = evidence.comparison.model_dump(mode="json")
    subject = f"rollout {after.number}"
    # A pause changes no turn, so the revision it is read at tells two of them apart.
    key = f"rollout-{after.number}-{after.turn}-{after.state}-{before.revision if before else 0}"

    def entry(kind: DecisionKind, what: str, reason: str, seen: dict[str, object]) -> DecisionEntry:
        return DecisionEntry(
            model=after.model,
            at=now,
            kind=kind,
            actor=actor,
            subject=what,
            reason=reason,
            evidence=seen,
            key=f"{key}-{kind}",
        )

    share = f" at {after.share}%" if after.share else ""
    told = f"version {after.candidate} {after.state}{share}: {after.reason}"
    kind = DecisionKind.PERSON if actor.startswith("person:") else DecisionKind.ROLLOUT
    found = [entry(kind, subject, told, facts)]
    for action in actions:
        if isinstance(action, PointAlias):
            text = f"champion becomes version {action.version}: {after.reason}"
            alias = {"alias": "champion", "version": action.version, "rollout": after.number}
            found.append(entry(DecisionKind.ALIAS, f"version {action.version}", text, alias))
        else:
            shares = ", ".join(f"version {v} {w}%" for v, w in action.weights.items())
            weights: dict[str, object] = {"weights": action.weights, "rollout": after.number}
            found.append(entry(DecisionKind.TRAFFIC, subject, f"{shares}: {after.reason}", weights))
    return found
