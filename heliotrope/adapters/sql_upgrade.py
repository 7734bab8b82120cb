"""The controller's database as `heliotrope state` sees it (`ports.Schema`)."""

from heliotrope.adapters.sql_link import SqlLink
from heliotrope.adapters.sql_schema import HEAD, current, migrate
from heliotrope.ports.state import SchemaStatus


class StateSchema:
    """Looks at and migrates the controller's database.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/database`.
        patience: seconds that it is asked again while it does not answer.

    >>> import tempfile
    >>> schema = StateSchema(f"sqlite:///{tempfile.mkdtemp()}/state.db")
    >>> schema.migrate().revision, schema.status().current
    (None, True)
    """

    def __init__(self, url: str, *, patience: float = 20.0) -> None:
        self._link = SqlLink(url, patience=patience, migrating=False)

    def __repr__(self) -> str:
        """Without the password."""
        return f"StateSchema({self._link.shown!r})"

    def status(self) -> SchemaStatus:
        """As it is; nothing is changed, and no file is made."""
        file = self._link.file
        if file is not None and not file.exists():
            return self._status(None)
        try:
            return self._status(self._link.read(current))
        finally:
            self._link.close()

    def migrate(self) -> SchemaStatus:
        """Run what it lacks, under a lock; answers how it stood before."""
        try:
            return self._status(self._link.write(migrate))
        finally:
            self._link.close()

    def _status(self, revision: str | None) -> SchemaStatus:
        return SchemaStatus("state", self._link.shown, revision, HEAD)
