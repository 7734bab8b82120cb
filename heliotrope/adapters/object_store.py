"""S3 as the environment describes it: one reading of AWS_* for every client, with time limits.

DuckDB's own S3 support is an extension that is downloaded when first used, so objects are read
through Arrow's S3 client (files) and delta-rs (tables) instead.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError, UsageError

CONNECT_SECONDS = 5
REQUEST_SECONDS = 30
ATTEMPTS = 3
_SCHEME = "s3://"


_REFUSED = re.compile(r"[][|^\\#?%*\"<>{}`]")


def require_root(root: str) -> str:
    """The root of a store, absolute, if delta-rs can keep tables under it; it panics on some names.

    Raises:
        UsageError: a folder of the path has a name that it takes for a URI's.
    """
    if is_remote(root):
        return root
    absolute = str(Path(root).resolve())
    found = _REFUSED.search(absolute)
    if found:
        raise UsageError(
            "the path of the store's folder must have none of [ ] | ^ \\ # ? % * \" < > { } `, "
            f"which delta-rs takes for a URI's. Got {found[0]!r} in {absolute}."
        )
    return absolute


def delta_files(table: Any, uri: str) -> list[str]:
    """The data files of a Delta table, as paths that open.

    delta-rs answers URIs: for a folder its names are percent-encoded, as in `my%20loans`.
    """
    files: list[str] = table.file_uris()
    if is_remote(uri):
        return files
    return [unquote(file.removeprefix("file://")) for file in files]


def is_remote(path: str) -> bool:
    """Whether a path is in an object store."""
    return path.lower().startswith(_SCHEME)


def key_of(path: str) -> str:
    """`bucket/key` of an s3:// path."""
    return path[len(_SCHEME) :].rstrip("/")


def _endpoint(env: Mapping[str, str]) -> str | None:
    return env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None


def _region(env: Mapping[str, str]) -> str | None:
    named = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    # S3 look-alikes take any region, and without one the client asks AWS for it.
    return named or ("us-east-1" if _endpoint(env) else None)


def filesystem(env: Mapping[str, str] | None = None) -> Any:
    """Arrow's S3 file system, which gives up on a silent server in under a minute."""
    from pyarrow import fs

    chosen = os.environ if env is None else env
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": REQUEST_SECONDS,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    }
    if endpoint := _endpoint(chosen):
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    if region := _region(chosen):
        options["region"] = region
    if chosen.get("AWS_ACCESS_KEY_ID"):
        options["access_key"] = chosen["AWS_ACCESS_KEY_ID"]
        options["secret_key"] = chosen.get("AWS_SECRET_ACCESS_KEY", "")
        if chosen.get("AWS_SESSION_TOKEN"):
            options["session_token"] = chosen["AWS_SESSION_TOKEN"]
    return fs.S3FileSystem(**options)


def storage_options(path: str, env: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """What delta-rs is told beside the AWS_* it reads itself; None for a local path."""
    if not is_remote(path):
        return None
    chosen = os.environ if env is None else env
    options = {
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "timeout": f"{REQUEST_SECONDS}s",
        "max_retries": str(ATTEMPTS - 1),
        "retry_timeout": f"{REQUEST_SECONDS}s",
    }
    endpoint = _endpoint(chosen)
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        options["AWS_ALLOW_HTTP"] = str(endpoint.lower().startswith("http://")).lower()
    region = _region(chosen)
    if region:
        options["AWS_REGION"] = region
    return options


@contextmanager
def object_errors(path: str) -> Iterator[None]:
    """Turn what S3 clients raise into errors that say what to mend; others pass unchanged."""
    try:
        yield
    except HeliotropeError:
        raise
    except Exception as error:
        translated = translate(path, error)
        if translated is None:
            raise
        raise translated from error


def _codes(*codes: str) -> re.Pattern[str]:
    # Told to be one: a port (40341), a row's number, a date or a folder's name is none.
    told = r"\b(?:status|code|http|answered|response|error)\W{1,3}"
    return re.compile(rf"{told}(?:{'|'.join(codes)})\b(?![/-])")


_DENIED = (
    "access_denied", "access denied", "accessdenied", "invalidaccesskeyid", "forbidden",
    "invalid_access_key_id", "signaturedoesnotmatch", "signature_does_not_match",
    "invalidclienttokenid", "invalid_client_token_id", "unrecognized_client",
)  # fmt: skip
_SILENT = (
    "network_connection", "curlcode", "timed out", "timeout", "error sending request",
    "connection refused", "could not connect", "couldn't connect", "dns", "slow_down",
    "service_unavailable", "internal_failure", "after 2 retries", "max_retries",
)  # fmt: skip
_DENIED_CODES = _codes("401", "403")
_SILENT_CODES = _codes("502", "503", "504")


def translate(path: str, error: BaseException) -> HeliotropeError | None:
    """The error a person should see for what an S3 client raised, or None if it is none."""
    if not is_remote(path):
        return None
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{path} must exist. Nothing is there.")
    where = _endpoint(os.environ) or "AWS"
    # What things are called says nothing of what went wrong.
    text = str(error).lower().replace(path.lower(), "")
    if "/" in key_of(path):
        text = text.replace(key_of(path).lower(), "")
    if _DENIED_CODES.search(text) or any(sign in text for sign in _DENIED):
        return UnavailableError(
            f"{path} must be readable and writable with the credentials in AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, or of the role in AWS_ROLE_ARN. The object store ({where}) "
            "refused them."
        )
    if "nosuchbucket" in text or "no_such_bucket" in text or "bucket does not exist" in text:
        return NotFoundError(f"the bucket of {path} must exist. There is none at {where}.")
    if _SILENT_CODES.search(text) or any(sign in text for sign in _SILENT):
        return UnavailableError(
            f"{path} must be reachable. The object store ({where}) did not answer: "
            f"{str(error).splitlines()[0][:200]}"
        )
    return None
