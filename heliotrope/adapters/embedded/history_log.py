"""The event log of a backtest: which version answered which row of a history, and when.

Rows are places in the history, so that thousands of answers are a few arrays. A reader of this log
is given nothing that had not come by the clock: the one place that keeps the future out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from heliotrope.domain.backtest.history import History, VersionAnswers, stamp
from heliotrope.domain.outcomes import Mask, Times
from heliotrope.vocabulary import Role

ROLES = (Role.CHAMPION, Role.CANARY, Role.SHADOW)
Answer = Callable[[str], VersionAnswers]
"""All answers of a version."""


@dataclass(frozen=True, eq=False)
class Logged:
    """Answers, in order of `at`, then row."""

    row: npt.NDArray[np.int64]
    """[answers] place in the history."""
    version: npt.NDArray[np.int64]
    """[answers] number of the version."""
    role: npt.NDArray[np.int8]
    """[answers] place in `ROLES`."""
    at: Times

    def __len__(self) -> int:
        return len(self.row)

    def where(self, chosen: Mask) -> "Logged":
        """Some of them."""
        return Logged(self.row[chosen], self.version[chosen], self.role[chosen], self.at[chosen])


class HistoryLog:
    """Answers so far.

    Args:
        history: what is replayed.
        answer: what versions say.
        now: the simulated clock.
    """

    def __init__(self, history: History, answer: Answer, now: Callable[[], datetime]) -> None:
        self.history, self.answer, self.now = history, answer, now
        self.ids = history.ids()
        self._parts: list[Logged] = []
        self._whole: Logged | None = None

    def add(
        self, rows: npt.NDArray[np.int64], version: str, role: Role, at: Times | None = None
    ) -> None:
        """Log answers of one version.

        Args:
            rows: places in the history.
            version: that answered.
            role: in which it did.
            at: [rows] when; at the row's own time when left out.
        """
        if len(rows) == 0:
            return
        count = len(rows)
        self._parts.append(
            Logged(
                rows,
                np.full(count, int(version), np.int64),
                np.full(count, ROLES.index(role), np.int8),
                self.history.at[rows] if at is None else at,
            )
        )
        self._whole = None

    @property
    def size(self) -> int:
        """How many answers there are."""
        return len(self.all())

    def all(self) -> Logged:
        """Every answer so far, each once by row, version and role: the first that was logged."""
        if self._whole is None:
            if not self._parts:
                none = np.empty(0, np.int64)
                return Logged(none, none, none.astype(np.int8), none.astype("datetime64[us]"))
            joined = Logged(
                *(
                    np.concatenate([getattr(part, name) for part in self._parts])
                    for name in ("row", "version", "role", "at")
                )
            )
            key = (joined.row * len(ROLES) + joined.role) * 1_000_000 + joined.version
            _, first = np.unique(key, return_index=True)
            kept = joined.where(np.isin(np.arange(len(joined)), first))
            order = np.lexsort((kept.row, kept.at))
            self._whole = Logged(
                *(getattr(kept, n)[order] for n in ("row", "version", "role", "at"))
            )
            self._parts = [self._whole]
        return self._whole

    def between(
        self,
        since: datetime,
        until: datetime,
        version: str | None = None,
        role: Role | None = None,
    ) -> Logged:
        """The answers of a time, [since, until)."""
        found = self.all()
        chosen = (found.at >= stamp(since)) & (found.at < stamp(until))
        if version is not None:
            # A name that is no number was never a version here.
            chosen &= found.version == (int(version) if version.isdigit() else -1)
        if role is not None:
            chosen &= found.role == ROLES.index(role)
        return found.where(np.asarray(chosen))

    def labels(
        self, rows: npt.NDArray[np.int64], at: Times, known_by: datetime | None = None
    ) -> Mapping[str, npt.NDArray[np.generic]]:
        """`label` and `label_received_at` of rows, as they were known by the clock or before.

        Args:
            rows: places in the history.
            at: [rows] when they were answered: a label that was there before was told with it.
            known_by: only labels that had come by then.
        """
        by = self.now() if known_by is None else min(known_by, self.now())
        told = self.history.told[rows]
        known = told <= stamp(by)
        return {
            "label": np.where(known, self.history.label[rows], np.nan),
            "label_received_at": np.where(known, np.maximum(told, at), np.datetime64("NaT", "us")),
        }
