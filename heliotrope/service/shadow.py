"""Shadow by log: what one version answered is asked of another, seconds later, off the hot path.

Nothing is mirrored and no mesh is needed: requests are read from the event tables and sent to the
other version's own endpoint under their own ids, so that readers find the pair. What was asked is
known from the log itself; a cursor only keeps it from being read again.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from heliotrope.domain.document import Document
from heliotrope.domain.outcomes import FeatureWindow
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.evidence import Replay
from heliotrope.domain.serving_plan import ObservedServing
from heliotrope.ports.outcomes import OutcomeReader
from heliotrope.ports.replay import LoggedRequest, Replayer, ReplayOutcome
from heliotrope.ports.state import Put, StateKind, StateStore
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role

CURSOR_KEY = "shadow"
BACKFILL_TIMES = 20
"""The newest so many times `minimum_labels` labelled requests are backfilled, at most."""
LATE = timedelta(minutes=10)
"""The log is read so far behind the cursor again: spools arrive late."""
_LATE_TICKS = 20
_REST = 4.0
"""A read is followed by so many times its own duration without one."""


class ShadowState(Document):
    """How far the replay of one rollout has come; kept in the state store."""

    number: int
    """Of the rollout."""
    reverse: bool = False
    """Whether the candidate's log is asked of the old champion, as while it bakes."""
    read_until: datetime
    """All that was logged before was asked."""
    backfilled: bool = False
    replay: Replay = Replay()


@dataclass
class _Memory:
    """What need not survive: a restart reads the log again instead."""

    key: tuple[int, bool] = (0, False)
    asked: set[str] = field(default_factory=set)
    queue: list[LoggedRequest] = field(default_factory=list)
    backlog: int = 0
    last_now: datetime | None = None
    quiet_until: float = 0.0


