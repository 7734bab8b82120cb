"""The way to Kubernetes' API: requests of one account, repeated where that does no harm.

The generated client's methods drop nulls, raise strings and try again where that is not safe, so
only its configuration, credentials and TLS are used here.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import stamina
import urllib3
from kubernetes import client

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube_answers import JSON, Again, Call, Object, read_answer
from heliotrope.errors import UnavailableError

AGENT = "heliotrope"
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
SLACK_SECONDS = 10.0
"""Beyond the time at which a stream must end, after which it is broken."""
PATIENCE_SECONDS = 20.0


class KubeLink:
    """Sends calls.

    Args:
        api: host, credentials and TLS; made by `kube_login`.
        account: who calls.
        patience: seconds that one call is repeated while the server does not answer.
    """

    def __init__(
        self, api: client.ApiClient, account: Account, patience: float = PATIENCE_SECONDS
    ) -> None:
        logging.getLogger("stamina").addHandler(logging.NullHandler())
        self.api, self.account, self._patience = api, account, patience

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self.api.configuration.host)

    def close(self) -> None:
        """Let go of the connections; the next call opens new ones."""
        self.api.rest_client.pool_manager.clear()

    def send(self, call: Call) -> Object:
        """The answer to a call, after as many tries as patience allows.

        Raises:
            HeliotropeError: as `kube_answers` has them; UnavailableError where none came.
        """

        def hook(error: Exception) -> bool | float | timedelta:
            if not isinstance(error, Again) or (error.after or 0) > self._patience:
                return False
            return error.after if error.after is not None else True

        began = time.monotonic()
        try:
            for attempt in stamina.retry_context(
                on=hook, attempts=None, timeout=self._patience, wait_initial=0.1, wait_max=3.0
            ):
                with attempt:
                    return self.once(call)
        except Again as error:
            raise UnavailableError(
                f"Kubernetes' API at {self.host} must answer to {call.what}. "
                f"It did not within {time.monotonic() - began:.3g} s: {error}."
            ) from error
        raise AssertionError("a retry context ends by an answer or an error")

    def once(self, call: Call) -> Object:
        """The answer to a call, of one try.

        Raises:
            Again: it may be tried again.
            HeliotropeError: as `send`.
        """
        answer = self._request(call, READ_SECONDS)
        after = answer.headers.get("retry-after")
        return read_answer(call, answer.status, answer.data, after, self.account)

    def stream(self, call: Call, seconds: float) -> "Stream":
        """An answer that goes on for some seconds, of one try.

        Raises:
            Again: the server is unwell.
            HeliotropeError: as `send`.
        """
        answer = self._request(call, seconds + SLACK_SECONDS, preload=False)
        if not 200 <= answer.status < 300:
            after = answer.headers.get("retry-after")
            read_answer(call, answer.status, answer.read(), after, self.account)
        return Stream(answer, call.what)

    def _request(self, call: Call, read_seconds: float, *, preload: bool = True) -> Any:
        headers = {"Accept": JSON, "User-Agent": AGENT}
        # Asked anew for each call: tokens of service accounts are rotated.
        self.api.update_params_for_auth(headers, [], ["BearerToken"])
        query = f"?{urlencode(call.query)}" if call.query else ""
        body = None
        if call.body is not None:
            headers["Content-Type"] = call.content
            body = json.dumps(call.body).encode()
        try:
            return self.api.rest_client.pool_manager.request(
                call.method,
                f"{self.host}{call.path}{query}",
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                retries=False,
                redirect=False,
                preload_content=preload,
            )
        except urllib3.exceptions.SSLError as error:
            raise UnavailableError(
                f"Kubernetes' API at {self.host} must show a certificate that "
                f"the configured authority signed. Got: {error}."
            ) from error
        except urllib3.exceptions.HTTPError as error:
            if call.repeatable or isinstance(error, urllib3.exceptions.NewConnectionError):
                raise Again(_plain(error)) from error
            raise UnavailableError(
                f"Kubernetes' API must answer to {call.what}. {_plain(error)}; whether it was "
                "done is not known."
            ) from error


class Stream:
    """An answer of one JSON object a line, which come as things happen."""

    def __init__(self, answer: Any, what: str) -> None:
        self._answer, self._what = answer, what
        self._stopped = False

    def __iter__(self) -> Iterator[Object]:
        """To its end.

        Raises:
            UnavailableError: it breaks off, is silent for too long, or is no JSON.
        """
        rest = b""
        try:
            for chunk in self._answer.stream(None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if not self._stopped:
                raise UnavailableError(
                    f"Kubernetes' API must tell to its end what it has to {self._what}. "
                    f"Got: {_plain(error)}."
                ) from error
        finally:
            # Nothing else is answered on this connection.
            self._answer.close()

    def stop(self) -> None:
        """End it, from another thread; who reads it sees its end."""
        self._stopped = True
        with suppress(ValueError, RuntimeError, OSError):
            self._answer.shutdown()


def _plain(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition("object at 0x")[2].partition(">: ")[2] or str(reason)
