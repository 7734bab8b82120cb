"""What tests do to watches, and how they await what these tell."""

from collections.abc import Callable
from threading import Event
from typing import Any

from tests.emulated.apiserver import ApiServer


def until(check: Callable[[], Any], seconds: float = 60) -> None:
    """Await that something is so."""
    never = Event()
    for _ in range(int(seconds / 0.01)):
        if check():
            return
        never.wait(0.01)
    raise AssertionError(f"not within {seconds} s")


def mute(api: ApiServer) -> None:
    """Nothing comes any more, as where a connection dies without a word."""
    with api.lock:
        for watch in api.watches:
            watch.mute = True
        api.changed.notify_all()


def unmute(api: ApiServer, upto: int | None = None) -> None:
    """It was only slow; and still is, where what came after a version does not come yet."""
    with api.lock:
        for watch in api.watches:
            watch.mute, watch.upto = False, upto
        api.changed.notify_all()
