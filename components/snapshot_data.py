"""First step: an immutable snapshot of the mature rows."""

from kfp import dsl

from components.decorator import component


@component()
def snapshot_data(
    spec: str, run_key: str, job_id: str, cause: str, snapshot: dsl.Output[dsl.Dataset]
) -> None:
    """Read the source into a Delta table version; `snapshot` says which."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("snapshot_data", spec, run_key or job_id) as run:
        taken = run.take_snapshot(cause, Path(snapshot.path))
    snapshot.metadata.update(
        table=taken.table, version=taken.version, rows=taken.rows, sha256=taken.content_hash
    )
