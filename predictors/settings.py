"""How a predictor is run: command-line flags, each with an environment variable, parsed once."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliotrope.vocabulary import ENV_HOME, Role

MIB = 1 << 20


@dataclass(frozen=True)
class PredictorSettings:
    """Parsed settings; sizes in bytes, times in seconds."""

    model_name: str
    model_dir: Path
    model_version: str | None
    role: Role
    role_file: Path | None
    """Where a supervisor writes the role, also while the predictor runs."""
    http_port: int
    grpc_port: int
    spool_dir: Path | None
    spool_max_bytes: int
    spool_sync_seconds: float
    spool_sync_bytes: int
    max_body_bytes: int
    max_rows: int
    grace_seconds: int
    drain_seconds: int
    access_log: bool


def _whole(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            message = f"must be a whole number between {low} and {high}. Got {text}."
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.001 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"must be between 0.001 and 3600 seconds. Got {text}.")
    return value


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"must be true or false. Got {text}.")
    return known[text.lower()]


def environment_name(flag: str) -> str:
    """The variable that sets a flag: HELIOTROPE_ and its name."""
    return f"HELIOTROPE_{flag.upper()}"


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The command line, with defaults from the environment."""
    made = argparse.ArgumentParser(
        prog="python -m predictors",
        description="Serve one model folder over KServe's v1 and v2 REST and v2 gRPC.",
        epilog="Each flag may also be set as HELIOTROPE_<FLAG>, such as HELIOTROPE_HTTP_PORT.",
        allow_abbrev=False,
    )

    def add(flag: str, default: Any, kind: Any, text: str) -> None:
        value = environment.get(environment_name(flag), default)
        made.add_argument(f"--{flag}", type=kind, default=value, help=f"{text} (default: {value})")

    port = _whole(1, 65535)
    add("model_name", "model", str, "name in the request path")
    add("model_dir", "/mnt/models", Path, "folder with model.onnx and serving.json")
    add("model_version", None, str, "version, where the folder does not say it")
    add("role", "champion", Role, "champion, canary or shadow")
    add("role_file", None, Path, "file that holds the role and is looked at again as it runs")
    add("http_port", "8080", port, "port of REST and /metrics")
    add("grpc_port", "8081", port, "port of gRPC")
    add("spool_dir", None, str, "folder of the prediction spool; `off` for none")
    add("spool_max_bytes", str(256 * MIB), _whole(1, 1 << 50), "disk budget of the spool")
    add("spool_sync_seconds", "0.2", _seconds, "longest time between two fsyncs")
    add("spool_sync_bytes", str(4 * MIB), _whole(1, 1 << 40), "unsynced bytes that start an fsync")
    add("max_body_bytes", str(8 * MIB), _whole(1, 1 << 30), "largest request, REST and gRPC")
    add("max_rows", "20000", _whole(1, 10_000_000), "most rows a request")
    add("grace_seconds", "30", _whole(0, 3600), "time for open requests when stopped")
    add("drain_seconds", "0", _whole(0, 3600), "then, time to ship the spool; 0 waits for nothing")
    add("access_log", "false", _truth, "one log line a request")
    return made


def read_role(path: Path) -> Role | None:
    """The role that a role file names; None where there is no file, or no role in it."""
    try:
        return Role(path.read_text().strip())
    except (OSError, ValueError):
        return None


def parse_settings(
    arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> PredictorSettings:
    """Parse a command line; flags that KServe alone knows are left to it.

    Exits with status 2 and a message when a value is wrong.
    """
    known, _ = parser(environment).parse_known_args(arguments)
    values = vars(known)
    folder = values.pop("spool_dir")
    if folder is None:
        home = Path(environment.get(ENV_HOME, ".heliotrope"))
        folder = str(home / "spool" / str(values["model_name"]))
    if values["role_file"] is not None:
        values["role"] = read_role(values["role_file"]) or values["role"]
    spool = None if folder.lower() in ("off", "") else Path(folder)
    return PredictorSettings(spool_dir=spool, **values)
