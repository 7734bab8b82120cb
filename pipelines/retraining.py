"""The retraining pipeline: the cluster's own schedule asks the one door.

It trains nothing. The controller follows the spec's schedule too, and both name a firing alike: so
whichever comes first, one run is started, with its cooldown, its budget and its record. The
recurring run is what KFP's UI shows, and what asks where a controller was down at that time.
"""

from kfp import dsl

from components.ask_retraining import ask_retraining
from pipelines.placing import SMALL, place


@dsl.pipeline(
    name="heliotrope-retraining",
    description="Ask for the retraining that a model's schedule wants.",
)
def retraining(spec: str) -> None:
    """Ask for one model.

    Args:
        spec: the ModelSpec, as YAML text.
    """
    place(ask_retraining(spec=spec), SMALL, state=True)
