"""Logged requests sent again over HTTP, through KServe's v1 protocol."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from heliotrope.ports.replay import LoggedRequest, Replayed, ReplayOutcome
from heliotrope.vocabulary import HEADER_REPLAY, HEADER_REQUEST_ID

_UNPROCESSABLE = 422


class HttpReplayer:
    """Asks with a few connections, so many requests a second at most (`ports.Replayer`).

    Args:
        concurrency: connections.
        rate: most requests a second.
        timeout: seconds until a request counts as failed.
    """

    def __init__(self, *, concurrency: int = 4, rate: float = 500.0, timeout: float = 5.0) -> None:
        self._concurrency, self._rate = concurrency, rate
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        # A proxy of the environment is not for addresses within the platform.
        self._client = httpx.Client(timeout=timeout, limits=limits, trust_env=False)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def ask(
        self, address: str, model: str, requests: Sequence[LoggedRequest], seconds: float
    ) -> list[Replayed]:
        """As the port says."""
        began, lock = time.monotonic(), threading.Lock()
        left: Iterator[LoggedRequest] = iter(requests)
        found: list[Replayed] = []
        taken = 0

        def take() -> tuple[LoggedRequest | None, float]:
            nonlocal taken
            with lock:
                if time.monotonic() - began >= seconds:
                    return None, 0.0
                request, due = next(left, None), began + taken / self._rate
                taken += 1
                return request, due

        def work() -> None:
            while True:
                request, due = take()
                if request is None:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                replayed = self._one(address, model, request)
                with lock:
                    found.append(replayed)

        with ThreadPoolExecutor(self._concurrency, "replay") as pool:
            for worker in [pool.submit(work) for _ in range(self._concurrency)]:
                worker.result()
        return found

    def _one(self, address: str, model: str, request: LoggedRequest) -> Replayed:
        url = f"{address.rstrip('/')}/v1/models/{model}:predict"
        body = {"instances": [dict(row) for row in request.rows]}
        name = request.request_id
        try:
            headers = {HEADER_REQUEST_ID: name, HEADER_REPLAY: "1"}
            answer = self._client.post(url, json=body, headers=headers)
        except httpx.HTTPError as error:
            kind = type(error).__name__
            return Replayed(name, ReplayOutcome.FAILED, f"{kind}: {error}".rstrip(": "))
        except ValueError as error:
            # Of a logged value that JSON cannot say.
            return Replayed(name, ReplayOutcome.UNUSABLE, f"the row cannot be sent: {error}")
        said = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code == _UNPROCESSABLE:
            return Replayed(name, ReplayOutcome.UNUSABLE, said)
        if 400 <= answer.status_code < 500:
            return Replayed(name, ReplayOutcome.REFUSED, said)
        if answer.status_code != httpx.codes.OK:
            return Replayed(name, ReplayOutcome.FAILED, said)
        if not _usable(answer, len(request.rows)):
            return Replayed(name, ReplayOutcome.UNUSABLE, said)
        return Replayed(name, ReplayOutcome.ANSWERED)


def _usable(answer: httpx.Response, rows: int) -> bool:
    try:
        document = answer.json()
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    scores = document.get("scores", document.get("predictions"))
    return isinstance(scores, list) and len(scores) == rows and all(map(_finite, scores))


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_finite, value))
    # A foreign server may answer with class names alone.
    return math.isfinite(value) if isinstance(value, int | float) else isinstance(value, str)
