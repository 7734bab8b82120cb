"""Runs the steps of a kfp.local pipeline as forks of one warm process.

A step of its own spends two seconds on importing MLflow and its like before it does anything, and a
run has nine of them. Here one process imports them once and forks for each step: steps stay apart
as on a cluster (memory, environment, signals, exit code) and start at once. What runs is the
compiled file's own code, in KFP's own executor.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

MODULES = (
    "deltalake",
    "duckdb",
    "ibis",
    "kfp.dsl",
    "mlflow",
    "onnxruntime",
    "pandas",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "heliotrope.adapters.delta_store",
    "heliotrope.adapters.evaluation_data",
    "heliotrope.adapters.mlflow_registry",
    "heliotrope.adapters.reports.pages",
    "heliotrope.adapters.sklearn_model",
    "heliotrope.adapters.source_reader",
    "heliotrope.service.training_run",
)
"""What most steps import."""

_EXECUTOR = "kfp.dsl.executor_main"
_RUNTIME = {"_KFP_RUNTIME": "true"}
"""Tells kfp.dsl that it runs within a step; read when kfp.dsl is imported."""


@contextmanager
def warm_steps() -> Iterator[None]:
    """Fork the steps of every pipeline that kfp.local runs within the block, one at a time."""
    from kfp.local import subprocess_task_handler as handler

    asked, theirs = socket.socketpair()
    cold, turn = handler.run_local_subprocess, threading.Lock()
    with theirs:
        warm = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env={**os.environ, **_RUNTIME},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    # The socket is closed first, which ends the warm process; then that is waited for.
    with warm, asked:

        def run(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
            code = _own_code(full_command)
            if code is None:
                return int(cold(full_command=full_command, env_vars=env_vars))
            environment = {**os.environ, **(env_vars or {}), **_RUNTIME}
            with turn:
                return _ask(asked, [code, list(full_command[4:]), environment])

        handler.run_local_subprocess = run
        try:
            yield
        finally:
            handler.run_local_subprocess = cold


def _own_code(command: Sequence[str]) -> str | None:
    """The source of a lightweight component's command; None for any other command."""
    if len(command) <= 4 or command[:2] != ["sh", "-ec"] or _EXECUTOR not in command[2]:
        return None
    # The executor must be all that the shell was to run.
    return None if "pip" in command[2] else command[3]


def _ask(asked: socket.socket, step: list[object]) -> int:
    """Have a step run, passing on what it prints; answers its exit code."""
    said, says = os.pipe()
    text = json.dumps(step).encode()
    with os.fdopen(said, errors="replace") as lines:
        try:
            socket.send_fds(asked, [len(text).to_bytes(8, "big")], [says])
            asked.sendall(text)
        finally:
            os.close(says)
        for line in lines:
            sys.stdout.write(line)
    answer = asked.recv(8, socket.MSG_WAITALL)
    # Without an answer the warm process was killed, and the step with it or before it.
    return int.from_bytes(answer, "big", signed=True) if len(answer) == 8 else -signal.SIGKILL


def serve(asked: socket.socket) -> None:
    """The warm process: import, then fork for each step until nobody asks any more."""
    for module in MODULES:
        import_module(module)
    while True:
        size, fds, _, _ = socket.recv_fds(asked, 8, 1)
        if len(size) < 8:
            return
        code, arguments, environment = json.loads(
            asked.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
        )
        child = os.fork()
        if child == 0:
            asked.close()
            _become_step(code, arguments, environment, fds[0])
        os.close(fds[0])
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        asked.sendall(ended.to_bytes(8, "big", signed=True))


def _become_step(code: str, arguments: list[str], environment: dict[str, str], says: int) -> None:
    """In the fork: be what `python -m kfp.dsl.executor_main` would be, to the exit."""
    for stream in (1, 2):
        os.dup2(says, stream)
    os.close(says)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR may have been read before
    program = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
    program.write_text(code)
    sys.argv = [_EXECUTOR, "--component_module_path", str(program), *arguments]
    ended = 1
    try:
        runpy.run_module(_EXECUTOR, run_name="__main__", alter_sys=True)
        ended = 0
    except SystemExit as asked:
        ended = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:  # noqa: BLE001 - told as the interpreter would, whatever it is
        traceback.print_exc()
    finally:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        # Not by way of the interpreter's end: native libraries wait there for threads of theirs
        # that a fork does not have.
        os._exit(ended)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _asked:
        serve(_asked)