class Shadow:
    """Replays the log of models, a bounded piece a tick.

    Args:
        state: keeps the cursor.
        outcomes: the log.
        replayer: sends requests.
        seconds: most real time a tick may take for sending.
        batch: most requests a tick.
        monotonic: real seconds.
    """

    def __init__(
        self,
        state: StateStore,
        outcomes: OutcomeReader,
        replayer: Replayer,
        *,
        seconds: float = 0.5,
        batch: int = 500,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state, self._outcomes, self._replayer = state, outcomes, replayer
        self._seconds, self._batch, self._monotonic = seconds, batch, monotonic
        self._memories: dict[str, _Memory] = {}

    def work(
        self, spec: ModelSpec, rollout: Rollout, serving: ObservedServing, now: datetime
    ) -> Replay | None:
        """Ask the next requests; answers what became of all so far, None where nothing is asked.

        Raises:
            UnavailableError: the log or the state does not answer.
            ConflictError: another process moved the cursor.
        """
        reverse = rollout.share == 100
        if rollout.champion is None or not spec.rollout.shadow.enabled:
            return None
        there = serving.revision(rollout.champion if reverse else rollout.candidate)
        kept = self._state.get(StateKind.CURSOR, spec.name, CURSOR_KEY)
        here = ShadowState.from_json(kept.text) if kept else None
        if here is None or (here.number, here.reverse) != (rollout.number, reverse):
            here = ShadowState(
                number=rollout.number,
                reverse=reverse,
                read_until=rollout.entered_at,
                backfilled=reverse,
            )
        if there is None or not there.ready or there.address is None:
            return here.replay
        memory = self._memory(spec.name, here)
        before = here
        if not memory.queue and self._monotonic() >= memory.quiet_until:
            here = self._read(spec, rollout, here, memory, now)
        here = self._send(spec, here, memory, there.address)
        if here != before or kept is None:
            revision = kept.revision if kept else 0
            put = Put(StateKind.CURSOR, spec.name, CURSOR_KEY, here.to_json(), revision)
            self._state.apply(now, [put])
        return here.replay

    def _memory(self, model: str, here: ShadowState) -> _Memory:
        memory = self._memories.setdefault(model, _Memory())
        if memory.key != (here.number, here.reverse):
            memory = self._memories[model] = _Memory(key=(here.number, here.reverse))
        return memory

    def _read(
        self, spec: ModelSpec, rollout: Rollout, here: ShadowState, memory: _Memory, now: datetime
    ) -> ShadowState:
        began = self._monotonic()
        if not here.backfilled:
            memory.queue = self._backfill(spec, rollout, memory)
            memory.backlog = len(memory.queue)
            here = here.model_copy(update={"backfilled": not memory.queue})
        if not memory.queue:
            gap = now - memory.last_now if memory.last_now else timedelta(0)
            late = max(LATE, _LATE_TICKS * gap)
            since = max(min(here.read_until, now) - late, rollout.opened_at)
            memory.queue = self._live(spec, rollout, here.reverse, since, now, memory)
            memory.last_now = now
            here = here.model_copy(update={"read_until": max(here.read_until, now)})
        ended = self._monotonic()
        memory.quiet_until = ended + _REST * (ended - began)
        return here

    def _backfill(self, spec: ModelSpec, rollout: Rollout, memory: _Memory) -> list[LoggedRequest]:
        """Requests that had labels when the rollout began, newest first."""
        since, until = judged_since(spec, rollout), rollout.opened_at
        if since >= until or rollout.champion is None:
            return []
        rows = self._outcomes.window(
            spec, since, until, version=rollout.champion, known_by=rollout.opened_at
        )
        labelled = set(_requests(rows, rows.labelled & (rows.role != Role.SHADOW)))
        found = _grouped(spec, rows, labelled - self._done(spec, rollout.candidate, since, memory))
        most = BACKFILL_TIMES * spec.rollout.shadow.minimum_labels
        return list(reversed(found))[:most]

    def _live(
        self,
        spec: ModelSpec,
        rollout: Rollout,
        reverse: bool,
        since: datetime,
        now: datetime,
        memory: _Memory,
    ) -> list[LoggedRequest]:
        source, target = rollout.champion, rollout.candidate
        if reverse:
            source, target = target, source or ""
        rows = self._outcomes.window(spec, since, now, version=source)
        share = spec.rollout.shadow.share
        seen = set(_requests(rows, rows.role != Role.SHADOW))
        wanted = {request for request in seen if sampled(request, share)}
        if not wanted:
            return []
        return _grouped(spec, rows, wanted - self._done(spec, target, since, memory))

    def _done(self, spec: ModelSpec, version: str, since: datetime, memory: _Memory) -> set[str]:
        # A version's own records say what it was asked; they are never older than what they answer.
        far = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
        answered = self._outcomes.outcomes(
            spec, since, far, version=version, role=Role.SHADOW, unlabelled=True
        )
        return {name.rpartition("/")[0] for name in answered.prediction_id} | memory.asked

    def _send(
        self, spec: ModelSpec, here: ShadowState, memory: _Memory, address: str
    ) -> ShadowState:
        if not memory.queue:
            return here
        batch = memory.queue[: self._batch]
        replayed = self._replayer.ask(address, spec.name, batch, self._seconds)
        done = {one.request_id for one in replayed}
        memory.asked |= done
        memory.queue = [request for request in memory.queue if request.request_id not in done]
        memory.backlog = max(0, memory.backlog - len(done))
        counts = {kind: sum(one.outcome is kind for one in replayed) for kind in ReplayOutcome}
        notes = [one.note for one in replayed if one.outcome is not ReplayOutcome.ANSWERED]
        seen = here.replay
        replay = Replay(
            sent=seen.sent + len(replayed),
            errors=seen.errors + counts[ReplayOutcome.FAILED],
            refused=seen.refused + counts[ReplayOutcome.REFUSED],
            unusable=seen.unusable + counts[ReplayOutcome.UNUSABLE],
            backlog=memory.backlog,
            note=notes[-1][:300] if notes else seen.note,
        )
        return here.model_copy(update={"replay": replay})


def judged_since(spec: ModelSpec, rollout: Rollout) -> datetime:
    """From when on predictions may judge the candidate: never what it was trained on."""
    since = rollout.opened_at - spec.rollout.shadow.backfill
    return max(since, rollout.trained_until) if rollout.trained_until else since


def sampled(request_id: str, share: float) -> bool:
    """Whether a request is in a share of all: the same ones whenever it is asked.

    >>> sum(sampled(str(n), 0.1) for n in range(10_000)) in range(900, 1100)
    True
    """
    place = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "big")
    return place < share * 2**64


def _requests(rows: FeatureWindow, mask: Any) -> list[str]:
    return [name.rpartition("/")[0] for name in rows.prediction_id[np.asarray(mask, dtype=bool)]]


def _grouped(spec: ModelSpec, rows: FeatureWindow, wanted: set[str]) -> list[LoggedRequest]:
    """Whole requests in order of time; one whose rows are not all there is left out."""
    places: dict[str, dict[int, int]] = {}
    for at, name in enumerate(rows.prediction_id):
        request, _, row = str(name).rpartition("/")
        if request in wanted and row.isdigit():
            places.setdefault(request, {})[int(row)] = at
    whole = {r: p for r, p in places.items() if sorted(p) == list(range(len(p)))}
    if not whole:
        return []
    order = [place for rows_of in whole.values() for _, place in sorted(rows_of.items())]
    values = _plain(rows.features.take(order).to_pylist(), spec.feature_names)
    found, start = [], 0
    for request, rows_of in whole.items():
        found.append(LoggedRequest(request, tuple(values[start : start + len(rows_of)])))
        start += len(rows_of)
    return found


def _plain(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    # JSON has no NaN: a missing value is null.
    return [{n: None if row[n] != row[n] else row[n] for n in names} for row in rows]
