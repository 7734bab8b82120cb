"""A child process is told to be ready only while it answers and is to go on answering."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.adapters.embedded.supervisor.process import Child, ChildSpec, ChildState

PATIENCE = 60.0
ANSWERS = """
import http.server, signal, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *words): pass
signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Child]:
    """A child that answers, and does not end when it is asked to."""
    port = free_port()
    spec = ChildSpec(
        name="stubborn",
        command=(sys.executable, "-c", ANSWERS, str(port)),
        log=folder / "log",
        ready_url=f"http://127.0.0.1:{port}/",
        answers_itself=True,
        stop_seconds=1.0,
    )
    child = Child(lambda: spec)
    child.start()
    try:
        await until(child, ChildState.READY)
        yield child
    finally:
        await child.stop()


async def until(child: Child, state: ChildState) -> None:
    async with asyncio.timeout(PATIENCE):
        while child.state is not state:
            await asyncio.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_one_that_hangs_is_silent_and_ready_again_when_it_goes_on(tmp_path: Path) -> None:
    async def play() -> list[str]:
        told = []
        async with started(tmp_path) as child:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGSTOP)
            await until(child, ChildState.SILENT)
            told.append(child.message)
            assert not child.ready
            os.kill(child.pid, signal.SIGCONT)
            await until(child, ChildState.READY)
            told.append(child.message)
        return told

    silent, ready = asyncio.run(play())
    assert "silent for" in silent
    assert ready == ""


def test_one_that_was_told_to_stop_is_not_ready_though_it_still_answers(tmp_path: Path) -> None:
    async def play() -> tuple[bool, bool, bool]:
        async with started(tmp_path) as child:
            before = child.ready
            stopping = asyncio.create_task(child.stop())
            await asyncio.sleep(0)
            answers = child.pid is not None and child.state is ChildState.READY
            told = child.ready
            await stopping
        return before, answers, told

    assert asyncio.run(play()) == (True, True, False)
