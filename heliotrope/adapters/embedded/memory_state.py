"""What a controller remembers, in memory: for simulations, whose memory need outlive nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from heliotrope.domain.decisions import FIRST, Decision, DecisionEntry, DecisionKind, seal
from heliotrope.errors import ConflictError, UsageError
from heliotrope.ports.state import Kept, Put, StateKind

_Key = tuple[StateKind, str, str]


@dataclass
class MemoryState:
    """A `ports.state.StateStore` of one process and one thread."""

    _documents: dict[_Key, Kept] = field(default_factory=dict)
    _logs: dict[str, list[Decision]] = field(default_factory=dict)
    _by_key: dict[tuple[str, str], Decision] = field(default_factory=dict)

    def get(self, kind: StateKind, model: str, key: str = "") -> Kept | None:
        """One document."""
        return self._documents.get((kind, model, key))

    def kept(self, kind: StateKind, model: str | None = None) -> list[Kept]:
        """All of a kind, the latest change first."""
        found = [
            kept
            for kept in self._documents.values()
            if kept.kind is kind and model in (None, kept.model)
        ]
        found.sort(key=lambda kept: (kept.model, kept.key))
        return sorted(found, key=lambda kept: kept.changed_at, reverse=True)

    def apply(
        self, now: datetime, puts: Sequence[Put] = (), decisions: Sequence[DecisionEntry] = ()
    ) -> list[Decision]:
        """Write documents and decisions, wholly or not at all.

        Raises:
            ConflictError: a document is not at the expected revision; nothing was written.
            UsageError: a decision's time has no zone.
        """
        written: dict[_Key, Kept] = {}
        for put in puts:
            key = (put.kind, put.model, put.key)
            known = written.get(key) or self._documents.get(key)
            revision = known.revision if known else 0
            if revision != put.expected:
                raise ConflictError(
                    f"The {put.kind.value} {put.key!r} of {put.model} must be at revision "
                    f"{put.expected}. Got another: somebody changed it meanwhile."
                )
            written[key] = Kept(put.kind, put.model, put.key, put.text, revision + 1, now)
        entries = [_in_utc(entry) for entry in decisions]
        self._documents.update(written)
        return [self._append(entry) for entry in entries]

    def decisions(
        self,
        model: str,
        *,
        since: datetime | None = None,
        kinds: Sequence[DecisionKind] = (),
        limit: int | None = None,
    ) -> list[Decision]:
        """The log, oldest first; with a limit the newest so many."""
        found = [
            one
            for one in self._logs.get(model, [])
            if (since is None or one.at >= since) and (not kinds or one.kind in kinds)
        ]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def head(self, model: str) -> tuple[int, str]:
        """Number and hash of the newest entry; 0 when there is none."""
        log = self._logs.get(model)
        return (log[-1].sequence, log[-1].hash) if log else (0, FIRST)

    def models(self) -> list[str]:
        """Models that anything was decided on, by name."""
        return sorted(self._logs)

    def _append(self, entry: DecisionEntry) -> Decision:
        if entry.key is not None and (entry.model, entry.key) in self._by_key:
            return self._by_key[entry.model, entry.key]
        sequence, previous = self.head(entry.model)
        decision = seal(entry, sequence + 1, previous)
        self._logs.setdefault(entry.model, []).append(decision)
        if entry.key is not None:
            self._by_key[entry.model, entry.key] = decision
        return decision


def _in_utc(entry: DecisionEntry) -> DecisionEntry:
    if entry.at.tzinfo is None:
        raise UsageError(f"A decision's time must have a zone. Got {entry.at.isoformat()}.")
    # Through JSON, so that what is sealed is what a database would give back.
    moved = entry.model_copy(update={"at": entry.at.astimezone(UTC)})
    return DecisionEntry.from_json(moved.to_json())
