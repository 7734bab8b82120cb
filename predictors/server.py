"""KServe's model server with the fast REST routes in front and our gRPC service."""

import asyncio
import gc
import logging
import os
from functools import partial
from typing import Any

import kserve.model_server as kserve_server
import uvloop
from kserve import ModelServer
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY

from heliotrope.clock import clock_of
from heliotrope.vocabulary import Role
from predictors.answering import RestAnswers
from predictors.core import PredictionCore
from predictors.hot import HotPaths, HotProtocol
from predictors.loading import LoadedModel
from predictors.metrics import PredictorMetrics
from predictors.rest import RestApplication
from predictors.rpc import PredictionServicer, PredictorRpcServer
from predictors.settings import PredictorSettings, read_role
from predictors.spool import Spool, SpoolOptions
from predictors.tabular import TabularModel

logger = logging.getLogger("heliotrope.predictor")
ROLE_SECONDS = 0.2
"""Between two looks at the role file."""


class _DataPlane(DataPlane):  # type: ignore[misc]
    """KServe's, whose server is ready when its model is."""

    def __init__(self, registry: Any, model: TabularModel) -> None:
        super().__init__(registry)
        self._model = model

    async def ready(self) -> bool:
        return bool(self._model.ready)

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        metadata = await super().model_metadata(model_name)
        return {**metadata, "versions": [self._model.core.version], "platform": "onnx"}

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "extensions": []}


class PredictorServer(ModelServer):  # type: ignore[misc]
    """Serves one model until it is told to stop."""

    def __init__(self, settings: PredictorSettings, model: TabularModel) -> None:
        super().__init__(
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            enable_latency_logging=False,
            grace_period=settings.grace_seconds,
        )
        self.settings = settings
        self.model = model
        self.role = settings.role
        self.dataplane = _DataPlane(self.registered_models, model)

    def start(self) -> None:
        """Serve; returns when a signal was handled and open requests were answered."""
        self.register_model(self.model)
        settings, core = self.settings, self.model.core
        answers = RestAnswers(core)
        application = RestApplication(kserve_server.app, answers, settings.max_body_bytes)
        self._rest_server = RESTServer(
            application,
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            grace_period=self.grace_period,
            event_loop=self.event_loop,
            timeout_keep_alive=self.timeout_keep_alive,
            ssl_certfile=self.ssl_certfile,
            ssl_keyfile=self.ssl_keyfile,
        )
        # Nothing here looks at the client's address, so no middleware need work it out.
        self._rest_server.config.proxy_headers = False
        self._rest_server.config.server_header = False
        self._rest_server.config.http = partial(HotProtocol, HotPaths(application))
        servicer = PredictionServicer(self.dataplane, self.model_repository_extension, core)
        self._grpc_server = PredictorRpcServer(
            self.grpc_port, servicer, settings.max_body_bytes, self.grace_period
        )
        gc.collect()
        gc.freeze()
        # asyncio.run, as KServe calls it, leaves uvloop unused, whatever --event-loop says.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self.setup_event_loop()
        self.register_signal_handler()
        rpc = asyncio.create_task(self._grpc_server.start(1))
        rest = asyncio.create_task(self._rest_server.start())
        watching = asyncio.create_task(self._watch_role())
        done, _ = await asyncio.wait({rpc, rest}, return_when=asyncio.FIRST_COMPLETED)
        self.model.stop()
        if rest in done:
            await self._grpc_server.stop()
        else:
            self._rest_server._server.should_exit = True
        await asyncio.gather(rpc, rest)
        watching.cancel()

    async def _watch_role(self) -> None:
        """Take on the role that the role file names: a promotion needs no new process.

        On the serving loop, so that no answer is half in one role: each is counted and written
        down without giving the loop away.
        """
        path = self.settings.role_file
        seen: tuple[int, int] | None = None
        while path is not None:
            await asyncio.sleep(ROLE_SECONDS)
            try:
                stat = path.stat()
            except OSError:
                continue
            if (now := (stat.st_mtime_ns, stat.st_ino)) == seen:
                continue
            role = read_role(path)
            if role is None or role == self.role or self._take_role(role):
                seen = now

    def _take_role(self, role: Role) -> bool:
        core = self.model.core
        try:
            core.change_role(role)
        except OSError as error:
            logger.error("The role must become %s. The spool refuses: %s.", role, error.strerror)
            return False
        logger.info("version %s is %s now, no longer %s", core.version, role, self.role)
        self.role = role
        return True

    def stop(self, _sig: int) -> None:
        """Handle a signal that came before or after uvicorn was listening for it."""
        self.model.stop()
        self._rest_server._server.should_exit = True


def quiet_logs(access_log: bool) -> None:
    """Warnings only from KServe; no line a request unless it is asked for."""
    logging.getLogger("kserve").setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    if not access_log:
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False


def serve(settings: PredictorSettings, loaded: LoadedModel) -> None:
    """Open the spool and serve; the spool is whole on disk when this returns.

    Raises:
        ConflictError: another process writes the spool.
        UsageError: the spool's budget is too small, or HELIOTROPE_CLOCK names no clock.
    """
    now_ns = clock_of(os.environ).now_ns
    spool = None
    if settings.spool_dir is not None:
        options = SpoolOptions(
            settings.spool_dir,
            settings.spool_max_bytes,
            settings.spool_sync_seconds,
            settings.spool_sync_bytes,
        )
        spool = Spool(options, loaded.contract, loaded.version, settings.role)
    try:
        metrics = PredictorMetrics(settings.model_name, loaded, settings.role, spool)
        core = PredictionCore(
            settings.model_name, loaded, metrics, spool, settings.max_rows, now_ns
        )
        server = PredictorServer(settings, TabularModel(core))
        quiet_logs(settings.access_log)
        REGISTRY.register(metrics)
        logger.info(
            "serving %s version %s as %s: http %d, grpc %d, spool %s",
            settings.model_name,
            loaded.version,
            settings.role,
            settings.http_port,
            settings.grpc_port,
            settings.spool_dir or "off",
        )
        server.start()
    finally:
        if spool is not None:
            spool.close()
