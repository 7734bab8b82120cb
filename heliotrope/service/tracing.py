"""Walks from one prediction to all that is behind it: label, version, data, code, decisions."""

from collections.abc import Sequence
from datetime import UTC, timedelta

import numpy as np

from heliotrope.domain.decisions import Decision
from heliotrope.domain.document import Document
from heliotrope.domain.trace import KnownLabel, LoggedAnswer, decisions_on
from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError
from heliotrope.ports import Registry
from heliotrope.ports.outcomes import OutcomeReader
from heliotrope.ports.state import StateStore
from heliotrope.ports.tracing import AnswerFinder
from heliotrope.service.lineage import Explanation, explain
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import TAG_RUN_KEY, Role, Task

MOST_ANSWERS = 100


class TracedAnswer(Document):
    """An answer and its label."""

    answer: LoggedAnswer
    label: KnownLabel | None


class TracedVersion(Document):
    """A version that answered."""

    version: str
    explanation: Explanation | None
    """None where the registry does not know it, or is away; `missing` says so."""
    decisions: tuple[Decision, ...]
    """Why it was trained, and its way to users and back, oldest first."""


class Trace(Document):
    """Everything behind one prediction."""

    asked: str
    answers: tuple[TracedAnswer, ...]
    """In order of time: every row of a request, every version that answered it."""
    versions: tuple[TracedVersion, ...]
    missing: tuple[str, ...]
    """What could not be read, and why."""


def trace(
    finder: AnswerFinder,
    outcomes: OutcomeReader,
    registry: Registry,
    state: StateStore,
    wanted: str,
    model: str | None = None,
) -> Trace:
    """All that is known of a prediction.

    Args:
        finder: of the log.
        outcomes: to find its label as every judgement does.
        registry: for the versions' origins.
        state: for the decisions.
        wanted: id of a prediction, or of a request.
        model: only in this model's log; in all where it is left out.

    Raises:
        NotFoundError: no such prediction is logged (yet).
        UnavailableError: the event tables do not answer.
    """
    models = [model] if model is not None else finder.models()
    answers = [a for name in models for a in finder.find(name, wanted, MOST_ANSWERS)]
    if not answers:
        raise NotFoundError(
            f"A prediction or request {wanted!r} must be logged. It is in the log of none of: "
            f"{', '.join(models) or 'no model has one'}. Ids are in each answer; what was answered "
            "moments ago may still be in the predictor's spool."
        )
    missing: list[str] = []
    versions: dict[tuple[str, str], TracedVersion] = {}
    for answer in answers:
        key = (answer.model, answer.version)
        if key not in versions:
            versions[key] = _version(registry, state, *key, missing)
    traced = [
        TracedAnswer(
            answer=answer,
            label=_label(outcomes, answer, versions[answer.model, answer.version], missing),
        )
        for answer in answers
    ]
    return Trace(
        asked=wanted,
        answers=tuple(traced),
        versions=tuple(versions.values()),
        missing=tuple(dict.fromkeys(missing)),
    )


def _version(
    registry: Registry, state: StateStore, model: str, version: str, missing: list[str]
) -> TracedVersion:
    explanation, decisions = None, list[Decision]()
    try:
        explanation = explain(registry, model, version)
    except (NotFoundError, UnavailableError) as error:
        missing.append(str(error))
    run_key = explanation.facts.tags.get(TAG_RUN_KEY) if explanation else None
    try:
        decisions = decisions_on(state.decisions(model), version, run_key)
    except UnavailableError as error:
        missing.append(str(error))
    return TracedVersion(version=version, explanation=explanation, decisions=tuple(decisions))


def _label(
    outcomes: OutcomeReader, answer: LoggedAnswer, version: TracedVersion, missing: list[str]
) -> KnownLabel | None:
    found = version.explanation
    if found is None or found.lineage is None:
        missing.append(
            f"The label of {answer.prediction_id}: what labels mean is in the lineage of version "
            f"{answer.version}, which could not be read."
        )
        return None
    try:
        spec = parse_spec(found.lineage.spec)
        return _label_by(outcomes, spec, answer)
    except HeliotropeError as error:
        missing.append(f"The label of {answer.prediction_id}: {error}")
        return None


def _label_by(outcomes: OutcomeReader, spec: ModelSpec, answer: LoggedAnswer) -> KnownLabel | None:
    # Read as judgements read it, so that corrections and labels by entity count as they do there.
    at, role = answer.predicted_at, Role(answer.role) if answer.role in list(Role) else None
    rows = outcomes.outcomes(
        spec, at, at + timedelta(microseconds=1), version=answer.version, role=role
    )
    places: Sequence[int] = np.flatnonzero(rows.prediction_id == answer.prediction_id).tolist()
    if not places or np.isnan(rows.label[places[0]]):
        return None
    value, told = float(rows.label[places[0]]), rows.label_received_at[places[0]]
    if spec.task is Task.REGRESSION:
        text, right = f"{value:.6g}", None
    else:
        text, right = spec.classes[int(value)], int(rows.prediction[places[0]]) == int(value)
    return KnownLabel(
        label=text, received_at=told.astype("datetime64[us]").item().replace(tzinfo=UTC),
        right=right,
    )  # fmt: skip
