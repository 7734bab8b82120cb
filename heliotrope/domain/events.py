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

# losses/<model>
LOSS_COLUMNS: dict[str, str] = {
    "spool_id": "string",
    "version": "string",
    "role": "string",
    "first_sequence": "int64",
    "last_sequence": "int64",
    "records": "int64",
    "reason": "string",
    "noted_at": "timestamp[us, UTC]",
    "day": "date",
}
"""Requests that were answered and whose records will never arrive, so that coverage can be honest:
`records` requests (of one row or more) between two sequence numbers of a spool, both inclusive, and
why (`budget`, `damaged`, `quarantined`, `elsewhere`, see docs/guarantees.md). `version` and `role`
are those of the first record behind the gap. `day` is the UTC date of `noted_at`."""

TYPED_FEATURE_SEPARATOR = "@"
"""A feature whose type differs from the one its column was made with is kept in a column of its
own, `f_<name>@<type>`: a column never changes its type and a batch is never refused for it."""

# How readers make one row of many, the whole of exactly-once:
# predictions: one row a prediction_id (any; copies are equal).
# labels: of rows with one label_id the first received; of what is left, the last received wins.
