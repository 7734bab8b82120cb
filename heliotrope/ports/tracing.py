"""One prediction out of all that were logged."""

from typing import Protocol

from heliotrope.domain.trace import LoggedAnswer


class AnswerFinder(Protocol):
    """Looks single answers up; reads the ids of the whole log, so it is for people, not for loops.

    Every method may raise UnavailableError: the store does not answer.
    """

    def models(self) -> list[str]:
        """Models that have a log."""
        ...

    def find(self, model: str, wanted: str, limit: int) -> list[LoggedAnswer]:
        """Answers of one id, each once, in order of time; none where there is none.

        Args:
            model: whose log.
            wanted: a prediction's id, or a request's, whose rows are all answered.
            limit: at most so many.
        """
        ...
