"""ModelSpec: one YAML a model, refused with every problem at once, or frozen and trusted."""

from heliotrope.spec.features import Feature, FeatureType
from heliotrope.spec.loading import load_spec, parse_spec, spec_files, spec_json_schema
from heliotrope.spec.model import Label, ModelSpec, Slice, Source, SourceFormat, Split, Trainer
from heliotrope.spec.policies import Gates, Monitoring, Retraining, Rollout, Validation

__all__ = [
    "Feature",
    "FeatureType",
    "Gates",
    "Label",
    "ModelSpec",
    "Monitoring",
    "Retraining",
    "Rollout",
    "Slice",
    "Source",
    "SourceFormat",
    "Split",
    "Trainer",
    "Validation",
    "load_spec",
    "parse_spec",
    "spec_files",
    "spec_json_schema",
]
