"""Fifth step: may the candidate be registered? A pure verdict, so this step may be cached."""

from kfp import dsl

from components.decorator import component


@component()
def gate_model(
    spec: str,
    evaluation: dsl.Input[dsl.Artifact],
    gate: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Answer PASS, HOLD, FAIL or ERROR; `gate` holds the reasons in numbers."""
    from pathlib import Path

    from heliotrope.bootstrap import gate_candidate

    return gate_candidate(spec, Path(evaluation.path), Path(gate.path), Path(summary.path))
