"""A small text file that readers see whole, as it was or as it is."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace it in one step.

    Raises:
        OSError: there is no such folder, or the disk refuses; the file is as it was.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
