"""The controller over HTTP, as an ASGI application.

    GET  /                         the live page
    GET  /api/v1/models            which models it keeps
    GET  /api/v1/models/M          all that the page shows of one
    GET  /api/v1/models/M/decisions?limit=N
    POST /v1/alerts                Alertmanager's webhook, version 4     scope alerts
    GET  /metrics, /healthz, /readyz

Alerts are answered 200 only when they are kept. A controller that stands by answers 503 to them,
and Alertmanager sends them again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Thread
from typing import TypeVar
from urllib.parse import parse_qs, unquote

import orjson

from heliotrope import vocabulary as names
from heliotrope.adapters.asgi import Held, Receive, Refusal, Reply, Request, Scope, Send
from heliotrope.adapters.exposition import CONTENT_TYPE, exposition
from heliotrope.adapters.web_files import WebFiles
from heliotrope.domain.alarms import read_call
from heliotrope.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from heliotrope.ports.state import StateStore
from heliotrope.service import tokens
from heliotrope.service.alerts import AlertIntake
from heliotrope.service.controller import Controller
from heliotrope.service.group_commit import ByteBudget
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.alerts import known_alert

logger = logging.getLogger("heliotrope.controller")
ALERT_BYTES = 2 << 20
WAITING_BYTES = 16 << 20
MOST_DECISIONS = 1_000
_JSON = (b"content-type", b"application/json")
_FRESH = (b"cache-control", b"no-cache")
_Answer = TypeVar("_Answer")
_Handler = Callable[[Request, tuple[str, ...]], Awaitable[Reply]]


class ControllerApp:
    """Answers for a controller, and runs it on a thread of its own from start-up to shutdown.

    Args:
        controller: what is run.
        models: names of the models it keeps.
        state: for the decision log.
        view: the JSON of a model's live view; NotFoundError for another model.
        now: the controller's clock.
        intake: takes alerts.
        ring: who may write.
        pages: files of the live page.
    """

    def __init__(
        self,
        controller: Controller,
        models: tuple[str, ...],
        state: StateStore,
        view: Callable[[str], bytes],
        now: Callable[[], datetime],
        intake: AlertIntake,
        ring: tokens.TokenRing,
        pages: WebFiles,
    ) -> None:
        self.controller, self._models, self._state = controller, models, state
        self._view, self._now, self._intake, self._ring, self._pages = (
            view,
            now,
            intake,
            ring,
            pages,
        )
        self._budget = ByteBudget(WAITING_BYTES)
        self._workers = ThreadPoolExecutor(2, "answer")
        self._loop = Thread(target=controller.run, name="controller")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await (await self._answer(scope, receive)).send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        request = Request(scope, receive, Held(self._budget))
        try:
            return await self._route(request)
        except Refusal as refusal:
            return refusal.reply
        except NotFoundError as error:
            return Refusal(404, str(error)).reply
        except (UnavailableError, ConflictError) as error:
            logger.warning("A store that answers is needed: %s", error)
            return Refusal(503, "the store must answer. Ask again.", retry_after=2).reply
        except Exception:
            logger.exception("A request must not break the controller: %s", scope["path"])
            return Refusal(500, "the controller has a fault; its log says more.").reply
        finally:
            request.held.release()

    async def _route(self, request: Request) -> Reply:
        method, path = request.scope["method"], request.scope["path"]
        handler, parts, allowed = self._handler(path)
        if handler is None:
            raise Refusal(404, f"{path[:200]} must be something the controller has.")
        if method not in allowed:
            allow = ((b"allow", ", ".join(allowed).encode()),)
            raise Refusal(405, f"the method must be {' or '.join(allowed)}.", headers=allow)
        return await handler(request, parts)

    def _handler(self, path: str) -> tuple[_Handler | None, tuple[str, ...], tuple[str, ...]]:
        read = ("GET", "HEAD")
        fixed: dict[str, _Handler] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            f"{names.PATH_API}/models": self._model_names,
        }
        if path == names.PATH_ALERTS:
            return self._alerts, (), ("POST",)
        if path in fixed:
            return fixed[path], (), read
        start = f"{names.PATH_API}/models/"
        if path.startswith(start):
            parts = tuple(unquote(part) for part in path[len(start) :].split("/"))
            if len(parts) == 1:
                return self._model, parts, read
            if len(parts) == 2 and parts[1] == "decisions":
                return self._decisions, parts, read
        if self._pages.has(path):
            return self._page, (path,), read
        return None, (), ()

    async def _metrics(self, _: Request, __: tuple[str, ...]) -> Reply:
        kind = ((b"content-type", CONTENT_TYPE.encode()),)
        return Reply(200, headers=kind, raw=exposition(self.controller.board))

    async def _healthz(self, _: Request, __: tuple[str, ...]) -> Reply:
        alive = self._loop.is_alive()
        return Reply(200 if alive else 503, {"status": "alive" if alive else "stopped"})

    async def _readyz(self, _: Request, __: tuple[str, ...]) -> Reply:
        if self.controller.ready:
            return Reply(200, {"status": "ready"})
        return Reply(503, {"status": "late" if self.controller.active else "standby"})

    async def _alerts(self, request: Request, _: tuple[str, ...]) -> Reply:
        shown = request.headers.get(b"authorization")
        access = self._ring.access(shown, tokens.Scope.ALERTS)
        if access is tokens.Access.UNKNOWN:
            raise Refusal(
                401,
                "Authorization must be `Bearer` and a known token.",
                headers=((b"www-authenticate", b"Bearer"),),
            )
        if access is tokens.Access.FORBIDDEN:
            raise Refusal(403, f"the token must have the scope {tokens.Scope.ALERTS}.")
        body = await request.body(ALERT_BYTES)
        if not self.controller.active:
            raise Refusal(503, "the controller must be the active one. Ask again.", retry_after=2)
        try:
            told = read_call(body)
        except UsageError as error:
            raise Refusal(400, str(error)) from None
        turned = await self._work(self._intake.receive, told)
        for alert in told:
            board = self.controller.board
            name = known_alert(alert.labels["alertname"])
            board.add(metrics.ALERTS_RECEIVED, name, alert.status.value)
        return Reply(200, {"alerts": len(told), "turned": len(turned)})

    async def _model_names(self, _: Request, __: tuple[str, ...]) -> Reply:
        return Reply(200, {"models": self._models}, (_FRESH,))

    async def _model(self, request: Request, parts: tuple[str, ...]) -> Reply:
        body = await self._work(self._view, parts[0])
        # Beside the body, which stays the same, and is not sent again, while nothing happens.
        told = (names.HEADER_NOW.encode(), self._now().isoformat().encode())
        return self._pages.tagged(request, body, (_JSON, _FRESH, told))

    async def _decisions(self, request: Request, parts: tuple[str, ...]) -> Reply:
        if parts[0] not in (*self._models, names.MODEL_PLATFORM):
            raise NotFoundError(f"The model must be one of {', '.join(self._models)}.")
        limit = _limit(request)
        found = await self._work(lambda: self._state.decisions(parts[0], limit=limit))
        shown = {"decisions": [one.model_dump(mode="json") for one in reversed(found)]}
        return self._pages.tagged(request, orjson.dumps(shown), (_JSON, _FRESH))

    async def _page(self, request: Request, parts: tuple[str, ...]) -> Reply:
        return self._pages.reply(request, parts[0])

    async def _work(self, work: Callable[..., _Answer], *arguments: object) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._loop.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                self.controller.stop()
                await asyncio.to_thread(self._loop.join)
                self._workers.shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _limit(request: Request) -> int:
    query = parse_qs(request.scope.get("query_string", b"").decode("latin-1"))
    text = query.get("limit", ["100"])[0]
    if (
        set(query) - {"limit"}
        or not text.isdecimal()
        or len(text) > 4
        or not 1 <= int(text) <= MOST_DECISIONS
    ):
        raise Refusal(400, f"the query must be ?limit=N, from 1 to {MOST_DECISIONS}, or nothing.")
    return int(text)
