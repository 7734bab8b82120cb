"""Why a request was not predicted: a status and words that a caller can act on."""

from heliotrope.errors import HeliotropeError


class Refused(HeliotropeError):
    """A request was refused for another reason than its rows; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def no_such_model(asked: str, served: str) -> Refused:
    """The refusal of a request for a model that is not here."""
    return Refused(404, f"The model must be {served}. Got {asked[:80]}.")
