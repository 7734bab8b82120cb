"""Retraining, the only step: tell the controller that the schedule fired."""

from components.decorator import component


@component()
def ask_retraining(spec: str) -> str:
    """Leave the newest firing of the spec's schedule where the controller looks; answers what."""
    from heliotrope.bootstrap import ask_by_schedule

    return ask_by_schedule(spec)
