"""A pipeline run that goes on by itself: `python -m ... PIPELINE.yaml FOLDER`.

Its starter handed it a lock, which the system frees when it dies.
"""

import os
import sys
from pathlib import Path

from heliotrope.adapters.embedded.run_pipeline import main

BEGAN = "began"
"""Holds the process's number. Who finds it, and the lock free, knows that the run is over."""

if __name__ == "__main__":
    own = Path(sys.argv[2])
    (own / BEGAN).write_text(f"{os.getpid()}\n")
    sys.exit(main(Path(sys.argv[1]), own))
