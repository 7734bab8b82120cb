"""Model files without pickle: skops, with every type named that may be built, and byte for byte
the same file for the same model.

A skops file is a zip of one schema and the arrays. skops names the arrays and marks shared objects
by their memory address and stamps entries with the time, so two identical models give different
files. `save_model` renumbers in order of appearance and fixes times and order; the file stays an
ordinary skops file.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skops import io as skops_io

from heliotrope.errors import NotFoundError, UsageError

TRUSTED = (
    # Private helpers of scikit-learn's own public estimators; skops trusts the public ones.
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.utils.validation.check_array",
    "numpy.dtype",
)
"""All that a file may hold beyond skops' own trusted list. Nothing else is ever built."""

_SCHEMA = "schema.json"
_TIME = (1980, 1, 1, 0, 0, 0)


def save_model(model: Any, path: Path) -> None:
    """Write a fitted estimator; the same model gives the same bytes, in any process.

    Raises:
        UsageError: it holds a type that could not be loaded again (a class of one's own, say).
    """
    try:
        raw = skops_io.dumps(model)
    except Exception as error:
        raise UsageError(
            f"the fitted estimator must be one that skops can write, built from scikit-learn's "
            f"classes. {type(error).__name__}: {error}"
        ) from error
    _require_trusted(raw, "the fitted estimator")
    path.write_bytes(canonical(raw))


def load_model(path: Path, extra_trusted: Sequence[str] = ()) -> Any:
    """Read a model file; only types that are trusted are built, nothing is ever unpickled.

    Args:
        path: of a skops file.
        extra_trusted: types to trust beyond `TRUSTED`, by a person's own decision.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is no skops file, or it holds a type that is not trusted.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"the model file must exist. Got {path}.") from None
    try:
        _require_trusted(raw, str(path), extra_trusted)
        return skops_io.loads(raw, trusted=[*TRUSTED, *extra_trusted])
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        raise UsageError(f"{path} must be a skops file. Got {type(error).__name__}.") from error


def canonical(raw: bytes) -> bytes:
    """A skops file with addresses renumbered, entries in a fixed order and no times."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, numbers, files)
        entries = {files[name]: archive.read(name) for name in files}
    text = json.dumps(schema, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in [(_SCHEMA, text), *sorted(entries.items())]:
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    if isinstance(node, list):
        for inner in node:
            _renumber(inner, numbers, files)
    elif isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if isinstance(node.get("file"), str) and "__loader__" in node:
            ending = Path(node["file"]).suffix
            node["file"] = files.setdefault(node["file"], f"{len(files):06d}{ending}")
        for inner in node.values():
            _renumber(inner, numbers, files)


def _require_trusted(raw: bytes, what: str, extra: Sequence[str] = ()) -> None:
    found = skops_io.get_untrusted_types(data=raw)
    untrusted = sorted(set(found) - set(TRUSTED) - set(extra))
    if untrusted:
        raise UsageError(
            f"{what} must hold only types that are trusted: scikit-learn's and NumPy's. "
            f"Got {', '.join(untrusted)}."
        )
