"""What a collector does with spool batches and labels: decide, append, answer.

Everything here runs for many requests at once, in one commit a table, and answers each of them
only when the store has it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heliotrope.domain.labels import LabelContract, LabelUpload
from heliotrope.domain.spool_batch import (
    BatchError,
    Gap,
    Loss,
    SpoolBatch,
    Standing,
    decode_batch,
    plan_batch,
)
from heliotrope.errors import UnavailableError
from heliotrope.ports import EventStore

ATTEMPTS = 8
"""Races lost to other collectors before a request is asked to come again."""
Clock = Callable[[], int]
"""Microseconds since 1970."""


class RisingClock:
    """Hands out moments that rise, so that no two labels of one collector were received at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> int:
        """The first of `count` microseconds that nobody else gets."""
        with self._lock:
            first = max(self._clock(), self._last + 1)
            self._last = first + count - 1
            return first


@dataclass(frozen=True)
class Parcel:
    """A spool batch as it was received."""

    body: bytes
    follows: int
    """The watermark its sender believes in."""
    reason: str
    """Why records before or within it are missing, if any are."""


@dataclass(frozen=True)
class SpoolAnswer:
    """What became of a parcel."""

    standing: Standing
    watermark: int
    """Of its spool: everything up to here is in the store or noted as lost."""
    rows: int = 0
    lost_records: int = 0
    received_at_us: int = 0
    newest_us: int = 0
    """When the newest of the rows was predicted."""


@dataclass(frozen=True)
class LabelAnswer:
    """What became of an upload."""

    rows: int
    duplicate: bool


@dataclass(frozen=True)
class _Decision:
    answers: list[SpoolAnswer | BatchError]
    batches: list[SpoolBatch]
    losses: list[Loss]
    positions: dict[str, int]
    ahead: bool


def commit_spools(
    store: EventStore, clock: RisingClock, model: str, parcels: Sequence[Parcel]
) -> list[SpoolAnswer | BatchError]:
    """Write what is new of the parcels, in their order; an answer each.

    Raises:
        UnavailableError: the store does not answer; nothing may be acknowledged.
    """
    decoded = [_decoded(parcel, model) for parcel in parcels]
    headers = {b.header.spool: b.header for b in decoded if isinstance(b, SpoolBatch)}
    if not headers:
        return [b for b in decoded if isinstance(b, BatchError)]
    fresh = False
    for _ in range(ATTEMPTS):
        known = store.spool_positions(model, list(headers.values()), fresh)
        now = clock.take()
        decision = _decide(parcels, decoded, known, now)
        if decision.ahead and not fresh:
            fresh = True
            continue
        if not decision.batches:
            return decision.answers
        if (
            not decision.losses or store.append_losses(model, decision.losses, now)
        ) and store.append_predictions(model, decision.batches, decision.positions, now):
            return decision.answers
        fresh = True
    raise UnavailableError(
        f"a commit of {model} must win against other collectors. It lost {ATTEMPTS} times."
    )


def _decoded(parcel: Parcel, model: str) -> SpoolBatch | BatchError:
    try:
        batch = decode_batch(parcel.body)
    except BatchError as error:
        return error
    if batch.header.model != model:
        return BatchError(f"the header's model must be {model}. Got {batch.header.model}.")
    return batch


def _decide(
    parcels: Sequence[Parcel],
    decoded: Sequence[SpoolBatch | BatchError],
    known: Mapping[str, int],
    now: int,
) -> _Decision:
    at = dict(known)
    answers: list[SpoolAnswer | BatchError] = []
    batches: list[SpoolBatch] = []
    losses: list[Loss] = []
    ahead = False
    for parcel, batch in zip(parcels, decoded, strict=True):
        if isinstance(batch, BatchError):
            answers.append(batch)
            continue
        spool = batch.header.spool
        plan = plan_batch(batch.sequences, parcel.follows, at[spool])
        if plan.standing is not Standing.NEW:
            ahead = ahead or plan.standing is Standing.AHEAD
            answers.append(SpoolAnswer(plan.standing, at[spool]))
            continue
        kept = batch.after(at[spool])
        at[spool] = int(kept.sequences[-1])
        batches.append(kept)
        losses += [_loss(gap, batch, parcel.reason) for gap in plan.gaps]
        answers.append(
            SpoolAnswer(
                Standing.NEW,
                at[spool],
                kept.total_rows,
                sum(gap.last - gap.first + 1 for gap in plan.gaps),
                now,
                int(kept.predicted_at_us.max()),
            )
        )
    moved = {spool: position for spool, position in at.items() if position != known[spool]}
    return _Decision(answers, batches, losses, moved, ahead)


def _loss(gap: Gap, batch: SpoolBatch, reason: str) -> Loss:
    header = batch.header
    return Loss(header.spool, header.version, str(header.role), gap.first, gap.last, reason)


def commit_labels(
    store: EventStore, clock: RisingClock, model: str, uploads: Sequence[LabelUpload]
) -> list[LabelAnswer]:
    """Write the uploads that are not there yet, in their order; an answer each.

    Raises:
        UnavailableError: the store does not answer; nothing may be acknowledged.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            store.refresh_labels(model)
        answers: list[LabelAnswer] = []
        fresh: list[LabelUpload] = []
        transactions: set[str] = set()
        for upload in uploads:
            name = upload.transaction
            known = name is not None and (name in transactions or store.upload_known(model, name))
            answers.append(LabelAnswer(len(upload.rows), known))
            if not known:
                fresh.append(upload)
                transactions |= {name} if name is not None else set()
        if not fresh:
            return answers
        if store.append_labels(model, fresh, [clock.take(len(u.rows)) for u in fresh]):
            return answers
    raise UnavailableError(
        f"a commit of {model}'s labels must win against other collectors. It lost {ATTEMPTS} times."
    )


class ModelBook:
    """What is known of each model's labels: specs first, then what predictors and the store say."""

    def __init__(self, store: EventStore, specs: Sequence[LabelContract]) -> None:
        self._store = store
        self._specs = {contract.model: contract for contract in specs}
        self._learned: dict[str, LabelContract] = {}

    def known(self, model: str) -> LabelContract | None:
        """What is in memory."""
        return self._specs.get(model) or self._learned.get(model)

    def learn(self, contract: LabelContract) -> None:
        """Take what a predictor's header says."""
        self._learned[contract.model] = contract

    def look_up(self, model: str) -> LabelContract | None:
        """What is in memory, or else in the store, where another collector may have put it.

        Raises:
            UnavailableError: the store does not answer.
        """
        contract = self.known(model)
        if contract is None:
            contract = self._store.contract(model)
            if contract is not None:
                self.learn(contract)
        return contract

    def names(self) -> list[str]:
        """Every known model."""
        return sorted({*self._specs, *self._learned, *self._store.models()})
