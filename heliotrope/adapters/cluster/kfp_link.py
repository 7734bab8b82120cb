"""One HTTP connection to Kubeflow Pipelines' REST API, version 2beta1.

What is asked again and what is not: a request that never left, one that was turned away (429) or
shown an old token (401) is; one whose answer was lost is only where a second time does no harm.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import stamina

from heliotrope.adapters.cluster.kfp_options import KfpOptions
from heliotrope.errors import (
    ConflictError,
    HeliotropeError,
    NotFoundError,
    UnavailableError,
    UsageError,
)

PREFIX = "/apis/v2beta1"
_MOST_WORDS = 500
_MOST_PAGES = 10_000
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LONGEST_WAIT = 5.0


class _AgainError(Exception):
    """Worth another try; holds what to raise when there is none."""

    def __init__(self, problem: HeliotropeError) -> None:
        super().__init__(str(problem))
        self.problem = problem


class KfpLink:
    """Asks one KFP. Safe to share between threads; `close` when done.

    Args:
        options: where it is.
    """

    def __init__(self, options: KfpOptions) -> None:
        self.options = options
        # stamina prints a line for every try where nobody listens.
        logging.getLogger("stamina").addHandler(logging.NullHandler())
        self._client = httpx.Client(
            base_url=options.url + PREFIX, timeout=options.timeout, follow_redirects=False
        )

    def __repr__(self) -> str:
        return f"KfpLink({self.options.url})"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET one object.

        Raises:
            NotFoundError: it is not there.
            UnavailableError: KFP does not answer, or refuses who asks.
            UsageError: KFP does not understand the request.
        """
        return self._ask("GET", path, params, repeatable=True)

    def pages(
        self, path: str, key: str, params: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page, as `get` raises.

        Args:
            path: of the list.
            key: of the items in the answer; absent from it where there are none.
            params: filters and the like.
        """
        asked = {**(params or {}), "page_size": str(self.options.page_size)}
        for _ in range(_MOST_PAGES):
            answer = self.get(path, asked)
            yield from answer.get(key) or []
            token = answer.get("next_page_token")
            if not token or token == asked.get("page_token"):
                return
            asked["page_token"] = token

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> dict[str, Any]:
        """POST an object, or nothing.

        Args:
            path: of the collection, or of the verb.
            body: sent as JSON.
            params: of the query.
            repeatable: a second time does no harm, so a lost answer is asked for again.

        Raises:
            ConflictError: one of that name is there (409).
            NotFoundError, UnavailableError, UsageError: as `get`.
        """
        return self._ask("POST", path, params, repeatable=repeatable, json=dict(body or {}))

    def upload(self, path: str, params: Mapping[str, str], text: str) -> dict[str, Any]:
        """POST a compiled pipeline under a name, which makes it safe to repeat; as `post`."""
        files = {"uploadfile": ("pipeline.yaml", text.encode(), "application/yaml")}
        return self._ask("POST", path, params, repeatable=True, files=files)

    def delete(self, path: str, params: Mapping[str, str] | None = None) -> bool:
        """DELETE an object; False where it was gone already."""
        try:
            self._ask("DELETE", path, params, repeatable=True)
        except NotFoundError:
            return False
        return True

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        *,
        repeatable: bool,
        **content: Any,
    ) -> dict[str, Any]:
        try:
            for attempt in stamina.retry_context(
                on=_AgainError,
                attempts=None,
                timeout=self.options.patience,
                wait_initial=0.1,
                wait_max=_LONGEST_WAIT,
            ):
                with attempt:
                    return self._once(method, path, params, repeatable, content)
        except _AgainError as error:
            raise error.problem from error.__cause__
        raise AssertionError("a retry context ends in an answer or an error")

    def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        repeatable: bool,
        content: Mapping[str, Any],
    ) -> dict[str, Any]:
        token = self._token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        where = f"{method} {path}"
        try:
            reply = self._client.request(method, path, params=params, headers=headers, **content)
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            silent = UnavailableError(f"KFP at {self.options.url} must answer {where}. {why}.")
            if repeatable or isinstance(error, _NEVER_LEFT):
                raise _AgainError(silent) from error
            raise silent from error
        if reply.is_success:
            return self._object(reply, where)
        problem = self._problem(reply, where, token)
        renewed = reply.status_code == 401 and self._token() != token
        if renewed or reply.status_code == 429 or (repeatable and reply.status_code >= 500):
            raise _AgainError(problem)
        raise problem

    def _object(self, reply: httpx.Response, where: str) -> dict[str, Any]:
        if not reply.content:
            return {}
        try:
            answer = reply.json()
        except ValueError as error:
            # A login page of a gateway in front is the usual reason.
            kind = reply.headers.get("content-type", "no content type")
            raise UnavailableError(
                f"KFP at {self.options.url} must answer {where} in JSON. Got {kind}."
            ) from error
        if not isinstance(answer, dict):
            raise UnavailableError(
                f"KFP at {self.options.url} must answer {where} with an object. "
                f"Got {type(answer).__name__}."
            )
        return answer

    def _problem(self, reply: httpx.Response, where: str, token: str) -> HeliotropeError:
        status, said = reply.status_code, _words(reply)
        # What a server echoes must not carry the token into a log.
        said = said.replace(token, "***") if token else said
        text = f"KFP at {self.options.url} must take {where}. Got HTTP {status}: {said}"
        if status == 404:
            return NotFoundError(text)
        if status == 409:
            return ConflictError(text)
        if status in (400, 413, 422):
            return UsageError(text)
        return UnavailableError(text)

    def _token(self) -> str:
        path = self.options.token_file
        if path is None:
            return ""
        try:
            return path.read_text().strip()
        except OSError as error:
            raise UnavailableError(
                f"The token for KFP must be readable at {path}. {error.strerror}."
            ) from error


def _words(reply: httpx.Response) -> str:
    try:
        answer = json.loads(reply.content)
    except ValueError:
        return reply.reason_phrase
    said = answer.get("message") or answer.get("error") if isinstance(answer, dict) else None
    return str(said or reply.reason_phrase)[:_MOST_WORDS]


def equals(key: str, value: str) -> str:
    """The `filter` of a list call for items whose field has a value.

    KFP compares without regard to case, so the caller looks again.
    """
    one = {"operation": "EQUALS", "key": key, "stringValue": value}
    return json.dumps({"predicates": [one]})
