"""Why did the model get worse, and what is to be done? Pure: labelled rows and a scorer in."""

from heliotrope.domain.remedy.documents import ChangeKind, Diagnosis, FeaturePart, Remedy
from heliotrope.domain.remedy.naming import diagnose
from heliotrope.domain.remedy.rows import LabelFacts, Sample

__all__ = [
    "ChangeKind",
    "Diagnosis",
    "FeaturePart",
    "LabelFacts",
    "Remedy",
    "Sample",
    "diagnose",
]
