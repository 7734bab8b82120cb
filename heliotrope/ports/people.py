"""How people are told."""

from typing import Protocol

from heliotrope.domain.notices import Mood


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
