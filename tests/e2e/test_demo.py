"""`make demo`, act by act."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_the_demo_trains_serves_answers_and_explains(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "credit_risk" / "demo.py"), "--only", "loans"],
        cwd=tmp_path,
        env={**os.environ, "HELIOTROPE_HOME": str(tmp_path / "home"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert "credit-risk REGISTERED as version 1, champion" in said
    # All three protocols answer the same loans with the same id and version, and say so.
    assert "'id': 'application-4711'" in said
    assert "'id': 'application-4712'" in said
    assert "id application-4713, version 1" in said
    assert "annual_income must be between 0 and 1e+07. Got -1" in said
    assert 'ml_predictions_total{model="credit-risk",outcome="false"' in said
    assert "application-4711/0" in said.partition("4. What the predictor wrote down")[2]
    assert "credit-risk version 1  champion" in said
