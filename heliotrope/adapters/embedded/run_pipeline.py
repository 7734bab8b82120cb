"""Runs one compiled pipeline through kfp.local: `python -m ... PIPELINE.yaml FOLDER`.

A process of its own, because kfp.local patches `print`, keeps global state and leaves folders in
TMPDIR. Arguments are read from FOLDER/arguments.json; artifacts go to FOLDER/artifacts. The exit
code is 0 when the pipeline succeeded, 1 when a step failed.
"""

import json
import sys
import warnings
from pathlib import Path

from heliotrope.adapters.embedded.warm_steps import warm_steps


def main(pipeline: Path, folder: Path) -> int:
    """Run it."""
    from kfp import components, local

    # Embedded, a step runs in this environment, not in its image; that is the point.
    warnings.filterwarnings("ignore", message="You may be attemping to run a task")
    arguments = json.loads((folder / "arguments.json").read_text())
    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "artifacts")
    )
    try:
        with warm_steps():
            components.load_component_from_file(str(pipeline))(**arguments)
    except RuntimeError as error:
        # kfp.local's only sign of a failed step; the step's own error is in the run log.
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
