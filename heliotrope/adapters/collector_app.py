"""The collector as an ASGI application.

    POST /v1/spools   a batch of a predictor's spool      scope spools
    POST /v1/labels   labels: JSON, NDJSON or CSV         scope labels
    GET  /v1/models   which models are known              any token
    GET  /metrics, /healthz, /readyz

Writes are answered 200 only when the store has them. 409 tells a shipper where the store is; 429
and 503 carry Retry-After and acknowledge nothing.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from heliotrope import vocabulary as names
from heliotrope.adapters.asgi import Held, Receive, Refusal, Reply, Request, Scope, Send
from heliotrope.adapters.event_store import valid_model
from heliotrope.adapters.exposition import exposition
from heliotrope.domain.label_formats import UploadError, UploadFormat, parse_upload
from heliotrope.domain.labels import (
    Judged,
    LabelContract,
    LabelUpload,
    batch_id_of,
    judge_rows,
)
from heliotrope.domain.spool_batch import BatchError, Standing, peek_header
from heliotrope.errors import UnavailableError
from heliotrope.ports import EventStore
from heliotrope.service import tokens
from heliotrope.service.collecting import LabelAnswer, ModelBook, Parcel
from heliotrope.service.collector_lanes import CollectorLanes, CollectorLimits
from heliotrope.service.group_commit import ByteBudget
from heliotrope.telemetry import collector_metrics as metrics
from heliotrope.telemetry.board import Board

logger = logging.getLogger("heliotrope.collector")
INLINE_BYTES = 16_384
"""Uploads up to here are parsed on the event loop; a thread's hand-over would cost more."""
TRANSACTION_ROWS = 100
"""Uploads with a key and at least this many rows are recognised by the store when they come again.
Smaller ones are recognised by readers (label_id): a transaction each would swell the log."""
_TEXT = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)


