"""The commands that the README shows are run as they stand, in their order."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    [line.partition("#")[0].strip() for line in block.splitlines() if line.strip()]
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S)
]
MAKE, USE, SERVE, PLATFORM = BLOCKS


def customers(path: Path) -> None:
    """Customers of whom those who call often and pay much tend to leave."""
    rng = np.random.default_rng(5)
    rows = 3000
    bill, calls = rng.gamma(4, 15, rows).round(2), rng.poisson(1.5, rows)
    leaving = 1 / (1 + np.exp(-(calls - 2.0) - (bill - 60) / 30))
    pd.DataFrame(
        {
            "customer_id": np.arange(rows) + 1,
            "billed_at": pd.date_range("2025-01-01", periods=rows, freq="h"),
            "plan": rng.choice(["basic", "plus", "family"], rows),
            "monthly_bill": bill,
            "support_calls": calls,
            "churned": rng.random(rows) < leaving,
        }
    ).to_csv(path, index=False)


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": search}
    for name in ("HELIOTROPE_HOME", "HELIOTROPE_STORE", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_the_commands_under_use_it_work_one_after_the_other(tmp_path: Path) -> None:
    customers(tmp_path / "customers.csv")
    said = {}
    for command in USE:
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said[command.split()[1]] = done.stdout
    assert "REGISTERED as version 1, champion" in said["train"]
    assert "churn" in said["models"]
    assert "snapshot" in said["explain"]
    assert said["predict"].count("\n") == 3001
    assert "bit for bit" in said["reproduce"]


def settled(folder: Path) -> bool:
    """Whether no training run is under way any more."""
    done = run("heliotrope triggers churn --json", folder)
    assert done.returncode == 0, done.stderr
    return not re.search(r'"state": "(requested|running|waiting)"', done.stdout)


@pytest.mark.timeout(600)
def test_the_platform_of_the_readme_runs(tmp_path: Path) -> None:
    customers(tmp_path / "customers.csv")
    for command in (USE[0], USE[2]):
        assert run(command, tmp_path).returncode == 0, command
    said = {}
    try:
        for command in PLATFORM[:-1]:
            done = run(command, tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            said[command.split()[1]] = done.stdout
        end = time.monotonic() + 240
        while not settled(tmp_path):
            assert time.monotonic() < end, "the ordered retraining must end"
            time.sleep(1)
    finally:
        down = run(PLATFORM[-1], tmp_path)
    assert down.returncode == 0, down.stderr
    assert "churn: version 1 gets 100%" in said["up"]
    assert "3,000" in said["replay"]
    assert "1 champion" in said["truth"]
    assert "new features" in said["triggers"]
    assert "every one as it was written" in said["log"]


@pytest.mark.parametrize("command", SERVE)
def test_the_commands_that_run_until_stopped_exist(command: str, tmp_path: Path) -> None:
    words = [word for word in command.split() if word.isalpha()][:3]
    done = run(" ".join([*words[: 2 if words[1] != "spool" else 3], "--help"]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: heliotrope" in done.stdout


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert {command.split()[1] for command in MAKE} <= targets


def test_files_that_documents_point_to_are_there() -> None:
    for document in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
