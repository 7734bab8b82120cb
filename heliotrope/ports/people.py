"""How people are told."""

from enum import StrEnum
from typing import Protocol


class Mood(StrEnum):
    """How a message is to be taken."""

    INFO = "info"
    """Something went as it should."""
    SUCCESS = "success"
    """Something that was wrong is right again."""
    WARNING = "warning"
    """Somebody should look today."""
    FAILURE = "failure"
    """Somebody should look now."""


class Messenger(Protocol):
    """Mail, chat, pagers."""

    @property
    def places(self) -> int:
        """How many places are told; 0 tells nobody."""
        ...

    def send(self, title: str, text: str, mood: Mood) -> None:
        """Tell all places.

        Raises:
            UnavailableError: a place could not be told; says which by number, never its address.
        """
        ...