class CollectorApp:
    """Takes requests, hands them to the lanes of their tables, answers when they are committed.

    Args:
        store: where events go.
        specs: label contracts known from specs.
        ring: who may write.
        limits: what is taken and held.
        upkeep: called every `upkeep_seconds` on a thread of its own.
        clock: microseconds since 1970.
    """

    def __init__(
        self,
        store: EventStore,
        specs: Sequence[LabelContract],
        ring: tokens.TokenRing,
        limits: CollectorLimits,
        counts: Board,
        upkeep: Callable[[], None] | None = None,
        upkeep_seconds: float = 60.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.counts = counts
        self._ring, self._limits = ring, limits
        self._book = ModelBook(store, specs)
        self._lanes = CollectorLanes(store, counts, limits, clock)
        self._budget = ByteBudget(limits.waiting_bytes)
        self._parses = ThreadPoolExecutor(1, "parse")
        self._upkeep, self._upkeep_seconds = upkeep, upkeep_seconds
        self._routes: dict[
            tuple[str, str],
            tuple[str, tokens.Scope | None, Callable[[Request], Awaitable[Reply]]],
        ] = {
            ("POST", names.PATH_SPOOLS): ("spools", tokens.Scope.SPOOLS, self._spools),
            ("POST", names.PATH_LABELS): ("labels", tokens.Scope.LABELS, self._labels),
            ("GET", names.PATH_MODELS): ("models", None, self._models),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await (await self._answer(scope, receive)).send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        route = self._routes.get((method, path))
        if route is None:
            return self._unrouted(method, path)
        name, needed, handler = route
        request = Request(scope, receive, Held(self._budget))
        try:
            self._admit(request, needed)
            reply = await handler(request)
        except Refusal as refusal:
            reply = refusal.reply
        except UnavailableError as error:
            logger.warning("A store that takes writes is needed: %s", error)
            reply = Refusal(503, "the store must take writes. Send again.", retry_after=2).reply
        except Exception:
            logger.exception("A %s request must not break the collector", name)
            reply = Refusal(500, "the collector has a fault; its log says more.").reply
        finally:
            request.held.release()
        self.counts.add(metrics.REQUESTS, name, str(reply.status))
        return reply

    def _admit(self, request: Request, needed: tokens.Scope | None) -> None:
        access = self._ring.access(request.headers.get(b"authorization"), needed)
        if access is tokens.Access.UNKNOWN:
            raise Refusal(
                401,
                "Authorization must be `Bearer` and a known token.",
                headers=((b"www-authenticate", b"Bearer"),),
            )
        if access is tokens.Access.FORBIDDEN:
            raise Refusal(403, f"the token must have the scope {needed}.")

    def _unrouted(self, method: str, path: str) -> Reply:
        if method == "GET" and path == "/metrics":
            self.counts.set(metrics.WAITING, self._budget.used)
            self.counts.set(metrics.WAITING_LIMIT, self._budget.limit)
            return Reply(200, headers=_TEXT, raw=exposition(self.counts))
        if method == "GET" and path == "/healthz":
            return Reply(200, {"status": "alive"})
        if method == "GET" and path == "/readyz":
            ready = self._lanes.store_answers
            return Reply(200 if ready else 503, {"status": "ready" if ready else "store"})
        allowed = [m for m, p in self._routes if p == path]
        if allowed:
            allow = ((b"allow", ", ".join(allowed).encode()),)
            return Refusal(405, f"{path} must be called with {allowed[0]}.", headers=allow).reply
        return Refusal(
            404, f"the path must be one of {', '.join(p for _, p in self._routes)}."
        ).reply

    async def _spools(self, request: Request) -> Reply:
        follows = request.header(names.HEADER_SPOOL_FOLLOWS) or ""
        reason = request.header(names.HEADER_SPOOL_GAP) or names.GAP_REASONS[0]
        if not (follows.isascii() and follows.isdigit() and len(follows) < 19):
            raise Refusal(400, f"{names.HEADER_SPOOL_FOLLOWS} must be a sequence number.")
        if reason not in names.GAP_REASONS:
            allowed = ", ".join(names.GAP_REASONS)
            raise Refusal(400, f"{names.HEADER_SPOOL_GAP} must be one of {allowed}.")
        body = await request.body(self._limits.spool_bytes)
        try:
            header = peek_header(body)
        except BatchError as error:
            raise self._damaged(error) from None
        if not valid_model(header.model):
            raise self._damaged(BatchError("the header's model must be a model's name."))
        answer = await self._lanes.spools(header.model, Parcel(body, int(follows), reason))
        if isinstance(answer, BatchError):
            raise self._damaged(answer)
        if answer.standing is Standing.AHEAD:
            self.counts.add(metrics.REFUSED_BATCHES, "ahead")
            raise Refusal(
                409,
                f"the batch must follow what is stored, up to {answer.watermark}. Got {follows}.",
                watermark=answer.watermark,
            )
        self._book.learn(LabelContract.of_header(header))
        duplicate = answer.standing is Standing.DUPLICATE
        return Reply(
            200, {"watermark": answer.watermark, "rows": answer.rows, "duplicate": duplicate}
        )

    def _damaged(self, error: BatchError) -> Refusal:
        self.counts.add(metrics.REFUSED_BATCHES, "damaged")
        return Refusal(400, str(error))

    async def _labels(self, request: Request) -> Reply:
        written = _format_of(request)
        model = _model_of(request)
        body = await request.body(self._limits.label_bytes)
        key = request.header(names.HEADER_IDEMPOTENCY_KEY)
        known = model is not None and self._book.known(model) is not None
        if known and len(body) <= INLINE_BYTES:
            judged = self._judge(body, written, model, self._book.known)
        else:
            judged = await asyncio.get_running_loop().run_in_executor(
                self._parses, self._judge_slowly, body, written, model
            )
        for reason, count in judged.refused.items():
            self.counts.add(metrics.REFUSED_LABELS, reason, by=count)
        batch = batch_id_of(key, body, secrets.token_hex(16))
        answers = await self._write(judged, batch, key is not None, len(body))
        accepted = sum(answer.rows for answer in answers)
        return Reply(
            200 if accepted or not judged.refused else 422,
            {
                "accepted": accepted,
                "refused": judged.refused.total(),
                "refusals": [{"row": row, "reason": why} for row, why in judged.refusals],
                "batch_id": batch,
                "duplicate": bool(answers) and all(answer.duplicate for answer in answers),
            },
        )

    async def _write(
        self, judged: Judged, batch: str, keyed: bool, size: int
    ) -> Sequence[LabelAnswer]:
        futures = []
        for model, rows in judged.accepted.items():
            transaction = batch if keyed and len(rows) >= TRANSACTION_ROWS else None
            futures.append(self._lanes.labels(model, LabelUpload(rows, batch, transaction), size))
        # One model is the rule, and gathering costs as much as parsing one label.
        return [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)

    def _judge(
        self,
        body: bytes,
        written: UploadFormat,
        model: str | None,
        contract_of: Callable[[str], LabelContract | None],
    ) -> Judged:
        try:
            return judge_rows(parse_upload(body, written), contract_of, model)
        except UploadError as error:
            raise Refusal(400, str(error)) from None

    def _judge_slowly(self, body: bytes, written: UploadFormat, model: str | None) -> Judged:
        seen: dict[str, LabelContract | None] = {}

        def contract_of(name: str) -> LabelContract | None:
            if name not in seen:
                seen[name] = self._book.look_up(name)
            return seen[name]

        if model is not None and contract_of(model) is None:
            known = ", ".join(self._book.names()) or "none yet"
            raise Refusal(
                404,
                f"model must be a known one: {known}. A model is known by its spec (`heliotrope "
                "collector --spec`) or once a predictor of it has shipped.",
            )
        return self._judge(body, written, model, contract_of)

    async def _models(self, _: Request) -> Reply:
        known = await asyncio.get_running_loop().run_in_executor(self._parses, self._book.names)
        return Reply(200, {"models": known})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        keeping: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                keeping = asyncio.create_task(self._keep_up()) if self._upkeep else None
                await send({"type": "lifespan.startup.complete"})
            else:
                if keeping is not None:
                    keeping.cancel()
                await asyncio.to_thread(self._lanes.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _keep_up(self) -> None:
        while self._upkeep is not None:
            await asyncio.sleep(self._upkeep_seconds)
            await asyncio.to_thread(self._upkeep)


def _format_of(request: Request) -> UploadFormat:
    kind = (request.header("content-type") or "application/json").partition(";")[0].strip().lower()
    try:
        return UploadFormat(kind)
    except ValueError:
        raise Refusal(415, f"Content-Type must be one of {', '.join(UploadFormat)}.") from None


def _model_of(request: Request) -> str | None:
    query: Mapping[str, list[str]] = parse_qs(
        request.scope.get("query_string", b"").decode("latin-1")
    )
    unknown = set(query) - {"model"}
    if unknown or len(query.get("model", [])) > 1:
        raise Refusal(400, "the query must be ?model=NAME, once, or nothing.")
    return query["model"][0] if "model" in query else None
