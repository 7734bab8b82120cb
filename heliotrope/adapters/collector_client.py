"""Talking to a collector: keep-alive, by the library's own HTTP, so that a shipper is light."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from heliotrope import vocabulary as names
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.service.shipping import Answered

_STALE = (http.client.BadStatusLine, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class CollectorReply:
    """An answer: its status, its JSON (or nothing), and how long to wait."""

    status: int
    value: Mapping[str, Any]
    retry_after: float | None = None

    @property
    def error(self) -> str:
        """What the collector says is wrong."""
        return str(self.value.get("error", f"HTTP {self.status}"))


class CollectorClient:
    """Sends to one collector (or the balancer in front of several); for one thread.

    Args:
        url: http://host:port or https://host.
        token: shown as the bearer token.
        timeout: seconds without progress after which a request counts as unanswered.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, url: str, token: str, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise UsageError(
                f"The collector's address must be http://HOST:PORT or https://HOST. Got {url}."
            )
        self.url = url
        self._parts, self._token, self._timeout = parts, token, timeout
        self._prefix = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    def send_batch(self, body: bytes, follows: int, reason: str) -> Answered:
        """POST a spool batch (`service.shipping.SendBatch`).

        Raises:
            UnavailableError: no answer; whether the batch was taken is not known.
        """
        reply = self._request(
            "POST",
            names.PATH_SPOOLS,
            body,
            {
                "content-type": names.CONTENT_SPOOL,
                names.HEADER_SPOOL_FOLLOWS: str(follows),
                names.HEADER_SPOOL_GAP: reason,
            },
        )
        watermark = reply.value.get("watermark")
        return Answered(
            status=reply.status,
            watermark=watermark if isinstance(watermark, int) else None,
            retry_after=reply.retry_after,
            error="" if reply.status == 200 else reply.error,
        )

    def send_labels(
        self, body: bytes, content_type: str, model: str | None, key: str | None
    ) -> CollectorReply:
        """POST labels.

        Raises:
            UnavailableError: no answer; sent again under the same key, nothing is taken twice.
        """
        headers = {"content-type": content_type}
        if key is not None:
            headers[names.HEADER_IDEMPOTENCY_KEY] = key
        query = "?" + urlencode({"model": model}) if model else ""
        return self._request("POST", names.PATH_LABELS + query, body, headers)

    def models(self) -> CollectorReply:
        """GET the known models; UnavailableError without an answer."""
        return self._request("GET", names.PATH_MODELS, None, {})

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> CollectorReply:
        headers["authorization"] = f"Bearer {self._token}"
        for reused in (self._connection is not None, False):
            connection = self._connect()
            try:
                connection.request(method, self._prefix + path, body, headers)
                response = connection.getresponse()
                return _reply(response, response.read())
            except _STALE as error:
                self.close()
                # A server may close an idle connection at any time; a fresh one tells.
                if not reused:
                    raise self._silent(error) from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise self._silent(error) from error
        raise AssertionError("the second round answers or raises")

    def _silent(self, error: Exception) -> UnavailableError:
        why = str(error) or type(error).__name__
        return UnavailableError(f"The collector at {self.url} must answer. {why}.")

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=ssl.create_default_context()
                )
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        return self._connection


def _reply(response: http.client.HTTPResponse, body: bytes) -> CollectorReply:
    try:
        value = json.loads(body)
    except ValueError:
        value = {}
    after = response.getheader("retry-after") or ""
    return CollectorReply(
        response.status,
        value if isinstance(value, dict) else {},
        float(after) if after.isdigit() else None,
    )
