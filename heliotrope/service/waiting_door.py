"""The door to retraining for those who may only leave a cause at it.

A pod of a pipeline sees neither the truth (how many labels are new) nor KFP's API. So it writes the
cause down as waiting, and the controller, which sees both, decides at its next tick: there is one
who starts runs.
"""

import logging
from datetime import datetime

from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.triggers import Cause, Trigger, TriggerState
from heliotrope.errors import ConflictError
from heliotrope.ports.state import Put, StateKind, StateStore
from heliotrope.spec import ModelSpec

RULE = "asked"
logger = logging.getLogger(__name__)


class WaitingDoor:
    """`service.drift_duty.Door` that decides nothing.

    Args:
        spec: of the model.
        state: what the controller reads.
        actor: who asks, as the decision log writes it.
    """

    def __init__(self, spec: ModelSpec, state: StateStore, actor: str) -> None:
        self._spec, self._state, self._actor = spec, state, actor

    def ask(self, cause: Cause, now: datetime) -> Trigger:
        """Leave a cause; answers its trigger, which is what it was where it was told before.

        Raises:
            UnavailableError: the database does not answer.
        """
        kept = self._state.get(StateKind.TRIGGER, self._spec.name, cause.hash)
        if kept is not None:
            return Trigger.from_json(kept.text)
        reason = "the controller decides at its next tick"
        trigger = Trigger(
            cause=cause, state=TriggerState.WAITING, rule=RULE, reason=reason, decided_at=now
        )
        entry = DecisionEntry(
            model=self._spec.name,
            at=now,
            kind=DecisionKind.TRIGGER,
            actor=self._actor,
            subject=f"{cause.kind} {cause.key}",
            reason=f"{trigger.state.value}, {RULE}: {cause.text}",
            evidence={"cause": cause.model_dump(mode="json")},
            key=f"trigger/{cause.hash}/{RULE}",
        )
        put = Put(StateKind.TRIGGER, self._spec.name, cause.hash, trigger.to_json(), 0)
        try:
            self._state.apply(now, [put], [entry])
        except ConflictError:
            logger.info("%s was told by another just now.", cause.text)
            kept = self._state.get(StateKind.TRIGGER, self._spec.name, cause.hash)
            return trigger if kept is None else Trigger.from_json(kept.text)
        return trigger
