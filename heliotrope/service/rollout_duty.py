"""The controller's duty that moves a model's rollout, and tells of it in metrics."""

from collections.abc import Callable
from datetime import datetime

from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.evidence import Comparison
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.serving_plan import ObservedServing
from heliotrope.errors import HeliotropeError
from heliotrope.service.rollout import RolloutService, Ticked
from heliotrope.spec import ModelSpec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

Series = dict[tuple[str, ...], float]
_OUTCOME = {
    RolloutState.PROMOTED: "champion",
    RolloutState.ROLLED_BACK: "rolled_back",
    RolloutState.ABORTED: "aborted",
}


class RolloutDuty:
    """Ticks one model's rollout.

    Args:
        spec: of the model.
        service: moves it; made at the first run, since the registry takes seconds to open.
        observe: what is served, for the metrics.
        board: the controller's.
        sample: counts requests, before each tick.
    """

    def __init__(
        self,
        spec: ModelSpec,
        service: Callable[[], RolloutService],
        observe: Callable[[str], ObservedServing | None],
        board: Board,
        sample: Callable[[str, datetime], None] | None = None,
    ) -> None:
        self.name, self.model = f"rollout {spec.name}", spec.name
        self._spec, self._make, self._observe, self._board = spec, service, observe, board
        self._sample = sample
        self._service: RolloutService | None = None
        self._before: Rollout | None = None

    def run(self, now: datetime) -> None:
        """Count, tick, tell.

        Raises:
            HeliotropeError: the tick's own; what could be told was.
        """
        self._service = self._service or self._make()
        if self._sample is not None:
            try:
                self._sample(self.model, now)
            except HeliotropeError:
                # The tick asks the same platform, and says so.
                self._tell_serving(None)
        try:
            ticked = self._service.tick(self._spec, now)
            if ticked.decision is not None and ticked.decision.actions and self._sample:
                # What was asked again within this tick is not of the turn that begins.
                self._sample(self.model, now)
            self._tell(ticked, now)
        finally:
            self._tell_serving(self._seen())

    def _seen(self) -> ObservedServing | None:
        try:
            return self._observe(self.model)
        except HeliotropeError:
            return None

    def _tell(self, ticked: Ticked, now: datetime) -> None:
        board, model, rollout = self._board, self.model, ticked.rollout
        if rollout is None:
            return
        states: Series = {(model, s.value): float(s is rollout.state) for s in RolloutState}
        board.replace_where(metrics.ROLLOUT_STATE, model, states)
        age: Series = {} if rollout.over else {(model,): (now - rollout.entered_at).total_seconds()}
        board.replace_where(metrics.ROLLOUT_STATE_AGE, model, age)
        timeout = self._spec.rollout.step_timeout.total_seconds()
        board.set(metrics.ROLLOUT_STATE_TIMEOUT, timeout, model)
        self._tell_comparison(ticked.evidence.comparison if ticked.evidence else None)
        before, self._before = self._before, rollout
        # Ends that came while another process had the rollout are not ours to count.
        same = before is not None and before.number == rollout.number and not before.over
        if rollout.over and same:
            board.add(metrics.ROLLOUTS, model, _OUTCOME[rollout.state])

    def _tell_comparison(self, seen: Comparison | None) -> None:
        values = {
            metrics.ROLLOUT_PAIRED_LABELS: seen.labelled if seen and seen.paired else None,
            metrics.ROLLOUT_DIFFERENCE: seen.gain if seen and seen.labelled else None,
            metrics.ROLLOUT_DIFFERENCE_LOW: seen.low if seen and seen.labelled else None,
            metrics.ROLLOUT_DIFFERENCE_HIGH: seen.high if seen and seen.labelled else None,
        }
        for metric, value in values.items():
            known: Series = {} if value is None else {(self.model,): float(value)}
            self._board.replace_where(metric, self.model, known)

    def _tell_serving(self, seen: ObservedServing | None) -> None:
        model, board = self.model, self._board
        found = seen.revisions if seen else ()
        weights = seen.weights if seen else {}
        board.replace_where(
            metrics.TRAFFIC_SHARE,
            model,
            {(model, r.version, r.role.value): weights.get(r.version, 0) / 100 for r in found},
        )
        board.replace_where(
            metrics.REVISION_READY,
            model,
            {(model, r.version, r.role.value): float(r.ready) for r in found},
        )
        settled: Series = {(model,): float(seen.settled)} if seen else {}
        board.replace_where(metrics.SERVING_SETTLED, model, settled)
