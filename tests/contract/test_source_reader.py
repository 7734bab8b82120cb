"""What a source reader must do with what people point it at."""

import gzip
import json
import socket
import urllib.request
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from heliotrope.adapters.delta_store import DeltaSnapshotStore
from heliotrope.adapters.source_reader import DuckDBSourceReader
from heliotrope.errors import DataFault, NotFoundError, UnavailableError
from heliotrope.spec import Source, SourceFormat

TABLE = pa.table({"name": ["a", "b"], "x": [1.5, None]})
READER = DuckDBSourceReader()


def rows(path: object, **options: object) -> list[dict[str, object]]:
    """All rows of a source."""
    source = Source.model_validate({"path": str(path), **options})
    with READER.open(source) as table:
        found: list[dict[str, object]] = table.to_pyarrow().to_pylist()
        return found


def written(folder: Path, content: bytes, name: str = "data.csv") -> Path:
    """A file of these bytes."""
    path = folder / name
    path.write_bytes(content)
    return path


def test_csv_columns_are_text_and_empty_fields_missing(tmp_path: Path) -> None:
    path = written(tmp_path, b"zip,x\n01234,1.0\n,2\n")
    assert rows(path) == [{"zip": "01234", "x": "1.0"}, {"zip": None, "x": "2"}]


def test_a_byte_order_mark_and_windows_line_ends_are_no_data(tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n")
    assert rows(path) == [{"a": "1", "b": "2"}]


def test_quoted_newlines_and_delimiters_stay_in_their_field(tmp_path: Path) -> None:
    path = written(tmp_path, b'a,b\n"x\ny","1,2"\n"say ""hi""",3\n')
    assert rows(path) == [{"a": "x\ny", "b": "1,2"}, {"a": 'say "hi"', "b": "3"}]


def test_a_packed_csv_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b"a;b\n1;2\n"), "data.csv.gz")
    assert rows(path, delimiter=";") == [{"a": "1", "b": "2"}]


def test_a_file_name_is_no_pattern(tmp_path: Path) -> None:
    written(tmp_path, b"a,b\n9,9\n", "d1.csv")
    path = written(tmp_path, b"a,b\n1,2\n", "d[1]*.csv")
    assert rows(path) == [{"a": "1", "b": "2"}]


def test_parquet_and_a_folder_of_it_are_read(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "one.parquet")
    assert rows(tmp_path / "one.parquet") == TABLE.to_pylist()
    pq.write_table(TABLE, tmp_path / "two.parquet")
    assert rows(tmp_path, format=SourceFormat.PARQUET) == TABLE.to_pylist() * 2


def test_delta_is_read_at_the_version_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "loans.delta"
    write_deltalake(path, TABLE)
    write_deltalake(path, TABLE, mode="append")
    assert len(rows(path)) == 4
    assert rows(path, version=0) == TABLE.to_pylist()
    with pytest.raises(NotFoundError, match="version 9"):
        rows(path, version=9)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.delta"])
def test_a_missing_source_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match=name):
        rows(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "is empty"),
        ("header.csv", b"a,b\n", "2 columns and no row"),
        ("semicolon.csv", b"a;b;c\n1;2;3\n", "looks separated by a semicolon.*delimiter to ';'"),
        ("tab.csv", b"a\tb\n1\t2\n", "looks separated by a tab"),
        ("short.csv", b"a,b,c\n1,2,3\n4,5\n", "line 3 must have 3 columns.*It has 2"),
        ("long.csv", b"a,b\n1,2\n3,4,5\n", "line 3 must have 2 columns.*It has 3"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "'a' twice"),
        ("nameless.csv", b"a,,c\n1,2,3\n", "a column with no name"),
        ("latin.csv", b"n\xe4me,b\n1,2\n", "must be UTF-8"),
        ("latin_row.csv", b"a,b\nB\xe4r,2\n", "latin_row.csv"),
        ("binary.csv", bytes(range(8)) * 40, "not text"),
        ("packed.csv.gz", b"a,b\n1,2\n", "must be a whole gzip file"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9999)[:60], "must be a whole gzip file"),
        ("text.parquet", b"a,b\n1,2\n", "must be in the format it claims"),
        ("empty.parquet", b"", "is empty"),
        ("cut.parquet", b"PAR1 and then nothing", "must be in the format it claims"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-10:] else "",
)  # fmt: skip
def test_a_broken_file_is_a_data_fault(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    with pytest.raises(DataFault, match=says) as caught:
        rows(written(tmp_path, content, name))
    assert name in str(caught.value)


def test_a_folder_is_no_csv_and_an_empty_one_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="Got a folder"):
        rows(tmp_path, format=SourceFormat.CSV)
    with pytest.raises(DataFault, match="has none"):
        rows(tmp_path, format=SourceFormat.PARQUET)


