"""Tells people through Apprise: mail, chat and pagers by URL. URLs hold secrets and are never
shown: places are spoken of by scheme and number.
"""

import logging
from collections.abc import Sequence
from typing import Any

from heliotrope.domain.notices import Mood
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.vocabulary import ENV_NOTIFY


class AppriseMessenger:
    """Sends to all URLs.

    Args:
        urls: Apprise's (github.com/caronc/apprise); none tells nobody.

    Raises:
        UsageError: one is no URL that Apprise knows, or Apprise is not installed; says which by
            number and scheme, never more of it.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._targets = [_target(url, place) for place, url in enumerate(urls, 1)]

    def __repr__(self) -> str:
        """Without addresses."""
        return f"AppriseMessenger({self.places} places)"

    @property
    def places(self) -> int:
        """How many places are told."""
        return len(self._targets)

    def send(self, title: str, text: str, mood: Mood) -> None:
        """Tell all places; each is tried, whatever becomes of the others.

        Raises:
            UnavailableError: some place could not be told.
        """
        failed = [
            f"{place} ({scheme})"
            for place, (scheme, target) in enumerate(self._targets, 1)
            if not target.notify(title=title, body=text, notify_type=mood.value)
        ]
        if failed:
            raise UnavailableError(
                f"All places of {ENV_NOTIFY} must take messages. Number {', '.join(failed)} of "
                f"{self.places} did not."
            )


def _target(url: str, place: int) -> tuple[str, Any]:
    scheme = url.partition("://")[0] if "://" in url else "no scheme"
    try:
        import apprise
    except ImportError as error:
        raise UsageError(
            f"{ENV_NOTIFY} needs Apprise. It is not installed: pip install 'heliotrope[notify]'."
        ) from error
    # Apprise logs addresses, with their secrets, when a place answers with an error.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    target = apprise.Apprise()
    if not target.add(url):
        raise UsageError(
            f"{ENV_NOTIFY} must hold URLs that Apprise knows. Number {place} is none "
            f"(its scheme: {scheme[:20]})."
        )
    return scheme, target
