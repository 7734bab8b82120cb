"""Hands a split to Envoy and says which one is in force."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from heliotrope.adapters.embedded.supervisor import envoy
from heliotrope.adapters.embedded.supervisor.envoy import Backend, Split
from heliotrope.adapters.embedded.supervisor.http import ask
from heliotrope.adapters.whole_file import write_whole

logger = logging.getLogger("heliotrope.up")

COMPLAIN_SECONDS = 5.0
Weights = dict[str, dict[str, int]]


class Gateway:
    """Envoy's files and its word on them.

    A route may only name clusters that Envoy knows, and a cluster may only go when no route names
    it. So clusters are handed over first and routes once they are confirmed; whoever removes a
    cluster waits until `in_force` is without it.

    Args:
        folder: for the files.
        listen: the gateway's port.
        admin: Envoy's own port.
        running: whether Envoy runs; while it does not, files are only written.
    """

    def __init__(self, folder: Path, listen: int, admin: int, running: Callable[[], bool]) -> None:
        self._folder, self._running = folder, running
        self._admin = f"http://127.0.0.1:{admin}"
        self.url = f"http://127.0.0.1:{listen}"
        self.in_force: Weights = {}
        """What Envoy splits by now; empty until it said so."""
        self._offered: dict[str, Weights] = {}
        """By RDS version: what each meant."""
        self._written: dict[str, str] = {}
        """Version by file."""
        self._confirmed: dict[str, str] = {}
        self._since = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._write("bootstrap.json", envoy.bootstrap(listen, admin, folder))
        self._offer([], {})

    @property
    def bootstrap(self) -> Path:
        """What Envoy is started with."""
        return self._folder / "bootstrap.json"

    @property
    def ready_url(self) -> str:
        """Answers 200 when Envoy has read its files."""
        return f"{self._admin}/ready"

    @property
    def settled(self) -> bool:
        """Envoy has confirmed the last files."""
        return self._confirmed == self._written

    async def step(self, backends: Sequence[Backend], split: Split) -> None:
        """Move towards a split by one step; call it again until `settled`."""
        clusters = envoy.clusters(backends)
        if self._written["cds.json"] != clusters["version_info"]:
            self._write("cds.json", clusters)
        if not self._running():
            self._confirmed, self.in_force = {}, {}
            self._offer(backends, split)
            return
        if not self.settled:
            await self._hear()
        # Without a version there is nothing that a route could name too early.
        if not backends or self._confirmed.get("cds.json") == self._written["cds.json"]:
            self._offer(backends, split)
        elif time.monotonic() - self._since > COMPLAIN_SECONDS:
            logger.warning("Envoy has not taken its clusters for %g s.", COMPLAIN_SECONDS)
            self._since = time.monotonic()

    async def active(self, backend: Backend) -> int:
        """Requests that a version is answering through the gateway; 0 where Envoy is gone."""
        counts = [
            await self._gauge(f"cluster.{name}.upstream_rq_active")
            for name in (backend.name, backend.alone)
        ]
        return sum(counts)

    async def drain(self) -> None:
        """Take no new connections, and tell the open ones to close after their answer."""
        await ask(f"{self._admin}/drain_listeners?graceful&skip_exit", method="POST")

    async def under_way(self) -> int:
        """Requests that are being answered; 0 where Envoy is gone."""
        return await self._gauge("http.gateway.downstream_rq_active")

    async def _gauge(self, name: str) -> int:
        said = await ask(f"{self._admin}/stats?format=json&filter=^{quote(name)}$")
        if said is None or said[0] != 200:
            return 0
        return sum(int(one.get("value", 0)) for one in json.loads(said[1])["stats"])

    def _offer(self, backends: Sequence[Backend], split: Split) -> None:
        made = envoy.routes(split, backends)
        version = made["version_info"]
        self._offered[version] = {model: dict(weights) for model, weights in split.items()}
        if self._written.get("rds.json") != version:
            self._write("rds.json", made)
        if "cds.json" not in self._written:
            self._write("cds.json", envoy.clusters(backends))

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        write_whole(self._folder / name, json.dumps(document, indent=1))
        if "version_info" in document:
            self._written[name] = document["version_info"]
            self._since = time.monotonic()

    async def _hear(self) -> None:
        """Ask Envoy which versions it works with."""
        said = await ask(f"{self._admin}/config_dump")
        if said is None or said[0] != 200:
            return
        confirmed: dict[str, str] = {}
        for part in json.loads(said[1])["configs"]:
            kind = part["@type"].rpartition(".")[2]
            if kind == "ClustersConfigDump" and not part.get("dynamic_warming_clusters"):
                confirmed["cds.json"] = part.get("version_info", "")
            if kind == "RoutesConfigDump":
                for route in part.get("dynamic_route_configs", ()):
                    confirmed["rds.json"] = route.get("version_info", "")
        self._confirmed = confirmed
        self.in_force = self._offered.get(confirmed.get("rds.json", ""), {})
        now = self._written["rds.json"]
        if confirmed.get("rds.json") == now:
            self._offered = {now: self._offered[now]}