def test_a_row_is_located_by_its_line_across_quoted_newlines(tmp_path: Path) -> None:
    source = Source(path=str(written(tmp_path, b'a,b\n"x\ny",1\n2,3\n4,5\n')))
    assert [READER.locate(source, row) for row in (0, 1, 2)] == ["line 2", "line 4", "line 5"]


@pytest.fixture(scope="module")
def s3(own_s3_server: str) -> tuple[str, str, str]:
    """An S3 server process that demands credentials: address, key id, secret."""
    anyone = {"endpoint_url": own_s3_server, "region_name": "us-east-1",
              "aws_access_key_id": "x", "aws_secret_access_key": "x"}  # fmt: skip
    files = boto3.client("s3", **anyone)
    files.create_bucket(Bucket="data")
    files.put_object(Bucket="data", Key="x.csv", Body=b"name,x\na,1.5\nb,\n")
    files.put_object(Bucket="data", Key="bad.parquet", Body=b"no parquet")
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink)
    for key in ("x.parquet", "many/1.parquet", "many/2.parquet"):
        files.put_object(Bucket="data", Key=key, Body=sink.getvalue().to_pybytes())
    people = boto3.client("iam", **anyone)
    people.create_user(UserName="reader")
    key = people.create_access_key(UserName="reader")["AccessKey"]
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    people.put_user_policy(
        UserName="reader", PolicyName="all",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )  # fmt: skip
    demand = urllib.request.Request(
        f"{own_s3_server}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(demand):
        pass
    return own_s3_server, key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture
def signed(s3: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The right credentials in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3[1])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3[2])
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.mark.usefixtures("signed")
def test_csv_and_parquet_are_read_from_s3() -> None:
    assert rows("s3://data/x.csv") == [{"name": "a", "x": "1.5"}, {"name": "b", "x": None}]
    assert rows("s3://data/x.parquet") == TABLE.to_pylist()
    assert len(rows("s3://data/many", format="parquet")) == 4


@pytest.mark.usefixtures("signed")
def test_delta_is_read_from_s3(s3: tuple[str, str, str]) -> None:
    write_deltalake("s3://data/t.delta", TABLE, storage_options={"AWS_ALLOW_HTTP": "true"})
    assert rows("s3://data/t.delta") == TABLE.to_pylist()


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(
    "path", ["s3://data/no.csv", "s3://data/no.parquet", "s3://data/no.delta", "s3://no/x.csv"]
)
def test_what_is_not_on_s3_is_not_found(path: str) -> None:
    with pytest.raises(NotFoundError):
        rows(path)


@pytest.mark.usefixtures("signed")
def test_what_is_no_parquet_on_s3_is_a_data_fault() -> None:
    with pytest.raises(DataFault, match="must be Parquet"):
        rows("s3://data/bad.parquet")


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("path", ["s3://data/x.csv", "s3://data/x.parquet", "s3://data/t.delta"])
def test_refused_credentials_are_named_and_not_shown(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(UnavailableError, match="credentials in AWS_ACCESS_KEY_ID") as caught:
        rows(path)
    assert "not-the-secret" not in str(caught.value)


@pytest.mark.usefixtures("signed")
def test_a_store_with_refused_credentials_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(UnavailableError, match="refused"):
        DeltaSnapshotStore("s3://data/store").latest("toy")


@pytest.mark.parametrize("path", ["s3://data/x.csv", "s3://data/x.parquet", "s3://data/t.delta"])
@pytest.mark.usefixtures("signed")
def test_a_server_that_is_gone_is_unavailable(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UnavailableError, match="did not answer"):
            rows(path)
