"""From a REST request's body to its answer's, for whoever speaks HTTP.

Both ways in, the protocol's own for small requests (`predictors.hot`) and the ASGI one for all
others (`predictors.rest`), come through here, so that they cannot answer differently.
"""

import logging
import time
from typing import Any

import orjson

from heliotrope.domain.encoding import FloatMatrix, InputRefused
from heliotrope.vocabulary import HEADER_REQUEST_ID
from predictors.core import Answer, PredictionCore, check_request_id, new_request_id
from predictors.refusals import Refused
from predictors.v1 import encode_v1, parse_json, write_v1
from predictors.v2 import encode_v2, write_v2

logger = logging.getLogger("heliotrope.predictor")

BROKEN = "The predictor must answer this and could not. Its log says why."
Reply = tuple[int, str, bytes]
"""Status, request id and body."""


class _Request:
    """A request as far as it is understood; its id is known before the rest is."""

    __slots__ = ("asked", "features", "keys", "protocol", "request_id", "started_ns")

    features: FloatMatrix
    keys: list[str | None] | None
    asked: Any

    def __init__(self, protocol: str, started_ns: int) -> None:
        self.protocol = protocol
        self.started_ns = started_ns
        self.request_id = ""


class RestAnswers:
    """Answers v1 and v2 bodies; every answer is counted, and none is an exception."""

    def __init__(self, core: PredictionCore) -> None:
        self.core = core

    def answer_now(self, protocol: str, given: str | None, body: bytes) -> Reply | None:
        """The answer, scored on this thread; None, with nothing done, when that would be slow.

        `given` is the caller's id, unchecked; the body is whole.
        """
        request = _Request(protocol, time.perf_counter_ns())
        try:
            self._understand(request, given, body)
            if self.core.is_large(request.features):
                return None
            scores = self.core.score(request.features)
            answer = self.core.conclude(
                request.features,
                scores,
                request.keys,
                request.request_id,
                protocol,
                request.started_ns,
            )
            return self._written(request, answer)
        except (Refused, InputRefused) as refused:
            return self._refused(request, refused)
        except Exception:
            logger.exception("request %s could not be answered", request.request_id)
            return self._replied(request, 500, BROKEN)

    async def answer(self, protocol: str, given: str | None, body: bytes) -> Reply:
        """The answer; a large batch is scored on another thread."""
        request = _Request(protocol, time.perf_counter_ns())
        try:
            self._understand(request, given, body)
            answer = await self.core.answer(
                request.features, request.keys, request.request_id, protocol, request.started_ns
            )
            return self._written(request, answer)
        except (Refused, InputRefused) as refused:
            return self._refused(request, refused)
        except Exception:
            logger.exception("request %s could not be answered", request.request_id)
            return self._replied(request, 500, BROKEN)

    def refuse(self, protocol: str, refused: Refused) -> Reply:
        """The answer to a request whose body is not looked at."""
        return self._refused(_Request(protocol, 0), refused)

    def _understand(self, request: _Request, given: str | None, body: bytes) -> None:
        if given is not None:
            request.request_id = check_request_id(given, HEADER_REQUEST_ID)
        document = parse_json(body)
        if request.protocol != "v2":
            request.request_id = request.request_id or new_request_id()
            request.features, request.keys = encode_v1(document, self.core)
            return
        if type(document) is dict and document.get("id") is not None:
            request.request_id = check_request_id(document["id"], "id")
        request.request_id = request.request_id or new_request_id()
        request.features, request.keys, request.asked = encode_v2(document, self.core)

    def _written(self, request: _Request, answer: Answer) -> Reply:
        if request.protocol == "v2":
            body = write_v2(answer, self.core, request.asked)
        else:
            body = write_v1(answer, self.core)
        self.core.metrics.requests[request.protocol, 200] += 1
        return 200, request.request_id, body

    def _refused(self, request: _Request, refused: Refused | InputRefused) -> Reply:
        status = refused.status if isinstance(refused, Refused) else 400
        return self._replied(request, status, str(refused))

    def _replied(self, request: _Request, status: int, message: str) -> Reply:
        request_id = request.request_id or new_request_id()
        self.core.metrics.requests[request.protocol, status] += 1
        return status, request_id, self.error(message, request_id)

    def error(self, message: str, request_id: str) -> bytes:
        """The body of a refusal."""
        return orjson.dumps(
            {
                "error": message,
                "id": request_id,
                "model_name": self.core.name,
                "model_version": self.core.version,
            }
        )
