"""The two event tables of a model, `predictions/<model>` and `labels/<model>`: columns and meaning.

Both are Delta tables under the store's root, partitioned by `day`, appended to by collectors and
read by everybody. A model has tables of its own because its features are typed columns: engines
then prune and push down as on any other table. Column names here are the contract with every
reader, Spark and Trino included; they are only ever added to.

Readers de-duplicate: predictions on `prediction_id` (a spool batch may arrive twice), labels by
taking the last received for a prediction (corrections win, history stays).
"""

FEATURE_PREFIX = "f_"
"""Put before each feature's name, so that no feature can collide with a column below."""

# predictions/<model>
PREDICTION_COLUMNS: dict[str, str] = {
    "prediction_id": "string",
    "request_id": "string",
    "row": "int32",
    "version": "string",
    "role": "string",
    "predicted_at": "timestamp[us, UTC]",
    "received_at": "timestamp[us, UTC]",
    "entity_key": "string",
    "prediction": "string",
    "score": "float64",
    "scores": "list<float64>",
    "latency_us": "int64",
    "spool_id": "string",
    "spool_sequence": "int64",
    "day": "date",
}
"""`prediction` is the class name, or the number as text for regression. `score` is the positive
class's probability (binary), the predicted class's (multiclass) or the value (regression);
`scores` holds all classes' (multiclass only). Then one `f_<name>` column a feature: float32 for
float, int64 for integer, string for category, bool for boolean; null where missing. `day` is the
UTC date of `predicted_at`."""

# labels/<model>
LABEL_COLUMNS: dict[str, str] = {
    "label_id": "string",
    "prediction_id": "string",
    "entity_key": "string",
    "label": "string",
    "happened_at": "timestamp[us, UTC]",
    "received_at": "timestamp[us, UTC]",
    "batch_id": "string",
    "day": "date",
}
"""Exactly one of `prediction_id` and `entity_key` is set; a label by entity key belongs to every
prediction of that entity made at or before `happened_at` (or before `received_at`, where it is
not given) that has no label by prediction id. `label` is the canonical class name (`true`,
`false`, `0`, `late`) or the number as text. `label_id` is a hash of the caller's idempotency key
and row, so that a repeated upload is recognised. `day` is the UTC date of `received_at`."""
