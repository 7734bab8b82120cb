"""Ports that stay with a server over its restarts."""

import random
import socket

LOWEST, HIGHEST = 18000, 29999
"""Below Linux's ephemeral ports (32768 and up), so that no outgoing connection takes one."""
_TRIES = 200


def can_listen(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of the last one that are still closing are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Ports:
    """Hands out ports, none of them twice.

    Args:
        dice: spreads the ports of several platforms on one machine.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._taken: set[int] = set()

    def take(self, wished: int | None = None) -> int:
        """The wished port if it is free, else another.

        Raises:
            OSError: none was found.
        """
        for attempt in range(_TRIES):
            port = wished if wished and not attempt else self._dice.randint(LOWEST, HIGHEST)
            if port not in self._taken and can_listen(port):
                self._taken.add(port)
                return port
        raise OSError(f"no free port from {LOWEST} to {HIGHEST} in {_TRIES} tries")

    def give_back(self, port: int) -> None:
        """It may be handed out again."""
        self._taken.discard(port)
