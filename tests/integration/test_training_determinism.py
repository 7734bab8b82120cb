"""The same rows, spec and seed give the same files, in any process and on any number of threads."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from skops import io as skops_io

from heliotrope.adapters.skops_model import TRUSTED, canonical, load_model, save_model
from heliotrope.errors import NotFoundError, UsageError
from heliotrope.vocabulary import ONNX_FILE, SKOPS_FILE

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from heliotrope.adapters.sklearn_model import SklearnTrainer
from heliotrope.ports import LabelledRows
from heliotrope.spec import parse_spec

task, seed, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
label = {"binary": "{name: y, positive: 1}", "multiclass": "{name: y, classes: [a, b, c]}",
         "regression": "{name: y}"}[task]
primary = {"regression": "mae"}.get(task, "log_loss")
columns = "".join(f"  - {{name: x{i}, type: float, nullable: true}}\\n" for i in range(6))
spec = parse_spec(f'''
name: m
task: {task}
label: {label}
metrics: {{primary: {primary}}}
source: {{path: x.csv}}
features:
{columns}
trainer: {{seed: {seed}, parameters: {{max_features: 0.5, max_iter: 15}}}}
''')
rng = np.random.default_rng(1)
X = rng.normal(size=(12_000, 6)).astype(np.float32)
X[rng.random(X.shape) < 0.05] = np.nan
signal = np.nan_to_num(X[:, 0] - X[:, 3]) + rng.normal(size=len(X))
y = signal if task == "regression" else np.digitize(signal, [0.3] if task == "binary" else [-1, 1])
model = SklearnTrainer().fit(
    spec,
    LabelledRows(X[:9000], y[:9000], np.arange(9000)),
    LabelledRows(X[9000:], y[9000:], np.arange(9000, len(y))),
)
model.save(out)
"""


def hashes(task: str, seed: int, threads: int, out: Path) -> tuple[str, str]:
    out.mkdir()
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads)}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, task, str(seed), str(out)], env=env, check=True, timeout=200
    )
    skops, onnx = (out / name for name in (SKOPS_FILE, ONNX_FILE))
    return tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in (skops, onnx))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_two_processes_on_one_and_two_threads_write_the_same_bytes(
    task: str, tmp_path: Path
) -> None:
    first = hashes(task, 7, 1, tmp_path / "first")
    assert first == hashes(task, 7, 2, tmp_path / "second")


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    assert hashes("binary", 7, 1, tmp_path / "a") != hashes("binary", 8, 1, tmp_path / "b")


def fitted(seed: int = 0) -> HistGradientBoostingClassifier:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(300, 3))
    return HistGradientBoostingClassifier(max_iter=5).fit(features, features[:, 0] > 0)


def test_a_canonical_file_is_still_a_skops_file_with_the_same_model() -> None:
    model, probe = fitted(), np.random.default_rng(5).normal(size=(50, 3))
    raw = skops_io.dumps(model)
    rewritten = canonical(raw)
    assert canonical(skops_io.dumps(model)) == rewritten != raw
    assert canonical(rewritten) == rewritten
    loaded = skops_io.loads(rewritten, trusted=list(TRUSTED))
    assert np.array_equal(loaded.predict_proba(probe), model.predict_proba(probe))


def test_a_file_with_a_type_that_is_not_trusted_is_refused_before_it_is_built(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(skops_io.dumps({"model": os.system}))
    with pytest.raises(UsageError, match=r"posix\.system"):
        load_model(path)
    assert load_model(path, extra_trusted=["posix.system"]) == {"model": os.system}


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_a_file_that_is_no_skops_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="must be a skops file"):
        load_model(path)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(fitted()))
    with pytest.raises(UsageError, match="must be a skops file"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.skops"):
        load_model(tmp_path / "gone.skops")


def test_a_saved_model_answers_as_before(tmp_path: Path) -> None:
    model, probe = fitted(3), np.random.default_rng(5).normal(size=(50, 3))
    save_model(model, tmp_path / "model.skops")
    loaded = load_model(tmp_path / "model.skops")
    assert np.array_equal(loaded.predict_proba(probe), model.predict_proba(probe))
