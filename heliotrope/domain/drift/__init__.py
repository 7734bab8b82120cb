"""Has the data moved? A window of live rows against a sketch of what the champion learnt from.

Pure: arrays and sketches in, findings out. A column is called drifted only when its change is too
large for chance, with the chance of a false alarm shared among all columns of the report, *and*
large enough to matter; so the report keeps its false-alarm budget at 50 rows as at 50,000. Data
faults are looked for first, since a column that is all null or swapped has not drifted.
"""

from heliotrope.domain.drift.documents import (
    ColumnDrift,
    DriftReport,
    DriftRule,
)
from heliotrope.domain.drift.judging import judge_window
from heliotrope.domain.drift.sketch import ColumnSketch, ReferenceSketch
from heliotrope.domain.drift.window import DriftWindow, Words

__all__ = [
    "ColumnDrift",
    "ColumnSketch",
    "DriftReport",
    "DriftRule",
    "DriftWindow",
    "ReferenceSketch",
    "Words",
    "judge_window",
]
