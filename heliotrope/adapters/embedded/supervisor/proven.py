"""Which versions may stand in for another: such as users have been sent to, by a plan that holds.

Kept on disk, since a supervisor that was started anew would have nobody to ask while a candidate
that has all of the traffic dies.
"""

import json
import logging
from collections.abc import Collection
from pathlib import Path

from heliotrope.adapters.whole_file import write_whole

logger = logging.getLogger("heliotrope.up")


class Proven:
    """Versions by model.

    Args:
        file: where they are kept; one that cannot be read is begun anew, and one that cannot be
            written leaves them in memory.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept = _read(file)

    def has(self, model: str, version: str) -> bool:
        """Whether users were sent to it since plans have named it."""
        return version in self._kept.get(model, set())

    def note(self, model: str, named: Collection[str], served: Collection[str]) -> None:
        """Take in what has traffic now; forget what the plan names no more.

        Args:
            model: whose.
            named: versions of its plan.
            served: versions with a share of its users.
        """
        before = self._kept.get(model, set())
        after = (before | set(served)) & set(named)
        if after != before:
            self._kept[model] = after
            self._write()

    def _write(self) -> None:
        text = json.dumps({model: sorted(found) for model, found in self._kept.items() if found})
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, text)
        except OSError as error:
            logger.warning("%s cannot be written: %s.", self._file, error.strerror)


def _read(file: Path) -> dict[str, set[str]]:
    try:
        found = json.loads(file.read_text())
        return {str(model): {str(one) for one in versions} for model, versions in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        logger.warning("%s cannot be read, so no version stands in for now: %s.", file, error)
        return {}
