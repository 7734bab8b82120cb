"""Where stores are: a folder, and a bucket of a real S3 server process."""

from pathlib import Path

import pytest


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The root of a store, empty."""
    if request.param == "folder":
        # Names that a URI, SQL or a glob would write otherwise.
        return str(tmp_path / "a störe, it's (1)")
    made: str = request.getfixturevalue("bucket")
    return f"{made}/deep/prefix"
