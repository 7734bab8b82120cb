"""Threads that need MLflow first at the same moment all get it whole."""

import subprocess
import sys
from pathlib import Path

# In a process of its own: here it is imported already.
TOGETHER = """
import sys, threading
from heliotrope.adapters.mlflow_link import MlflowLink

link = MlflowLink(f"sqlite:///{sys.argv[1]}")
together, failures = threading.Barrier(8), []


def run(ask):
    together.wait()
    try:
        ask()
    except BaseException as error:
        failures.append(repr(error))


def listed():
    link.call("list models", lambda client: client.search_registered_models(max_results=1))


asked = [listed, lambda: link.client] * 4
threads = [threading.Thread(target=run, args=(ask,)) for ask in asked]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("\\n".join(failures) or 0)
"""


def test_threads_that_ask_first_at_once_all_get_an_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(tmp_path / "mlflow.db")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
