"""Which versions of a model run, in what role, and who gets how much of the live traffic."""

from datetime import datetime
from typing import Self

from pydantic import Field, model_validator

from heliotrope.domain.document import Document
from heliotrope.vocabulary import Role


class Revision(Document):
    """One version to be run."""

    version: str
    role: Role


class ServingPlan(Document):
    """What is wanted. A version without a weight gets no live traffic and has its own address."""

    model: str
    revisions: tuple[Revision, ...] = Field(min_length=1)
    weights: dict[str, int]
    """Per cent of live traffic by version; they add up to 100."""
    at: datetime
    """When it was decided, UTC."""
    reason: str
    """Why, for whoever looks."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        versions = [revision.version for revision in self.revisions]
        if len(set(versions)) != len(versions):
            raise ValueError(f"revisions must name each version once. Got {versions}.")
        unknown = set(self.weights) - set(versions)
        if unknown:
            raise ValueError(f"weights must be of the revisions {versions}. Got {unknown}.")
        if any(not 0 <= weight <= 100 for weight in self.weights.values()):
            raise ValueError(f"weights must be from 0 to 100. Got {self.weights}.")
        if sum(self.weights.values()) != 100:
            raise ValueError(f"weights must add up to 100. Got {self.weights}.")
        return self


class ObservedRevision(Document):
    """One version as it runs."""

    version: str
    role: Role
    """The role it stamps on its answers now."""
    ready: bool
    address: str | None
    """Base URL of its own endpoint, past the split; None until it listens."""
    restarts: int = 0
    message: str = ""
    """Why it is not ready, where known."""


class ObservedServing(Document):
    """What is there."""

    model: str
    revisions: tuple[ObservedRevision, ...]
    weights: dict[str, int]
    """As the gateway splits now; empty before it does."""
    settled: bool
    """The plan is carried out: its revisions are ready in their roles, the weights are in force,
    nothing else runs."""
    gateway: str | None
    """Base URL of the split."""

    def revision(self, version: str) -> ObservedRevision | None:
        """One version's."""
        return next((one for one in self.revisions if one.version == version), None)
