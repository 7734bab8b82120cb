"""Parts of a deployment: one object each, on whatever platform keeps it."""

from typing import Protocol

from heliotrope.domain.deployment import Change


class DeployPart(Protocol):
    """One object to be put there, or to be taken away. Both methods may be called again.

    Raises (both methods):
        UnavailableError: the platform does not answer.
        HeliotropeError: the platform refuses.
    """

    @property
    def kind(self) -> str:
        """As the platform calls it."""
        ...

    @property
    def name(self) -> str:
        """Of the object."""
        ...

    def plan(self) -> Change:
        """What `apply` would do; changes nothing."""
        ...

    def apply(self) -> Change:
        """Do it where it is not so; answers what was done."""
        ...
