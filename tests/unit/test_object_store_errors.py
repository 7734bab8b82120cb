"""What S3 clients raise is told by what went wrong, not by what things are called."""

import pytest

from heliotrope.adapters.object_store import translate
from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError

PATH = "s3://data/run-403/timeouts"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("AWS Error ACCESS_DENIED during HeadObject", UnavailableError, "refused them"),
        ("HTTP response code 403", UnavailableError, "refused them"),
        ("Client error with status 403 Forbidden", UnavailableError, "refused them"),
        ("status: 403.", UnavailableError, "refused them"),
        ("http://127.0.0.1:40341/data: error sending request", UnavailableError, "not answer"),
        ("http://127.0.0.1:403: tcp connect error, connection refused", UnavailableError, "answer"),
        ("server answered 503, after a while", UnavailableError, "did not answer"),
        ("No such bucket: NoSuchBucket", NotFoundError, "the bucket"),
        (f"{PATH} could not be parsed", None, ""),
        ("data/run-403/timeouts could not be parsed", None, ""),
        ("row 403 of 5030 is no number, on 2026-05-03", None, ""),
    ],
)
def test_an_error_is_told_by_what_went_wrong(
    said: str, kind: type[HeliotropeError] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    found = translate(PATH, OSError(said))
    if kind is None:
        assert found is None
    else:
        assert type(found) is kind
        assert words in str(found)
