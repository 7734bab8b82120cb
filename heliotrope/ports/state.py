"""What the controller remembers: documents with an optimistic lock, and the decision log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from heliotrope.domain.decisions import Decision, DecisionEntry, DecisionKind


class StateKind(StrEnum):
    """Kinds of document; each is JSON of one `Document` class, named here."""

    ROLLOUT = "rollout"
    """`domain.rollout`: one a rollout, key: its number."""
    TRIGGER = "trigger"
    """`domain.retraining`: one a cause, key: the hash of the cause."""
    ALARM = "alarm"
    """`domain.alarms`: one an alarm, key: its name."""
    DETECTOR = "detector"
    """Memory of a sequential test, key: its name."""
    ACCEPTED = "accepted"
    """The level at which a model was first accepted, key: metric; never reset by a retraining."""
    DRIFT = "drift"
    """The latest verdicts on drift, key: window."""
    CURSOR = "cursor"
    """How far a duty of the controller has come, key: its name."""


@dataclass(frozen=True)
class Kept:
    """A document as it is stored."""

    kind: StateKind
    model: str
    key: str
    text: str
    revision: int
    """From 1; rises with every change."""
    changed_at: datetime


@dataclass(frozen=True)
class Put:
    """A document to write."""

    kind: StateKind
    model: str
    key: str
    text: str
    expected: int
    """The revision that was read; 0 when there was none."""


@dataclass(frozen=True)
class SchemaStatus:
    """How a database stands to what this release expects of it."""

    name: str
    """`state` or `mlflow`."""
    database: str
    """Where it is, without its password."""
    revision: str | None
    """What it is at; None where it is empty or not there."""
    wanted: str
    """What this release expects."""

    @property
    def current(self) -> bool:
        """Whether nothing is to be done."""
        return self.revision == self.wanted


class Schema(Protocol):
    """The tables of one database, brought up to date by a command that may run twice at once.

    Every method may raise UnavailableError: the database does not answer.
    """

    def status(self) -> SchemaStatus:
        """As it is; nothing is changed."""
        ...

    def migrate(self) -> SchemaStatus:
        """Bring it up to date; answers how it stood before.

        Raises:
            HeliotropeError: a newer release has been here.
        """
        ...


class StateStore(Protocol):
    """SQLite embedded, PostgreSQL on a cluster.

    Every method may raise UnavailableError: the database does not answer.
    """

    def get(self, kind: StateKind, model: str, key: str = "") -> Kept | None:
        """One document."""
        ...

    def kept(self, kind: StateKind, model: str | None = None) -> list[Kept]:
        """All of a kind, the latest change first."""
        ...

    def apply(
        self, now: datetime, puts: Sequence[Put] = (), decisions: Sequence[DecisionEntry] = ()
    ) -> list[Decision]:
        """Write documents and decisions in one transaction, wholly or not at all.

        Answers the decisions as they are in the log; one whose key is there already is answered
        as it was first written.

        Raises:
            ConflictError: a document is not at the expected revision; nothing was written.
        """
        ...

    def decisions(
        self,
        model: str,
        *,
        since: datetime | None = None,
        kinds: Sequence[DecisionKind] = (),
        limit: int | None = None,
    ) -> list[Decision]:
        """The log, oldest first; with a limit the newest so many."""
        ...

    def head(self, model: str) -> tuple[int, str]:
        """Number and hash of the newest entry, kept beside the log so that an end that was cut
        off is found; number 0 when there is none."""
        ...
