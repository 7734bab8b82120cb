"""Runs one compiled pipeline through kfp.local: `python -m ... PIPELINE.yaml FOLDER`.

A process of its own, because kfp.local patches `print`, keeps global state and leaves folders in
TMPDIR. Arguments are read from FOLDER/arguments.json; artifacts go to FOLDER/artifacts. The exit
code is 0 when the pipeline succeeded, 1 when a step failed.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml

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
            components.load_component_from_text(once(pipeline.read_text()))(**arguments)
    except RuntimeError as error:
        # kfp.local's only sign of a failed step; the step's own error is in the run log.
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def once(text: str) -> str:
    """A compiled pipeline whose steps are run once.

    Retries are for nodes and networks that go away under a pod. Here a step that fails would fail
    again, and a person would wait for it.
    """
    documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    for body in [documents[0].get("root", {}), *documents[0].get("components", {}).values()]:
        tasks: dict[str, Any] = body.get("dag", {}).get("tasks", {})
        for task in tasks.values():
            task.pop("retryPolicy", None)
    return yaml.dump_all(documents, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
