"""Where stores are: a folder, and a real S3 server process."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Address of an S3 server process on a free port."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if "Running on " in line:
                break
        else:
            pytest.fail("the S3 server ended: " + "".join(lines))
        # An unread pipe fills up with the server's log and stops it.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        yield lines[-1].split("Running on ")[1].strip()
        server.terminate()


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The root of a store, empty."""
    if request.param == "folder":
        # Names that a URI, SQL or a glob would write otherwise.
        return str(tmp_path / "a störe, it's (1)")
    address = request.getfixturevalue("s3_server")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = f"b{abs(hash(request.node.nodeid)) % 10**12}"
    boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/deep/prefix"
