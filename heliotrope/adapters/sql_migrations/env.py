"""What Alembic runs: the scripts beside it, on the connection that it was handed.

The caller holds the lock and the transaction, see `sql_schema.migrate`.
"""

from alembic import context

from heliotrope.adapters.sql_schema import VERSION_TABLE
from heliotrope.adapters.sql_tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
