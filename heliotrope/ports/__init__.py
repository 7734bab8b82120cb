"""What the services need of the outside, as Protocols. Adapters provide it; `bootstrap` chooses.

Only what two adapters could differ in is a port. A fake with behaviour is an adapter like any
other; there are no mocks of these.
"""

from heliotrope.ports.arrays import FloatMatrix, FloatVector
from heliotrope.ports.data import SnapshotStore, SourceReader
from heliotrope.ports.events import EventStore
from heliotrope.ports.registry import RegisteredVersion, Registry
from heliotrope.ports.runs import PipelineRuns, RunLog
from heliotrope.ports.tracing import AnswerFinder
from heliotrope.ports.training import (
    EvaluationData,
    FittedModel,
    JudgedRows,
    LabelledRows,
    Scorer,
    Trainer,
    TrainingData,
)

__all__ = [
    "AnswerFinder",
    "EvaluationData",
    "EventStore",
    "FittedModel",
    "FloatMatrix",
    "FloatVector",
    "JudgedRows",
    "LabelledRows",
    "PipelineRuns",
    "RegisteredVersion",
    "Registry",
    "RunLog",
    "Scorer",
    "SnapshotStore",
    "SourceReader",
    "Trainer",
    "TrainingData",
]
